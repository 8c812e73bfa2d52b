use std::arch::x86_64::*;

use crate::kernels::Levels;

/// One vector of weights: 16 output channels times 4 inputs, as `vpdpbusd` takes them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Quads(pub(super) [i8; 64]);

/// What 16 lanes of sums need to become levels.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Constants {
    /// Where the sums start.
    pub(super) start: [i32; 16],
    pub(super) bias: [f32; 16],
    pub(super) multiplier: [f32; 16],
}

impl Constants {
    pub(super) const ZERO: Self = Self { start: [0; 16], bias: [0.0; 16], multiplier: [0.0; 16] };
}

/// The levels' bounds in every lane.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    low: __m512,
    high: __m512,
    zero_point: __m512i,
}

impl Bounds {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(levels: Levels) -> Self {
        let relative = |level: u8| f32::from(level) - f32::from(levels.zero_point);
        Self {
            low: _mm512_set1_ps(relative(levels.low)),
            high: _mm512_set1_ps(relative(levels.high)),
            zero_point: _mm512_set1_epi32(i32::from(levels.zero_point)),
        }
    }

    /// `clamp(rne(x) + zero point)`. The bounds are integers, so clamping first gives the same, and cannot overflow.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn round(self, x: __m512) -> __m512i {
        let x = _mm512_min_ps(_mm512_max_ps(x, self.low), self.high);
        _mm512_add_epi32(_mm512_cvtps_epi32(x), self.zero_point)
    }
}

/// `rne((f32(acc) + bias) * multiplier) + zero point`, clamped.
///
/// The constants must be valid to read (a reference is).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn requantize(acc: __m512i, constants: &Constants, bounds: Bounds) -> __m512i {
    // SAFETY: 64 bytes each, aligned by `Constants`' layout.
    let (bias, multiplier) =
        unsafe { (_mm512_load_ps(constants.bias.as_ptr()), _mm512_load_ps(constants.multiplier.as_ptr())) };
    bounds.round(_mm512_mul_ps(_mm512_add_ps(_mm512_cvtepi32_ps(acc), bias), multiplier))
}

/// 64 bytes to four vectors of int32. Vector `v` holds, in each 128-bit lane, the lane's bytes `4 v .. 4 v + 4`: the
/// order that [`narrow`] undoes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn widen(x: __m512i) -> [__m512i; 4] {
    let zero = _mm512_setzero_si512();
    let (low, high) = (_mm512_unpacklo_epi8(x, zero), _mm512_unpackhi_epi8(x, zero));
    [
        _mm512_unpacklo_epi16(low, zero),
        _mm512_unpackhi_epi16(low, zero),
        _mm512_unpacklo_epi16(high, zero),
        _mm512_unpackhi_epi16(high, zero),
    ]
}

/// The byte of 64 that lane `lane` of vector `vector` of [`widen`] holds.
pub(super) fn widened(vector: usize, lane: usize) -> usize {
    lane / 4 * 16 + vector * 4 + lane % 4
}

/// Four vectors of int32 within 0..=255 back to 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn narrow(x: [__m512i; 4]) -> __m512i {
    _mm512_packus_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]))
}

/// A mask of the first `count` of 64 bytes.
pub(super) fn first_bytes(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}
