//! Step 5 of the second method: training with fake quantization, as it goes.

use std::path::PathBuf;

use eframe::egui::{Checkbox, Grid, RichText, Role, ScrollArea, Ui, WidgetInfo, vec2};

use super::{heading, prose};
use crate::app::controls::{choice_ui, figures_ui, number_ui};
use crate::app::glossary::label_ui;
use crate::app::number;
use crate::app::plot::{Curve, Mark, curves_marked_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{
    CheckpointFile, Command, CommandKind, Frozen, QatLevels, RangeReport, Stage, Step, StepSize, TrainEvent, View,
};

/// Whether training keeps its state in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QatScreen {
    keep: bool,
}

/// Loss, accuracy and ranges of a training with fake quantization; before it, how it will go.
pub(super) fn qat_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        ui.set_max_width(ui.available_width() - 16.0);
        choices_ui(ui, bench, view);
        if view.qat.is_empty() && matches!(view.stage_of(Step::Calibrate).map(AsRef::as_ref), Some(Stage::Trained { .. })) {
            result_ui(ui, view);
            prose(ui, "It was trained in an earlier session; the curves of that are gone with it.");
            return;
        }
        if view.qat.is_empty() {
            prose(
                ui,
                "The model is trained on while every weight and output is rounded to the levels that int8 will have: it learns \
                 to live with them. Loss, accuracy and each layer's range are drawn here as they come. Cancel keeps the best \
                 weights so far.",
            );
            return;
        }
        result_ui(ui, view);
        curves(ui, view);
        ranges_ui(ui, bench, view);
    });
}

fn choices_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let spacing = vec2(theme::PADDING, theme::GAP);
    Grid::new("qat").num_columns(2).spacing(spacing).min_row_height(theme::CHOICE).show(ui, |ui| {
        let weak = theme::palette(ui).weak;
        let qat = &mut bench.choices.qat;
        label_ui(ui, RichText::new("Training").color(weak));
        ui.horizontal_wrapped(|ui| {
            number_ui(ui, "epochs", &mut qat.train.epochs, 1..=1000, 0.1);
            number_ui(ui, "batch", &mut qat.train.batch, 2..=1024, 1.0);
            number_ui(ui, "learning rate", &mut qat.train.learning_rate, 1e-7..=1.0, 1e-5);
            ui.checkbox(&mut qat.train.augment, "Flip and shift images");
        });
        ui.end_row();
        let config = qat.config();
        label_ui(ui, RichText::new("Freeze").color(weak));
        ui.horizontal_wrapped(|ui| {
            let (mut observers, mut bn) = (config.freeze_observers, config.freeze_bn);
            number_ui(ui, "ranges after epoch", &mut observers, 1..=1000, 0.1);
            number_ui(ui, "batch norm after epoch", &mut bn, 0..=1000, 0.1);
            // Untouched, they scale with the epochs.
            if observers != config.freeze_observers {
                qat.freeze_observers = Some(observers);
            }
            if bn != config.freeze_bn {
                qat.freeze_bn = Some(bn);
            }
        });
        ui.end_row();
        label_ui(ui, RichText::new("Step size").color(weak));
        let steps = [(StepSize::MovingAverage, "From the range"), (StepSize::Learned, "Learnt (LSQ)")];
        choice_ui(ui, "Step size", &steps, &mut qat.step);
        ui.end_row();
        label_ui(ui, RichText::new("Levels").color(weak));
        let levels = [(QatLevels::Int8, "As int8 has them"), (QatLevels::PyTorch, "As PyTorch")];
        choice_ui(ui, "Levels", &levels, &mut qat.levels);
        ui.end_row();
        label_ui(ui, RichText::new("Checkpoint").color(weak));
        checkpoint_ui(ui, bench, view);
        ui.end_row();
    });
}

/// Keeps the state of training beside the int8 file, and goes on from it.
fn checkpoint_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let path = bench.choices.out().with_extension("checkpoint");
    ui.horizontal_wrapped(|ui| {
        let can = view.allows(CommandKind::KeepCheckpoints);
        let kept = ui.add_enabled(can, Checkbox::new(&mut bench.qat.keep, "Keep one after each epoch"));
        let (name, on) = ("Keep a checkpoint after each epoch", bench.qat.keep);
        kept.widget_info(|| WidgetInfo::selected(Role::CheckBox, can, on, name));
        if kept.on_hover_text(path.display().to_string()).changed() {
            let file = bench.qat.keep.then(|| CheckpointFile { path: path.clone(), resume: false });
            bench.ask(Command::KeepCheckpoints(file));
        }
        if view.allows(CommandKind::TrainQat) && path.is_file() {
            let resume = ui.button("Resume");
            if resume.on_hover_text(format!("Go on from {}", path.display())).clicked() {
                resume_from(bench, path);
            }
        }
    });
}

