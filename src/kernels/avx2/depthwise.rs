use std::arch::x86_64::*;

use super::{
    gemm_panel::are_narrow,
    lanes::{Bounds, Constants, requantize, store, widened},
};
use crate::kernels::Depthwise;

/// One vector of weights: 8 channels times 2 taps.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct Pairs([i16; 16]);

/// One vector of weights: 8 channels times 4 taps.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct Fours([i8; 32]);

/// Weights of a depthwise layer: for each vector of 32 channels, for each two taps, four [`Pairs`] in `widen`'s order; and
/// for rows of levels up to 127, for each four taps, four [`Fours`] in the same order.
///
/// At stride 1 a whole row of packed pixels is one long vector, whatever the number of channels: weights repeat with the
/// period of the least common multiple of 32 and the channels, so no lane is idle.
#[derive(Debug)]
pub(in crate::kernels) struct DepthwiseWeights {
    pairs: Vec<Pairs>,
    /// Of 5x5 taps, the first 24.
    fours: Vec<Fours>,
    /// Where the two taps of each group lie, from the window's start; the last may stand there twice, without weight.
    taps: Vec<[usize; 2]>,
    constants: Vec<Constants>,
    /// Vectors until weights repeat (one row at stride 1), or that cover a pixel.
    phases: usize,
    /// Of two taps each.
    groups: usize,
    whole_rows: bool,
}

