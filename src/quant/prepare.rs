use super::{QConfig, QuantError, borders, overrides};
use crate::graph::{self, Activation, ActivationSpec, Graph, Numeric, Op};

/// What [`prepare`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrepareReport {
    /// Every node with an observer, in the order of the graph; `NODE.quant` is where a node left in float becomes int8.
    pub observed: Vec<ObservedNode>,
    /// Nodes between the stubs that stay in float.
    pub float: Vec<FloatNode>,
}

/// A node whose output is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedNode {
    /// Its name.
    pub name: String,
    /// By what.
    pub spec: ActivationSpec,
}

/// A node between the stubs that stays in float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatNode {
    /// Its name.
    pub node: String,
    /// What it is.
    pub op: &'static str,
    /// Why.
    pub why: WhyFloat,
}

/// Why a node stays in float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyFloat {
    /// The user wants it so: [`super::Override::Float`].
    Chosen,
    /// It has no int8 kernel; the remedy.
    NoKernel(&'static str),
    /// It keeps the numbers of its input, and that is float.
    Input,
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

/// Puts an observer on every node between the stubs where PyTorch's eager mode has one; run it on the fused graph. Nodes
/// that are left in float (by [`QConfig::overrides`], or for want of an int8 kernel) get a DeQuantStub before them and an
/// observed QuantStub behind them, shared with float neighbours. The graph still computes in float.
///
/// # Errors
/// [`QuantError::NoStubs`], [`QuantError::AlreadyPrepared`], those of [`QConfig::check`],
/// [`QuantError::NoSuchOverride`] and [`QuantError::Override`], [`QuantError::AllFloat`] where nothing is left to quantize.
pub fn prepare(graph: &Graph, config: &QConfig) -> Result<(Graph, PrepareReport), QuantError> {
    config.check()?;
    if !graph.nodes.iter().any(|n| matches!(n.op, Op::QuantStub)) {
        return Err(QuantError::NoStubs { graph: graph.name.clone() });
    }
    if let Some(node) = graph.nodes.iter().find(|n| n.numeric != Numeric::Float) {
        return Err(QuantError::AlreadyPrepared { node: node.name.clone() });
    }
    overrides::check(graph, config)?;
    let (next, report) = borders::place(graph, config);
    if report.observed.is_empty() {
        return Err(QuantError::AllFloat { graph: graph.name.clone() });
    }
    graph::check(&next)?;
    Ok((next, report))
}
