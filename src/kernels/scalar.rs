//! The specification: what every other instruction set computes, in the order PyTorch computes it.
//!
//! `acc` is the int32 sum of `(q - zero point) * w`. Sums of products are exact in int32 for up to 66,000 terms.

use super::{Add, Depthwise, Gemm, Levels, Mul};

/// One output pixel of a dense convolution: `weights` is `[out][runs][run]`.
pub(super) fn gemm_pixel(layer: &Gemm, weights: &[i8], window: &[u8], levels: &mut [u8]) {
    let filters = weights.chunks_exact(layer.runs.len() * layer.run);
    for (c, (level, filter)) in levels.iter_mut().zip(filters).enumerate() {
        let mut acc = layer.requant.start(filter);
        for (run, weights) in layer.runs.iter().zip(filter.chunks_exact(layer.run)) {
            acc += dot(&window[*run as usize..][..layer.run], weights);
        }
        *level = layer.requant.level(c, acc);
    }
}

fn dot(levels: &[u8], weights: &[i8]) -> i32 {
    levels.iter().zip(weights).map(|(q, w)| i32::from(*q) * i32::from(*w)).sum()
}

/// One output row of a depthwise convolution: `weights` is `[taps][channels]`, `window` starts at the row's first one.
pub(super) fn depthwise_row(layer: &Depthwise, weights: &[i8], window: &[u8], levels: &mut [u8]) {
    let channels = layer.output.c;
    let zero_point = i32::from(layer.requant.input_zero_point);
    for x in 0..layer.output.w {
        for c in 0..channels {
            let mut acc = 0;
            for (tap, offset) in layer.taps.iter().enumerate() {
                let q = i32::from(window[x * layer.step[1] + offset + c]);
                acc += (q - zero_point) * i32::from(weights[tap * channels + c]);
            }
            levels[x * layer.output.pixel + c] = layer.requant.level(c, acc);
        }
    }
}

/// `out[i] = table[x[i]]`.
pub(super) fn table(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = table[usize::from(*x)];
    }
}

/// `out[2 i] = tables[0][a[i]]`, `out[2 i + 1] = tables[1][b[i]]`.
pub(super) fn interleave(a: &[u8], b: &[u8], tables: [&[u8; 256]; 2], out: &mut [u8]) {
    for ((a, b), out) in a.iter().zip(b).zip(out.chunks_exact_mut(2)) {
        out[0] = tables[0][usize::from(*a)];
        out[1] = tables[1][usize::from(*b)];
    }
}

/// `out[3 i + c] = planes[c][i]`: three planes side by side.
pub(super) fn interleave_planes(planes: [&[u8]; 3], out: &mut [u8]) {
    let [red, green, blue] = planes;
    for (((pixel, r), g), b) in out.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        pixel.copy_from_slice(&[*r, *g, *b]);
    }
}

/// `rne((d(a) + d(b)) * (1 / so)) + zero point`, `d(q) = fma(q, s, -zp * s)`: PyTorch's quantized add.
#[inline(always)]
pub(super) fn add(params: &Add, a: &[u8], b: &[u8], out: &mut [u8]) {
    let [(sa, ca), (sb, cb)] = params.inputs;
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        let sum = f32::from(*a).mul_add(sa, ca) + f32::from(*b).mul_add(sb, cb);
        *out = params.levels.round(sum * params.inverse_scale);
    }
}

/// `rne((qa - za) * (qb - zb) * (sa * sb / so)) + zero point`.
#[inline(always)]
pub(super) fn mul(params: &Mul, a: &[u8], b: &[u8], out: &mut [u8]) {
    let [za, zb] = params.zero_points.map(i32::from);
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        let product = (i32::from(*a) - za) * (i32::from(*b) - zb);
        *out = params.levels.round(product as f32 * params.multiplier);
    }
}

/// `rne(x * inverse_scale) + zero point`.
#[inline(always)]
pub(super) fn quantize(x: &[f32], inverse_scale: f32, levels: Levels, out: &mut [u8]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = levels.round(x * inverse_scale);
    }
}

/// `out[i] = max(out[i], x[i])`.
#[inline(always)]
pub(super) fn max(x: &[u8], out: &mut [u8]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = (*out).max(*x);
    }
}

/// `sums[i] += x[i]`.
#[inline(always)]
pub(super) fn add_to_sums(x: &[u8], sums: &mut [i32]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += i32::from(*x);
    }
}

/// `sums[i] += (x[i] - zero point) * scale`, float32, one pixel after the other.
#[inline(always)]
pub(super) fn add_values_to_sums(x: &[u8], zero_point: u8, scale: f32, sums: &mut [f32]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += (i32::from(*x) - i32::from(zero_point)) as f32 * scale;
    }
}
