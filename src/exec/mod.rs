//! Runs a graph: `float` on candle. This room knows graphs and kernels; it does not know where images come from.

mod error;
pub mod float;

pub use error::ExecError;
