//! Float kernels, forward and backward, for inference and training on the CPU.
//!
//! Activations are NHWC (channels innermost, "rows" are pixels), weights are `[kh, kw, in, out]`: a 1x1 convolution is one
//! matrix product without any copy, and every other loop runs along the channels. Everything is generic over `f32` and
//! `f64`; the latter is what the gradients are checked in. Sums are reduced in chunks whose number depends on the shapes
//! alone, in order, so a result does not depend on the number of threads.

mod channels;
mod conv;
pub mod conv_bn;
mod depthwise;
mod fake;
mod fake_norm;
mod fake_weight;
mod matmul;
mod norm;
mod order;
mod packed;
mod packed_depthwise;
mod parallel;
mod pointwise;
mod pool;
mod simd;
mod stats;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fake;
mod threads;
mod tile;

pub use channels::{add_channels, copy_channels, shuffle, unshuffle};
pub use conv::{Geometry, conv, conv_input_grad, conv_weight_grad};
pub use depthwise::{depthwise, depthwise_input_grad, depthwise_weight_grad};
pub use fake::{Grid, extremes, step_grad, to_grid, to_grid_grad};
pub use fake_norm::{NormToGrid, moments_and_extremes};
pub use fake_weight::{ChannelGrids, weight_extremes, weight_step_grad, weight_to_grid, weight_to_grid_grad};
#[cfg(test)]
pub(in crate::kernels) use matmul::matmul_strided;
pub use norm::{Moments, channel_sums, moments, norm_grad_sums, norm_input_grad, scale_shift};
pub use order::SumOrder;
pub use packed::PackedConv;
pub use packed_depthwise::PackedDepthwise;
pub use parallel::in_pool;
pub use pointwise::{
    Function, accumulate, add, add_to, apply, apply_grad, apply_to, mul_channels, mul_channels_grad,
    relu_grad_from_output, scale_samples,
};
pub use pool::{max_pool, max_pool_grad, mean_pixels, mean_pixels_grad};
pub use stats::{histogram, min_max, to_nchw, to_nhwc};
pub use threads::Threads;

use std::{
    fmt::Debug,
    ops::{Add, AddAssign, Div, Mul, Neg, Sub},
};

/// `f32` or `f64`.
pub trait Float:
    Copy
    + Debug
    + Default
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// Less than every finite value.
    const LEAST: Self;
    /// Adding and subtracting it rounds what is small beside it to the nearest integer, ties to even, in plain
    /// arithmetic: 1.5 times two to the bits of the mantissa.
    const ROUND: Self;

    /// Rounded to nearest.
    fn of(value: f64) -> Self;
    /// Exact.
    fn f64(self) -> f64;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Rounded once.
    fn sqrt(self) -> Self;
    /// `e` to this power; without a call, so that loops over it vectorize.
    fn exp(self) -> Self;
    /// Lends a buffer of `len` stale values that belongs to this thread.
    fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [Self]) -> R) -> R;

    /// The smaller one; `other` where either is no number.
    fn least(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
    /// The larger one; `other` where either is no number.
    fn most(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

macro_rules! float {
    ($t:ident, $exp:expr, $round:expr) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LEAST: Self = $t::NEG_INFINITY;
            const ROUND: Self = $round;

            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $t::mul_add(self, a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static SCRATCH: std::cell::Cell<Vec<$t>> = const { std::cell::Cell::new(Vec::new()) };
                }
                // Taken out while it is lent: a nested loan gets a fresh buffer.
                let mut buffer = SCRATCH.take();
                if buffer.len() < len {
                    buffer.resize(len, 0.0);
                }
                let result = f(&mut buffer[..len]);
                SCRATCH.set(buffer);
                result
            }
        }
    };
}

float!(f32, exp_f32, 12_582_912.0);
float!(f64, f64::exp, 6_755_399_441_055_744.0);

/// `expf` as PyTorch's vectorized loops have it (SLEEF's `expf_u10`): range reduction by `ln 2` in two parts, a polynomial
/// of degree 5, fused multiply-adds throughout; 1 unit in the last place.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    // The clamp keeps the exponent in range; at its ends the result is 0 (subnormals flushed) and nearly infinite.
    let clamped = x.clamp(-87.33, 88.37);
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in plain arithmetic.
    const ROUND: f32 = 12_582_912.0;
    let n = clamped * std::f32::consts::LOG2_E + ROUND - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.985_276_2e-4;
    p = f32::mul_add(p, r, 1.393_043_6e-3);
    p = f32::mul_add(p, r, 8.333_361e-3);
    p = f32::mul_add(p, r, 4.166_648_5e-2);
    p = f32::mul_add(p, r, 1.666_666_7e-1);
    p = f32::mul_add(p, r, 0.5);
    let e = 1.0 + (r * r).mul_add(p, r);
    let n = n as i32; // -126..=127 by the clamp; 0 for NaN, which `e` keeps
    e * f32::from_bits(((n + 127) as u32) << 23)
}
