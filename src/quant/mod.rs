//! From a float graph to an int8 one: qconfigs, observers, and one file per pass.
//!
//! A pass is a pure function, `&Graph -> Result<(Graph, Report), QuantError>`, and [`crate::graph::check`] holds after
//! each: [`insert_stubs`], [`fuse`], [`prepare`], then (once [`Observers`] saw data) [`convert`]; for training with fake
//! quantization [`fuse_qat`], [`prepare_qat`], and once trained [`convert_qat`]. The arithmetic is that of PyTorch's eager
//! mode, to the bit where it decides an integer.
//!
//! This room knows the graph and nothing else. It never runs a model: observers ask a [`Values`] for its extremes and
//! its histogram, wherever the tensor lives.

mod assemble;
mod borders;
mod convert;
mod fake;
mod fold;
mod fuse;
mod observe;
mod overrides;
mod pattern;
mod plant;
mod prepare;
mod qat;
mod qconfig;
mod repair;
mod stubs;
#[cfg(test)]
mod tests;
mod twins;
mod warning;
mod weight;

use crate::graph::{GraphError, ObserverKind};

pub use assemble::{assemble, observe_folded};
pub use convert::{ConvertReport, FloatLayerReport, LayerReport, convert};
pub use fake::fake_quantize;
pub use fuse::{FuseOptions, FuseReport, FuseSite, fuse, fuse_qat};
pub use observe::{BINS, Histogram, Observers, Range, RangeEffect, Values};
pub use overrides::{Choosable, Override, choosable};
pub use pattern::{Pattern, Reason, Refusal};
pub use plant::{Planted, plant_wide_channel};
pub use prepare::{FloatNode, ObservedNode, PrepareReport, WhyFloat, prepare};
pub use qat::{convert_qat, fake_quantize_qat, float_of_qat, prepare_qat, qat_qparams};
pub use qconfig::{Backend, Biases, QConfig, Study};
pub use repair::{
    AdaRound, BiasReport, EqualizeReport, EqualizedPair, Moments, RoundingReport, Uneven, correct_bias, equalize,
    round_weights, spoil_ranges,
};
pub use stubs::{Crossing, StubsReport, crossings, insert_stubs};
pub use twins::{part_relus, twins};
pub use warning::{
    FUSION_TOLERANCE, Problem, UNEVEN, Warning, fusion_warning, normalization_warning, tie_warning, weight_warnings,
};
pub use weight::{fake_quantize_weight, quantize_weight};

/// The smallest scale, `torch.finfo(torch.float32).eps`, in every observer of PyTorch.
pub const EPS: f32 = f32::EPSILON;

/// Why a pass or an observer refuses. Every message names the node and the remedy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum QuantError {
    /// The graph that came in, or the one that would have gone out, is not sound.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Stubs are there already.
    #[error("node `{node}` is a stub already: insert stubs into a graph only once")]
    AlreadyStubbed { node: String },
    /// Nothing marks what becomes int8.
    #[error("graph `{graph}` has no QuantStub: insert stubs first")]
    NoStubs { graph: String },
    /// A parameter that no int8 weight can stand for.
    #[error(
        "node `{node}`: its {what} has a value that is not finite (channel {channel}): load other weights or train again"
    )]
    NotFinite { node: String, what: &'static str, channel: usize },
    /// An unknown name.
    #[error("unknown qconfig `{found}`; expected one of x86, fbgemm, onednn, qnnpack")]
    UnknownQConfig { found: String },
    /// Activations are quantized per tensor.
    #[error("observer `{}` cannot watch an activation; expected histogram, min and max, moving average, percentile, MSE or entropy", .found.title())]
    ActivationObserver { found: ObserverKind },
    /// Weights are quantized by their extremes.
    #[error("observer `{}` cannot watch a weight; expected per channel, or min and max", .found.title())]
    WeightObserver { found: ObserverKind },
    /// More bits than int8 has, or too few to study.
    #[error("found {found} bits, expected 8, or 4 to 7 for study")]
    Bits { found: u8 },
    /// A range set by hand that is none.
    #[error("a range from {low} to {high} holds nothing: expected two finite values, the lower one first")]
    FixedRange { low: f32, high: f32 },
    /// A part of the values that no range can hold.
    #[error("the percentile observer is to keep {found} percent of the values, expected more than 50 and 100 at most")]
    Percentile { found: f32 },
    /// An override for a node that is not there.
    #[error("the override of `{node}` names no node of the fused graph: {remedy}")]
    NoSuchOverride { node: String, remedy: String },
    /// An override that its node cannot have.
    #[error("the override of `{node}` cannot be: {detail}")]
    Override { node: String, detail: String },
    /// Overrides that leave nothing to quantize.
    #[error("graph `{graph}`: every node is left in float, so nothing becomes int8; take an override away")]
    AllFloat { graph: String },
    /// Weights that the int8 engine does not run.
    #[error("node `{node}`: affine weights have no int8 kernel: run them fake-quantized, or make them symmetric")]
    AffineWeight { node: String },
    /// Observers are there already, or the graph is int8.
    #[error("node `{node}` is observed or int8 already: prepare a float graph")]
    AlreadyPrepared { node: String },
    /// No observers, so nothing says what becomes int8.
    #[error("graph `{graph}` has no observers: prepare it first")]
    NotPrepared { graph: String },
    /// An operation between the stubs that has no int8 kernel.
    #[error("node `{node}` ({op}) has no int8 kernel: {remedy}")]
    Unquantizable { node: String, op: &'static str, remedy: &'static str },
    /// A graph that was not made ready for training with fake quantization.
    #[error("graph `{graph}` learns no levels: fuse and prepare it for QAT first")]
    NotQat { graph: String },
    /// Fake quantization without data.
    #[error("fake quantization that saw no data: {}; train at least one step", .nodes.join(", "))]
    NotTrained { nodes: Vec<String> },
    /// What was learnt is not of this graph.
    #[error(
        "fake quantization of the weight of `{node}` has {found} ranges, expected {expected}: it is of another graph"
    )]
    OtherState { node: String, found: usize, expected: usize },
    /// Channels that nobody can divide again.
    #[error("the channels of layer `{node}` cannot be scaled: {why}")]
    NotScalable { node: String, why: String },
    /// Two graphs that are not of one model.
    #[error("layer `{node}` of the converted model is not in the float one: load the weights that it was made from")]
    OtherModel { node: String },
    /// Observers without data.
    #[error("observers that saw no data: {}; calibrate with at least one image", .nodes.join(", "))]
    NotCalibrated { nodes: Vec<String> },
    /// Observed nodes that the quantization parameters given to `convert` leave out.
    #[error("no scale and zero point for: {}; calibrate the graph that is converted", .nodes.join(", "))]
    NoQParams { nodes: Vec<String> },
    /// An activation that is NaN or infinite.
    #[error(
        "node `{node}`: its values go from {min} to {max} in calibration, expected finite ones: check weights and images"
    )]
    NotFiniteActivation { node: String, min: f32, max: f32 },
}
