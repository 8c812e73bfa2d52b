//! Runs float graphs, plain, stubbed, fused, observed or in the QAT form, forward and (in [`Trainable`]) backward.
//!
//! Values are candle tensors of shape `[batch, height, width, channels]`; every operation is a custom one of ours over the
//! kernels room, since candle's own convolution, pooling and batch norm are slow, limited or wrong in their gradients.
//! Gradients are not candle's autograd either: it adds a zero tensor and a sum for every gradient, and keeps every
//! value. [`Trainable`] walks the graph backwards instead.

mod activation;
mod backward;
mod conv_bn;
mod forward;
mod learned;
mod model;
mod ops;
mod parameters;
mod trainable;
mod twins;

pub use activation::Activation;
pub(super) use forward::{function, linear_geometry, pool_geometry};
pub use learned::Phase;
pub use model::{Device, Model};
pub use parameters::Parameter;
pub use trainable::{Pass, Trainable};
pub use twins::{Correct, Kept, Parts, Twins};
