use super::{QConfig, QuantError, stubs};
use crate::graph::{self, Activation, ActivationSpec, Graph, Node, Numeric, ObserverKind, Op};

/// What [`prepare`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrepareReport {
    /// Every node with an observer, in the order of the graph.
    pub observed: Vec<ObservedNode>,
    /// Nodes between the stubs that [`super::convert`] will refuse.
    pub warnings: Vec<Unquantizable>,
}

/// A node whose output is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedNode {
    /// Its name.
    pub name: String,
    /// By what.
    pub spec: ActivationSpec,
}

/// An operation between the stubs that has no int8 kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unquantizable {
    /// Its name.
    pub node: String,
    /// What it is.
    pub op: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// How the output of an operation gets its scale and zero point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source {
    /// From the range that an observer saw.
    Observer,
    /// From its first input: it moves levels about, or keeps their grid.
    Input,
    /// A range that is known: sigmoids end at 1, so PyTorch takes 1/256 and 0.
    Unit,
    /// Gone after conversion: identity at inference.
    Removed,
    /// It stays float.
    Float,
    /// It has no int8 kernel; the remedy.
    Refused(&'static str),
}

/// Where PyTorch's eager mode puts observers, and what the rest does without.
pub(super) fn source(op: &Op) -> Source {
    match op {
        Op::QuantStub
        | Op::Conv2d(_)
        | Op::Linear(_)
        | Op::Add { .. }
        | Op::Mul
        | Op::Cat
        | Op::Activation(Activation::Hardswish | Activation::Silu) => Source::Observer,
        Op::Activation(Activation::Relu | Activation::Relu6)
        | Op::MaxPool2d(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Chunk { .. }
        | Op::ChannelShuffle { .. }
        | Op::Flatten => Source::Input,
        Op::Activation(Activation::Hardsigmoid | Activation::Sigmoid) => Source::Unit,
        Op::Dropout { .. } | Op::StochasticDepth { .. } => Source::Removed,
        Op::Input | Op::DeQuantStub => Source::Float,
        Op::BatchNorm2d(_) => {
            Source::Refused("fuse it into the convolution before it (switch that fusion on), then prepare again")
        }
    }
}

/// Puts an observer on every node between the stubs where PyTorch's eager mode has one; run it on the fused graph. The
/// graph still computes in float.
///
/// # Errors
/// [`QuantError::NoStubs`], [`QuantError::AlreadyPrepared`], and [`QuantError::ActivationObserver`] for an observer that
/// activations cannot have.
pub fn prepare(graph: &Graph, config: &QConfig) -> Result<(Graph, PrepareReport), QuantError> {
    if config.activation.observer == ObserverKind::PerChannelMinMax {
        return Err(QuantError::ActivationObserver { found: config.activation.observer });
    }
    if !graph.nodes.iter().any(|n| matches!(n.op, Op::QuantStub)) {
        return Err(QuantError::NoStubs { graph: graph.name.clone() });
    }
    if let Some(node) = graph.nodes.iter().find(|n| n.numeric != Numeric::Float) {
        return Err(QuantError::AlreadyPrepared { node: node.name.clone() });
    }
    let mut next = graph.clone();
    let mut report = PrepareReport::default();
    for (node, _) in next.nodes.iter_mut().zip(stubs::inside(graph)).filter(|(_, inside)| *inside) {
        match source(&node.op) {
            Source::Observer => {
                node.numeric = Numeric::Observed(config.activation);
                report.observed.push(ObservedNode { name: node.name.clone(), spec: config.activation });
            }
            Source::Refused(remedy) => report.warnings.push(unquantizable(node, remedy)),
            Source::Input | Source::Unit | Source::Removed | Source::Float => {}
        }
    }
    graph::check(&next)?;
    Ok((next, report))
}

fn unquantizable(node: &Node, remedy: &'static str) -> Unquantizable {
    Unquantizable { node: node.name.clone(), op: node.op.name(), remedy }
}
