use eframe::egui::{RichText, Ui};

use super::download::download_ui;
use super::{heading, prose};
use crate::app::browse::Field;
use crate::app::controls::{banner_ui, figures_ui, number_ui, path_ui};
use crate::app::number;
use crate::app::plot::{Curve, curves_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{Command, CommandKind, Stage, Step, TrainEvent, View, WeightsOrigin, ships_weights};

/// Where the weights come from, how well they do, and how they got there.
pub(super) fn weights_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    result_ui(ui, bench, view);
    curves(ui, view);
    sources_ui(ui, bench, view);
}

fn result_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(Stage::Weighted { opened, graph, origin, accuracy }) = view.stage_of(Step::Weights).map(AsRef::as_ref)
    else {
        return;
    };
    let accuracy = accuracy.map_or(number::NONE.to_owned(), number::percent);
    let values = number::prefixed(graph.param_count() as u64);
    figures_ui(ui, &[("accuracy, held-out", &accuracy, Some(Tone::Float)), ("trained values", &values, None)]);
    let origin = match origin {
        WeightsOrigin::Shipped => "Trained on Fashion-MNIST; they come with Octet.".to_owned(),
        WeightsOrigin::File(path) => format!("Read from {}.", path.display()),
        WeightsOrigin::WithoutHead(path) => format!("Read from {}, all but the head.", path.display()),
        WeightsOrigin::Trained { epochs, stopped: true } => {
            format!("Trained here, stopped after {epochs} whole epochs.")
        }
        WeightsOrigin::Trained { epochs, stopped: false } => format!("Trained here, {epochs} epochs."),
    };
    if head_ui(ui, bench, view) {
        prose(ui, &origin);
    } else {
        prose(ui, &format!("{origin} {}", opened.why_no_accuracy().unwrap_or_default()));
    }
}

/// Offers to replace the head of a file whose classes are not the data's, or to take it back; whether there is one.
fn head_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) -> bool {
    let Some(Stage::Weighted { opened, origin, .. }) = view.stage_of(Step::Weights).map(AsRef::as_ref) else {
        return false;
    };
    let (of_data, of_file) = (opened.dataset.labels.len(), opened.classes);
    let (text, button, command) = match origin {
        WeightsOrigin::File(_) if opened.dataset.labelled && of_data != of_file => (
            format!(
                "The weights tell {of_file} classes apart, your images have {of_data}: there is no accuracy to measure. \
                 The head can be left out and a new one trained for your classes; that happens only if you ask for it."
            ),
            format!("New head for {of_data} classes"),
            Command::ReinitHead(true),
        ),
        WeightsOrigin::WithoutHead(_) => (
            format!("The head for {of_data} classes is new, and random until it is trained."),
            "Back to the file's own head".to_owned(),
            Command::ReinitHead(false),
        ),
        WeightsOrigin::File(_) | WeightsOrigin::Shipped | WeightsOrigin::Trained { .. } => return false,
    };
    banner_ui(ui, Tone::Observed, &text);
    if ui.add_enabled(view.allows(command.kind()), eframe::egui::Button::new(button)).clicked() {
        bench.ask(command);
    }
    true
}

