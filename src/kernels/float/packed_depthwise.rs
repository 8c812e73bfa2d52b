use std::ops::Range;

use super::{
    Geometry,
    depthwise::{depthwise, out_operations, taps},
    parallel::{for_each_part, threads},
    simd::{Level, per_level},
};

/// A depthwise convolution for inference: the sums of [`depthwise`], in the same order, in registers.
#[derive(Clone, Debug)]
pub struct PackedDepthwise {
    level: Level,
    /// Of one image.
    geometry: Geometry,
    /// `[kh, kw, channels]`
    weight: Vec<f32>,
    /// Zeros where there is none.
    bias: Vec<f32>,
    relu: bool,
}

/// Pixels and vectors of channels that are summed side by side.
const PIXELS: usize = 4;
const VECTORS: usize = 2;
/// Output values that a thread works on at a time: they stay in the second-level cache.
const VALUES: usize = 32 * 1024;

impl PackedDepthwise {
    /// Packs `weight`, `[channels, 1, kh, kw]`, for images of geometry `g`, whose batch is of no account.
    ///
    /// # Panics
    /// Where weight or bias are not as long as the geometry says.
    pub fn new(g: &Geometry, weight: &[f32], bias: Option<&[f32]>, relu: bool) -> Self {
        Self::with_level(Level::detect(), g, weight, bias, relu)
    }

    fn with_level(level: Level, g: &Geometry, weight: &[f32], bias: Option<&[f32]>, relu: bool) -> Self {
        let (channels, taps) = (g.channels, g.kernel[0] * g.kernel[1]);
        assert!(weight.len() == channels * taps && g.out_channels == channels, "a weight of {g:?}");
        assert!(bias.is_none_or(|b| b.len() == channels), "a bias of {g:?}");
        let weight = (0..weight.len()).map(|i| weight[i % channels * taps + i / channels]).collect();
        let bias = bias.map_or_else(|| vec![0.0; channels], <[f32]>::to_vec);
        Self { level, geometry: Geometry { batch: 1, ..*g }, weight, bias, relu }
    }

