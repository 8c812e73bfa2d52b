use eframe::egui::{RichText, Ui};

use super::analyze::{promise_of, work_ui};
use super::{prose, saved_table_ui};
use crate::app::asked::Asked;
use crate::app::controls::number_ui;
use crate::app::number;
use crate::app::plot::Table;
use crate::app::theme;
use crate::app::workbench::Workbench;
use crate::session::{Command, CommandKind, Recipe, Repair, Step, View, roundable};

/// Layers that a click on AdaRound takes.
const ROUNDED: usize = 8;

/// What can be repaired, each repair by its button, and what it did.
pub(super) fn repairs_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(recipe) = view.recipe.clone() else { return };
    if !recipe.method.is_ptq() {
        prose(
            ui,
            "Repairs are for post-training quantization: training with fake quantization makes up for rounding itself.",
        );
        return;
    }
    prose(
        ui,
        "Each repair runs the steps that it changes again and measures int8 before and after, on all held-out images. Undo brings back what was before.",
    );
    // What was taken back, or could not be carried out, is chosen no more.
    if view.running.is_none() && matches!(view.finished, Some(CommandKind::Repair | CommandKind::UndoRepair)) {
        (bench.choices.qconfig, bench.choices.repairs) = (recipe.qconfig.clone(), recipe.repairs.clone());
    }
    let idle = view.allows(CommandKind::Repair);
    let suspects = bench.result.analyze.suspects();
    let mut asked = None;
    let mut button = |ui: &mut Ui, text: &str, can: bool, says: &str, repair: &dyn Fn(&Recipe) -> Repair| {
        ui.horizontal_wrapped(|ui| {
            if ui.add_enabled(idle && can, eframe::egui::Button::new(text)).clicked() {
                asked = Some(repair(&recipe));
            }
            ui.label(RichText::new(says).color(theme::palette(ui).weak));
        });
    };
    let done = &recipe.repairs;
    button(
        ui,
        "Equalize",
        !done.equalize,
        "Channels of neighbouring layers get equal ranges; the float model stays the same. For layers with ReLU between.",
        &Repair::equalize,
    );
    button(
        ui,
        "Correct biases",
        !done.correct_bias,
        "What rounding moved the mean of a channel by is taken back in its bias.",
        &Repair::correct_bias,
    );
    let known = !suspects.is_empty();
    let converted = view.stage_of(Step::Convert).map(|s| roundable(s.graph())).unwrap_or_default();
    let rounded: Vec<String> = suspects.iter().filter(|l| converted.contains(l)).take(ROUNDED).cloned().collect();
    button(
        ui,
        "AdaRound",
        !rounded.is_empty(),
        &match rounded.len() {
            0 => "Sweep over layers first: then it learns the rounding of the most suspect ones.".to_owned(),
            n => format!("Learns which way each weight of the {n} most suspect layers is rounded."),
        },
        &|recipe| Repair::adaround(recipe, rounded.clone()),
    );
    let choosable: Vec<String> = view
        .stage_of(Step::Fuse)
        .map(|s| crate::session::choosable(s.graph()))
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, can)| can.float && recipe.qconfig.weight_of(name).is_some())
        .map(|(name, _)| name)
        .collect();
    let count = bench.result.analyze.float_layers;
    let float: Vec<String> = suspects.iter().filter(|l| choosable.contains(l)).take(count).cloned().collect();
    button(
        ui,
        "Leave in float",
        !float.is_empty(),
        &match known {
            false => "Sweep over layers first: then the most suspect ones can be given back to float.".to_owned(),
            true => float.join(", "),
        },
        &|recipe| Repair::leave_float(recipe, &float),
    );
    if let Some(repair) = asked {
        bench.ask(Command::Repair(Box::new(repair)));
    }
    number_ui(ui, "Most suspect layers to leave in float", &mut bench.result.analyze.float_layers, 1..=24, 0.1);
    observers_ui(ui, bench, view, &suspects);
    done_ui(ui, bench, view);
}

/// The observer of each suspect layer, by trying.
fn observers_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, suspects: &[String]) {
    let asked = &mut bench.result.analyze.observers;
    let (share, says) = asked.answer().map_or((0.0, String::new()), |s| {
        (s.done as f32 / s.of.max(1) as f32, format!("{} of {} layers", s.done, s.of))
    });
    if suspects.is_empty() {
        prose(ui, "Once the layers are swept, every observer can be tried on the most suspect ones.");
        return;
    }
    if work_ui(ui, asked, "Try observers", share, &says)
        && let Some(of) = promise_of(view)
    {
        let layers = suspects.to_vec();
        *asked = Asked::default();
        asked.once(ui, move |emit| of.observers(&layers, emit).map_err(|e| e.to_string()));
    }
    let Some(found) = asked.answer().cloned() else { return };
    let (before, after) = found.logit_mse;
    let chosen: Vec<String> =
        found.chosen.iter().map(|(l, kind, max)| format!("{l}: {} 0..{max}", kind.title())).collect();
    let chosen = if chosen.is_empty() { "no other observer does better".to_owned() } else { chosen.join("; ") };
    prose(ui, &format!("Logit MSE {} before, {} after: {chosen}.", number::number(before), number::number(after)));
    let can = view.allows(CommandKind::Repair) && !found.chosen.is_empty() && !asked.is_busy();
    if ui.add_enabled(can, eframe::egui::Button::new("Take these observers")).clicked() {
        bench.ask(Command::Repair(Box::new(found.repair)));
    }
}

/// What was repaired, before and after, and the way back.
fn done_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    if view.repairs.is_empty() {
        return;
    }
    let percent = |a: Option<f64>| a.map_or(number::NONE.to_owned(), number::percent);
    let rows = view.repairs.iter().map(|r| {
        let change = match (r.before, r.after) {
            (Some(a), Some(b)) => number::points(b - a),
            (_, _) => number::NONE.to_owned(),
        };
        [r.title.clone(), percent(r.before), percent(r.after), change, number::seconds(r.seconds)]
    });
    let head = ["repair", "int8 before", "int8 after", "change", "took"];
    saved_table_ui(ui, "Repairs done", &Table::new(head, rows));
    let can = view.allows(CommandKind::UndoRepair);
    if ui.add_enabled(can, eframe::egui::Button::new("Undo the last repair")).clicked() {
        bench.ask(Command::UndoRepair);
    }
}
