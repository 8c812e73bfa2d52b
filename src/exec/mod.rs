//! Runs a graph: `int8` as a planned arena of packed layers. This room knows graphs and kernels; it does not know where
//! images come from.

mod error;
pub mod int8;

pub use error::ExecError;
