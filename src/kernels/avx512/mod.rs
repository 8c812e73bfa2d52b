//! AVX-512 with VNNI and VBMI. `vpdpbusd` multiplies four unsigned levels by four signed weights into each of 16 int32
//! lanes, exactly: unlike `vpmaddubsw` it does not saturate in 16 bits.
//!
//! Every function here asks for the features of [`is_available`]; a `Kernels` of this set exists only where it is true.

mod depthwise;
mod gemm;
mod lanes;
mod peak;
mod pointwise;

pub(super) use depthwise::{DepthwiseWeights, depthwise_row};
pub(super) use gemm::{GemmWeights, gemm};
pub(super) use peak::chains;
pub(super) use pointwise::{
    add, add_to_sums, add_values_to_sums, interleave, max, mul, quantize, table, table_in_place,
};

/// Whether this CPU has all that these kernels use.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("fma")
}
