use std::{arch::x86_64::*, hint::black_box};

/// `N` chains of `rounds` dot products each, every one feeding on its own sum so that none can be left out.
///
/// # Safety
/// The features of this module.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(in crate::kernels) unsafe fn chains<const N: usize>(rounds: usize) {
    let (levels, weights) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(-5)));
    let mut sums = [_mm512_setzero_si512(); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, levels, weights);
        }
    }
    black_box(sums);
}
