use std::{collections::BTreeMap, fmt};

use crate::graph::{Activation, Conv2d, Graph, Linear, NodeId, Op, Tensor, Weight};

/// Why the channels of a layer cannot be scaled against the layers that read them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is said in the text")]
pub enum Uneven {
    /// A function `f` between the layers with `f(s x) != s f(x)`.
    NotHomogeneous { node: String, op: &'static str },
    /// What is scaled meets what is not.
    Joined { node: String, op: &'static str },
    /// Nobody divides by it again.
    Output,
}

impl fmt::Display for Uneven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHomogeneous { node, op } => {
                write!(f, "{op} (`{node}`) of a scaled value is not the scaled {op}: only ReLU and ReLU6 allow it")
            }
            Self::Joined { node, op } => {
                write!(f, "it goes into {op} (`{node}`) beside channels that would not be scaled")
            }
            Self::Output => f.write_str("it is the model's output"),
        }
    }
}

/// The layers that read a node's channels, each through nothing but what scales with its input.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Readers {
    /// Convolutions and linear layers.
    pub layers: Vec<NodeId>,
    /// ReLU6 on the way: it scales only where it does not clip.
    pub relu6: Vec<NodeId>,
}

/// Follows the output of `from` to the layers that read it. A product scales with its first factor (squeeze-excitation:
/// the second comes from a layer that divides the scale out again).
///
/// # Errors
/// [`Uneven`] for the first node that neither scales nor absorbs.
pub(super) fn readers(graph: &Graph, users: &[Vec<NodeId>], from: NodeId) -> Result<Readers, Uneven> {
    let mut readers = Readers::default();
    let mut waiting = vec![from];
    while let Some(at) = waiting.pop() {
        if users[at.index()].is_empty() {
            return Err(Uneven::Output);
        }
        for id in &users[at.index()] {
            let node = graph.node(*id);
            let (name, op) = (node.name.clone(), node.op.name());
            match &node.op {
                Op::Conv2d(Conv2d { weight: Weight::Float(_), bn: None, .. })
                | Op::Linear(Linear { weight: Weight::Float(_), .. }) => {
                    if !readers.layers.contains(id) {
                        readers.layers.push(*id);
                    }
                }
                Op::Activation(Activation::Relu6) => {
                    readers.relu6.push(*id);
                    waiting.push(*id);
                }
                Op::Activation(Activation::Relu)
                | Op::MaxPool2d(_)
                | Op::AdaptiveAvgPool2d
                | Op::MeanHw
                | Op::Dropout { .. }
                | Op::StochasticDepth { .. } => waiting.push(*id),
                Op::Flatten if graph.node(node.inputs[0]).shape.pixels() == 1 => waiting.push(*id),
                Op::Mul if node.inputs[0] == at && node.inputs[1] != at => waiting.push(*id),
                Op::Activation(
                    Activation::Hardswish | Activation::Hardsigmoid | Activation::Sigmoid | Activation::Silu,
                ) => return Err(Uneven::NotHomogeneous { node: name, op }),
                Op::DeQuantStub => return Err(Uneven::Output),
                Op::Input
                | Op::QuantStub
                | Op::Conv2d(_)
                | Op::Linear(_)
                | Op::BatchNorm2d(_)
                | Op::Add { .. }
                | Op::Mul
                | Op::Cat
                | Op::Chunk { .. }
                | Op::ChannelShuffle { .. }
                | Op::Flatten => return Err(Uneven::Joined { node: name, op }),
            }
        }
    }
    Ok(readers)
}

/// The float weights and biases of a graph's layers, to be scaled in place.
pub(super) struct Scalable {
    layers: BTreeMap<NodeId, Layer>,
}

struct Layer {
    shape: Vec<usize>,
    groups: usize,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Layer {
    fn of(op: &Op) -> Option<Self> {
        let (weight, bias, groups) = match op {
            Op::Conv2d(Conv2d { weight, bias, groups, bn: None, .. }) => (weight, bias, *groups),
            Op::Linear(Linear { weight, bias, .. }) => (weight, bias, 1),
            _ => return None,
        };
        let weight = weight.float()?;
        let bias = bias.as_ref().map(|b| b.data.to_vec());
        Some(Self { shape: weight.shape.clone(), groups, weight: weight.data.to_vec(), bias })
    }

    /// Where the weights of output channel `i` are.
    fn row(&self, i: usize) -> std::ops::Range<usize> {
        let each = self.weight.len() / self.shape[0];
        i * each..(i + 1) * each
    }

    /// Where the weights that multiply input channel `i` are: one run for each output channel of its group.
    fn column(&self, i: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (per_group, outputs) = (self.shape[1], self.shape[0] / self.groups);
        let taps = self.shape[2..].iter().product::<usize>();
        let (group, channel) = (i / per_group, i % per_group);
        (group * outputs..(group + 1) * outputs).map(move |o| {
            let start = (o * per_group + channel) * taps;
            start..start + taps
        })
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, w| m.max(w.abs()))
}

impl Scalable {
    pub fn new(graph: &Graph) -> Self {
        let layers = graph.iter().filter_map(|(id, node)| Some((id, Layer::of(&node.op)?)));
        Self { layers: layers.collect() }
    }

    pub fn has(&self, id: NodeId) -> bool {
        self.layers.contains_key(&id)
    }

    /// Output channels of a layer.
    pub fn channels(&self, id: NodeId) -> usize {
        self.layers[&id].shape[0]
    }

    /// The largest magnitude of the weights that make channel `i`.
    pub fn output_range(&self, id: NodeId, i: usize) -> f32 {
        let layer = &self.layers[&id];
        largest(&layer.weight[layer.row(i)])
    }

    /// The largest magnitude of the weights that read channel `i`.
    pub fn input_range(&self, id: NodeId, i: usize) -> f32 {
        let layer = &self.layers[&id];
        layer.column(i).map(|run| largest(&layer.weight[run])).fold(0.0, f32::max)
    }

    /// Multiplies what a layer gives in channel `i`.
    pub fn scale_output(&mut self, id: NodeId, i: usize, by: f32) {
        let Some(layer) = self.layers.get_mut(&id) else { return };
        let row = layer.row(i);
        layer.weight[row].iter_mut().for_each(|w| *w *= by);
        if let Some(bias) = &mut layer.bias {
            bias[i] *= by;
        }
    }

    /// Multiplies the weights that read channel `i`.
    pub fn scale_input(&mut self, id: NodeId, i: usize, by: f32) {
        let Some(layer) = self.layers.get_mut(&id) else { return };
        for run in layer.column(i) {
            layer.weight[run].iter_mut().for_each(|w| *w *= by);
        }
    }

    /// The graph with these weights and biases.
    pub fn write(self, graph: &Graph) -> Graph {
        let mut next = graph.clone();
        for (id, layer) in self.layers {
            let tensor = Tensor::new(layer.shape, layer.weight);
            if let Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. }) =
                &mut next.nodes[id.index()].op
            {
                *weight = Weight::Float(tensor);
                *bias = layer.bias.map(|b| Tensor::new([b.len()], b));
            }
        }
        next
    }
}
