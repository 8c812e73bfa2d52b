use eframe::egui::{RichText, Ui};

use super::qat::of_hundred;
use super::{halves_ui, stacked};
use crate::app::number;
use crate::app::plot::{Curve, curves_ui};
use crate::app::theme::{self, Tone, Type};
use crate::session::{Stage, Step, View, convergence};

/// Whether more images help: how far each batch moved the ranges, and beside it what the model would have been worth.
pub(super) fn convergence_ui(ui: &mut Ui, view: &View) {
    halves_ui(ui, |left, right| {
        stacked(left, |ui| moved_ui(ui, view));
        stacked(right, |ui| worth_ui(ui, view));
    });
}

fn moved_ui(ui: &mut Ui, view: &View) {
    let found = convergence(&view.observers);
    let dark = theme::palette(ui).dark;
    let curve = |name: &str, pick: fn(&crate::session::Moved) -> f64, i| Curve {
        name: name.to_owned(),
        points: found.batches.iter().enumerate().map(|(b, m)| [b as f64 + 2.0, 100.0 * pick(m)]).collect(),
        color: theme::series(i, dark),
        dashed: i == 1,
    };
    let curves = [curve("all, mean", |m| m.mean, 0), curve("farthest", |m| m.largest, 1)];
    curves_ui(ui, "How far a batch moved the ranges", "batch", "of their width, %", &curves, of_hundred);
    let (tone, text) = match (found.batches.last(), found.settled) {
        (None, _) => (None, "The first batch sets the ranges.".to_owned()),
        (Some(_), true) => (Some(Tone::Int8), "Settled: more images hardly move the ranges.".to_owned()),
        (Some(last), false) => {
            let text =
                format!("Still moving, {} on average by the last batch: more images help.", number::percent(last.mean));
            (Some(Tone::Observed), text)
        }
    };
    let ink = tone.map_or(theme::palette(ui).weak, |t| t.ink(dark));
    ui.label(RichText::new(text).font(Type::Small.strong()).color(ink));
}

fn worth_ui(ui: &mut Ui, view: &View) {
    let dark = theme::palette(ui).dark;
    let (Some(first), Some(last)) = (view.if_converted.first(), view.if_converted.last()) else {
        let asked = view.recipe.as_ref().is_some_and(|r| r.calibration.foresee);
        let text = match (asked, view.running.is_some()) {
            (true, true) => "Measured after the first few batches.",
            (true, false) => "Not measured: the images have no labels to measure by.",
            (false, _) => "Not measured on the way. Switch on \u{201c}Accuracy on the way\u{201d} and calibrate again.",
        };
        ui.label(RichText::new("Accuracy if converted now").font(Type::Body.strong()).color(theme::palette(ui).strong));
        super::prose(ui, text);
        return;
    };
    let int8 = Curve {
        name: "int8".to_owned(),
        points: view.if_converted.iter().map(|c| [c.images as f64, 100.0 * c.accuracy]).collect(),
        color: Tone::Int8.ink(dark),
        dashed: false,
    };
    let mut curves = vec![int8];
    let float = match view.stage_of(Step::Weights).map(AsRef::as_ref) {
        Some(Stage::Weighted { accuracy, .. }) => *accuracy,
        Some(_) | None => None,
    };
    if let Some(float) = float {
        let ends = [first.images, last.images.max(first.images + 1)];
        let points = ends.map(|x| [x as f64, 100.0 * float]).to_vec();
        curves.push(Curve {
            name: "float, all held out".to_owned(),
            points,
            color: Tone::Float.ink(dark),
            dashed: true,
        });
    }
    curves_ui(ui, "Accuracy if converted now", "images seen", "accuracy, %", &curves, of_hundred);
    let text = format!("{} on {} held-out images.", number::percent(last.accuracy), number::count(last.sample));
    ui.label(RichText::new(text).font(Type::Small.font()).color(theme::palette(ui).weak));
}
