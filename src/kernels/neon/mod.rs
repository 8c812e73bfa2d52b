//! NEON with dot product, 64-bit ARM. `sdot` multiplies four signed levels by four signed weights into each of 4 int32
//! lanes, exactly. Levels are unsigned: with the top bit flipped they are `q - 128`, and what that takes from a sum,
//! `128 * sum(w)`, is added where the sum starts.
//!
//! The instruction is written in assembly, since Rust's intrinsics for it are not stable yet. Every function here asks for
//! the features of [`is_available`]; a `Kernels` of this set exists only where it is true.

mod depthwise;
mod gemm;
mod lanes;
mod peak;
mod pointwise;

pub(super) use depthwise::{DepthwiseWeights, depthwise_row};
pub(super) use gemm::{GemmWeights, gemm};
pub(super) use peak::chains;
pub(super) use pointwise::{add, interleave, mul, quantize, table, table_in_place};

/// Whether this CPU has all that these kernels use.
pub(super) fn is_available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("dotprod")
}
