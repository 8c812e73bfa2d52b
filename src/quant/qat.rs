use std::collections::BTreeMap;

use super::{
    ConvertReport, QConfig, QuantError, Range,
    convert::{self, unit},
    fold,
    prepare::{self, PrepareReport, Source, source},
    stubs,
};
use crate::graph::{
    self, ActivationSpec, Conv2d, FakeQuants, Graph, LearnedRange, Linear, Node, Numeric, ObserverKind, Op, QParams,
    QTensor, QatLevels, Rewrite, Tensor, Weight, WeightSpec,
};

/// Puts fake quantization where [`super::prepare`] puts observers, and on the weights of the layers between the stubs; run
/// it on the graph of [`super::fuse_qat`]. Ranges follow moving averages, whatever observer the configuration names: a
/// histogram's clip would have to be searched at every step. Sigmoids have their known range. Nodes that are left in float
/// get stubs, as in [`super::prepare`].
///
/// # Errors
/// Those of [`super::prepare`].
pub fn prepare_qat(graph: &Graph, config: &QConfig) -> Result<(Graph, PrepareReport), QuantError> {
    let (mut next, mut report) = prepare::prepare(graph, config)?;
    let learned = |spec| ActivationSpec { observer: ObserverKind::MovingAverageMinMax, ..spec };
    let inside = stubs::inside(&next);
    for (node, inside) in next.nodes.iter_mut().zip(inside) {
        if let Numeric::Observed(spec) = node.numeric {
            node.numeric = Numeric::Learned(learned(spec));
        } else if inside && source(&node.op) == Source::Unit {
            node.numeric = Numeric::FakeQuantized(unit(config.activation));
        }
        if inside && let Op::Conv2d(Conv2d { fake, .. }) | Op::Linear(Linear { fake, .. }) = &mut node.op {
            *fake = config.weight_of(&node.name);
        }
    }
    report.observed.iter_mut().for_each(|observed| observed.spec = learned(observed.spec));
    graph::check(&next)?;
    Ok((next, report))
}

/// Scale, zero point and largest level that [`convert_qat`] gives each node whose levels are learnt, by name.
///
/// # Errors
/// [`QuantError::NotQat`], [`QuantError::NotTrained`] naming every fake quantization that saw nothing.
pub fn qat_qparams(
    graph: &Graph,
    state: &FakeQuants,
    levels: QatLevels,
) -> Result<BTreeMap<String, QParams>, QuantError> {
    complete(graph, state)?;
    let learned = graph.nodes.iter().filter_map(|n| Some((n, learned(n)?)));
    Ok(learned
        .map(|(node, spec)| (node.name.clone(), converted(&state.activations[&node.name], &spec, levels)))
        .collect())
}

/// An activation's parameters in int8. PyTorch computes the scale again, in float32, and clamps where int8 ends.
fn converted(range: &LearnedRange, spec: &ActivationSpec, levels: QatLevels) -> QParams {
    let trained = range.activation_levels(spec);
    match levels {
        QatLevels::Int8 => trained,
        QatLevels::PyTorch if range.step.is_empty() => Range { min: range.min[0], max: range.max[0] }.qparams(spec),
        QatLevels::PyTorch => QParams { qmax: spec.qmax(), ..trained },
    }
}

/// The graph that was trained, as it is evaluated: in float, batch norm folded with its running statistics, outputs and
/// weights on the levels that were learnt. With [`QatLevels::Int8`] averages are rounded as int8 rounds them, so that what
/// [`convert_qat`] makes of it is the same model; with [`QatLevels::PyTorch`] they are not, and grids and clamp differ too.
///
/// # Errors
/// As [`convert_qat`].
pub fn fake_quantize_qat(
    graph: &Graph,
    state: &FakeQuants,
    levels: QatLevels,
) -> Result<(Graph, ConvertReport), QuantError> {
    complete(graph, state)?;
    let mut next = graph.clone();
    let mut report = ConvertReport::default();
    let inside = stubs::inside(graph);
    // The levels of each node's output; a node without its own has its input's.
    let mut kept: Vec<Option<QParams>> = Vec::with_capacity(graph.nodes.len());
    for node in &mut next.nodes {
        if let Some(spec) = learned(node) {
            node.numeric = Numeric::FakeQuantized(state.activations[&node.name].activation_levels(&spec));
        }
        let of_input = node.inputs.first().and_then(|input| kept[input.index()]);
        let average = matches!(node.op, Op::AdaptiveAvgPool2d | Op::MeanHw);
        if let (true, true, QatLevels::Int8, Some(q)) = (average, inside[kept.len()], levels, of_input) {
            node.numeric = Numeric::FakeQuantized(q);
        }
        kept.push(match node.numeric {
            Numeric::FakeQuantized(q) => Some(q),
            Numeric::Float | Numeric::Observed(_) | Numeric::Learned(_) | Numeric::Int8(_) => of_input,
        });
        let Some(spec) = plain(node)? else { continue };
        let grids = grids(node, &spec, state, |range| range.weight_levels(&spec, levels))?;
        let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. })) = &mut node.op else {
            continue;
        };
        let Weight::Float(float) = &*weight else { continue };
        let (least, most) = limits(&spec);
        let level = |w: f32, (scale, zero): (f32, f32)| {
            (((w * (1.0 / scale)).round_ties_even() + zero).clamp(least, most) - zero) * scale
        };
        let fake = each(float, &grids, level);
        let scales: Vec<f32> = grids.iter().map(|(scale, _)| *scale).collect();
        let biases = bias.as_ref().map_or(0, Tensor::len);
        report.layers.push(convert::report(&node.name, float, fake.iter().copied(), &scales, biases));
        *weight = Weight::Float(Tensor::new(float.shape.clone(), fake));
    }
    graph::check(&next)?;
    Ok((next, report))
}