impl DepthwiseWeights {
    /// From `[taps][channels]`.
    pub(in crate::kernels) fn pack(plain: &[i8], layer: &Depthwise) -> Self {
        let channels = layer.output.c;
        let taps = layer.taps.len();
        let whole_rows = layer.input.is_packed() && layer.output.is_packed() && layer.step[1] == channels;
        let phases = if whole_rows { channels / gcd(channels, 32) } else { channels.div_ceil(32) };
        let groups = taps.div_ceil(2);
        let channel = |phase: usize, vector: usize, lane: usize| {
            let at = phase * 32 + widened(vector, lane);
            if whole_rows { Some(at % channels) } else { Some(at).filter(|c| *c < channels) }
        };
        let mut pairs = Vec::with_capacity(phases * groups * 4);
        // Only where they are read.
        let whole_fours = if groups == 13 { taps / 4 } else { 0 };
        let mut fours = Vec::with_capacity(phases * whole_fours * 4);
        let mut constants = vec![Constants::ZERO; phases * 4];
        for phase in 0..phases {
            for (group, vector) in (0..groups).flat_map(|g| (0..4).map(move |v| (g, v))) {
                pairs.push(Pairs(std::array::from_fn(|i| match channel(phase, vector, i / 2) {
                    Some(c) if group * 2 + i % 2 < taps => i16::from(plain[(group * 2 + i % 2) * channels + c]),
                    Some(_) | None => 0,
                })));
            }
            for (four, vector) in (0..whole_fours).flat_map(|f| (0..4).map(move |v| (f, v))) {
                fours.push(Fours(std::array::from_fn(|i| match channel(phase, vector, i / 4) {
                    Some(c) => plain[(four * 4 + i % 4) * channels + c],
                    None => 0,
                })));
            }
            for (vector, lane) in (0..4).flat_map(|v| (0..8).map(move |l| (v, l))) {
                let Some(c) = channel(phase, vector, lane) else { continue };
                let filter: Vec<i8> = (0..taps).map(|tap| plain[tap * channels + c]).collect();
                let slot = &mut constants[phase * 4 + vector];
                slot.start[lane] = layer.requant.start(&filter);
                slot.bias[lane] = layer.requant.bias[c];
                slot.multiplier[lane] = layer.requant.multiplier[c];
            }
        }
        let both = |group: usize| [layer.taps[2 * group], layer.taps[(2 * group + 1).min(taps - 1)]];
        Self { pairs, fours, taps: (0..groups).map(both).collect(), constants, phases, groups, whole_rows }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One output row; `window` starts at the row's first window, `levels` is the row.
///
/// # Safety
/// The features of this module; `window` must hold all windows of the row with `SLACK` behind.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) unsafe fn depthwise_row(
    layer: &Depthwise,
    weights: &DepthwiseWeights,
    window: &[u8],
    levels: &mut [u8],
) {
    // SAFETY: as this function's. The kernels of 3x3 and 5x5 taps are compiled for their number of groups.
    unsafe {
        match weights.groups {
            5 => row::<5, 0>(layer, weights, window, levels),
            // Nine taps win nothing by it.
            13 if are_narrow(&window[..layer.window_row()]) => row::<13, 6>(layer, weights, window, levels),
            13 => row::<13, 0>(layer, weights, window, levels),
            _ => row::<0, 0>(layer, weights, window, levels),
        }
    }
}

/// The same with `GROUPS` groups of taps, any number if it is 0; the taps of `FOURS` times two of them are taken four by four,
/// which needs levels up to 127.
///
/// # Safety
/// As [`depthwise_row`].
#[target_feature(enable = "avx2")]
unsafe fn row<const GROUPS: usize, const FOURS: usize>(
    layer: &Depthwise,
    weights: &DepthwiseWeights,
    window: &[u8],
    levels: &mut [u8],
) {
    let bounds = Bounds::new(layer.requant.levels);
    let x = window.as_ptr();
    // A row of packed pixels is one long pixel.
    let (pixel, channels) =
        if weights.whole_rows { (levels.len(), levels.len()) } else { (layer.output.pixel, layer.output.c) };
    let mut phase = 0;
    for (pixel, levels) in levels.chunks_mut(pixel).enumerate() {
        for (v, levels) in levels[..channels].chunks_mut(32).enumerate() {
            // SAFETY: as this function's: the vector starts within the window of this pixel.
            let found =
                unsafe { vector::<GROUPS, FOURS>(weights, phase, x.add(pixel * layer.step[1] + 32 * v), bounds) };
            store(levels, found);
            phase = if phase + 1 == weights.phases { 0 } else { phase + 1 };
        }
    }
}

/// 32 outputs next to each other.
///
/// # Safety
/// The features of this module; 32 bytes must be readable at each tap from `x`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn vector<const GROUPS: usize, const FOURS: usize>(
    weights: &DepthwiseWeights,
    phase: usize,
    x: *const u8,
    bounds: Bounds,
) -> __m256i {
    let groups = if GROUPS == 0 { weights.groups } else { GROUPS };
    let constants: &[Constants; 4] = weights.constants[4 * phase..][..4].try_into().expect("four vectors a phase");
    let pairs = weights.pairs[4 * phase * groups..][..4 * groups].as_ptr();
    let taps = &weights.taps[..groups];
    let zero = _mm256_setzero_si256();
    // SAFETY: aligned by the layouts of `Constants` and `Pairs`; taps are readable by this function's contract.
    unsafe {
        let mut sums = [zero; 4];
        for (sum, constants) in sums.iter_mut().zip(constants) {
            *sum = _mm256_load_si256(constants.start.as_ptr().cast());
        }
        let fours = weights.fours[4 * phase * FOURS..][..4 * FOURS].as_ptr();
        let ones = _mm256_set1_epi16(1);
        for four in 0..FOURS {
            // Four taps of 32 channels to four vectors of 8 channels, each with its four taps side by side.
            let ([a, b], [c, d]) = (taps[2 * four], taps[2 * four + 1]);
            let (a, b) = (_mm256_loadu_si256(x.add(a).cast()), _mm256_loadu_si256(x.add(b).cast()));
            let (c, d) = (_mm256_loadu_si256(x.add(c).cast()), _mm256_loadu_si256(x.add(d).cast()));
            let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            let (low2, high2) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
            let x = [
                _mm256_unpacklo_epi16(low, low2),
                _mm256_unpackhi_epi16(low, low2),
                _mm256_unpacklo_epi16(high, high2),
                _mm256_unpackhi_epi16(high, high2),
            ];
            for v in 0..4 {
                let products = _mm256_maddubs_epi16(x[v], _mm256_load_si256(fours.add(4 * four + v).cast()));
                sums[v] = _mm256_add_epi32(sums[v], _mm256_madd_epi16(products, ones));
            }
        }
        for (group, taps) in (2 * FOURS..groups).zip(&taps[2 * FOURS..]) {
            let first = _mm256_loadu_si256(x.add(taps[0]).cast());
            let second = _mm256_loadu_si256(x.add(taps[1]).cast());
            // Two taps of 32 channels to four vectors of 8 channels, each with its two taps side by side.
            let (low, high) = (_mm256_unpacklo_epi8(first, second), _mm256_unpackhi_epi8(first, second));
            let x = [
                _mm256_unpacklo_epi8(low, zero),
                _mm256_unpackhi_epi8(low, zero),
                _mm256_unpacklo_epi8(high, zero),
                _mm256_unpackhi_epi8(high, zero),
            ];
            for v in 0..4 {
                let products = _mm256_madd_epi16(x[v], _mm256_load_si256(pairs.add(4 * group + v).cast()));
                sums[v] = _mm256_add_epi32(sums[v], products);
            }
        }
        let mut levels = [zero; 4];
        for v in 0..4 {
            levels[v] = requantize(sums[v], &constants[v], bounds);
        }
        bounds.narrow(levels)
    }
}
