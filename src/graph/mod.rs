//! The model as data: one typed graph from the float network to the int8 one.
//!
//! A [`Graph`] is a list of [`Node`]s in topological order, each with one output (SSA). A node's name is torchvision's
//! module path, so a state dict loads by name and PyTorch's quantization parameters compare by name. Passes never change
//! a graph in place: they build the next one, and the one before stays for the screens that show before and after.
//!
//! This room knows nothing of files, of observers' arithmetic, of execution or of windows.

mod builder;
mod check;
mod dump;
mod int32_bias;
mod node;
mod numeric;
mod op;
mod qat;
mod rewrite;
mod shape;
mod tensor;

pub use builder::{Builder, ConvSpec};
pub use check::{MAX_NODES, MAX_POOLED, MAX_PRODUCTS, check};
pub use int32_bias::{Int32Bias, round_biases};
pub use node::{Graph, Node, NodeId, ParamRef};
pub use numeric::{ActivationSpec, BITS, FEWEST_BITS, Numeric, ObserverKind, PERCENTILE, QParams, Scheme, WeightSpec};
pub use op::{Activation, BatchNorm2d, Conv2d, Linear, MaxPool2d, Op};
pub use qat::{FakeQuants, LearnedRange, QatLevels, StepSize, activation_levels, weight_levels};
pub use rewrite::Rewrite;
pub use shape::Shape;
pub use tensor::{QTensor, Tensor, Weight};

/// What can be wrong with a graph. Every message names the node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum GraphError {
    /// None, or more than any network has.
    #[error("the graph has {0} nodes, expected 1 to {MAX_NODES}")]
    Length(usize),
    /// Two nodes of one name, or a node without one.
    #[error("node `{0}`: its name is empty or taken by another node")]
    Name(String),
    /// An input that does not come before its user.
    #[error("node `{node}`: input {input} does not come before it")]
    Order { node: String, input: usize },
    /// Too many or too few inputs.
    #[error("node `{node}` ({op}): found {found} inputs, expected {expected}")]
    Arity { node: String, op: &'static str, found: usize, expected: &'static str },
    /// Shapes that do not fit together.
    #[error("node `{node}` ({op}): {detail}")]
    Shape { node: String, op: &'static str, detail: String },
    /// A parameter whose length or shape is not what the operation needs.
    #[error("node `{node}`: parameter `{param}` has shape {found:?}, expected {expected}")]
    Param { node: String, param: &'static str, found: Vec<usize>, expected: String },
    /// A float value where int8 is needed, or the other way round.
    #[error("node `{node}` ({op}): {detail}")]
    Numeric { node: String, op: &'static str, detail: String },
    /// A name that no node bears.
    #[error("no node is named `{0}`")]
    NoSuchNode(String),
}
