use std::collections::{BTreeMap, BTreeSet};

use super::{
    QuantError, fold,
    prepare::{Source, source},
    stubs,
};
use crate::graph::{self, Conv2d, FakeQuants, Graph, Linear, Numeric, Op, QParams, QTensor, Rewrite, Tensor, Weight};

/// The int8 graph of a model that was quantized elsewhere. `graph` is float, between stubs and fused as that model was;
/// `qparams` has scale and zero point of every output with its own, `layers` each int8 weight with its bias. Pools, shuffles
/// and ReLU keep their input's levels, sigmoids have 1/256; a batch norm that was not fused has its own. Dropout vanishes.
///
/// # Errors
/// [`QuantError::NoStubs`]; [`QuantError::NoQParams`] naming every output without scale and zero point;
/// [`QuantError::Graph`] for a weight that is missing or has another shape.
pub fn assemble(
    graph: &Graph,
    qparams: &BTreeMap<String, QParams>,
    layers: &BTreeMap<String, (QTensor, Option<Tensor>)>,
) -> Result<Graph, QuantError> {
    if !graph.nodes.iter().any(|n| matches!(n.op, Op::QuantStub)) {
        return Err(QuantError::NoStubs { graph: graph.name.clone() });
    }
    let inside = stubs::inside(graph);
    let mut next = Rewrite::new(graph);
    let mut missing = Vec::new();
    for (id, node) in graph.iter() {
        let mut node = node.clone();
        let source = source(&node.op);
        if source == Source::Removed {
            next.alias(id, next.moved(node.inputs[0]));
            continue;
        }
        if inside[id.index()] {
            node.numeric = match source {
                Source::Input => next.node(next.moved(node.inputs[0])).numeric,
                Source::Unit => Numeric::Int8(QParams::new(1.0 / 256.0, 0)),
                Source::Float | Source::Removed => Numeric::Float,
                Source::Observer | Source::Refused(_) => match qparams.get(&node.name) {
                    Some(q) => Numeric::Int8(*q),
                    None => {
                        missing.push(node.name.clone());
                        Numeric::Float
                    }
                },
            };
            if let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. }), Some(found)) =
                (&mut node.op, layers.get(&node.name))
            {
                *weight = Weight::Int8(found.0.clone());
                bias.clone_from(&found.1);
            }
        }
        next.replace(id, node);
    }
    if !missing.is_empty() {
        return Err(QuantError::NoQParams { nodes: missing });
    }
    let next = next.finish();
    graph::check(&next)?;
    Ok(next)
}

/// Share of a new batch in a weight's range: PyTorch's `averaging_constant`.
const SHARE: f32 = 0.01;

/// Moves the ranges of the layers in `watched` as PyTorch's `convert` does where their observer was left on: it runs each
/// weight's fake quantization once more, on the folded weight. `m += 0.01 * (extreme - m)`, in float32.
///
/// # Errors
/// [`QuantError::NotFinite`] naming a batch norm that cannot be folded.
pub fn observe_folded(graph: &Graph, ranges: &mut FakeQuants, watched: &BTreeSet<String>) -> Result<(), QuantError> {
    for node in graph.nodes.iter().filter(|n| watched.contains(&n.name)) {
        let (Some(range), Some(weight)) =
            (ranges.weights.get_mut(&node.name), node.op.weight().and_then(Weight::float))
        else {
            continue;
        };
        let folded = match &node.op {
            Op::Conv2d(Conv2d { bn: Some(bn), bias, .. }) => fold::fold(weight, bias.as_ref(), bn, &node.name)?.weight,
            _ => weight.clone(),
        };
        let groups = range.min.len().max(1);
        for (group, values) in folded.data.chunks((folded.len() / groups).max(1)).enumerate().take(groups) {
            let low = values.iter().copied().fold(f32::INFINITY, f32::min);
            let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            range.min[group] += SHARE * (low - range.min[group]);
            range.max[group] += SHARE * (high - range.max[group]);
        }
    }
    Ok(())
}
