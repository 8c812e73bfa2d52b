use std::sync::Arc;

use eframe::egui::Theme;
use egui_kittest::kittest::Queryable;
use octet::app::graph_view::{GraphPane, Selection, pane_ui};
use octet::app::theme;
use octet::graph::Graph;
use octet::zoo::{self, ModelConfig, ModelId};

use crate::{harness, snapshot};

struct State {
    pane: GraphPane,
    graph: Arc<Graph>,
    selection: Selection,
}

fn state(model: ModelId) -> State {
    let graph = zoo::build(model, ModelConfig { classes: 10, size: 64 }).expect("a valid configuration");
    State { pane: GraphPane::default(), graph: Arc::new(graph), selection: Selection::default() }
}

fn draw(ui: &mut eframe::egui::Ui, state: &mut State) {
    theme::ground_frame(ui).show(ui, |ui| {
        if let Some(name) = pane_ui(ui, "Float", &mut state.pane, &state.graph, &state.selection) {
            state.selection.select(&name, [&*state.graph]);
        }
    });
}

#[test]
fn a_module_opens_and_a_node_is_selected() {
    let (mut harness, textures) = harness([560.0, 640.0], Theme::Dark, state(ModelId::ResNet18), draw);
    harness.run();
    harness.get_by_label_contains("layer1,").click();
    harness.run();
    harness.get_by_label_contains("layer1.0,").click();
    harness.run();
    harness.get_by_label_contains("layer1.0.conv1,").click();
    harness.run();
    assert_eq!(harness.state().selection.name(), Some("layer1.0.conv1"));
    snapshot::matches(&harness, &textures, "graph_dark");
    harness.get_by_label("Fold layer1").click();
    harness.run();
    assert!(harness.query_by_label_contains("layer1.0.conv1,").is_none());
}

#[test]
fn the_whole_of_a_model_in_the_light() {
    let (mut harness, textures) = harness([560.0, 640.0], Theme::Light, state(ModelId::ShuffleNetV2X05), draw);
    harness.run();
    snapshot::matches(&harness, &textures, "graph_light");
    harness.get_by_label("Fit").click();
    harness.run();
    assert!(harness.query_by_label_contains("fc,").is_some());
}
