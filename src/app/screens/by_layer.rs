use eframe::egui::{RichText, Ui};

use super::clip::decibels;
use super::result::micros;
use super::{prose, saved_table_ui};
use crate::app::controls::{banner_ui, progress_ui};
use crate::app::number;
use crate::app::plot::{Row, Table, row_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{LayerCost, LayerError, Step, View};

/// Layers that the table of the worst shows.
const WORST: usize = 12;

/// How far every layer's output is from float, along the graph.
pub(super) fn errors_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    bench.result.ask_errors(ui, view);
    if let Some(why) = bench.result.errors.failure() {
        banner_ui(ui, Tone::Trouble, why);
    }
    let Some(so_far) = bench.result.errors.answer().cloned() else {
        prose(ui, "Both models run on the same images, and every layer's output is compared.");
        return;
    };
    if bench.result.errors.is_busy() {
        waiting_ui(ui, "Comparing layers", so_far.seen, so_far.of);
    } else {
        prose(
            ui,
            &format!(
                "On {} images, float beside int8. A layer's error is its own rounding and that of all layers before it: \
                 look for where the bars fall.",
                number::count(so_far.seen)
            ),
        );
    }
    if view.stage_of(Step::Convert).is_some_and(|s| s.is_qat()) {
        prose(
            ui,
            "Float is the model that training with fake quantization ended with, its fake quantization taken off.",
        );
    }
    let errors = so_far.found;
    let at = |name: Option<&str>| errors.iter().position(|e| Some(e.name.as_str()) == name);
    let chosen = at(bench.selection.name());
    let row = |pick: fn(&LayerError) -> f64, unit: &str| Row {
        values: errors.iter().map(|e| (e.name.clone(), pick(e))).collect(),
        unit: unit.to_owned(),
        tone: Tone::Int8,
        marks: Vec::new(),
    };
    let sqnr = row_ui(ui, "Signal over noise, layer by layer, dB", &row(|e| e.sqnr_db, "SQNR, dB"), chosen);
    let cosine = row_ui(ui, "One minus cosine, layer by layer", &row(|e| 1.0 - e.cosine, "1 \u{2212} cosine"), chosen);
    if let Some(i) = sqnr.or(cosine) {
        select(bench, view, &errors[i].name);
    }
    if let Some(error) = chosen.map(|i| &errors[i]) {
        let text = format!("{}: SQNR {}, cosine {:.5}", error.name, decibels(error.sqnr_db), error.cosine);
        ui.label(RichText::new(text).font(Type::Body.strong()).color(theme::palette(ui).strong));
    }
    let mut worst: Vec<&LayerError> = errors.iter().collect();
    worst.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    let rows = worst.into_iter().take(WORST);
    let rows = rows.map(|e| [e.name.clone(), e.op.to_owned(), decibels(e.sqnr_db), format!("{:.5}", e.cosine)]);
    saved_table_ui(ui, "The largest errors", &Table::new(["layer", "operation", "SQNR", "cosine"], rows));
    prose(ui, "The tab Graph shows the same on the cards: Cards say, Error.");
}

/// What every layer costs, beside the least that the CPU could need.
pub(super) fn times_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    if view.stage_of(Step::Convert).is_some_and(|s| s.is_study_alone()) {
        prose(ui, "Affine weights run in fake quantization alone: there is no int8 engine to time.");
        return;
    }
    bench.result.ask_times(ui, view);
    if let Some(why) = bench.result.times.failure() {
        banner_ui(ui, Tone::Trouble, why);
    }
    let Some(costs) = bench.result.times.answer().cloned() else {
        prose(ui, "Each layer of the int8 engine is timed, one image at a time, when nothing else runs.");
        return;
    };
    let sum = |pick: fn(&LayerCost) -> Option<f64>| costs.iter().filter_map(pick).sum::<f64>();
    let total = sum(|c| Some(c.time.micros));
    let floor = costs.iter().any(|c| c.floor_us.is_some()).then(|| sum(|c| c.floor_us));
    let floor = floor.map_or("no floor is known for these kernels".to_owned(), |f| {
        format!("the multiplications alone would need {} at the CPU's best", micros(f))
    });
    prose(ui, &format!("{} for all layers, medians of 25 runs of one image; {floor} (the marks).", micros(total)));
    let chosen = costs.iter().position(|c| Some(c.time.name.as_str()) == bench.selection.name());
    let row = Row {
        values: costs.iter().map(|c| (c.time.name.clone(), c.time.micros)).collect(),
        unit: "\u{b5}s".to_owned(),
        tone: Tone::Int8,
        marks: costs.iter().map(|c| c.floor_us.unwrap_or(f64::NAN)).collect(),
    };
    if let Some(i) = row_ui(ui, "Time of one image, layer by layer, \u{b5}s", &row, chosen) {
        select(bench, view, &costs[i].time.name);
    }
    let mut longest: Vec<&LayerCost> = costs.iter().collect();
    longest.sort_by(|a, b| b.time.micros.total_cmp(&a.time.micros));
    let rows = longest.into_iter().take(WORST).map(|c| {
        [
            c.time.name.clone(),
            c.time.op.to_owned(),
            number::prefixed(c.time.macs),
            micros(c.time.micros),
            c.floor_us.map_or(number::NONE.to_owned(), micros),
            number::percent(c.time.micros / total),
        ]
    });
    let head = ["layer", "operation", "MACs", "measured", "floor", "of all"];
    saved_table_ui(ui, "The longest layers", &Table::new(head, rows));
    prose(ui, "The tab Graph shows the same on the cards: Cards say, Time.");
}

pub(super) fn waiting_ui(ui: &mut Ui, what: &str, seen: usize, of: usize) {
    ui.horizontal(|ui| {
        progress_ui(ui, what, seen as f32 / of.max(1) as f32, 240.0);
        ui.label(format!("{} / {} images", number::count(seen), number::count(of)));
    });
}

pub(super) fn select(bench: &mut Workbench, view: &View, name: &str) {
    let graphs = [Step::Fuse, Step::Convert].map(|s| view.stage_of(s));
    bench.selection.select(name, graphs.into_iter().flatten().map(|s| &**s.graph()));
}
