//! Files that other tools open: ONNX out, and what we wrote back in, to prove it; a report as an HTML page.
//!
//! This room turns a [`crate::graph::Graph`] into bytes and bytes into a graph. It knows nothing of files, of how a graph
//! runs, of images or of the session; PyTorch's state dicts are in `weights`.

pub mod html;
pub mod onnx;

/// Why a graph cannot be exported, or an exported file not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum ExportError {
    /// A graph in the middle of its steps.
    #[error("node `{node}` is {found}; {expected}")]
    Numeric { node: String, found: &'static str, expected: &'static str },
    /// Bytes that are no ONNX model, or a damaged one.
    #[error("is not a whole ONNX model ({0}): damaged, truncated or of another kind")]
    Decode(String),
    /// An ONNX model that uses more than what Octet writes.
    #[error("node `{node}` ({op}): {detail}; Octet reads only the ONNX models that it writes")]
    Foreign { node: String, op: String, detail: String },
    /// A graph that breaks its own rules.
    #[error(transparent)]
    Graph(#[from] crate::graph::GraphError),
}