/// The graph that was trained, without fake quantization: batch norm folded with its running statistics, weights and
/// outputs in float. What int8 is compared with, layer by layer: its rounding alone, not what training moved.
///
/// # Errors
/// [`QuantError::NotFinite`].
pub fn float_of_qat(graph: &Graph) -> Result<Graph, QuantError> {
    let mut next = graph.clone();
    for node in &mut next.nodes {
        plain(node)?;
        node.numeric = Numeric::Float;
    }
    graph::check(&next)?;
    Ok(next)
}

/// The int8 graph of a trained one: batch norm folded, weights on int8 grids made from the ranges that training averaged,
/// activations with the scales that it learnt. [`QatLevels::Int8`] keeps the grids and the clamp of training; with
/// [`QatLevels::PyTorch`] a weight's scale is `max|w| / 127.5`, and activations are clamped at 255. Dropout vanishes.
///
/// # Errors
/// [`QuantError::NotQat`], [`QuantError::NotTrained`] naming every fake quantization that saw nothing,
/// [`QuantError::NotFinite`], [`QuantError::AffineWeight`], [`QuantError::OtherState`], [`QuantError::Unquantizable`].
pub fn convert_qat(graph: &Graph, state: &FakeQuants, levels: QatLevels) -> Result<(Graph, ConvertReport), QuantError> {
    complete(graph, state)?;
    let inside = stubs::inside(graph);
    let mut next = Rewrite::new(graph);
    let mut report = ConvertReport::default();
    for (id, node) in graph.iter() {
        let mut node = node.clone();
        if source(&node.op) == Source::Removed {
            next.alias(id, next.moved(node.inputs[0]));
            report.removed.push(node.name);
            continue;
        }
        if inside[id.index()] {
            node.numeric = match (source(&node.op), node.numeric) {
                (Source::Observer, Numeric::Learned(spec)) => {
                    Numeric::Int8(converted(&state.activations[&node.name], &spec, levels))
                }
                (Source::Unit, Numeric::FakeQuantized(q)) => Numeric::Int8(q),
                (Source::Input, _) => next.node(next.moved(node.inputs[0])).numeric,
                (Source::Refused(remedy), _) => {
                    return Err(QuantError::Unquantizable { op: node.op.name(), node: node.name, remedy });
                }
                (Source::Observer | Source::Unit | Source::Float | Source::Removed, other) => other,
            };
        }
        if let Some(spec) = plain(&mut node)? {
            report.layers.extend(int8_weight(&mut node, &spec, state, levels)?);
        }
        next.replace(id, node);
    }
    let next = next.finish();
    graph::check(&next)?;
    report.float = next.nodes.iter().filter_map(convert::float_layer).collect();
    Ok((next, report))
}

