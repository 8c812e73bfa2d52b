//! What is known of the selected node: operation, shapes, parameters, weights, int8 parameters, what was fused into it.

use std::sync::Arc;

use eframe::egui::{Align, Label, Layout, RichText, Ui};

use super::glossary::label_ui;
use super::graph_view::{self, Selection};
use super::number;
use super::plot::{Histogram, Row, histogram_ui, row_ui};
use super::theme::{self, Tone, Type};
use crate::graph::{Graph, Node, Numeric, Op, Scheme, Weight};

/// Bins of a weight's histogram.
const BINS: usize = 64;

/// The inspector, and the histogram of the node that it last showed.
#[derive(Debug, Default)]
pub struct Inspector {
    /// Kept while the same node of the same graph is shown.
    weights: Option<Weights>,
}

/// A node's weights for eyes.
#[derive(Debug)]
struct Weights {
    of: (Arc<Graph>, String),
    /// The largest of each output channel.
    largest: Row,
    /// Whose weights the histogram counts; all of them where none is picked.
    channel: Option<usize>,
    histogram: Option<Histogram>,
}

/// Draws the inspector of `graph`'s selected node; with nothing selected, of the graph as a whole.
pub fn inspector_ui(ui: &mut Ui, inspector: &mut Inspector, graph: Option<&Arc<Graph>>, selection: &Selection) {
    let Some(graph) = graph else {
        note_ui(ui, "Nothing to inspect yet", "Open a model: its layers can be inspected here.");
        return;
    };
    match selection.within(graph) {
        Some(node) => node_ui(ui, inspector, graph, node),
        None => graph_ui(ui, graph),
    }
}

fn note_ui(ui: &mut Ui, title: &str, text: &str) {
    title_ui(ui, title);
    ui.label(RichText::new(text).color(theme::palette(ui).weak));
}

fn title_ui(ui: &mut Ui, title: &str) {
    let text = RichText::new(title).font(Type::Title.strong()).color(theme::palette(ui).strong);
    ui.add(Label::new(text).wrap());
}

fn graph_ui(ui: &mut Ui, graph: &Graph) {
    title_ui(ui, &graph.name);
    fact_ui(ui, "Input", &dims(graph.input_shape().to_string()));
    fact_ui(ui, "Classes", &number::count(graph.classes()));
    fact_ui(ui, "Nodes", &number::count(graph.nodes.len()));
    let int8: usize = graph.nodes.iter().filter_map(|n| n.op.weight()?.int8()).map(|q| q.data.len()).sum();
    fact_ui(ui, "Parameters", &number::prefixed((graph.param_count() + int8) as u64));
    fact_ui(ui, "MACs an image", &number::prefixed(graph.macs()));
    ui.add_space(theme::GAP);
    ui.label(RichText::new("Click a layer of the graph to see inside.").color(theme::palette(ui).weak));
}

fn node_ui(ui: &mut Ui, inspector: &mut Inspector, graph: &Arc<Graph>, node: &Node) {
    title_ui(ui, &node.name);
    state_ui(ui, graph_view::tone(&node.numeric), node.op.name());
    ui.add_space(theme::GRID);
    for (i, input) in node.inputs.iter().enumerate() {
        let name = if i == 0 { "Input" } else { "and" };
        let input = graph.node(*input);
        fact_ui(ui, name, &format!("{}  {}", input.name, dims(input.shape.to_string())));
    }
    fact_ui(ui, "Output", &dims(node.shape.to_string()));
    op_facts_ui(ui, &node.op);
    if node.op.macs(node.shape) > 0 {
        fact_ui(ui, "MACs an image", &number::prefixed(node.op.macs(node.shape)));
    }
    numeric_ui(ui, &node.numeric);
    fused_ui(ui, node);
    let users: Vec<&str> = graph
        .nodes
        .iter()
        .filter(|n| n.inputs.iter().any(|i| graph.node(*i).name == node.name))
        .map(|n| n.name.as_str())
        .collect();
    if !users.is_empty() {
        fact_ui(ui, "Used by", &users.join(", "));
    }
    weights_ui(ui, inspector, graph, node);
}

/// The state's colour, glyph and word, then what computes it.
fn state_ui(ui: &mut Ui, tone: Tone, op: &str) {
    let dark = theme::palette(ui).dark;
    ui.horizontal(|ui| {
        eframe::egui::Frame::new()
            .fill(tone.wash(dark))
            .corner_radius(4)
            .inner_margin(eframe::egui::Margin::symmetric(6, 1))
            .show(ui, |ui| {
                let text = format!("{}  {}", tone.glyph(), tone.name());
                ui.label(RichText::new(text).font(Type::Small.strong()).color(tone.ink(dark)));
            });
        ui.label(RichText::new(op).font(Type::Body.font()));
    });
}

/// A name on the left, its value on the right.
fn fact_ui(ui: &mut Ui, name: &str, value: &str) {
    ui.horizontal_top(|ui| {
        label_ui(ui, RichText::new(name).color(theme::palette(ui).weak));
        ui.with_layout(Layout::right_to_left(Align::TOP), |ui| {
            ui.add(Label::new(RichText::new(value).font(Type::Body.mono())).wrap());
        });
    });
}

