use eframe::egui::{Grid, RichText, Ui};

use super::result::ResultView;
use super::saturation::saturation_ui;
use super::{analyze, beside, by_layer, flips, heading, levels, prose, qat, scrolled, warnings_ui};
use crate::app::browse::Field;
use crate::app::controls::{banner_ui, choice_ui, figures_ui, path_ui};
use crate::app::glossary::label_ui;
use crate::app::number;
use crate::app::plot::{BarItem, bars_beside_ui, bars_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{
    ConvertReport, Measured, PublishedSizes, Stage, Step, StudyResult, View, published_sizes, wilson,
};

/// What int8 costs and saves, all of the file as it was read back.
pub(super) fn convert_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let (measured, report, study) = match view.stage_of(Step::Convert).map(AsRef::as_ref) {
        Some(Stage::Saved { measured, report, study, .. }) => (Some(measured), report, study),
        Some(Stage::Converted { report, study, .. }) => (None, report, study),
        Some(
            Stage::Opened { .. }
            | Stage::Stubbed { .. }
            | Stage::Weighted { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Calibrated { .. }
            | Stage::Trained { .. },
        )
        | None => {
            prose(
                ui,
                &format!(
                    "Weights become int8, activations uint8 with the scales that {} found. Then the model is saved, read back from its file, and measured: accuracy, bytes, milliseconds.",
                    if bench.choices.by_qat { "training" } else { "calibration" }
                ),
            );
            return;
        }
    };
    bench.result.update(view);
    ui.horizontal_wrapped(|ui| choice_ui(ui, "Result", &ResultView::ALL, &mut bench.result.view));
    ui.add_space(theme::GRID);
    match bench.result.view {
        ResultView::Weights => levels::weights_ui(ui, bench, view, report),
        ResultView::Summary => scrolled(ui, |ui| match measured {
            Some(measured) => {
                figures_beside_ui(ui, measured);
                if let Some(stage) = view.stage_of(Step::Convert) {
                    warnings_ui(ui, stage.warnings());
                }
                measured_bars_ui(ui, measured, view);
                qat::converted_ui(ui, view);
                study_ui(ui, study.as_ref());
                file_ui(ui, bench);
                beside::beside_ui(ui, bench, view);
                let reduced = view.recipe.as_ref().is_some_and(|r| r.qconfig.activation.quant_max < u8::MAX);
                saturation_ui(ui, &measured.saturation, reduced);
            }
            None => {
                qat::converted_ui(ui, view);
                study_ui(ui, study.as_ref());
                if view.stage_of(Step::Convert).is_some_and(|s| !s.is_study_alone()) {
                    prose(ui, "Converted. Saved, the file is read back, and what was read is measured.");
                    file_ui(ui, bench);
                }
                bytes_ui(ui, report);
            }
        }),
        ResultView::Error => scrolled(ui, |ui| by_layer::errors_ui(ui, bench, view)),
        ResultView::Time => scrolled(ui, |ui| by_layer::times_ui(ui, bench, view)),
        ResultView::Images => scrolled(ui, |ui| flips::flips_ui(ui, bench, view)),
        ResultView::Analyze => scrolled(ui, |ui| analyze::analyze_ui(ui, bench, view)),
    }
}

/// What the weights weigh, before anything is written.
fn bytes_ui(ui: &mut Ui, report: &ConvertReport) {
    let left: usize = report.float.iter().map(|l| l.bytes).sum();
    let float: usize = report.layers.iter().map(|l| l.float_bytes).sum::<usize>() + left;
    let int8: usize = report.layers.iter().map(|l| l.int8_bytes).sum::<usize>() + left;
    let bar = |name: &str, bytes: usize, tone| BarItem {
        name: name.to_owned(),
        value: bytes as f64,
        text: number::bytes(bytes as u64),
        tone,
    };
    ui.scope(|ui| {
        ui.set_max_width(720.0);
        bars_ui(ui, "Weights and biases", &[bar("float32", float, Tone::Float), bar("int8", int8, Tone::Int8)]);
    });
}

/// Of a qconfig that is for study: why it is one, and what fake quantization says of it.
fn study_ui(ui: &mut Ui, study: Option<&StudyResult>) {
    let Some(StudyResult { study, accuracy }) = study else { return };
    let accuracy = accuracy.map_or(number::NONE.to_owned(), number::percent);
    figures_ui(ui, &[("accuracy, fake-quantized", &accuracy, Some(Tone::FakeQuantized))]);
    banner_ui(ui, Tone::FakeQuantized, &study.to_string());
}

fn file_ui(ui: &mut Ui, bench: &mut Workbench) {
    heading(ui, "File");
    if path_ui(ui, "int8 file", "path of the int8 file", &mut bench.choices.out) {
        bench.browse(Field::Out, ui.ctx());
    }
}

/// Float on the left, int8 on the right, the difference last.
fn figures_beside_ui(ui: &mut Ui, m: &Measured) {
    let (float, int8) = (&m.float, &m.int8);
    let accuracy = |a: Option<f64>| a.map_or(number::NONE.to_owned(), number::percent);
    let (difference, good) = match (float.accuracy, int8.accuracy) {
        (Some(a), Some(b)) => (number::points(b - a), b >= a - 0.01),
        (_, _) => (number::NONE.to_owned(), true),
    };
    let faster = float.latency_ms / int8.latency_ms;
    let rows = [
        ("Accuracy", accuracy(float.accuracy), accuracy(int8.accuracy), difference, good),
        (
            "File",
            number::bytes(float.bytes),
            number::bytes(int8.bytes),
            format!("{} smaller", number::times(m.shrink)),
            true,
        ),
        ("One image", number::millis(float.latency_ms), number::millis(int8.latency_ms), speed(faster), faster >= 1.0),
    ];
    let p = theme::palette(ui);
    Grid::new("result").spacing(eframe::egui::vec2(theme::PADDING * 2.0, theme::GRID)).show(ui, |ui| {
        ui.label("");
        for (tone, name) in [(Tone::Float, "float32"), (Tone::Int8, "int8")] {
            let text = format!("{}  {name}", tone.glyph());
            ui.label(RichText::new(text).font(Type::Small.strong()).color(tone.ink(p.dark)));
        }
        ui.label(RichText::new("difference").font(Type::Small.strong()).color(p.weak));
        ui.end_row();
        for (name, a, b, d, good) in rows {
            label_ui(ui, RichText::new(name).color(p.weak));
            ui.label(RichText::new(a).font(Type::Display.strong()).color(p.strong));
            ui.label(RichText::new(b).font(Type::Display.strong()).color(p.strong));
            let ink = if good { p.strong } else { Tone::Trouble.ink(p.dark) };
            ui.label(RichText::new(d).font(Type::Title.strong()).color(ink));
            ui.end_row();
        }
    });
    if let (Some(a), Some(b)) = (float.accuracy, int8.accuracy) {
        let [a, b] = [a, b].map(|a| wilson(a, m.images));
        let text = format!(
            "On {} held-out images. 95\u{2009}% intervals: float {} to {}, int8 {} to {}.",
            number::count(m.images),
            number::percent(a.0),
            number::percent(a.1),
            number::percent(b.0),
            number::percent(b.1)
        );
        prose(ui, &text);
    }
}

fn measured_bars_ui(ui: &mut Ui, m: &Measured, view: &View) {
    let (float, int8) = (&m.float, &m.int8);
    let bar = |name: &str, value: f64, text, tone| BarItem { name: name.to_owned(), value, text, tone };
    let sizes = [
        bar("float32", float.bytes as f64, number::bytes(float.bytes), Tone::Float),
        bar("int8", int8.bytes as f64, number::bytes(int8.bytes), Tone::Int8),
    ];
    let times = [
        bar("float32", float.latency_ms, number::millis(float.latency_ms), Tone::Float),
        bar("int8", int8.latency_ms, number::millis(int8.latency_ms), Tone::Int8),
    ];
    ui.add_space(theme::GAP);
    ui.scope(|ui| {
        ui.set_max_width(720.0);
        let published = published(view);
        bars_beside_ui(ui, "Size of the file", &sizes, &published);
        if let Some(note) = published_note(view).filter(|_| !published.is_empty()) {
            prose(ui, note);
        }
        bars_ui(ui, "Time of one image", &times);
    });
}

fn published_row(view: &View) -> Option<&'static PublishedSizes> {
    let classes = view.stage()?.opened().classes;
    published_sizes(view.recipe.as_ref()?.model, classes)
}

/// What others published for this model with as many classes, if anything.
fn published(view: &View) -> Vec<BarItem> {
    let Some(row) = published_row(view) else { return Vec::new() };
    let bar = |name: &str, kb: f64, tone| BarItem {
        name: name.to_owned(),
        value: kb * 1e3,
        text: number::bytes((kb * 1e3) as u64),
        tone,
    };
    vec![
        bar("float32, published", row.float_kb, Tone::Float),
        bar("int8, published", row.int8_kb, Tone::Int8),
        bar("int8, PyTorch fused", row.pytorch_fused_kb, Tone::Int8),
    ]
}

fn published_note(view: &View) -> Option<&'static str> {
    match published_row(view) {
        Some(row) => row.note.as_deref(),
        None => None,
    }
}

fn speed(faster: f64) -> String {
    if faster >= 1.0 {
        format!("{} faster", number::times(faster))
    } else {
        format!("{} slower", number::times(1.0 / faster))
    }
}
