use crate::kernels::IsaError;

/// Why a graph cannot be run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum ExecError {
    /// An operation that this executor has no code for.
    #[error("node `{node}` ({op}): {detail}")]
    Unsupported { node: String, op: &'static str, detail: String },
    /// A batch of the wrong length.
    #[error("found {found} values for a batch of {batch} images, expected {expected} ({batch} x {image} values)")]
    Input { found: usize, batch: usize, image: usize, expected: usize },
    /// A device this build or this machine does not have.
    #[error("{device} cannot be used: {detail}; run on the CPU instead")]
    Device { device: String, detail: String },
    /// The instruction set that was asked for.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// A checkpoint said so.
    #[error("stopped")]
    Stopped,
    /// Candle refused an operation.
    #[error("tensor operation failed: {0}")]
    Candle(#[from] candle_core::Error),
}