    /// `out = act(depthwise(x, weight) + bias)`, both NHWC; each part of the output (its first value's position, and its
    /// values: whole pixels) goes through `then` once it is there, while it is in the cache.
    ///
    /// # Panics
    /// Where `x` or `out` are not as long as the geometry says.
    pub fn run_then(&self, batch: usize, x: &[f32], out: &mut [f32], then: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let g = Geometry { batch, ..self.geometry };
        assert!(x.len() == batch * g.image() && out.len() == g.lines() * g.line(), "activations of {g:?}");
        if g.channels < self.level.lanes() {
            depthwise(&g, x, &self.weight, Some(&self.bias), self.relu, out);
            return then(0, out);
        }
        let parts = if threads() == 1 { 1 } else { 2 * threads() };
        let lines = (VALUES / g.line()).min(g.lines().div_ceil(parts)).max(1);
        for_each_part(out, lines * g.line(), out_operations(&g), |part, out| {
            let first = part * lines;
            let call = Lines { conv: self, x, lines: first..first + out.len() / g.line() };
            match self.level {
                // SAFETY: the level is there, and activations and weights are as long as was asserted.
                Level::Baseline => unsafe { portable::lines(&call, out) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Level::Avx2 => unsafe { avx2::lines(&call, out) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Level::Avx512 => unsafe { avx512::lines(&call, out) },
            }
            then(first * g.line(), out);
        });
    }
}

/// Some lines of the output.
struct Lines<'a> {
    conv: &'a PackedDepthwise,
    x: &'a [f32],
    /// Of the batch.
    lines: Range<usize>,
}

/// Neighbouring output pixels that meet the same taps.
#[derive(Clone, Copy)]
struct Run {
    /// The first tap of the first pixel, of the batch's input values.
    from: usize,
    /// That tap.
    tap: usize,
    kys: usize,
    kxs: usize,
    /// The first pixel, of the part's values.
    to: usize,
}

per_level! {
    /// All channels of some lines, a few at a time.
    fn lines(call: &Lines<'_>, out: &mut [f32]) {
        let g = &call.conv.geometry;
        let mut done = 0;
        // SAFETY: the caller's; the last vector starts where it ends with the channels, of which there is one at least.
        unsafe {
            while done < g.channels {
                if done + VECTORS * LANES <= g.channels {
                    channels::<VECTORS>(call, done, out);
                    done += VECTORS * LANES;
                } else {
                    channels::<1>(call, done.min(g.channels - LANES), out);
                    done += LANES;
                }
            }
        }
    }

    /// `V` vectors of channels from `first` on.
    fn channels<const V: usize>(call: &Lines<'_>, first: usize, out: &mut [f32]) {
        let g = &call.conv.geometry;
        let (c, width) = (g.channels, g.output[1]);
        // Pixels in between meet every column of the kernel.
        let inner = g.padding[1].div_ceil(g.stride).min(width);
        let end = (g.input[1] + g.padding[1]).checked_sub(g.kernel[1]).map_or(0, |room| room / g.stride + 1);
        let end = end.clamp(inner, width);
        for (i, line) in call.lines.clone().enumerate() {
            let (image, oy) = (line / g.output[0], line % g.output[0]);
            let kys = taps(g, 0, oy);
            let y = (oy * g.stride + kys.start).wrapping_sub(g.padding[0]);
            let run = |ox: usize| {
                let kxs = taps(g, 1, ox);
                let column = (ox * g.stride + kxs.start).wrapping_sub(g.padding[1]);
                let from = ((image * g.input[0]).wrapping_add(y).wrapping_mul(g.input[1])).wrapping_add(column);
                Run {
                    from: from.wrapping_mul(c).wrapping_add(first),
                    tap: (kys.start * g.kernel[1] + kxs.start) * c + first,
                    kys: kys.len(),
                    kxs: kxs.len(),
                    to: (i * width + ox) * c + first,
                }
            };
            // SAFETY: `taps` are those inside of the input; pixels between `inner` and `end` have the same.
            unsafe {
                (0..inner).for_each(|ox| pixels::<1, V>(call, run(ox), first, out));
                let mut ox = inner;
                while ox + PIXELS <= end {
                    pixels::<PIXELS, V>(call, run(ox), first, out);
                    ox += PIXELS;
                }
                (ox..width).for_each(|ox| pixels::<1, V>(call, run(ox), first, out));
            }
        }
    }

    /// `P` pixels of `V` vectors of channels.
    #[inline]
    fn pixels<const P: usize, const V: usize>(call: &Lines<'_>, run: Run, first: usize, out: &mut [f32]) {
        let g = &call.conv.geometry;
        let (c, row, step) = (g.channels, g.input[1] * g.channels, g.stride * g.channels);
        // SAFETY: the caller's.
        unsafe {
            let x = call.x.as_ptr().wrapping_add(run.from);
            let weight = call.conv.weight.as_ptr().wrapping_add(run.tap);
            let mut sums = [[splat(0.0); V]; P];
            for v in 0..V {
                let bias = load(call.conv.bias.as_ptr().add(first + v * LANES));
                for p in 0..P {
                    sums[p][v] = bias;
                }
            }
            for ky in 0..run.kys {
                for kx in 0..run.kxs {
                    let x = x.add(ky * row + kx * c);
                    let tap = weight.add((ky * g.kernel[1] + kx) * c);
                    for v in 0..V {
                        let w = load(tap.add(v * LANES));
                        for p in 0..P {
                            sums[p][v] = fma(load(x.add(p * step + v * LANES)), w, sums[p][v]);
                        }
                    }
                }
            }
            for p in 0..P {
                let to = out.as_mut_ptr().add(run.to + p * c);
                for v in 0..V {
                    let sum = sums[p][v];
                    store(to.add(v * LANES), if call.conv.relu { positive(sum) } else { sum });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_sums_of_the_plain_loop() {
        let number = |i: usize, seed: usize| {
            (((i * 7919 + seed * 104_729) as f64 * 0.618_033_988_75).fract() * 2.0 - 1.0) as f32
        };
        for channels in [1, 7, 8, 9, 16, 24, 35, 40] {
            for (input, kernel, stride, padding) in [
                ([5, 7], 3, 1, 1),
                ([9, 11], 3, 2, 1),
                ([12, 12], 5, 1, 2),
                ([13, 10], 5, 2, 2),
                ([1, 1], 3, 1, 1),
                ([2, 1], 5, 2, 2),
                ([6, 6], 3, 1, 0),
            ] {
                let output = input.map(|size: usize| (size + 2 * padding - kernel) / stride + 1);
                let g = Geometry {
                    batch: 2,
                    input,
                    output,
                    channels,
                    out_channels: channels,
                    kernel: [kernel; 2],
                    stride,
                    padding: [padding; 2],
                };
                let taps = kernel * kernel;
                let x: Vec<f32> = (0..2 * g.image()).map(|i| number(i, 1)).collect();
                let weight: Vec<f32> = (0..channels * taps).map(|i| number(i, 2)).collect();
                let bias: Vec<f32> = (0..channels).map(|i| number(i, 3)).collect();
                let by_tap: Vec<f32> = (0..weight.len()).map(|i| weight[i % channels * taps + i / channels]).collect();
                for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
                    let mut expected = vec![f32::NAN; g.lines() * g.line()];
                    depthwise(&g, &x, &by_tap, bias, relu, &mut expected);
                    for level in Level::available() {
                        let conv = PackedDepthwise::with_level(level, &g, &weight, bias, relu);
                        let mut y = vec![f32::NAN; expected.len()];
                        conv.run_then(2, &x, &mut y, &|first, part| {
                            part.iter_mut().enumerate().for_each(|(i, y)| *y += ((first + i) % 5) as f32);
                        });
                        let same = y.iter().zip(&expected).enumerate().all(|(i, (y, e))| *y == e + (i % 5) as f32);
                        assert!(same, "{level:?} {g:?}");
                    }
                }
            }
        }
    }
}
