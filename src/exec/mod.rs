//! Runs a graph: `float` on candle, `int8` as a planned arena of packed layers. This room knows graphs and kernels; it
//! does not know where images come from.

mod error;
pub mod float;
pub mod int8;

pub use error::ExecError;
