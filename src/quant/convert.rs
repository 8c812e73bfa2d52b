use std::collections::BTreeMap;

use super::{
    QConfig, QuantError,
    prepare::{Source, source},
    stubs, weight,
};
use crate::graph::{
    self, Conv2d, Graph, Linear, Node, Numeric, Op, QParams, QTensor, Rewrite, Tensor, Weight, WeightSpec,
};

/// What [`convert`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConvertReport {
    /// Every layer with weights, in the order of the graph.
    pub layers: Vec<LayerReport>,
    /// Nodes that do nothing at inference and are gone: dropout, stochastic depth.
    pub removed: Vec<String>,
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
/// sigmoids have 1/256. Dropout and stochastic depth vanish.
///
/// # Errors
/// [`QuantError::NotPrepared`], [`QuantError::NoQParams`] naming every observed node that `qparams` lacks,
/// [`QuantError::Unquantizable`], [`QuantError::NotFinite`], [`QuantError::WeightObserver`].
pub fn convert(
    graph: &Graph,
    qparams: &BTreeMap<String, QParams>,
    config: &QConfig,
) -> Result<(Graph, ConvertReport), QuantError> {
    let observed = |n: &&Node| matches!(n.numeric, Numeric::Observed(_));
    if !graph.nodes.iter().any(|n| observed(&n)) {
        return Err(QuantError::NotPrepared { graph: graph.name.clone() });
    }
    let missing: Vec<String> = graph
        .nodes
        .iter()
        .filter(observed)
        .filter(|n| !qparams.contains_key(&n.name))
        .map(|n| n.name.clone())
        .collect();
    if !missing.is_empty() {
        return Err(QuantError::NoQParams { nodes: missing });
    }
    let inside = stubs::inside(graph);
    let mut next = Rewrite::new(graph);
    let mut report = ConvertReport::default();
    for (id, node) in graph.iter() {
        let mut node = node.clone();
        if inside[id.index()] {
            node.numeric = match source(&node.op) {
                Source::Observer => Numeric::Int8(qparams[&node.name]),
                Source::Input => next.node(next.moved(node.inputs[0])).numeric,
                Source::Unit => Numeric::Int8(QParams::new(1.0 / 256.0, 0)),
                Source::Float => Numeric::Float,
                Source::Removed => {
                    next.alias(id, next.moved(node.inputs[0]));
                    report.removed.push(node.name);
                    continue;
                }
                Source::Refused(remedy) => {
                    return Err(QuantError::Unquantizable { op: node.op.name(), node: node.name, remedy });
                }
            };
            if let Some(layer) = convert_weight(&mut node, config.weight)? {
                report.layers.push(layer);
            }
        }
        next.replace(id, node);
    }
    let next = next.finish();
    graph::check(&next)?;
    Ok((next, report))
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
    let report = report(&node.name, float, &int8, bias.as_ref().map_or(0, Tensor::len));
    *weight = Weight::Int8(int8);
    Ok(Some(report))
}

fn report(name: &str, float: &Tensor, int8: &QTensor, biases: usize) -> LayerReport {
    let per_channel = (float.len() / float.shape[0]).max(1);
    let (mut signal, mut noise) = (0.0, 0.0);
    for (i, (w, q)) in float.data.iter().zip(int8.data.iter()).enumerate() {
        let lost = f64::from(w - f32::from(*q) * int8.scale(i / per_channel));
        signal += f64::from(*w) * f64::from(*w);
        noise += lost * lost;
    }
    LayerReport {
        name: name.to_owned(),
        float_bytes: 4 * (float.len() + biases),
        int8_bytes: int8.data.len() + 4 * (int8.scales.len() + biases),
        scale_min: int8.scales.iter().copied().fold(f32::INFINITY, f32::min),
        scale_max: int8.scales.iter().copied().fold(0.0, f32::max),
        weight_mse: noise / float.len() as f64,
        weight_sqnr_db: if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() },
    }
}
