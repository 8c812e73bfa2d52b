use std::fmt;

use serde::{Deserialize, Serialize};

use crate::graph::{Activation, Graph, NodeId, Op};

/// A chain of nodes that one int8 kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Conv + BN + ReLU.
    ConvBnRelu,
    /// Conv + BN.
    ConvBn,
    /// Conv + ReLU.
    ConvRelu,
    /// Linear + ReLU.
    LinearRelu,
}

impl Pattern {
    /// As PyTorch's documentation writes it.
    pub fn title(self) -> &'static str {
        match self {
            Self::ConvBnRelu => "Conv + BN + ReLU",
            Self::ConvBn => "Conv + BN",
            Self::ConvRelu => "Conv + ReLU",
            Self::LinearRelu => "Linear + ReLU",
        }
    }

    /// Whether the fused layer clamps at zero.
    pub fn has_relu(self) -> bool {
        match self {
            Self::ConvBnRelu | Self::ConvRelu | Self::LinearRelu => true,
            Self::ConvBn => false,
        }
    }
}

/// What may stand at one place of a pattern.
#[derive(Clone, Copy)]
enum Part {
    Conv,
    Linear,
    BatchNorm,
    Relu,
}

/// The patterns, the longest first: the first that fits is taken.
const PATTERNS: [(Pattern, &[Part]); 4] = [
    (Pattern::ConvBnRelu, &[Part::Conv, Part::BatchNorm, Part::Relu]),
    (Pattern::ConvBn, &[Part::Conv, Part::BatchNorm]),
    (Pattern::ConvRelu, &[Part::Conv, Part::Relu]),
    (Pattern::LinearRelu, &[Part::Linear, Part::Relu]),
];

impl Part {
    /// Whether `op` can stand here. A layer that has its batch norm or ReLU, or is int8, is finished and starts no pattern.
    fn is(self, op: &Op) -> bool {
        match self {
            Self::Conv => matches!(op, Op::Conv2d(c) if !c.relu && c.bn.is_none() && c.weight.float().is_some()),
            Self::Linear => matches!(op, Op::Linear(l) if !l.relu && l.weight.float().is_some()),
            Self::BatchNorm => matches!(op, Op::BatchNorm2d(_)),
            Self::Relu => matches!(op, Op::Activation(Activation::Relu)),
        }
    }
}

/// The longest pattern that starts at `head`, with its nodes in order. Each value on the way is read by the next node
/// alone: it vanishes.
pub(super) fn find(graph: &Graph, users: &[Vec<NodeId>], head: NodeId) -> Option<(Pattern, Vec<NodeId>)> {
    PATTERNS.iter().find_map(|(pattern, parts)| Some((*pattern, chain(graph, users, head, parts)?)))
}

fn chain(graph: &Graph, users: &[Vec<NodeId>], head: NodeId, parts: &[Part]) -> Option<Vec<NodeId>> {
    let (first, rest) = parts.split_first()?;
    let mut nodes = first.is(&graph.node(head).op).then(|| vec![head])?;
    let mut at = head;
    for part in rest {
        let [next] = users[at.index()][..] else { return None };
        if !part.is(&graph.node(next).op) {
            return None;
        }
        nodes.push(next);
        at = next;
    }
    Some(nodes)
}

/// A node that one might expect to be fused and that stays on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name.
    pub node: String,
    /// Why.
    pub reason: Reason,
}

/// Why a node stays on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is said in the text")]
pub enum Reason {
    /// The value between this node and the one it would fuse with is read elsewhere too, so it must exist.
    Shared { node: String, users: Vec<String> },
    /// A convolution or linear layer with nothing behind it that fuses.
    NotFollowed { by: &'static str, expected: &'static str },
    /// A batch norm or ReLU with nothing before it that fuses.
    NotPreceded { by: &'static str },
    /// An activation that no kernel has built in.
    NoFusedKernel { activation: Activation },
    /// The user wants to see it apart.
    SwitchedOff,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { node, users } => {
                write!(f, "the output of `{node}` has {} users ({}): it must exist", users.len(), users.join(", "))
            }
            Self::NotFollowed { by, expected } => write!(f, "followed by {by}, not by {expected}"),
            Self::NotPreceded { by } => write!(f, "follows {by}, which it cannot be fused with"),
            Self::NoFusedKernel { activation } => {
                write!(f, "{} has no fused kernel: it stays a table of its own", activation.name())
            }
            Self::SwitchedOff => f.write_str("switched off"),
        }
    }
}

/// Why the node `id`, which is in no fused pattern, stays on its own; `None` where nobody would expect it to fuse.
pub(super) fn refusal(graph: &Graph, users: &[Vec<NodeId>], id: NodeId) -> Option<Reason> {
    match &graph.node(id).op {
        Op::Conv2d(c) if !c.relu && c.bn.is_none() => Some(not_followed(graph, users, id, "batch norm or ReLU")),
        Op::Linear(l) if !l.relu => Some(not_followed(graph, users, id, "ReLU")),
        Op::BatchNorm2d(_) | Op::Activation(Activation::Relu) => {
            let before = graph.node(id).inputs[0];
            Some(
                shared(graph, users, before)
                    .unwrap_or_else(|| Reason::NotPreceded { by: graph.node(before).op.name() }),
            )
        }
        Op::Activation(activation) => Some(Reason::NoFusedKernel { activation: *activation }),
        Op::Conv2d(_)
        | Op::Linear(_)
        | Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::MaxPool2d(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Add { .. }
        | Op::Mul
        | Op::Cat
        | Op::Chunk { .. }
        | Op::ChannelShuffle { .. }
        | Op::Flatten
        | Op::Dropout { .. }
        | Op::StochasticDepth { .. } => None,
    }
}

fn not_followed(graph: &Graph, users: &[Vec<NodeId>], id: NodeId, expected: &'static str) -> Reason {
    let by = users[id.index()].first().map_or("nothing", |u| graph.node(*u).op.name());
    shared(graph, users, id).unwrap_or(Reason::NotFollowed { by, expected })
}

/// The refusal where `id` could start a longer pattern but for its second user.
fn shared(graph: &Graph, users: &[Vec<NodeId>], id: NodeId) -> Option<Reason> {
    let fuses = [Part::Conv, Part::Linear, Part::BatchNorm].iter().any(|p| p.is(&graph.node(id).op));
    let readers = &users[id.index()];
    let wanted = readers.iter().any(|u| Part::BatchNorm.is(&graph.node(*u).op) || Part::Relu.is(&graph.node(*u).op));
    (fuses && wanted && readers.len() > 1).then(|| Reason::Shared {
        node: graph.node(id).name.clone(),
        users: readers.iter().map(|u| graph.node(*u).name.clone()).collect(),
    })
}
