//! The hot loops on slices, int8 and (in [`float`]) float32, and the pool that runs them.
//!
//! `scalar` is written to be read and is the specification; every instruction set gives the same integers, bit for bit,
//! which `tests.rs` holds by walking one list of all kernels. An [`Isa`] is chosen once at run time: a [`Kernels`] can
//! only be made where the CPU has what it names, so calling its functions is sound by construction. The arithmetic is
//! that of PyTorch's quantized CPU kernels (`rne` below rounds to nearest, ties to even).
//!
//! This is the only room with `unsafe`. It knows bytes and strides; it must not know graphs, files or models.

mod affine;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod border;
#[cfg(test)]
mod covered;
pub mod cuda;
mod depthwise;
mod fake;
pub mod float;
mod gemm;
mod grouped;
mod image;
mod isa;
mod map;
#[cfg(target_arch = "aarch64")]
mod neon;
mod peak;
mod pointwise;
mod pool;
mod pooling;
mod requant;
mod scalar;
mod shared;
#[cfg(test)]
mod tests;

pub use affine::Affine;
pub use border::{dequantize_values, quantize_values};
pub use depthwise::Depthwise;
pub use fake::{fake_average, fake_quantize};
pub use gemm::Gemm;
pub use grouped::Grouped;
pub use image::{dequantize, quantize_image};
pub use isa::{Isa, IsaError, Kernels};
pub use map::{Map, SLACK};
pub use peak::cpu_name;
pub use pointwise::{Add, Mul, Table, interleave, shuffle};
pub use pooling::{MaxPool, average_pool, flatten, mean};
pub use requant::{ConvGeometry, Levels, Requant};
