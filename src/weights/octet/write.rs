use std::path::Path;

use safetensors::{Dtype, serialize};

use super::{
    ACTIVATION_SCALES, BATCH_NORM, BIASES, Document, ENTRY, FORMAT, Meta, WEIGHT_SCALES,
    rows::{FakeRow, NumericRow, OpRow, Row, shorten},
};
use crate::{
    graph::{BatchNorm2d, Graph, GraphError, Node, Numeric, Op, Tensor, Weight, check},
    weights::{WeightsError, file::write_atomic, safe::Raw, torch::format_error},
};

/// Writes `graph` and `meta` to `path`: int8, float or mixed. Returns the bytes of the file. The same input gives the
/// same bytes.
///
/// # Errors
/// A graph that does not hold or is in the QAT form, labels that are not one a class, [`WeightsError::Write`].
pub fn write(path: &Path, graph: &Graph, meta: &Meta) -> Result<u64, WeightsError> {
    check(graph).map_err(|source| WeightsError::Graph { path: path.display().to_string(), source })?;
    if let Some(node) = graph.nodes.iter().find(|n| is_in_training(n)) {
        let detail = "it is in training with fake quantization: convert the graph before it is written".to_owned();
        let source = GraphError::Numeric { node: node.name.clone(), op: node.op.name(), detail };
        return Err(WeightsError::Graph { path: path.display().to_string(), source });
    }
    if !meta.labels.is_empty() && meta.labels.len() != graph.classes() {
        return Err(format_error(
            path,
            format!("{} labels for the {} classes of {}", meta.labels.len(), graph.classes(), graph.name),
        ));
    }
    let mut packed = Packed::default();
    let nodes = graph.nodes.iter().map(|node| packed.row(node)).collect();
    let document = Document { format: FORMAT, model: graph.name.clone(), nodes, meta: meta.clone() };
    let json = serde_json::to_string(&document).map_err(|e| format_error(path, e.to_string()))?;
    // One entry alone: the crate's metadata is a map without order, and the bytes must not change from run to run.
    let bytes = serialize(packed.tensors(), Some([(ENTRY.to_owned(), json)].into()))
        .map_err(|e| format_error(path, e.to_string()))?;
    write_atomic(path, &[&bytes])
}

/// Whether a node has what only the QAT form has, which is never a finished model.
fn is_in_training(node: &Node) -> bool {
    matches!(node.numeric, Numeric::Learned(_)) || node.op.bn().is_some() || node.op.fake().is_some()
}

/// The numbers, taken out of the nodes in their order.
#[derive(Default)]
struct Packed {
    weights: Vec<(String, Raw)>,
    weight_scales: Vec<f32>,
    biases: Vec<f32>,
    activation_scales: Vec<f32>,
    batch_norm: Vec<f32>,
}

impl Packed {
    fn row(&mut self, node: &Node) -> Row {
        let numeric = match node.numeric {
            Numeric::Float => None,
            // One that is being learnt was refused before.
            Numeric::Observed(spec) | Numeric::Learned(spec) => Some(NumericRow::Observed(spec)),
            Numeric::FakeQuantized(q) => {
                self.activation_scales.push(q.scale);
                Some(NumericRow::Fake(FakeRow { fake: (q.zero_point, q.qmax) }))
            }
            Numeric::Int8(q) => {
                self.activation_scales.push(q.scale);
                Some(match q.qmax {
                    255 => NumericRow::Int8(q.zero_point),
                    qmax => NumericRow::Clamped(q.zero_point, qmax),
                })
            }
        };
        let inputs = node.inputs.iter().map(|i| i.0).collect();
        let fused = node.fused.iter().map(|name| shorten(name, &node.name)).collect();
        Row(node.name.clone(), self.op(node), numeric, inputs, fused)
    }

    fn op(&mut self, node: &Node) -> OpRow {
        match &node.op {
            Op::Input => OpRow::Input(node.shape.c, node.shape.h, node.shape.w),
            Op::QuantStub => OpRow::Quant,
            Op::DeQuantStub => OpRow::Dequant,
            Op::Conv2d(c) => {
                let scales = self.weight(&node.name, &c.weight);
                let bias = self.bias(c.bias.as_ref());
                OpRow::Conv(c.stride, c.padding, c.groups, c.relu, bias, scales)
            }
            Op::BatchNorm2d(b) => {
                self.batch_norm(b);
                OpRow::BatchNorm
            }
            Op::Linear(l) => {
                let scales = self.weight(&node.name, &l.weight);
                OpRow::Linear(l.relu, self.bias(l.bias.as_ref()), scales)
            }
            Op::Activation(a) => OpRow::Act(*a),
            Op::MaxPool2d(p) => OpRow::MaxPool(*p),
            Op::AdaptiveAvgPool2d => OpRow::AvgPool,
            Op::MeanHw => OpRow::Mean,
            Op::Add { relu: false } => OpRow::Add,
            Op::Add { relu: true } => OpRow::AddRelu,
            Op::Mul => OpRow::Mul,
            Op::Cat => OpRow::Cat,
            Op::Chunk { index, chunks } => OpRow::Chunk(*index, *chunks),
            Op::ChannelShuffle { groups } => OpRow::Shuffle(*groups),
            Op::Flatten => OpRow::Flatten,
            Op::Dropout { p } => OpRow::Dropout(f64::from(*p)),
            Op::StochasticDepth { p } => OpRow::StochasticDepth(f64::from(*p)),
        }
    }

    /// Keeps the weight; returns how many scales it has.
    fn weight(&mut self, node: &str, weight: &Weight) -> usize {
        let (raw, scales) = match weight {
            Weight::Float(t) => (Raw::float(t.shape.clone(), &t.data), 0),
            Weight::Int8(q) => {
                self.weight_scales.extend_from_slice(&q.scales);
                let bytes = q.data.iter().map(|v| *v as u8).collect();
                (Raw { dtype: Dtype::I8, shape: q.shape.clone(), bytes }, q.scales.len())
            }
        };
        self.weights.push((format!("{node}.weight"), raw));
        scales
    }

    /// Keeps the bias; returns whether there is one.
    fn bias(&mut self, bias: Option<&Tensor>) -> bool {
        self.biases.extend(bias.iter().flat_map(|t| t.data.iter()));
        bias.is_some()
    }

    fn batch_norm(&mut self, b: &BatchNorm2d) {
        for part in [&b.weight, &b.bias, &b.running_mean, &b.running_var] {
            self.batch_norm.extend_from_slice(&part.data);
        }
        self.batch_norm.extend([b.eps, b.momentum]);
    }

    /// The tensors of the file; what is empty is left out.
    fn tensors(self) -> Vec<(String, Raw)> {
        let mut tensors = self.weights;
        let vectors = [
            (WEIGHT_SCALES, self.weight_scales),
            (BIASES, self.biases),
            (ACTIVATION_SCALES, self.activation_scales),
            (BATCH_NORM, self.batch_norm),
        ];
        for (name, values) in vectors.into_iter().filter(|(_, values)| !values.is_empty()) {
            tensors.push((name.to_owned(), Raw::float(vec![values.len()], &values)));
        }
        tensors
    }
}
