use std::arch::aarch64::*;

use super::lanes::{Bounds, Constants, Quads, dot, load_signed, narrow, requantize, start, store};
use crate::kernels::Depthwise;

/// Weights of a depthwise layer: for each vector of 16 channels, for each four taps, four [`Quads`] of 4 channels.
///
/// At stride 1 a whole row of packed pixels is one long vector, whatever the number of channels: weights repeat with the
/// period of the least common multiple of 16 and the channels, so no lane is idle.
#[derive(Debug)]
pub(in crate::kernels) struct DepthwiseWeights {
    quads: Vec<Quads>,
    constants: Vec<Constants>,
    /// Vectors until weights repeat (one row at stride 1), or that cover a pixel.
    phases: usize,
    /// Of four taps each.
    groups: usize,
    whole_rows: bool,
}

impl DepthwiseWeights {
    /// From `[taps][channels]`.
    pub(in crate::kernels) fn pack(plain: &[i8], layer: &Depthwise) -> Self {
        let channels = layer.output.c;
        let taps = layer.taps.len();
        let whole_rows = layer.input.is_packed() && layer.output.is_packed() && layer.step[1] == channels;
        let phases = if whole_rows { channels / gcd(channels, 16) } else { channels.div_ceil(16) };
        let groups = taps.div_ceil(4);
        let channel = |phase: usize, vector: usize, lane: usize| {
            let at = phase * 16 + vector * 4 + lane;
            if whole_rows { Some(at % channels) } else { Some(at).filter(|c| *c < channels) }
        };
        let mut quads = Vec::with_capacity(phases * groups * 4);
        let mut constants = vec![Constants::ZERO; phases * 4];
        for phase in 0..phases {
            for (group, vector) in (0..groups).flat_map(|g| (0..4).map(move |v| (g, v))) {
                quads.push(Quads(std::array::from_fn(|i| match channel(phase, vector, i / 4) {
                    Some(c) if group * 4 + i % 4 < taps => plain[(group * 4 + i % 4) * channels + c],
                    Some(_) | None => 0,
                })));
            }
            for (vector, lane) in (0..4).flat_map(|v| (0..4).map(move |l| (v, l))) {
                let Some(c) = channel(phase, vector, lane) else { continue };
                let filter: Vec<i8> = (0..taps).map(|tap| plain[tap * channels + c]).collect();
                let slot = &mut constants[phase * 4 + vector];
                slot.start[lane] = start(&layer.requant, &filter);
                slot.bias[lane] = layer.requant.bias[c];
                slot.multiplier[lane] = layer.requant.multiplier[c];
            }
        }
        Self { quads, constants, phases, groups, whole_rows }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One output row; `window` starts at the row's first window, `levels` is the row.
///
/// # Safety
/// The features of this module; `window` must hold all windows of the row with `SLACK` behind.
#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernels) unsafe fn depthwise_row(
    layer: &Depthwise,
    weights: &DepthwiseWeights,
    window: &[u8],
    levels: &mut [u8],
) {
    let bounds = Bounds::new(layer.requant.levels);
    let x = window.as_ptr();
    if weights.whole_rows {
        let mut phase = 0;
        for (v, levels) in levels.chunks_mut(16).enumerate() {
            // SAFETY: as this function's: the vector starts within the row.
            store(levels, unsafe { vector(layer, weights, phase, x.add(16 * v), bounds) });
            phase = if phase + 1 == weights.phases { 0 } else { phase + 1 };
        }
    } else {
        for (pixel, levels) in levels.chunks_mut(layer.output.pixel).enumerate() {
            for (phase, levels) in levels[..layer.output.c].chunks_mut(16).enumerate() {
                // SAFETY: as this function's: the vector starts within the window of this pixel.
                store(levels, unsafe {
                    vector(layer, weights, phase, x.add(pixel * layer.step[1] + 16 * phase), bounds)
                });
            }
        }
    }
}

/// 16 outputs next to each other.
///
/// # Safety
/// The features of this module; 16 bytes must be readable at each tap from `x`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn vector(
    layer: &Depthwise,
    weights: &DepthwiseWeights,
    phase: usize,
    x: *const u8,
    bounds: Bounds,
) -> uint8x16_t {
    let constants: &[Constants; 4] = weights.constants[4 * phase..][..4].try_into().expect("four vectors a phase");
    let quads = &weights.quads[4 * phase * weights.groups..][..4 * weights.groups];
    // SAFETY: four values each.
    let mut sums: [int32x4_t; 4] = std::array::from_fn(|v| unsafe { vld1q_s32(constants[v].start.as_ptr()) });
    for (quads, taps) in quads.as_chunks::<4>().0.iter().zip(layer.taps.chunks(4)) {
        let load = |tap: usize| match taps.get(tap) {
            // SAFETY: taps are readable by this function's contract.
            Some(offset) => vreinterpretq_u8_s8(unsafe { load_signed(x.add(*offset)) }),
            None => vdupq_n_u8(0),
        };
        // Four taps of 16 channels to four vectors of 4 channels, each with its four taps side by side.
        let taps = [load(0), load(1), load(2), load(3)];
        let pairs = |a, b| [vreinterpretq_u16_u8(vzip1q_u8(a, b)), vreinterpretq_u16_u8(vzip2q_u8(a, b))];
        let ([low01, high01], [low23, high23]) = (pairs(taps[0], taps[1]), pairs(taps[2], taps[3]));
        let x = [
            vzip1q_u16(low01, low23),
            vzip2q_u16(low01, low23),
            vzip1q_u16(high01, high23),
            vzip2q_u16(high01, high23),
        ];
        for v in 0..4 {
            // SAFETY: 16 weights.
            let w = unsafe { vld1q_s8(quads[v].0.as_ptr()) };
            sums[v] = dot(sums[v], vreinterpretq_s8_u16(x[v]), w);
        }
    }
    narrow(std::array::from_fn(|v| requantize(sums[v], &constants[v], bounds)))
}
