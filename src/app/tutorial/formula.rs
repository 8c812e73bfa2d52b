//! The numbers of the learner's own layer, for the slots of formulas. None is computed here: the session has each, or the
//! passes make it.

use std::collections::BTreeMap;

use super::check::weighted;
use crate::app::graph_view::Selection;
use crate::app::number;
use crate::app::screens::fold_of;
use crate::graph::{Graph, Node, Numeric, Op, QParams, Tensor, Weight, WeightSpec};
use crate::session::{
    ObserverKind, Pair, QConfig, Range, Stage, Step, TrainEvent, View, quantize_weight, requantization,
};

/// Every slot that a formula may have.
#[cfg_attr(not(test), expect(dead_code, reason = "the texts are held to it by a test"))]
pub(super) const SLOTS: &[&str] = &[
    "stub_scale",
    "stub_zero",
    "stub_x",
    "stub_q",
    "stub_back",
    "weights",
    "float_bytes",
    "int8_bytes",
    "fold_layer",
    "fold_channel",
    "fold_weight",
    "fold_bias",
    "weight_layer",
    "weight_channel",
    "weight_max",
    "weight_steps",
    "weight_scale",
    "act_levels",
    "act_layer",
    "act_min",
    "act_max",
    "act_scale",
    "act_zero",
    "dot_layer",
    "dot_channel",
    "dot_sx",
    "dot_sw",
    "dot_sy",
    "dot_multiplier",
    "bn_layer",
    "bn_channel",
    "bn_mean",
    "bn_var",
    "bn_eps",
    "bn_momentum",
    "qat_layer",
    "qat_min",
    "qat_max",
    "qat_scale",
    "qat_zero",
];

/// Numbers by slot, those that are known.
pub(super) type Numbers = BTreeMap<&'static str, String>;

/// The slots of a line, in order.
pub(super) fn slots(line: &str) -> impl Iterator<Item = &str> {
    line.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(slot, _)| slot)
}

/// The line with its numbers in; `None` where one is not known yet.
pub(super) fn fill(line: &str, numbers: &Numbers) -> Option<String> {
    let mut filled = line.to_owned();
    for slot in slots(line) {
        filled = filled.replace(&format!("{{{slot}}}"), numbers.get(slot)?);
    }
    Some(filled)
}

/// What is known now, of the selected layer where it has what a formula asks for, else of the first one that has.
pub(super) fn numbers(view: &View, selection: &Selection, choices: &QConfig) -> Numbers {
    let mut found = Numbers::new();
    let qconfig = view.recipe.as_ref().map_or(choices, |recipe| &recipe.qconfig);
    found.insert("act_levels", qconfig.activation.quant_max.to_string());
    stub(&mut found, view, qconfig);
    sizes(&mut found, view);
    norm(&mut found, view, selection);
    weight(&mut found, view, selection, qconfig);
    activation(&mut found, view, selection);
    learned(&mut found, view, selection);
    sums(&mut found, view, selection);
    found
}

fn n(v: f32) -> String {
    number::number(v.into())
}

/// The image on its way through the first stub: a mid-grey pixel. Before calibration the range that pixels can have.
fn stub(found: &mut Numbers, view: &View, qconfig: &QConfig) {
    let Some(stage) = view.stage() else { return };
    let p = stage.opened().preprocess;
    let value = |grey: f32, c: usize| (grey - p.mean[c]) / p.std[c];
    let ends = |grey: f32| (0..3).map(move |c| value(grey, c));
    let range =
        Range { min: ends(0.0).fold(f32::INFINITY, f32::min), max: ends(1.0).fold(f32::NEG_INFINITY, f32::max) };
    let observed = match view.stage_of(Step::Calibrate).map(AsRef::as_ref) {
        Some(Stage::Calibrated { observers, graph, .. }) => graph.find("quant").and_then(|id| observers.clip(id)),
        _ => None,
    };
    let q = observed.unwrap_or(range).qparams(&qconfig.activation);
    let x = value(0.5, 0);
    let level = q.quantize(x);
    found.insert("stub_scale", n(q.scale));
    found.insert("stub_zero", q.zero_point.to_string());
    found.insert("stub_x", n(x));
    found.insert("stub_q", level.to_string());
    found.insert("stub_back", n(q.dequantize(level)));
}

