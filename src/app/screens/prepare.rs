use eframe::egui::Ui;

use super::{heading, prose};
use crate::app::controls::{banner_ui, choice_ui, figures_ui};
use crate::app::plot::{Table, table_ui};
use crate::app::theme::Tone;
use crate::app::workbench::Workbench;
use crate::session::{Backend, ObserverKind, Stage, Step, View};

/// The qconfig, and what is watched under it.
pub(super) fn prepare_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    heading(ui, "Qconfig");
    let backends = Backend::ALL.map(|b| (b, b.name()));
    choice_ui(ui, "Qconfig", &backends, &mut bench.choices.backend);
    prose(ui, about(bench.choices.backend));
    heading(ui, "Observer of activations");
    let observers = [
        (ObserverKind::Histogram, "Histogram"),
        (ObserverKind::MinMax, "Min and max"),
        (ObserverKind::MovingAverageMinMax, "Moving average"),
    ];
    choice_ui(ui, "Observer", &observers, &mut bench.choices.observer);
    prose(ui, watches(bench.choices.observer));
    let Some(Stage::Prepared { report, graph, .. }) = view.stage_of(Step::Prepare).map(AsRef::as_ref) else {
        return;
    };
    let observed = report.observed.len().to_string();
    let all = graph.nodes.len().to_string();
    figures_ui(ui, &[("observers placed", &observed, Some(Tone::Observed)), ("nodes", &all, None)]);
    for warning in report.warnings() {
        banner_ui(ui, Tone::Trouble, &warning.to_string());
    }
    heading(ui, "Observed nodes");
    let rows = report
        .observed
        .iter()
        .map(|o| [o.name.clone(), o.spec.observer.title().to_owned(), format!("0\u{2026}{}", o.spec.quant_max)]);
    table_ui(ui, "observed", &Table::new(["node", "observer", "levels"], rows));
}

fn about(backend: Backend) -> &'static str {
    match backend {
        Backend::X86 | Backend::Fbgemm => {
            "Activations are laid out for 0\u{2026}127, so that no sum overflows on CPUs without VNNI; weights per channel."
        }
        Backend::Onednn => "Activations at 0\u{2026}255, weights per channel.",
        Backend::Qnnpack => "Activations at 0\u{2026}255, weights with one scale a layer.",
    }
}

fn watches(observer: ObserverKind) -> &'static str {
    match observer {
        ObserverKind::Histogram => "Counts every value and clips where that loses least.",
        ObserverKind::MinMax => "Keeps the smallest and the largest value that ever occurs.",
        ObserverKind::MovingAverageMinMax => "Averages each batch's extremes: a single odd image moves it little.",
        ObserverKind::Percentile => "Cuts off the outermost values: a few in ten thousand.",
        ObserverKind::Mse => "Takes the range whose levels lose least, clipped values counted in.",
        ObserverKind::Entropy => "Takes the range whose levels say most about the distribution, as TensorRT does.",
        ObserverKind::PerChannelMinMax => "One range a channel: for weights.",
    }
}
