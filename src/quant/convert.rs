use std::collections::BTreeMap;

use super::{
    QConfig, QuantError,
    prepare::{Source, source},
    stubs, weight,
};
use crate::graph::{
    self, ActivationSpec, Conv2d, Graph, Linear, Node, Numeric, Op, QParams, Rewrite, Tensor, Weight, WeightSpec,
};

/// What [`convert`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvertReport {
    /// Every layer with weights, in the order of the graph.
    pub layers: Vec<LayerReport>,
    /// Every layer whose weights stayed float32, in the order of the graph.
    pub float: Vec<FloatLayerReport>,
    /// Nodes that do nothing at inference and are gone: dropout, stochastic depth.
    pub removed: Vec<String>,
}

/// A layer that was left in float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatLayerReport {
    /// The layer.
    pub name: String,
    /// Weight and bias, before and after.
    pub bytes: usize,
}

/// What became of one layer's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// The layer.
    pub name: String,
    /// Weight and bias as float32.
    pub float_bytes: usize,
    /// int8 weight, float32 scales and bias.
    pub int8_bytes: usize,
    /// The smallest scale of a channel.
    pub scale_min: f32,
    /// The largest one.
    pub scale_max: f32,
    /// Mean of `(w - q * scale)^2`.
    pub weight_mse: f64,
    /// `10 * log10(sum(w^2) / sum((w - q * scale)^2))`, infinite where nothing was lost.
    pub weight_sqnr_db: f64,
}

/// The int8 graph: weights to int8, and a scale and zero point on every node between the stubs. `qparams` holds those of
/// the observed nodes by name ([`super::Observers::qparams`], or a file); pools, shuffles and the like keep their input's,
/// sigmoids have 1/256. Nodes that `prepare` left in float stay as they are, between stubs. Dropout and stochastic depth
/// vanish.
///
/// # Errors
/// [`QuantError::NotPrepared`], [`QuantError::NoQParams`] naming every observed node that `qparams` lacks,
/// [`QuantError::Unquantizable`], [`QuantError::NotFinite`], [`QuantError::WeightObserver`], and
/// [`QuantError::AffineWeight`]: such weights run in fake quantization alone ([`super::fake_quantize`]).
pub fn convert(
    graph: &Graph,
    qparams: &BTreeMap<String, QParams>,
    config: &QConfig,
) -> Result<(Graph, ConvertReport), QuantError> {
    missing(graph, qparams)?;
    let inside = stubs::inside(graph);
    let mut next = Rewrite::new(graph);
    let mut report = ConvertReport::default();
    for (id, node) in graph.iter() {
        let mut node = node.clone();
        if matches!(source(&node.op), Source::Removed) {
            next.alias(id, next.moved(node.inputs[0]));
            report.removed.push(node.name);
            continue;
        }
        if inside[id.index()] {
            node.numeric = match source(&node.op) {
                Source::Observer => Numeric::Int8(qparams[&node.name]),
                Source::Input => next.node(next.moved(node.inputs[0])).numeric,
                Source::Unit => Numeric::Int8(unit(config.activation)),
                Source::Float | Source::Removed => Numeric::Float,
                Source::Refused(remedy) => {
                    return Err(QuantError::Unquantizable { op: node.op.name(), node: node.name, remedy });
                }
            };
            if let Some(spec) = config.weight_of(&node.name) {
                report.layers.extend(convert_weight(&mut node, spec)?);
            }
        }
        next.replace(id, node);
    }
    let next = next.finish();
    graph::check(&next)?;
    report.float = next.nodes.iter().filter_map(float_layer).collect();
    Ok((next, report))
}

/// That there is something to quantize, and a scale for all of it.
pub(super) fn missing(graph: &Graph, qparams: &BTreeMap<String, QParams>) -> Result<(), QuantError> {
    let observed: Vec<&Node> = graph.nodes.iter().filter(|n| matches!(n.numeric, Numeric::Observed(_))).collect();
    if observed.is_empty() {
        return Err(QuantError::NotPrepared { graph: graph.name.clone() });
    }
    let lacking = observed.iter().filter(|n| !qparams.contains_key(&n.name));
    let nodes: Vec<String> = lacking.map(|n| n.name.clone()).collect();
    if nodes.is_empty() { Ok(()) } else { Err(QuantError::NoQParams { nodes }) }
}

/// Of a sigmoid, whose range is known: PyTorch's 1/256 and 0, or as many levels as fewer bits have.
pub(super) fn unit(spec: ActivationSpec) -> QParams {
    let levels = 1_u16 << spec.bits;
    QParams { scale: 1.0 / f32::from(levels), zero_point: 0, qmax: spec.qmax() }
}

pub(super) fn float_layer(node: &Node) -> Option<FloatLayerReport> {
    let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. })) = &node.op else {
        return None;
    };
    let values = weight.float()?.len() + bias.as_ref().map_or(0, Tensor::len);
    Some(FloatLayerReport { name: node.name.clone(), bytes: size_of::<f32>() * values })
}

/// Makes the weight of a convolution or linear layer int8; other operations have none.
fn convert_weight(node: &mut Node, spec: WeightSpec) -> Result<Option<LayerReport>, QuantError> {
    let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. })) = &mut node.op else {
        return Ok(None);
    };
    let Weight::Float(float) = &*weight else { return Ok(None) };
    if let Some(channel) = bias.as_ref().and_then(|b| b.data.iter().position(|b| !b.is_finite())) {
        return Err(QuantError::NotFinite { node: node.name.clone(), what: "bias", channel });
    }
    let int8 = weight::quantize_weight(&node.name, float, spec)?;
    let per_channel = (float.len() / float.shape[0]).max(1);
    let stands_for = int8.data.iter().enumerate().map(|(i, q)| f32::from(*q) * int8.scale(i / per_channel));
    let report = report(&node.name, float, stands_for, &int8.scales, bias.as_ref().map_or(0, Tensor::len));
    *weight = Weight::Int8(int8);
    Ok(Some(report))
}

/// What became of a weight: `quantized` are the values that its levels stand for.
pub(super) fn report(
    name: &str,
    float: &Tensor,
    quantized: impl Iterator<Item = f32>,
    scales: &[f32],
    biases: usize,
) -> LayerReport {
    let (mut signal, mut noise) = (0.0, 0.0);
    for (w, q) in float.data.iter().zip(quantized) {
        let lost = f64::from(w - q);
        signal += f64::from(*w) * f64::from(*w);
        noise += lost * lost;
    }
    LayerReport {
        name: name.to_owned(),
        float_bytes: 4 * (float.len() + biases),
        int8_bytes: float.len() + 4 * (scales.len() + biases),
        scale_min: scales.iter().copied().fold(f32::INFINITY, f32::min),
        scale_max: scales.iter().copied().fold(0.0, f32::max),
        weight_mse: noise / float.len() as f64,
        weight_sqnr_db: if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() },
    }
}
