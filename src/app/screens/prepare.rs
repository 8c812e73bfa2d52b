use eframe::egui::{Grid, RichText, Ui, vec2};

use super::{heading, layers, prose, warnings_ui};
use crate::app::controls::{banner_ui, choice_ui, figures_ui, number_ui, pick_ui};
use crate::app::glossary::label_ui;
use crate::app::theme::{self, Tone};
use crate::app::workbench::Workbench;
use crate::session::{Backend, Biases, ObserverKind, QConfig, Scheme, Stage, Step, View};

/// Width that the observers' names take.
const SIX_SIDE_BY_SIDE: f32 = 540.0;

/// The qconfig and its choices, what is left to warn of, and the layers with theirs; `room` is the height of the screen.
pub(super) fn prepare_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, room: f32) {
    let top = ui.cursor().top();
    choices_ui(ui, bench);
    if let Some(study) = bench.choices.qconfig.study() {
        banner_ui(ui, Tone::FakeQuantized, &study.to_string());
    }
    if let Some(Stage::Prepared { report, graph, warnings, .. }) = view.stage_of(Step::Prepare).map(AsRef::as_ref) {
        let [observed, float, all] =
            [report.observed.len(), report.float.len(), graph.nodes.len()].map(|n| n.to_string());
        let placed = ("observers placed", observed.as_str(), Some(Tone::Observed));
        let left = ("left in float", float.as_str(), Some(Tone::Float));
        figures_ui(ui, &[placed, left, ("nodes", all.as_str(), None)]);
        if view.recipe.as_ref().is_some_and(|r| r.qconfig != bench.choices.qconfig) {
            banner_ui(ui, Tone::Observed, "The choices have changed since: prepare again to use them.");
        }
        warnings_ui(ui, warnings);
    }
    heading(ui, "Layers");
    let used = ui.cursor().top() - top;
    layers::layers_ui(ui, bench, view, room - used);
}

/// A line a choice: its name, its options, what they mean.
fn choices_ui(ui: &mut Ui, bench: &mut Workbench) {
    let choices = &mut bench.choices;
    let spacing = vec2(theme::PADDING, theme::GAP);
    Grid::new("qconfig").num_columns(2).spacing(spacing).min_row_height(theme::CHOICE).show(ui, |ui| {
        named(ui, "Qconfig", |ui| {
            let mut backend = choices.qconfig.name;
            choice_ui(ui, "Qconfig", &Backend::ALL.map(|b| (b, b.name())), &mut backend);
            if backend != choices.qconfig.name {
                choices.take_backend(backend);
            }
        });
        named(ui, "Observer", |ui| {
            let QConfig { activation, .. } = &mut choices.qconfig;
            if ui.available_width() < SIX_SIDE_BY_SIDE {
                pick_ui(ui, "Observer", &mut activation.observer, &ObserverKind::OF_ACTIVATIONS, capital);
            } else {
                let observers = ObserverKind::OF_ACTIVATIONS.map(|o| (o, capital(o)));
                choice_ui(ui, "Observer", &observers, &mut activation.observer);
            }
            if activation.observer == ObserverKind::Percentile {
                number_ui(ui, "percent kept", &mut activation.percentile, 51.0..=100.0, 0.01);
            }
        });
        named(ui, "Activations", |ui| {
            let schemes = [(Scheme::Affine, "Affine"), (Scheme::Symmetric, "Symmetric")];
            choice_ui(ui, "Activations", &schemes, &mut choices.qconfig.activation.scheme);
        });
        named(ui, "Weights", |ui| {
            let weight = &mut choices.qconfig.weight;
            let per = [(ObserverKind::PerChannelMinMax, "Per channel"), (ObserverKind::MinMax, "Per tensor")];
            choice_ui(ui, "Scales of weights", &per, &mut weight.observer);
            let schemes = [(Scheme::Symmetric, "Symmetric"), (Scheme::Affine, "Affine, for study")];
            choice_ui(ui, "Weights", &schemes, &mut weight.scheme);
        });
        named(ui, "Biases", |ui| {
            let forms = [(Biases::Float, "float32"), (Biases::Int32, "int32")];
            choice_ui(ui, "Biases", &forms, &mut choices.qconfig.biases);
            let which = match choices.qconfig.biases {
                Biases::Float => "as PyTorch has them",
                Biases::Int32 => "as ONNX has them: an export computes the same",
            };
            ui.label(RichText::new(which).color(theme::palette(ui).weak));
        });
        named(ui, "Bits", |ui| {
            let mut bits = choices.qconfig.weight.bits;
            choice_ui(ui, "Bits", &[(8, "8"), (7, "7"), (6, "6"), (5, "5"), (4, "4")], &mut bits);
            ui.label(RichText::new("7 to 4 are for study").color(theme::palette(ui).weak));
            if bits != choices.qconfig.weight.bits {
                choices.take_bits(bits);
            }
        });
    });
    let watches = match choices.by_qat {
        true => "Training follows moving averages of each batch's extremes, whatever observer is chosen.",
        false => watches(choices.qconfig.activation.observer),
    };
    let scales = match choices.qconfig.weight.observer {
        ObserverKind::MinMax => "weights have one scale a layer",
        _ => "weights have a scale a channel",
    };
    let text = format!("{}; {scales}. {watches}", about(choices.qconfig.name));
    prose(ui, &text);
}

fn named(ui: &mut Ui, name: &str, draw: impl FnOnce(&mut Ui)) {
    label_ui(ui, RichText::new(name).color(theme::palette(ui).weak));
    // The line is as high as a choice in its frame, its controls as high as ever.
    let control = std::mem::replace(&mut ui.spacing_mut().interact_size.y, theme::CHOICE);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().interact_size.y = control;
        draw(ui);
    });
    ui.spacing_mut().interact_size.y = control;
    ui.end_row();
}

fn capital(observer: ObserverKind) -> &'static str {
    match observer {
        ObserverKind::Histogram => "Histogram",
        ObserverKind::MinMax => "Min and max",
        ObserverKind::MovingAverageMinMax => "Moving average",
        ObserverKind::Percentile => "Percentile",
        ObserverKind::Mse => "MSE",
        ObserverKind::Entropy => "Entropy",
        ObserverKind::PerChannelMinMax => "Per channel",
    }
}

fn about(backend: Backend) -> &'static str {
    match backend {
        Backend::X86 | Backend::Fbgemm => {
            "Activations are laid out for 0\u{2026}127, so that no sum overflows on CPUs without VNNI"
        }
        Backend::Onednn | Backend::Qnnpack => "Activations are laid out for 0\u{2026}255",
    }
}

fn watches(observer: ObserverKind) -> &'static str {
    match observer {
        ObserverKind::Histogram => "The observer counts every value and clips where that loses least.",
        ObserverKind::MinMax => "The observer keeps the smallest and the largest value that ever occurs.",
        ObserverKind::MovingAverageMinMax => {
            "The observer averages each batch's extremes: a single odd image moves it little."
        }
        ObserverKind::Percentile => "The observer counts every value and cuts off the outermost few.",
        ObserverKind::Mse => "The observer takes the range whose levels lose least, clipped values counted in.",
        ObserverKind::Entropy => {
            "The observer takes the range whose levels say most about the distribution, as TensorRT does."
        }
        ObserverKind::PerChannelMinMax => "One range a channel: for weights.",
    }
}
