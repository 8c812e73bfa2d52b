//! Runs a graph: `float` in float32, on a GPU and in training on candle, `int8` as a planned arena of packed layers. This room
//! knows graphs and kernels; it does not know where images come from.

mod error;
pub mod float;
pub mod int8;

pub use error::ExecError;

/// What long work asks as it goes: `Break` ends it with [`ExecError::Stopped`]; it may block to pause.
pub type Checkpoint<'a> = &'a (dyn Fn() -> std::ops::ControlFlow<()> + Sync);