fn sizes(found: &mut Numbers, view: &View) {
    let Some(stage) = view.stage() else { return };
    let of = view.stages[0].as_ref().unwrap_or(stage);
    let weights: usize = of.graph().nodes.iter().filter_map(|node| node.op.weight()?.float()).map(Tensor::len).sum();
    found.insert("weights", number::count(weights));
    found.insert("float_bytes", number::bytes(4 * weights as u64));
    found.insert("int8_bytes", number::bytes(weights as u64));
}

/// The selected node of a graph where `is` holds, else the first.
fn pick<'g>(graph: &'g Graph, selection: &Selection, is: impl Fn(&Node) -> bool) -> Option<&'g Node> {
    let selected = selection.within(graph).filter(|node| is(node));
    selected.or_else(|| graph.nodes.iter().find(|node| is(node)))
}

/// Batch norm of one channel: its statistics, and how it folds.
fn norm(found: &mut Numbers, view: &View, selection: &Selection) {
    let Some(before) = weighted(view) else { return };
    let report = match view.stage_of(Step::Fuse).map(AsRef::as_ref) {
        Some(Stage::Fused { report, .. }) => Some(report.clone()),
        _ => None,
    };
    let bn = |node: &Node| matches!(node.op, Op::BatchNorm2d(_));
    if let Some(Node { name, op: Op::BatchNorm2d(bn), .. }) = pick(&before.graph, selection, bn) {
        found.insert("bn_layer", name.clone());
        found.insert("bn_channel", "0".to_owned());
        found.insert("bn_mean", n(bn.running_mean.data[0]));
        found.insert("bn_var", n(bn.running_var.data[0]));
        found.insert("bn_eps", n(bn.eps));
        found.insert("bn_momentum", number::percent(bn.momentum.into()));
    }
    let Some(report) = report else { return };
    let selected = report.sites.iter().find(|s| s.nodes.iter().any(|node| selection.contains(node)));
    let all = selected.into_iter().chain(&report.sites);
    let Some((site, [weight, bias])) = all.filter_map(|s| Some((s, fold_of(&before.graph, s, 0)?))).next() else {
        return;
    };
    found.insert("fold_layer", site.name.clone());
    found.insert("fold_channel", "0".to_owned());
    found.insert("fold_weight", weight);
    found.insert("fold_bias", bias);
}

/// The fused float graph, batch norms folded.
pub(super) fn folded(view: &View) -> Option<std::sync::Arc<Graph>> {
    let before = weighted(view)?;
    match view.stage_of(Step::Fuse).map(AsRef::as_ref) {
        Some(Stage::Fused { graph, .. }) if view.recipe.as_ref()?.method.is_ptq() => Some(graph.clone()),
        Some(Stage::Fused { .. }) => {
            // Training keeps batch norms; what int8 rounds is what they fold to.
            let recipe = view.recipe.as_ref()?;
            let pair = Pair::fusing(before.opened.clone(), &before.graph, recipe, before.graph.clone());
            pair.ok().map(|pair| pair.float)
        }
        _ => None,
    }
}

/// The weight of one channel, shaped as a weight of one channel.
pub(super) fn channel(weight: &Tensor, c: usize) -> Option<Tensor> {
    let per = weight.len() / weight.shape.first().copied().filter(|n| *n > 0)?;
    let data = weight.data.get(c * per..(c + 1) * per)?;
    let shape: Vec<usize> = std::iter::once(1).chain(weight.shape[1..].iter().copied()).collect();
    Some(Tensor::new(shape, data.to_vec()))
}

