use std::arch::x86_64::*;

use crate::kernels::Levels;

/// What 8 lanes of sums need to become levels.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Constants {
    /// Where the sums start.
    pub(super) start: [i32; 8],
    pub(super) bias: [f32; 8],
    pub(super) multiplier: [f32; 8],
}

impl Constants {
    pub(super) const ZERO: Self = Self { start: [0; 8], bias: [0.0; 8], multiplier: [0.0; 8] };
}

/// The levels' bounds in every lane.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Relative to the zero point.
    high: __m256,
    zero_point: __m256i,
    low: __m256i,
}

impl Bounds {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(levels: Levels) -> Self {
        Self {
            high: _mm256_set1_ps(f32::from(levels.high) - f32::from(levels.zero_point)),
            zero_point: _mm256_set1_epi16(i16::from(levels.zero_point)),
            low: _mm256_set1_epi8(levels.low as i8),
        }
    }

    /// `rne(x)`, at most the highest level, relative to the zero point: for [`Bounds::narrow`], which does the rest.
    ///
    /// The bound is an integer, so clamping before rounding gives the same. What is below int32 (or not a number)
    /// becomes its least value, and so the lowest level.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn round(self, x: __m256) -> __m256i {
        _mm256_cvtps_epi32(_mm256_min_ps(self.high, x))
    }

    /// Adds the zero point and clamps: 32 levels out of four vectors, which each hold, in each 128-bit half, four of its
    /// levels: the order of [`widen`].
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn narrow(self, x: [__m256i; 4]) -> __m256i {
        let low = _mm256_adds_epi16(_mm256_packs_epi32(x[0], x[1]), self.zero_point);
        let high = _mm256_adds_epi16(_mm256_packs_epi32(x[2], x[3]), self.zero_point);
        _mm256_max_epu8(_mm256_packus_epi16(low, high), self.low)
    }
}

/// `rne((f32(acc) + bias) * multiplier)`, at most the highest level, relative to the zero point.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn requantize(acc: __m256i, constants: &Constants, bounds: Bounds) -> __m256i {
    // SAFETY: 32 bytes each, aligned by `Constants`' layout.
    let (bias, multiplier) =
        unsafe { (_mm256_load_ps(constants.bias.as_ptr()), _mm256_load_ps(constants.multiplier.as_ptr())) };
    bounds.round(_mm256_mul_ps(_mm256_add_ps(_mm256_cvtepi32_ps(acc), bias), multiplier))
}

/// 32 bytes to four vectors of int32. Vector `v` holds, in each 128-bit half, the half's bytes `4 v .. 4 v + 4`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn widen(x: __m256i) -> [__m256i; 4] {
    let zero = _mm256_setzero_si256();
    let (low, high) = (_mm256_unpacklo_epi8(x, zero), _mm256_unpackhi_epi8(x, zero));
    [
        _mm256_unpacklo_epi16(low, zero),
        _mm256_unpackhi_epi16(low, zero),
        _mm256_unpacklo_epi16(high, zero),
        _mm256_unpackhi_epi16(high, zero),
    ]
}

/// The byte of 32 that lane `lane` of vector `vector` of [`widen`] holds.
pub(super) fn widened(vector: usize, lane: usize) -> usize {
    lane / 4 * 16 + vector * 4 + lane % 4
}

/// The first bytes of `x`, at most 32, the other lanes 0.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(x: &[u8]) -> __m256i {
    let mut bytes = [0; 32];
    let from = if x.len() >= 32 {
        x.as_ptr()
    } else {
        bytes[..x.len()].copy_from_slice(x);
        bytes.as_ptr()
    };
    // SAFETY: 32 bytes of one or the other.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// As many lanes as `out` has bytes, at most 32.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(out: &mut [u8], x: __m256i) {
    if out.len() >= 32 {
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), x) }
    } else if out.len() >= 16 {
        let (mut bytes, last) = ([0_u8; 32], out.len() - 16);
        // SAFETY: 32 bytes; 16 of them, and 16 up to the end of `out`.
        unsafe {
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), x);
            let end = _mm_loadu_si128(bytes.as_ptr().add(last).cast());
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_castsi256_si128(x));
            _mm_storeu_si128(out.as_mut_ptr().add(last).cast(), end);
        }
    } else {
        let mut bytes = [0; 32];
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), x) }
        out.copy_from_slice(&bytes[..out.len()]);
    }
}
