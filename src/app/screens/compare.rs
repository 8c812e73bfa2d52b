use eframe::egui::{Ui, vec2};

use super::{prose, runs};
use crate::app::controls::{banner_ui, choice_ui, progress_ui};
use crate::app::number;
use crate::app::plot::{BarItem, Table, bars_beside_ui};
use crate::app::theme::{self, Tone};
use crate::app::workbench::Workbench;
use crate::session::{FileSizes, ModelConfig, ModelId, Probe, PublishedSizes, View, file_sizes, published_sizes};

/// As the published table has it.
const CONFIG: ModelConfig = ModelConfig { classes: 33, size: 224 };
/// Room that a model's bars need.
const COLUMN: f32 = 400.0;

type Answer = (ModelId, Result<FileSizes, String>);

/// The sizes of every model's files, measured once, the first time that they are looked at.
#[derive(Debug, Default)]
pub struct CompareScreen {
    probe: Option<Probe<Answer>>,
    rows: Vec<(ModelId, FileSizes)>,
    failure: Option<String>,
    asked: bool,
    sizes: bool,
}

impl CompareScreen {
    /// What has been measured so far.
    pub fn rows(&self) -> &[(ModelId, FileSizes)] {
        &self.rows
    }

    /// Whether it is every model's sizes that are looked at, and not the runs.
    pub(in crate::app) fn shows_sizes(&self) -> bool {
        self.sizes
    }

    fn ask(&mut self, ui: &Ui) {
        self.asked = true;
        self.failure = None;
        self.rows.clear();
        let ctx = ui.ctx().clone();
        let job = |emit: &mut dyn FnMut(Answer) -> std::ops::ControlFlow<()>| {
            let folder = std::env::temp_dir();
            for model in published_first() {
                let sizes = file_sizes(model, CONFIG, &folder).map_err(|e| e.to_string());
                if emit((model, sizes)).is_break() {
                    return;
                }
            }
        };
        match Probe::start(move || ctx.request_repaint(), job) {
            Ok(probe) => self.probe = Some(probe),
            Err(e) => self.failure = Some(format!("the system gives no thread to measure on: {e}")),
        }
    }

    fn take(&mut self) {
        let Self { probe, rows, failure, .. } = self;
        let more = probe.as_ref().is_some_and(|p| {
            p.drain(|(model, sizes)| match sizes {
                Ok(sizes) => rows.push((model, sizes)),
                Err(e) => *failure = Some(e),
            })
        });
        if !more && let Some(why) = self.probe.take().and_then(|p| p.failure().map(str::to_owned)) {
            self.failure = Some(why);
        }
    }
}

/// The runs of the project, or every model's files.
pub(super) fn place_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let options = [(false, "Runs"), (true, "Sizes of every model")];
    choice_ui(ui, "Compare", &options, &mut bench.compare.sizes);
    ui.add_space(theme::GAP);
    if bench.compare.sizes {
        compare_ui(ui, &mut bench.compare);
    } else {
        runs::runs_ui(ui, bench, view);
    }
}

/// What each model's files weigh, float and int8, beside what others published.
fn compare_ui(ui: &mut Ui, screen: &mut CompareScreen) {
    if !screen.asked {
        screen.ask(ui);
    }
    screen.take();
    prose(
        ui,
        "Every model with 33 classes, its float and its int8 file written here, measured and removed again. Sizes in KB of \
         1,000 bytes. Outlined bars are not Octet's.",
    );
    if let Some(failure) = screen.failure.clone() {
        banner_ui(ui, Tone::Trouble, &failure);
        if ui.button("Measure again").clicked() {
            screen.ask(ui);
        }
    }
    if screen.probe.is_some() {
        let (done, all) = (screen.rows.len(), ModelId::ALL.len());
        ui.horizontal(|ui| {
            progress_ui(ui, "Writing files", done as f32 / all as f32, 240.0);
            ui.label(format!("{done} / {all} models"));
        });
    }
    charts_ui(ui, &screen.rows);
    if !screen.rows.is_empty() {
        ui.add_space(theme::GAP);
        super::saved_table_ui(ui, "All sizes, KB", &table(&screen.rows));
        ui.add_space(theme::GAP);
        notes_ui(ui, &screen.rows);
    }
}

