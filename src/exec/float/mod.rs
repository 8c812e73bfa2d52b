//! Runs float graphs, plain, stubbed, fused, observed or in the QAT form, forward and (in [`Trainable`]) backward.
//!
//! A [`Model`] only runs forward: on the CPU over buffers that it keeps, on a GPU over tensors. On a GPU, in training and
//! in [`Twins`] values are candle tensors of shape `[batch, height, width, channels]`; every operation is a custom one of
//! ours over the kernels room (`ops`), on the CPU a function of `kernels::float`, on a GPU a program of `kernels::cuda`,
//! since candle's own convolution, pooling and batch norm are slow, limited or wrong in their gradients. Gradients are not
//! candle's autograd either: it adds a zero tensor and a sum for every gradient, and keeps every value. [`Trainable`] walks
//! the graph backwards instead.

mod activation;
mod backward;
mod conv_bn;
mod device;
mod forward;
mod host_model;
mod layer;
mod learned;
mod level_average;
mod model;
mod ops;
mod parameters;
mod tensor_model;
#[cfg(test)]
mod tests;
mod trainable;
mod twins;
pub mod update;
mod walk;

pub use activation::Activation;
pub use device::{Device, Gpu};
pub(super) use layer::Layer;
pub use learned::Phase;
pub use model::Model;
pub use parameters::Parameter;
pub use trainable::{Pass, Trainable};
pub use twins::{Correct, Kept, Parts, Twins};