fn op_facts_ui(ui: &mut Ui, op: &Op) {
    match op {
        Op::Conv2d(c) => {
            fact_ui(ui, "Weight", &number::dims(c.weight.shape()));
            fact_ui(ui, "Stride, padding", &format!("{}, {}", c.stride, c.padding));
            if c.groups > 1 {
                fact_ui(ui, "Groups", &number::count(c.groups));
            }
            fact_ui(ui, "Bias", if c.bias.is_some() { "yes" } else { "no" });
        }
        Op::Linear(l) => {
            fact_ui(ui, "Weight", &number::dims(l.weight.shape()));
            fact_ui(ui, "Bias", if l.bias.is_some() { "yes" } else { "no" });
        }
        Op::BatchNorm2d(b) => {
            fact_ui(ui, "Channels", &number::count(b.weight.len()));
            fact_ui(ui, "\u{3b5}", &number::number(b.eps.into()));
        }
        Op::MaxPool2d(m) => fact_ui(ui, "Window", &format!("{0}\u{d7}{0}, stride {1}", m.kernel, m.stride)),
        Op::Chunk { index, chunks } => fact_ui(ui, "Part", &format!("{} of {chunks}", index + 1)),
        Op::ChannelShuffle { groups } => fact_ui(ui, "Groups", &number::count(*groups)),
        Op::Dropout { p } | Op::StochasticDepth { p } => {
            fact_ui(ui, "Dropped in training", &number::percent(f64::from(*p)));
        }
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::Activation(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Add { .. }
        | Op::Mul
        | Op::Cat
        | Op::Flatten => {}
    }
}

fn numeric_ui(ui: &mut Ui, numeric: &Numeric) {
    match numeric {
        Numeric::Float => {}
        Numeric::Observed(spec) => {
            fact_ui(ui, "Observer", spec.observer.title());
            let symmetric = if spec.scheme == Scheme::Symmetric { ", symmetric" } else { "" };
            fact_ui(ui, "Levels", &format!("0\u{2026}{}{symmetric}", spec.quant_max));
        }
        Numeric::Learned(spec) => {
            fact_ui(ui, "Fake quantization", spec.observer.title());
            let symmetric = if spec.scheme == Scheme::Symmetric { ", symmetric" } else { "" };
            fact_ui(ui, "Levels", &format!("0\u{2026}{}{symmetric}", spec.quant_max));
        }
        Numeric::Int8(q) | Numeric::FakeQuantized(q) => {
            fact_ui(ui, "Scale", &number::number(q.scale.into()));
            fact_ui(ui, "Zero point", &q.zero_point.to_string());
            let (low, high) = (q.dequantize(0), q.dequantize(q.qmax));
            fact_ui(ui, "Range", &format!("{} \u{2026} {}", number::number(low.into()), number::number(high.into())));
        }
    }
}

fn fused_ui(ui: &mut Ui, node: &Node) {
    if node.fused.len() < 2 {
        return;
    }
    ui.add_space(theme::GRID);
    ui.label(RichText::new("Fused from").font(Type::Body.strong()).color(theme::palette(ui).strong));
    for part in &node.fused {
        ui.label(RichText::new(part).font(Type::Body.mono()));
    }
}

fn weights_ui(ui: &mut Ui, inspector: &mut Inspector, graph: &Arc<Graph>, node: &Node) {
    let Some(weight) = node.op.weight() else { return };
    let kept = inspector.weights.as_ref().is_some_and(|w| Arc::ptr_eq(&w.of.0, graph) && w.of.1 == node.name);
    if !kept {
        let largest = Row::of_channels(largest(weight), "largest |w|", weight_tone(weight));
        let histogram = weight_histogram(weight, None);
        inspector.weights = Some(Weights { of: (graph.clone(), node.name.clone()), largest, channel: None, histogram });
    }
    let Some(weights) = &mut inspector.weights else { return };
    ui.add_space(theme::GAP);
    let title = weights.channel.map_or("Weights".to_owned(), |c| format!("Weights of channel {c}"));
    match &weights.histogram {
        Some(histogram) => histogram_ui(ui, &title, "weight", histogram),
        None => note_ui(ui, "Weights", "No finite values."),
    }
    let mut channel = weights.channel;
    if let Some(picked) = row_ui(ui, "Channel by channel", &weights.largest, channel) {
        channel = if channel == Some(picked) { None } else { Some(picked) };
    }
    if channel.is_some() && ui.button("All channels").clicked() {
        channel = None;
    }
    if channel != weights.channel {
        weights.channel = channel;
        weights.histogram = weight_histogram(weight, channel);
    }
}

fn weight_tone(weight: &Weight) -> Tone {
    match weight {
        Weight::Float(_) => Tone::Float,
        Weight::Int8(_) => Tone::Int8,
    }
}

/// Of the values that the weight stands for: an int8 weight is taken times its scales.
fn values(weight: &Weight) -> Vec<f32> {
    match weight {
        Weight::Float(t) => t.data.to_vec(),
        Weight::Int8(q) => {
            let per_channel = (q.data.len() / q.shape[0].max(1)).max(1);
            q.data.iter().enumerate().map(|(i, v)| f32::from(*v) * q.scale(i / per_channel)).collect()
        }
    }
}

/// Of one output channel, or of all.
fn weight_histogram(weight: &Weight, channel: Option<usize>) -> Option<Histogram> {
    let values = values(weight);
    let per_channel = (values.len() / weight.shape()[0].max(1)).max(1);
    let some = channel.map_or(&values[..], |c| &values[c * per_channel..(c + 1) * per_channel]);
    Histogram::of(some.iter().copied(), BINS, weight_tone(weight))
}

/// The weight farthest from zero of each output channel.
fn largest(weight: &Weight) -> Vec<f32> {
    let values = values(weight);
    let per_channel = (values.len() / weight.shape()[0].max(1)).max(1);
    values.chunks(per_channel).map(|c| c.iter().fold(0.0_f32, |m, w| m.max(w.abs()))).collect()
}

fn dims(shape: String) -> String {
    shape.replace('x', "\u{d7}")
}