/// Trains on from a checkpoint; what is trained after it starts from the beginning again.
fn resume_from(bench: &mut Workbench, path: PathBuf) {
    bench.qat.keep = true;
    bench.ask(Command::KeepCheckpoints(Some(CheckpointFile { path: path.clone(), resume: true })));
    bench.ask(Command::TrainQat(bench.choices.qat));
    bench.ask(Command::KeepCheckpoints(Some(CheckpointFile { path, resume: false })));
}

fn result_ui(ui: &mut Ui, view: &View) {
    let accuracy = |a: Option<f64>| a.map_or(number::NONE.to_owned(), number::percent);
    let last = view.qat.iter().rev().find_map(|event| match event {
        TrainEvent::Epoch(report) => Some(report.valid.map(|score| score.accuracy())),
        TrainEvent::Step { .. } | TrainEvent::Ranges(_) | TrainEvent::Frozen { .. } => None,
    });
    let trained = view.stages.iter().rev().flatten().find_map(|stage| match stage.as_ref() {
        Stage::Trained { accuracy, before, .. } => Some((before.accuracy, *accuracy)),
        Stage::Prepared { before, .. } => Some((before.accuracy, None)),
        _ => None,
    });
    let float = accuracy(trained.and_then(|t| t.0));
    let fake = accuracy(trained.and_then(|t| t.1).or(last.flatten()));
    let mut figures = vec![
        ("accuracy, float", float.as_str(), Some(Tone::Float)),
        ("accuracy, fake-quantized", fake.as_str(), Some(Tone::FakeQuantized)),
    ];
    let left = time_left(view).map(number::seconds);
    if let Some(left) = &left {
        figures.push(("time left", left, None));
    }
    figures_ui(ui, &figures);
}

/// Seconds, from the epochs so far.
fn time_left(view: &View) -> Option<f64> {
    if view.running != Some(CommandKind::TrainQat) {
        return None;
    }
    let progress = view.progress.as_ref()?;
    let rate = view.qat.iter().rev().find_map(|event| match event {
        TrainEvent::Epoch(report) => Some(report.seconds),
        TrainEvent::Step { .. } | TrainEvent::Ranges(_) | TrainEvent::Frozen { .. } => None,
    })?;
    let steps = view.qat.iter().rev().find_map(|event| match event {
        TrainEvent::Step { steps, .. } => Some(*steps),
        TrainEvent::Epoch(_) | TrainEvent::Ranges(_) | TrainEvent::Frozen { .. } => None,
    })?;
    Some((progress.total - progress.done) as f64 / steps.max(1) as f64 * rate)
}

