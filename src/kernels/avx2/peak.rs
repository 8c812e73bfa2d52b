use std::{arch::x86_64::*, hint::black_box};

/// `N` chains of `rounds` steps as the kernels for levels up to 127 take them: two `vpmaddubsw`, whose products are added
/// in 16 bits, and one `vpmaddwd` for 64 multiply-adds. Every chain feeds on its own sum, so that none can be left out.
///
/// # Safety
/// The features of this module.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) unsafe fn chains<const N: usize>(rounds: usize) {
    let weights = black_box([_mm256_set1_epi8(-5), _mm256_set1_epi8(7)]);
    let ones = black_box(_mm256_set1_epi16(1));
    let mut sums = [_mm256_setzero_si256(); N];
    for _ in 0..rounds {
        for sum in &mut sums {
            let [first, second] = weights.map(|w| _mm256_maddubs_epi16(*sum, w));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_add_epi16(first, second), ones));
        }
    }
    black_box(sums);
}
