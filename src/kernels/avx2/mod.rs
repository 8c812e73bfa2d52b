//! AVX2 and FMA, for CPUs without AVX-512. All of it is exact, though `vpmaddubsw` saturates in 16 bits: it only gets levels
//! up to 127, whose sums of two products fit; what levels have beyond that is added apart where few have it, and where
//! many do, all are widened to 16 bits for `vpmaddwd`.
//!
//! Every function here asks for the features of [`is_available`]; a `Kernels` of this set exists only where it is true.

mod depthwise;
mod gemm;
mod gemm_panel;
mod gemm_weights;
mod lanes;
mod peak;
mod pointwise;
mod winograd;

pub(super) use depthwise::{DepthwiseWeights, depthwise_row};
pub(super) use gemm::gemm;
pub(super) use gemm_weights::GemmWeights;
pub(super) use peak::chains;
pub(super) use pointwise::{
    INTERLEAVED, add, add_to_sums, add_values_to_sums, channel_sums, interleave_planes, interleave_row, max,
    max_of_two, mul, quantize, table, table_in_place,
};
pub(super) use winograd::Winograd;

/// Whether this CPU has all that these kernels use.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}