fn weight(found: &mut Numbers, view: &View, selection: &Selection, qconfig: &QConfig) {
    let Some(graph) = folded(view) else { return };
    let layer = pick(&graph, selection, |node| node.op.weight().and_then(Weight::float).is_some());
    let Some((node, weight)) = layer.and_then(|node| Some((node, node.op.weight()?.float()?))) else { return };
    let spec: WeightSpec = qconfig.weight_of(&node.name).unwrap_or(qconfig.weight);
    let (of, name) = match spec.observer {
        ObserverKind::MinMax => (Some(weight.clone()), "all channels"),
        _ => (channel(weight, 0), "channel 0"),
    };
    let Some(of) = of else { return };
    let Ok(int8) = quantize_weight(&node.name, &of, spec) else { return };
    let largest = of.data.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
    found.insert("weight_layer", node.name.clone());
    found.insert("weight_channel", name.to_owned());
    found.insert("weight_max", n(largest));
    found.insert("weight_steps", (f32::from((1_u16 << spec.bits) - 1) / 2.0).to_string());
    found.insert("weight_scale", n(int8.scale(0)));
}

fn activation(found: &mut Numbers, view: &View, selection: &Selection) {
    let Some(Stage::Calibrated { graph, observers, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref) else {
        return;
    };
    let watched = |node: &Node| matches!(node.numeric, Numeric::Observed(_)) && node.op.weight().is_some();
    let Some(node) = pick(graph, selection, watched) else { return };
    let Some((range, spec)) = graph.find(&node.name).and_then(|id| Some((observers.clip(id)?, observers.spec(id)?)))
    else {
        return;
    };
    let q = range.qparams(spec);
    found.insert("act_layer", node.name.clone());
    found.insert("act_levels", spec.quant_max.to_string());
    found.insert("act_min", n(range.min));
    found.insert("act_max", n(range.max));
    found.insert("act_scale", n(q.scale));
    found.insert("act_zero", q.zero_point.to_string());
}

fn learned(found: &mut Numbers, view: &View, selection: &Selection) {
    let ranges = view.qat.iter().rev().find_map(|event| match event {
        TrainEvent::Ranges(report) => Some(&report.ranges),
        TrainEvent::Step { .. } | TrainEvent::Epoch(_) | TrainEvent::Frozen { .. } => None,
    });
    let Some(ranges) = ranges else { return };
    let selected = ranges.iter().find(|r| selection.contains(&r.node));
    let Some(range) = selected.or_else(|| ranges.iter().find(|r| &*r.node != "quant")) else { return };
    found.insert("qat_layer", range.node.to_string());
    found.insert("qat_min", n(range.min));
    found.insert("qat_max", n(range.max));
    found.insert("qat_scale", n(range.scale));
    found.insert("qat_zero", range.zero_point.to_string());
}

fn sums(found: &mut Numbers, view: &View, selection: &Selection) {
    let Some(stage) = view.stage_of(Step::Convert) else { return };
    let graph = stage.graph();
    let int8 = |node: &Node| node.op.weight().and_then(Weight::int8).is_some() && qparams(node).is_some();
    let Some(node) = pick(graph, selection, int8) else { return };
    let Some(r) = requantization(graph, &node.name, 0) else { return };
    found.insert("dot_layer", node.name.clone());
    found.insert("dot_channel", "0".to_owned());
    found.insert("dot_sx", n(r.input));
    found.insert("dot_sw", n(r.weight));
    found.insert("dot_sy", n(r.output));
    found.insert("dot_multiplier", n(r.multiplier));
}

fn qparams(node: &Node) -> Option<QParams> {
    node.numeric.qparams()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_filled_or_left_out() {
        let numbers = Numbers::from([("act_min", "\u{2212}1".to_owned()), ("act_max", "2".to_owned())]);
        assert_eq!(fill("from {act_min} to {act_max}", &numbers).as_deref(), Some("from \u{2212}1 to 2"));
        assert_eq!(fill("s = {act_scale}", &numbers), None);
        assert_eq!(fill("no slot", &numbers).as_deref(), Some("no slot"));
        assert_eq!(slots("a {b} c {d}").collect::<Vec<_>>(), ["b", "d"]);
    }
}