fn curves(ui: &mut Ui, view: &View) {
    if view.training.is_empty() {
        return;
    }
    if let Some(kept) = kept(&view.training) {
        prose(ui, &kept);
    }
    let dark = theme::palette(ui).dark;
    let (mut train, mut valid, mut train_right, mut valid_right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut rate = Vec::new();
    for event in &view.training {
        match event {
            TrainEvent::Step { epoch, step, steps, loss, learning_rate, .. } => {
                let at = *epoch as f64 + (*step + 1) as f64 / (*steps).max(1) as f64;
                rate.push([at, *learning_rate]);
                train.push([at, f64::from(*loss)]);
            }
            TrainEvent::Epoch(report) => {
                let at = report.epoch as f64 + 1.0;
                train_right.push([at, report.train.accuracy()]);
                if let Some(score) = &report.valid {
                    valid.push([at, score.loss]);
                    valid_right.push([at, score.accuracy()]);
                }
            }
            TrainEvent::Ranges(_) | TrainEvent::Frozen { .. } => {}
        }
    }
    let curve =
        |name: &str, points, i| Curve { name: name.to_owned(), points, color: theme::series(i, dark), dashed: i == 1 };
    let loss = [curve("train", train, 0), curve("held-out", valid, 1)];
    curves_ui(ui, "Loss", "epoch", "loss", &loss, number::number);
    if !train_right.is_empty() {
        let right = [curve("train", train_right, 0), curve("held-out", valid_right, 1)];
        curves_ui(ui, "Accuracy", "epoch", "accuracy", &right, number::percent);
    }
    curves_ui(ui, "Learning rate", "epoch", "learning rate", &[curve("rate", rate, 0)], number::number);
}

fn sources_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(recipe) = &view.recipe else { return };
    if ships_weights(recipe.model, &recipe.data) {
        source_ui(ui, "Shipped", "Trained weights for this model on the sample come with Octet.", |ui| {
            if ui
                .add_enabled(view.allows(CommandKind::UseShippedWeights), eframe::egui::Button::new("Use them"))
                .clicked()
            {
                bench.ask(Command::UseShippedWeights);
            }
        });
    }
    source_ui(ui, "From a file", "A PyTorch state dict or safetensors with torchvision's names.", |ui| {
        if path_ui(ui, "Weights file", ".pth, .pt or .safetensors", &mut bench.choices.weights) {
            bench.browse(Field::Weights, ui.ctx());
        }
        let path = bench.choices.weights();
        let ready = path.is_some() && view.allows(CommandKind::LoadWeights);
        let load = ui.add_enabled(ready, eframe::egui::Button::new("Load file"));
        if let (true, Some(path)) = (load.clicked(), path) {
            bench.ask(Command::LoadWeights(path));
        }
    });
    download_ui(ui, bench, view, recipe.model);
    source_ui(
        ui,
        "By training",
        "From the weights as they are now, on the training images. Cancel keeps the best so far.",
        |ui| {
            ui.horizontal_wrapped(|ui| {
                let train = &mut bench.choices.train;
                number_ui(ui, "Epochs", &mut train.epochs, 1..=1000, 0.1);
                number_ui(ui, "Batch", &mut train.batch, 2..=1024, 1.0);
                number_ui(ui, "Learning rate", &mut train.learning_rate, 1e-6..=1.0, 1e-4);
                ui.checkbox(&mut train.augment, "Flip and shift images");
            });
            if ui.add_enabled(view.allows(CommandKind::Train), eframe::egui::Button::new("Start training")).clicked() {
                bench.ask(Command::Train(bench.choices.train));
            }
        },
    );
}

/// A card of one way to come by weights.
pub(super) fn source_ui(ui: &mut Ui, title: &str, text: &str, draw: impl FnOnce(&mut Ui)) {
    ui.add_space(theme::GRID);
    theme::card_frame(ui).show(ui, |ui| {
        ui.set_width(ui.available_width().min(620.0));
        heading(ui, title);
        ui.label(RichText::new(text).font(Type::Body.font()).color(theme::palette(ui).weak));
        draw(ui);
    });
}

/// That an earlier epoch than the last is kept, and what the last one had: the best was picked on the images that its
/// accuracy is of, so that figure is a little too good.
fn kept(training: &[TrainEvent]) -> Option<String> {
    let epochs = training.iter().filter_map(|event| match event {
        TrainEvent::Epoch(report) => Some(report),
        TrainEvent::Step { .. } | TrainEvent::Ranges(_) | TrainEvent::Frozen { .. } => None,
    });
    let epochs: Vec<_> = epochs.collect();
    let (last, best) = (epochs.last()?, epochs.iter().rfind(|report| report.best)?);
    let score = last.valid.filter(|_| best.epoch != last.epoch)?;
    Some(format!(
        "Epoch {} is kept, the best on the held-out images; epoch {}, the last, had {}.",
        best.epoch + 1,
        last.epoch + 1,
        number::percent(score.accuracy())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{EpochReport, Score};

    #[test]
    fn the_last_epoch_is_said_where_another_is_kept() {
        let epoch = |epoch, correct, best| {
            let score = Score { correct, total: 100, loss: 1.0 };
            TrainEvent::Epoch(EpochReport { epoch, train: score, valid: Some(score), best, seconds: 1.0 })
        };
        let text = kept(&[epoch(0, 50, true), epoch(1, 70, true), epoch(2, 60, false)]).expect("another is kept");
        assert!(text.starts_with("Epoch 2 is kept") && text.contains("epoch 3, the last, had 60.0"), "{text}");
        assert_eq!(kept(&[epoch(0, 50, true), epoch(1, 70, true)]), None);
        assert_eq!(kept(&[]), None);
    }
}
