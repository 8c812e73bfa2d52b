use std::{arch::aarch64::*, hint::black_box};

use super::lanes::dot;

/// `N` chains of `rounds` dot products each, every one feeding on its own sum so that none can be left out.
///
/// # Safety
/// The features of this module.
#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernels) unsafe fn chains<const N: usize>(rounds: usize) {
    let (levels, weights) = (black_box(vdupq_n_s8(3)), black_box(vdupq_n_s8(-5)));
    let mut sums = [vdupq_n_s32(0); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = dot(*sum, levels, weights);
        }
    }
    black_box(sums);
}
