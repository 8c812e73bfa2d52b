use std::{arch::x86_64::*, hint::black_box};

/// `N` chains of `rounds` exact products of 16 bits, two of which `vpmaddwd` adds to a lane of 32; every one feeds on its
/// own sum, so that none can be left out.
///
/// # Safety
/// The features of this module.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) unsafe fn chains<const N: usize>(rounds: usize) {
    let weights = black_box(_mm256_set1_epi16(-5));
    let levels = black_box(_mm256_set1_epi16(3));
    let mut sums = [_mm256_setzero_si256(); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_add_epi32(_mm256_madd_epi16(*sum, weights), levels);
        }
    }
    black_box(sums);
}
