use std::sync::Arc;

use eframe::egui::{Event, Modifiers, MouseWheelSource, MouseWheelUnit, Theme, TouchPhase, pos2, vec2};
use egui_kittest::kittest::Queryable;
use octet::app::graph_view::{GraphPane, Selection, pane_ui};
use octet::app::theme;
use octet::graph::Graph;
use octet::quant::{FuseOptions, fuse};
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
fn a_smaller_graph_is_drawn_of_its_own_nodes_as_soon_as_it_is_laid_out() {
    let (mut harness, _) = harness([560.0, 640.0], Theme::Dark, state(ModelId::ShuffleNetV2X05), draw);
    harness.run();
    harness.get_by_label("Open").click();
    harness.run_steps(2);
    while harness.state().pane.is_busy() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        harness.step();
    }
    // Fused it has half of the nodes: until all are laid out again, the cards are still those of before.
    let (fused, _) = fuse(&harness.state().graph, &FuseOptions::default()).expect("a float graph");
    assert!(fused.nodes.len() + 50 < harness.state().graph.nodes.len());
    harness.state_mut().graph = Arc::new(fused);
    harness.step();
    // The layout stands on a thread of its own, which may be done already.
    if harness.state().pane.is_busy() {
        harness.query_all_by_label_contains("conv1.1, BatchNorm2d").next().expect("a card of before");
    }
    while harness.state().pane.is_busy() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        harness.step();
    }
    harness.run_steps(2);
    harness.query_all_by_label_contains("conv1.0, ConvReLU2d").next().expect("a card of the fused graph");
}

/// Every node of the largest model on cards of its own, panned for so many frames: milliseconds of each, sorted, painting
/// left out, and how many nodes there are.
pub fn panned(count: usize) -> (Vec<f64>, usize) {
    let (mut harness, _) = harness([900.0, 800.0], Theme::Dark, state(ModelId::EfficientNetV2S), draw);
    harness.step();
    harness.get_by_label("Open").click();
    harness.step();
    while harness.state().pane.is_busy() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        harness.step();
    }
    harness.get_by_label("Fit").click();
    harness.run_steps(3);
    harness.hover_at(pos2(450.0, 400.0));
    let mut frames: Vec<f64> = (0..count)
        .map(|i| {
            harness.event(Event::MouseWheel {
                unit: MouseWheelUnit::Point,
                delta: vec2(0.0, if i % 2 == 0 { 9.0 } else { -9.0 }),
                phase: TouchPhase::Move,
                source: MouseWheelSource::Wheel,
                modifiers: Modifiers::NONE,
            });
            let start = std::time::Instant::now();
            harness.step();
            let shapes = harness.output().shapes.clone();
            assert!(!harness.ctx.tessellate(shapes, 1.0).is_empty());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    frames.sort_by(f64::total_cmp);
    (frames, harness.state().graph.nodes.len())
}

#[test]
fn the_largest_model_pans_smoothly() {
    let (frames, nodes) = panned(60);
    eprintln!("a frame of {nodes} nodes: median {:.2} ms", frames[30]);
    // A frame has 16.7 ms; a busy machine gets some grace.
    assert!(frames[30] < 50.0, "median of {:.1} ms", frames[30]);
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