/// Those that have something beside them first: they are what the page is for.
fn published_first() -> Vec<ModelId> {
    let (beside, alone): (Vec<_>, Vec<_>) = ModelId::ALL.into_iter().partition(|model| published(*model).is_some());
    [beside, alone].concat()
}

fn published(model: ModelId) -> Option<&'static PublishedSizes> {
    published_sizes(model, CONFIG.classes)
}

/// As many side by side as there is room for.
fn charts_ui(ui: &mut Ui, rows: &[(ModelId, FileSizes)]) {
    let columns = ((ui.available_width() / COLUMN) as usize).clamp(1, 3);
    let width = (ui.available_width() - (columns - 1) as f32 * theme::PADDING * 2.0) / columns as f32;
    for line in rows.chunks(columns) {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = theme::PADDING * 2.0;
            for (model, sizes) in line {
                ui.allocate_ui(vec2(width, 0.0), |ui| {
                    ui.set_width(width);
                    ui.spacing_mut().item_spacing = vec2(theme::GAP, 0.0);
                    ui.vertical(|ui| model_ui(ui, *model, sizes));
                });
            }
        });
        ui.add_space(theme::GAP);
    }
}

fn model_ui(ui: &mut Ui, model: ModelId, sizes: &FileSizes) {
    let bar = |name: &str, kb: f64, text: String, tone| BarItem { name: name.to_owned(), value: kb, text, tone };
    let plain = |name: &str, kb_of: f64, tone| bar(name, kb_of, kb(kb_of), tone);
    let [float, int8] = [sizes.float_bytes, sizes.int8_bytes].map(|b| b as f64 / 1e3);
    let small = |name: &str, of: f64, from: f64| bar(name, of, format!("{}  {}", kb(of), times(from / of)), Tone::Int8);
    let ours = [plain("float32", float, Tone::Float), small("int8", int8, float)];
    let theirs = published(model).map(|p| {
        [
            plain("float32, published", p.float_kb, Tone::Float),
            small("int8, published", p.int8_kb, p.float_kb),
            small("int8, PyTorch fused", p.pytorch_fused_kb, p.float_kb),
        ]
    });
    bars_beside_ui(ui, model.title(), &ours, theirs.as_ref().map_or(&[], |t| t.as_slice()));
}

fn table(rows: &[(ModelId, FileSizes)]) -> Table {
    let head = ["", "float32", "int8", "shrink", "published float32", "int8", "shrink", "PyTorch fused int8"];
    let none = || number::NONE.to_owned();
    Table::new(
        head,
        rows.iter().map(|(model, sizes)| {
            let [float, int8] = [sizes.float_bytes, sizes.int8_bytes].map(|b| b as f64 / 1e3);
            let theirs = match published(*model) {
                Some(p) => [kb(p.float_kb), kb(p.int8_kb), times(p.float_kb / p.int8_kb), kb(p.pytorch_fused_kb)],
                None => [none(), none(), none(), none()],
            };
            let [a, b, c, d] = theirs;
            [model.title().to_owned(), kb(float), kb(int8), times(float / int8), a, b, c, d]
        }),
    )
}

fn notes_ui(ui: &mut Ui, rows: &[(ModelId, FileSizes)]) {
    for (model, _) in rows {
        if let Some(note) = published(*model).and_then(|p| p.note.as_deref()) {
            banner_ui(ui, Tone::Observed, &format!("{}: {note}.", model.title()));
        }
    }
    prose(
        ui,
        "The published int8 files were converted without fusing; those of the ResNets and EfficientNet fit only models \
         without stubs, which cannot run. PyTorch fused is what PyTorch writes for the same model fused first, a file that \
         runs.",
    );
}

/// With one decimal, as the published table has it: `23 747.2`.
fn kb(kb: f64) -> String {
    let tenths = (kb * 10.0).round() as usize;
    format!("{}.{}", number::count(tenths / 10), tenths % 10)
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}\u{d7}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_have_one_decimal() {
        assert_eq!(kb(413.84), "413.8");
        assert_eq!(kb(23747.25), format!("23{}747.3", number::THIN));
        assert_eq!(kb(0.96), "1.0");
    }
}
