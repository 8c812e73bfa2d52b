use eframe::egui::{Grid, RichText, Ui};

use super::saturation::saturation_ui;
use super::{heading, prose};
use crate::app::browse::Field;
use crate::app::controls::{banner_ui, figures_ui, path_ui};
use crate::app::number;
use crate::app::plot::{BarItem, Table, bars_ui, table_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{ConvertReport, Measured, Stage, Step, StudyResult, View};

/// What int8 costs and saves, all of the file as it was read back.
pub(super) fn convert_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    match view.stage_of(Step::Convert).map(AsRef::as_ref) {
        Some(Stage::Saved { measured, report, study, .. }) => {
            measured_ui(ui, measured);
            study_ui(ui, study.as_ref());
            file_ui(ui, bench);
            let reduced = view.recipe.as_ref().is_some_and(|r| r.qconfig.activation.quant_max < u8::MAX);
            saturation_ui(ui, &measured.saturation, reduced);
            layers_ui(ui, report);
        }
        Some(stage @ Stage::Converted { report, study, .. }) => {
            study_ui(ui, study.as_ref());
            if !stage.is_study_alone() {
                prose(ui, "Converted. Saved, the file is read back, and what was read is measured.");
                file_ui(ui, bench);
            }
            layers_ui(ui, report);
        }
        Some(
            Stage::Opened { .. }
            | Stage::Stubbed { .. }
            | Stage::Weighted { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Calibrated { .. }
            | Stage::Trained { .. },
        )
        | None => prose(
            ui,
            "Weights become int8, activations uint8 with the scales that calibration found. Then the model is saved, read back from its file, and measured: accuracy, bytes, milliseconds.",
        ),
    }
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
fn measured_ui(ui: &mut Ui, m: &Measured) {
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
            ui.label(RichText::new(name).color(p.weak));
            ui.label(RichText::new(a).font(Type::Display.strong()).color(p.strong));
            ui.label(RichText::new(b).font(Type::Display.strong()).color(p.strong));
            let ink = if good { p.strong } else { Tone::Trouble.ink(p.dark) };
            ui.label(RichText::new(d).font(Type::Title.strong()).color(ink));
            ui.end_row();
        }
    });
    if let (Some(a), Some(b)) = (float.accuracy, int8.accuracy) {
        let [a, b] = [a, b].map(|a| interval(a, m.images));
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
        bars_ui(ui, "Size of the file", &sizes);
        bars_ui(ui, "Time of one image", &times);
    });
}

fn speed(faster: f64) -> String {
    if faster >= 1.0 {
        format!("{} faster", number::times(faster))
    } else {
        format!("{} slower", number::times(1.0 / faster))
    }
}

fn row(name: &str, float: usize, int8: usize, low: f32, high: f32, sqnr: f64) -> [String; 5] {
    let scales = if low == high {
        number::number(low.into())
    } else {
        format!("{} \u{2026} {}", number::number(low.into()), number::number(high.into()))
    };
    // Infinite where nothing was lost at all.
    let sqnr = if sqnr.is_finite() { format!("{sqnr:.1}\u{2009}dB") } else { "exact".to_owned() };
    [name.to_owned(), number::bytes(float as u64), number::bytes(int8 as u64), scales, sqnr]
}

fn layers_ui(ui: &mut Ui, report: &ConvertReport) {
    heading(ui, "Weights layer by layer");
    let int8 = report
        .layers
        .iter()
        .map(|l| row(&l.name, l.float_bytes, l.int8_bytes, l.scale_min, l.scale_max, l.weight_sqnr_db));
    // Left in float: as many bytes as before.
    let float = report.float.iter().map(|l| {
        let bytes = number::bytes(l.bytes as u64);
        [l.name.clone(), bytes.clone(), bytes, number::NONE.to_owned(), "float32".to_owned()]
    });
    let rows = int8.chain(float);
    table_ui(ui, "layers", &Table::new(["layer", "float32", "int8", "scales", "SQNR"], rows));
}

/// Wilson's 95 % interval of a fraction of `n` images.
fn interval(fraction: f64, n: usize) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let n = n.max(1) as f64;
    let z2 = Z * Z;
    let middle = (fraction + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (fraction * (1.0 - fraction) / n + z2 / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wilson's interval of 90 of 100 is 0.8256 to 0.9448.
    #[test]
    fn the_interval_is_wilsons() {
        let (low, high) = interval(0.9, 100);
        assert!((low - 0.8256).abs() < 1e-4 && (high - 0.9448).abs() < 1e-4, "{low} {high}");
        assert!((interval(1.0, 10).1 - 1.0).abs() < 1e-12);
    }
}