/// Makes a folded weight int8, on the grids of its averaged ranges.
fn int8_weight(
    node: &mut Node,
    spec: &WeightSpec,
    state: &FakeQuants,
    levels: QatLevels,
) -> Result<Option<super::LayerReport>, QuantError> {
    if spec.scheme == graph::Scheme::Affine {
        return Err(QuantError::AffineWeight { node: node.name.clone() });
    }
    let (least, most) = limits(spec);
    let grids = grids(node, spec, state, |range| match levels {
        QatLevels::PyTorch if range.step.is_empty() => {
            let scale = |(min, max): (&f32, &f32)| ((-min).max(*max) / ((most - least) / 2.0)).max(super::EPS);
            range.min.iter().zip(&range.max).map(|r| (scale(r), 0.0)).collect()
        }
        QatLevels::PyTorch | QatLevels::Int8 => range.weight_levels(spec, QatLevels::Int8),
    })?;
    let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. })) = &mut node.op else {
        return Ok(None);
    };
    if let Some(channel) = bias.as_ref().and_then(|b| b.data.iter().position(|b| !b.is_finite())) {
        return Err(QuantError::NotFinite { node: node.name.clone(), what: "bias", channel });
    }
    let Weight::Float(float) = &*weight else { return Ok(None) };
    let per_channel = (float.len() / float.shape[0]).max(1);
    if let Some(at) = float.data.iter().position(|w| !w.is_finite()) {
        return Err(QuantError::NotFinite { node: node.name.clone(), what: "weight", channel: at / per_channel });
    }
    let data = each(float, &grids, |w, (scale, _)| (w * (1.0 / scale)).round_ties_even().clamp(least, most));
    let data: Vec<i8> = data.into_iter().map(|q| q as i8).collect();
    let scales: Vec<f32> = grids.into_iter().map(|(scale, _)| scale).collect();
    let int8 = QTensor { shape: float.shape.clone(), data: data.into(), scales: scales.into() };
    let stands_for = int8.data.iter().enumerate().map(|(i, q)| f32::from(*q) * int8.scale(i / per_channel));
    let biases = bias.as_ref().map_or(0, Tensor::len);
    let report = convert::report(&node.name, float, stands_for, &int8.scales, biases);
    *weight = Weight::Int8(int8);
    Ok(Some(report))
}

/// The levels that an output learns, if it does.
fn learned(node: &Node) -> Option<ActivationSpec> {
    match node.numeric {
        Numeric::Learned(spec) => Some(spec),
        Numeric::Float | Numeric::Observed(_) | Numeric::FakeQuantized(_) | Numeric::Int8(_) => None,
    }
}

/// That there is something to quantize, and that all of it has seen data.
fn complete(graph: &Graph, state: &FakeQuants) -> Result<(), QuantError> {
    let mut nodes = Vec::new();
    let mut any = false;
    for node in &graph.nodes {
        let (output, weight) = (learned(node).is_some(), node.op.fake().is_some());
        any |= output;
        if output && !state.activations.get(&node.name).is_some_and(|r| r.min.len() == 1 && r.max.len() == 1) {
            nodes.push(node.name.clone());
        } else if weight && !state.weights.contains_key(&node.name) {
            nodes.push(format!("{} (weight)", node.name));
        }
    }
    if !any {
        return Err(QuantError::NotQat { graph: graph.name.clone() });
    }
    if nodes.is_empty() { Ok(()) } else { Err(QuantError::NotTrained { nodes }) }
}

/// Folds a layer's batch norm and takes its fake quantization off; returns what it was.
fn plain(node: &mut Node) -> Result<Option<WeightSpec>, QuantError> {
    let spec = node.op.fake();
    if let Op::Linear(linear) = &mut node.op {
        linear.fake = None;
    }
    if let Op::Conv2d(conv) = &mut node.op {
        if let (Some(bn), Some(weight)) = (conv.bn.take(), conv.weight.float()) {
            let folded = fold::fold(weight, conv.bias.as_ref(), &bn, &node.name)?;
            conv.weight = Weight::Float(folded.weight);
            conv.bias = Some(folded.bias);
        }
        conv.fake = None;
    }
    Ok(spec)
}

/// Scale and zero point of each group of a layer's weights, from what was learnt of it.
fn grids(
    node: &Node,
    spec: &WeightSpec,
    state: &FakeQuants,
    of: impl FnOnce(&LearnedRange) -> Vec<(f32, f32)>,
) -> Result<Vec<(f32, f32)>, QuantError> {
    let channels = node.op.weight().map_or(1, |w| w.shape()[0]);
    let expected = if spec.observer == ObserverKind::MinMax { 1 } else { channels };
    let range = &state.weights[&node.name];
    let lengths = [range.min.len(), range.max.len()];
    match lengths.into_iter().find(|found| *found != expected) {
        Some(found) => Err(QuantError::OtherState { node: node.name.clone(), found, expected }),
        None => Ok(of(range)),
    }
}

/// The least and the largest level of a weight.
fn limits(spec: &WeightSpec) -> (f32, f32) {
    let half = f32::from(1_u16 << (spec.bits - 1));
    (-half, half - 1.0)
}

/// Each weight with the grid of its group.
fn each(weight: &Tensor, grids: &[(f32, f32)], f: impl Fn(f32, (f32, f32)) -> f32) -> Vec<f32> {
    let per_group = (weight.len() / grids.len()).max(1);
    weight.data.chunks(per_group).zip(grids).flat_map(|(group, grid)| group.iter().map(|w| f(*w, *grid))).collect()
}

#[cfg(test)]
mod tests;
