//! The float kernels on an NVIDIA GPU.
//!
//! The kernels are CUDA C (`*.cu` beside this file), the twins of [`kernels::float`](super::float) and held to it by this
//! folder's tests. What an operation does on the GPU is a [`Program`]: plain data made by safe code in any build, a list of
//! kernel launches and matrix products over its operands and its own temporaries. Where the crate is built with the feature
//! `cuda`, `Gpu` runs it: `build.rs` has nvcc turn the kernels into PTX for compute capability 7.5, which the driver
//! compiles for the GPU that it finds. (Candle's own kernels ask for nvcc at build time anyway; so a kernel that does not
//! compile fails the build and not the user, and no compiler is needed where it runs.) Matrix products are cuBLAS', in
//! full float32.
//!
//! Without a GPU the same programs run in the tests on the same kernels, compiled as plain C++ (`shim.cpp`).

mod channels;
mod conv;
mod fake;
#[cfg(feature = "cuda")]
mod gpu;
mod norm;
mod pointwise;
mod pool;
mod program;
pub mod qat;
mod reduce;
#[cfg(test)]
pub(crate) mod shim;
#[cfg(test)]
mod tests;
mod train;

pub use channels::{add_channels, chunk, concatenate, shuffle, to_nchw, to_nhwc, unshuffle};
pub use conv::{conv, conv_input_grad, conv_weight_grad, depthwise, depthwise_input_grad, depthwise_weight_grad};
pub use fake::{fake_average, fake_quantize};
#[cfg(feature = "cuda")]
pub use gpu::{Gpu, GpuError, GpuInfo, devices};
pub use norm::{
    evaluation_scale, evaluation_shift, move_running, norm_coefficients, norm_constants, norm_grad_sums,
    norm_input_grad, norm_weight_grad, scale_shift,
};
pub use pointwise::{
    accumulate, add, apply, apply_grad, mul_channels, mul_channels_grad, relu_grad_from_output, scale_samples,
};
pub use pool::{max_pool, max_pool_grad, mean_pixels, mean_pixels_grad};
pub use program::{Arg, Buffer, Place, Product, Program, Step};
pub use reduce::{channel_sums, histogram, min_max, moments};
pub use train::{adamw_moments, adamw_step, cross_entropy, sgd_step, sgd_velocity};