fn curves(ui: &mut Ui, view: &View) {
    let dark = theme::palette(ui).dark;
    let (mut loss, mut held_out, mut right, mut held_out_right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut rate = Vec::new();
    for event in &view.qat {
        match event {
            TrainEvent::Step { epoch, step, steps, loss: value, learning_rate, .. } => {
                let at = *epoch as f64 + (*step + 1) as f64 / (*steps).max(1) as f64;
                loss.push([at, f64::from(*value)]);
                rate.push([at, *learning_rate]);
            }
            TrainEvent::Epoch(report) => {
                let at = report.epoch as f64 + 1.0;
                right.push([at, 100.0 * report.train.accuracy()]);
                if let Some(score) = &report.valid {
                    held_out.push([at, score.loss]);
                    held_out_right.push([at, 100.0 * score.accuracy()]);
                }
            }
            TrainEvent::Ranges(_) | TrainEvent::Frozen { .. } => {}
        }
    }
    let curve =
        |name: &str, points, i| Curve { name: name.to_owned(), points, color: theme::series(i, dark), dashed: i == 1 };
    let marks = marks(view);
    let curves = [curve("train", loss, 0), curve("held-out", held_out, 1)];
    curves_marked_ui(ui, "Loss", ["epoch", "loss"], &curves, &marks, number::number);
    if !right.is_empty() {
        let curves = [curve("train", right, 0), curve("held-out", held_out_right, 1)];
        curves_marked_ui(ui, "Accuracy, fake-quantized", ["epoch", "accuracy, %"], &curves, &marks, of_hundred);
    }
    curves_marked_ui(ui, "Learning rate", ["epoch", "rate"], &[curve("rate", rate, 0)], &marks, number::number);
}

/// A percentage that is drawn as one.
pub(super) fn of_hundred(percent: f64) -> String {
    number::percent(percent / 100.0)
}

/// Where something stands still from.
fn marks(view: &View) -> Vec<Mark> {
    let frozen = view.qat.iter().filter_map(|event| match event {
        TrainEvent::Frozen { epoch, what } => Some(Mark {
            at: *epoch as f64,
            name: match what {
                Frozen::Observers => "ranges freeze",
                Frozen::BatchNorm => "batch norm freezes",
            },
        }),
        TrainEvent::Step { .. } | TrainEvent::Epoch(_) | TrainEvent::Ranges(_) => None,
    });
    frozen.collect()
}

/// After conversion: what fake quantization said beside int8, and what PyTorch's conversion would say.
pub(super) fn converted_ui(ui: &mut Ui, view: &View) {
    let stage = view.stage_of(Step::Convert).map(AsRef::as_ref);
    let (qat, int8) = match stage {
        Some(Stage::Saved { qat: Some(qat), measured, .. }) => (qat, measured.int8.accuracy),
        Some(Stage::Converted { qat: Some(qat), .. }) => (qat, None),
        Some(_) | None => return,
    };
    let accuracy = |a: Option<f64>| a.map_or(number::NONE.to_owned(), number::percent);
    let [fake, int8, torch] = [qat.accuracy, int8, qat.as_pytorch].map(accuracy);
    ui.add_space(theme::GAP);
    let mut figures = vec![
        ("accuracy, fake-quantized", fake.as_str(), Some(Tone::FakeQuantized)),
        ("accuracy, int8", int8.as_str(), Some(Tone::Int8)),
    ];
    if qat.as_pytorch.is_some() {
        figures.push(("as PyTorch converts", torch.as_str(), None));
    }
    figures_ui(ui, &figures);
    if qat.as_pytorch.is_some() {
        prose(
            ui,
            "Octet's int8 model has the levels it was trained on. PyTorch's would differ: its kernels clamp at 255 where \
             training clamped at 127, and its weights get another grid at conversion.",
        );
    }
}

/// The range of the selected layer, step by step, and the layers to select from.
fn ranges_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let steps = view.qat.iter().find_map(|event| match event {
        TrainEvent::Step { steps, .. } => Some((*steps).max(1)),
        TrainEvent::Epoch(_) | TrainEvent::Ranges(_) | TrainEvent::Frozen { .. } => None,
    });
    let reports: Vec<&RangeReport> = view
        .qat
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Ranges(report) => Some(report),
            TrainEvent::Step { .. } | TrainEvent::Epoch(_) | TrainEvent::Frozen { .. } => None,
        })
        .collect();
    let (Some(last), Some(steps)) = (reports.last(), steps) else { return };
    let selected = last.ranges.iter().find(|r| bench.selection.contains(&r.node)).or(last.ranges.first());
    let Some(selected) = selected else { return };
    heading(ui, "Range of one layer's fake quantization");
    ui.horizontal_wrapped(|ui| {
        let combo = eframe::egui::ComboBox::from_id_salt("layer").selected_text(&*selected.node).height(360.0);
        let response = combo.show_ui(ui, |ui| {
            for range in &last.ranges {
                if ui.selectable_label(range.node == selected.node, &*range.node).clicked() {
                    let graphs = view.stages.iter().flatten().map(|s| &**s.graph());
                    bench.selection.select(&range.node, graphs);
                }
            }
        });
        let name = format!("Layer: {}", selected.node);
        response.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, &name));
        let text = format!(
            "scale {}, zero point {}",
            number::number(selected.scale.into()),
            number::count(usize::from(selected.zero_point))
        );
        ui.label(RichText::new(text).font(Type::Body.mono()).color(theme::palette(ui).text));
    });
    let mut ends = [Vec::new(), Vec::new()];
    for report in &reports {
        let Some(range) = report.ranges.iter().find(|r| r.node == selected.node) else { continue };
        let at = report.epoch as f64 + (report.step + 1) as f64 / steps as f64;
        ends[0].push([at, f64::from(range.max)]);
        ends[1].push([at, f64::from(range.min)]);
    }
    let ink = Tone::FakeQuantized.ink(theme::palette(ui).dark);
    let [max, min] = ends;
    let curve = |name: &str, points, dashed| Curve { name: name.to_owned(), points, color: ink, dashed };
    let curves = [curve("max", max, false), curve("min", min, true)];
    curves_marked_ui(ui, "Range", ["epoch", "value"], &curves, &marks(view), number::number);
}
