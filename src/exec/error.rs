use crate::kernels::IsaError;

/// Why a graph cannot be run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum ExecError {
    /// An operation that this executor has no code for.
    #[error("node `{node}` ({op}): {detail}")]
    Unsupported { node: String, op: &'static str, detail: String },
    /// The instruction set that was asked for.
    #[error(transparent)]
    Isa(#[from] IsaError),
}
