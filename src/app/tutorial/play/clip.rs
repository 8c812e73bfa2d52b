use eframe::egui::Ui;

use super::{later_ui, layer_ui};
use crate::app::controls::small_ui;
use crate::app::number;
use crate::app::plot::{Curve, Histogram, clip_ui, curves_ui};
use crate::app::screens::{decibels, figures_small_ui, levels_of};
use crate::app::theme::{self, Tone};
use crate::app::workbench::Workbench;
use crate::session::{Range, Stage, Step, View};

/// Places of the clip line that the curves are drawn through.
const POINTS: usize = 40;

/// The range that the lines say, and whose it is: a layer's, with the range that was in force then.
#[derive(Debug, Default)]
pub(super) struct ClipPlay {
    of: Option<(String, Option<Range>)>,
    range: Option<Range>,
}

/// The values that an observer saw with a clip line to drag; rounding and clipping error for every place of it.
pub(super) fn clip_play_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(Stage::Calibrated { observers, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref) else {
        later_ui(ui, "Calibrate first: it is drawn from the values that really occur.");
        return;
    };
    let selected = view.observers.iter().find(|o| bench.selection.contains(&o.name));
    let kept = |o: &&crate::session::ObserverView| !o.histogram.is_empty();
    // Behind the image lie few values; a layer's are more telling.
    let shown = selected.filter(kept).or_else(|| view.observers.iter().filter(kept).nth(1));
    let Some(observer) = shown.or_else(|| view.observers.iter().find(kept)) else {
        later_ui(
            ui,
            "These observers keep their extremes alone. With a histogram observer there is something to drag.",
        );
        return;
    };
    let play = &mut bench.tutorial.plays.clip;
    // Another layer, or another range of it: the lines begin where that is.
    let of = (observer.name.clone(), observers.clip(observer.node));
    if play.of.as_ref() != Some(&of) {
        *play = ClipPlay { range: of.1, of: Some(of) };
    }
    let Some(mut range) = play.range else { return };
    let Some(effect) = observers.effect(observer.node, range) else { return };
    let histogram = Histogram {
        counts: observer.histogram.clone(),
        min: observer.histogram_min,
        max: observer.histogram_max,
        clip: None,
        tone: Tone::Observed,
    };
    let mut clip = (range.min, range.max);
    layer_ui(ui, &observer.name);
    clip_ui(ui, "Values of this layer", "activation", &histogram, levels_of(effect.qparams), &mut clip);
    if clip.0 < clip.1 {
        range = Range { min: clip.0, max: clip.1 };
        play.range = Some(range);
    }
    let clipped = format!("{}{}%", number::number(effect.clipped * 100.0), number::THIN);
    let [rounding, clipping] = [effect.rounding, effect.clipping].map(|v| number::number(v.sqrt()));
    figures_small_ui(
        ui,
        &[
            ("rounding error", &rounding),
            ("clipping error", &clipping),
            ("clipped", &clipped),
            ("SQNR", &decibels(effect.sqnr_db)),
        ],
    );
    let top = f64::from(histogram.max);
    let (mut round, mut cut) = (Vec::new(), Vec::new());
    for i in 1..=POINTS {
        let max = top * i as f64 / POINTS as f64;
        if max as f32 <= range.min {
            continue;
        }
        let at = Range { min: range.min, max: max as f32 };
        if let Some(effect) = observers.effect(observer.node, at) {
            round.push([max, effect.rounding.sqrt()]);
            cut.push([max, effect.clipping.sqrt()]);
        }
    }
    let dark = theme::palette(ui).dark;
    let curve =
        |name: &str, points, i| Curve { name: name.to_owned(), points, color: theme::series(i, dark), dashed: i == 1 };
    let curves = [curve("rounding", round, 0), curve("clipping", cut, 1)];
    curves_ui(ui, "Error by the upper clip", "upper clip", "root mean square error", &curves, number::number);
    if small_ui(ui, "Back to the observer's range").clicked() {
        play.range = observers.own_clip(observer.node);
    }
}
