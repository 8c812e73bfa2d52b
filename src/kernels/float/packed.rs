use std::ops::Range;

use super::{
    Float, Geometry, SumOrder,
    parallel::{for_each, for_each_part, threads},
    simd::Level,
    tile::{MOST_CHANNELS, OUTSIDE, PIXELS, Place, Rows, Strip, Sum, strip},
};
use crate::kernels::shared::Shared;

/// A dense convolution (or linear layer) for inference: its weight packed once, each output summed in a [`SumOrder`].
///
/// Every instruction set, number of threads and split of a batch gives the same bits.
#[derive(Clone, Debug)]
pub struct PackedConv {
    level: Level,
    /// Of one image.
    geometry: Geometry,
    order: SumOrder,
    panels: Vec<Panel>,
    /// Panel by panel, zeros behind the last channel; in each, a row of weights for each product in the order of the sum.
    weight: Vec<f32>,
    /// Zeros where there is none, and behind the last channel.
    bias: Vec<f32>,
    relu: bool,
    /// Whether a kernel row is one tap, read from a copy of the image with its padding: so few channels that those of one
    /// pixel are not worth a loop.
    row_taps: bool,
}

/// Output channels that are computed side by side.
#[derive(Clone, Copy, Debug)]
struct Panel {
    /// The first channel.
    first: usize,
    /// How many there are; zeros fill up the vectors.
    count: usize,
    /// Vectors.
    vectors: usize,
}

/// Values of the input and of the output that a thread works on at a time: they stay in the second-level cache.
const INPUT_VALUES: usize = 32 * 1024;
const OUTPUT_VALUES: usize = 48 * 1024;
/// Pixels that a thread works on at a time: at least so many that reading the weights anew costs little beside them, and
/// no more than share a table of where their taps begin.
const PIXELS_AT_A_TIME: Range<usize> = 72..480;
/// More weights than these have to come from afar each time.
const CACHED_WEIGHTS: usize = 64 * 1024;
/// Below so many rows, and under more weights than inputs, the panels are split among the threads rather than the rows.
const FEW_ROWS: usize = 512;
/// Multiply-accumulates in the time of one scalar operation of [`for_each_part`]'s measure.
const MACS_PER_OPERATION: usize = 16;

impl PackedConv {
    /// Packs `weight`, `[out, in, kh, kw]`, for images of geometry `g`, whose batch is of no account.
    ///
    /// # Panics
    /// Where weight or bias are not as long as the geometry says.
    pub fn new(g: &Geometry, order: SumOrder, weight: &[f32], bias: Option<&[f32]>, relu: bool) -> Self {
        Self::with_level(Level::detect(), g, order, weight, bias, relu)
    }

    pub(super) fn with_level(
        level: Level,
        g: &Geometry,
        order: SumOrder,
        weight: &[f32],
        bias: Option<&[f32]>,
        relu: bool,
    ) -> Self {
        let geometry = Geometry { batch: 1, ..*g };
        let taps = g.kernel[0] * g.kernel[1];
        assert_eq!(weight.len(), g.out_channels * g.channels * taps, "a weight of {g:?}");
        assert!(bias.is_none_or(|b| b.len() == g.out_channels), "a bias of {g:?}");
        let lanes = level.lanes();
        let panels = panels(g.out_channels, lanes);
        let outputs = g.out_channels.next_multiple_of(lanes);
        let mut packed = Vec::with_capacity(outputs * g.channels * taps);
        for panel in &panels {
            for first in (0..g.channels).step_by(order.stretch) {
                for tap in 0..taps {
                    for channel in first..(first + order.stretch).min(g.channels) {
                        let of = |out: usize| weight.get((out * g.channels + channel) * taps + tap).copied();
                        let outs = panel.first..panel.first + panel.vectors * lanes;
                        packed.extend(outs.map(|out| of(out).unwrap_or(0.0)));
                    }
                }
            }
        }
        let mut padded = bias.map_or_else(Vec::new, <[f32]>::to_vec);
        padded.resize(outputs, 0.0);
        let row = g.kernel[1] * g.channels;
        let row_taps = taps > 1 && order.stretch == g.channels && g.channels < 16 && row <= MOST_CHANNELS;
        Self { level, geometry, order, panels, weight: packed, bias: padded, relu, row_taps }
    }

    /// `out = act(conv(x, weight) + bias)`, both NHWC.
    ///
    /// # Panics
    /// Where `x` or `out` are not as long as the geometry says.
    pub fn run(&self, batch: usize, x: &[f32], out: &mut [f32]) {
        self.run_then(batch, x, out, &|_, _| {});
    }

    /// The same; each part of the output (its first value's position, and its values: whole pixels) goes through `then`
    /// once it is there, while it is in the cache.
    ///
    /// # Panics
    /// As [`PackedConv::run`].
    pub fn run_then(&self, batch: usize, x: &[f32], out: &mut [f32], then: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let g = Geometry { batch, ..self.geometry };
        let rows = g.lines() * g.output[1];
        assert!(x.len() == batch * g.image() && out.len() == rows * g.out_channels, "activations of {g:?}");
        let by_panels = rows < FEW_ROWS && x.len() < self.weight.len() && threads() > 1;
        if self.row_taps {
            padded(&g, x, |g, x| self.run_split(g, x, by_panels, out, then));
        } else {
            self.run_split(&g, x, by_panels, out, then);
        }
    }

    fn run_split(
        &self,
        g: &Geometry,
        x: &[f32],
        by_panels: bool,
        out: &mut [f32],
        then: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let rows = g.lines() * g.output[1];
        let operations = rows * g.out_channels * g.depth() / MACS_PER_OPERATION;
        if !by_panels {
            return self.run_by_rows(g, x, operations, out, then);
        }
        self.run_by_panels(g, x, operations, out);
        let some = rows.div_ceil(2 * threads()) * g.out_channels;
        for_each_part(out, some, out.len(), |part, out| then(part * some, out));
    }

    /// Each part is some pixels, all channels.
    fn run_by_rows(
        &self,
        g: &Geometry,
        x: &[f32],
        operations: usize,
        out: &mut [f32],
        then: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let rows = g.lines() * g.output[1];
        let some = (INPUT_VALUES / g.channels / g.stride.pow(2)).min(OUTPUT_VALUES / g.out_channels);
        let some = some.clamp(PIXELS_AT_A_TIME.start, PIXELS_AT_A_TIME.end);
        let parts = if threads() == 1 { 1 } else { 2 * threads() };
        let share = rows.div_ceil(parts).max(PIXELS_AT_A_TIME.start / 2);
        let pixels = some.min(share).next_multiple_of(2 * PIXELS[2]);
        for_each_part(out, pixels * g.out_channels, operations, |part, out| {
            let rows = part * pixels..part * pixels + out.len() / g.out_channels;
            // SAFETY: this part is ours.
            self.with_rows(g, x, rows, |rows, pitch| unsafe {
                let out = Shared::new(out);
                (0..self.panels.len()).for_each(|panel| self.panel(panel, rows, pitch, &out));
            });
            then(part * pixels * g.out_channels, out);
        });
    }

    /// Each part is some panels of channels, all pixels.
    fn run_by_panels(&self, g: &Geometry, x: &[f32], operations: usize, out: &mut [f32]) {
        let out = Shared::new(out);
        self.with_rows(g, x, 0..g.lines() * g.output[1], |rows, pitch| {
            // SAFETY: a panel's channels are written by it alone.
            for_each(self.panels.len(), operations, |panel| unsafe { self.panel(panel, rows, pitch, &out) });
        });
    }

    /// Calls `f` with where each tap of these pixels begins, and the values from one stretch of channels to the next.
    fn with_rows(&self, g: &Geometry, x: &[f32], pixels: Range<usize>, f: impl FnOnce(&Rows<'_>, usize)) {
        let (c, stretch) = (g.channels, self.order.stretch);
        let [rows, columns] = if self.row_taps { [g.kernel[0], 1] } else { g.kernel };
        let mut starts = Vec::with_capacity(pixels.len() * rows * columns);
        if self.row_taps || rows * columns == 1 || stretch == c {
            push_starts(g, [rows, columns], pixels, 0, c, &mut starts);
            let reach = if self.row_taps { g.kernel[1] * c } else { c };
            return f(&Rows::new(x, &starts, rows * columns, reach), stretch);
        }
        // Side by side only what is summed together: what one tile after the other reads then stays in the first cache.
        let lines = input_lines(g, &pixels);
        let (first, count) = (lines.start * g.input[1], lines.len() * g.input[1]);
        push_starts(g, [rows, columns], pixels, first, stretch, &mut starts);
        let (pitch, stretches) = (count * stretch, c.div_ceil(stretch));
        f32::with_scratch(pitch * stretches, |packed| {
            for (i, part) in packed.chunks_exact_mut(pitch).enumerate() {
                let some = i * stretch..((i + 1) * stretch).min(c);
                for (to, from) in part.chunks_exact_mut(stretch).zip(x[first * c..].chunks_exact(c)) {
                    to[..some.len()].copy_from_slice(&from[some.clone()]);
                }
            }
            let reach = pitch * (stretches - 1) + c - (stretches - 1) * stretch;
            f(&Rows::new(packed, &starts, rows * columns, reach), pitch);
        });
    }

    /// One panel of output channels at all of `rows`, whose stretches are `pitch` values apart.
    ///
    /// # Safety
    /// Nobody else touches its channels of `out` meanwhile.
    unsafe fn panel(&self, panel: usize, rows: &Rows<'_>, pitch: usize, out: &Shared<'_, f32>) {
        let g = &self.geometry;
        let Panel { first, count, vectors } = self.panels[panel];
        let width = vectors * self.level.lanes();
        let weight = &self.weight[first * g.depth()..(first + width) * g.depth()];
        let bias = &self.bias[first..first + width];
        // A kernel row as a tap has all its products in one stretch.
        let (taps, channels, stretch) = if self.row_taps {
            (g.kernel[0], g.kernel[1] * g.channels, g.kernel[1] * g.channels)
        } else {
            (g.kernel[0] * g.kernel[1], g.channels, self.order.stretch)
        };
        for (i, from) in (0..channels).step_by(stretch).enumerate() {
            let some = from..(from + stretch).min(channels);
            let s = Strip {
                vectors,
                offset: i * pitch,
                channels: some.len(),
                weight: &weight[some.start * taps * width..some.end * taps * width],
                bias,
                sum: match (i, self.order.starts_at_bias) {
                    (0, true) => Sum::FromBias,
                    (0, false) => Sum::PlusBias,
                    _ => Sum::PlusOutput,
                },
                relu: self.relu && some.end == channels,
                fetch_ahead: self.weight.len() > CACHED_WEIGHTS,
            };
            // SAFETY: the caller's.
            unsafe {
                strip(self.level, &s, rows, 0..rows.len(), out, Place { first, step: g.out_channels, count });
            }
        }
    }
}

/// Where each tap of these output pixels begins, in an input of `width` values a pixel whose first pixel is `first` of the
/// batch.
fn push_starts(
    g: &Geometry,
    [rows, columns]: [usize; 2],
    pixels: Range<usize>,
    first: usize,
    width: usize,
    starts: &mut Vec<usize>,
) {
    let mut at = pixels.start;
    while at < pixels.end {
        // The rest of this line, or of the pixels.
        let (line, from) = (at / g.output[1], at % g.output[1]);
        let to = g.output[1].min(from + pixels.end - at);
        let (image, oy) = (line / g.output[0], line % g.output[0]);
        let tap = |ky: usize, left: usize| {
            let y = (oy * g.stride + ky).wrapping_sub(g.padding[0]);
            let inside = y < g.input[0] && left < g.input[1];
            if inside { ((image * g.input[0] + y) * g.input[1] + left - first) * width } else { OUTSIDE }
        };
        for column in from..to {
            let left = (column * g.stride).wrapping_sub(g.padding[1]);
            for ky in 0..rows {
                starts.extend((0..columns).map(|kx| tap(ky, left.wrapping_add(kx))));
            }
        }
        at += to - from;
    }
}

/// The lines of the batch's input that these output pixels read.
fn input_lines(g: &Geometry, pixels: &Range<usize>) -> Range<usize> {
    let lines = |pixel: usize| {
        let (image, oy) = (pixel / g.output[1] / g.output[0], pixel / g.output[1] % g.output[0]);
        let top = (oy * g.stride).saturating_sub(g.padding[0]).min(g.input[0]);
        let end = (oy * g.stride + g.kernel[0]).saturating_sub(g.padding[0]).min(g.input[0]);
        image * g.input[0] + top..image * g.input[0] + end
    };
    lines(pixels.start).start..lines(pixels.end - 1).end
}

/// Panels of two vectors; of three or one where they come out odd.
fn panels(outputs: usize, lanes: usize) -> Vec<Panel> {
    let (mut panels, mut first) = (Vec::new(), 0);
    while first < outputs {
        let vectors = match (outputs - first).div_ceil(lanes) {
            left @ (1 | 3) => left,
            _ => 2,
        };
        panels.push(Panel { first, count: (outputs - first).min(vectors * lanes), vectors });
        first += vectors * lanes;
    }
    panels
}

/// Calls `f` with the images and their padding, as a geometry without any.
fn padded(g: &Geometry, x: &[f32], f: impl FnOnce(&Geometry, &[f32])) {
    let sides = [0, 1].map(|d| (g.output[d] - 1) * g.stride + g.kernel[d]);
    if g.padding == [0, 0] && sides == g.input {
        return f(g, x);
    }
    let whole = Geometry { input: sides, padding: [0, 0], ..*g };
    let line = sides[1] * g.channels;
    let (left, kept) = (g.padding[1] * g.channels, g.input[1].min(sides[1] - g.padding[1]) * g.channels);
    f32::with_scratch(g.batch * sides[0] * line, |copy| {
        for_each_part(copy, line, copy.len() / 8, |i, to| {
            let (image, y) = (i / sides[0], (i % sides[0]).wrapping_sub(g.padding[0]));
            to.fill(0.0);
            if y < g.input[0] {
                let from = (image * g.input[0] + y) * g.input[1] * g.channels;
                to[left..left + kept].copy_from_slice(&x[from..from + kept]);
            }
        });
        f(&whole, copy);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + seed * 104_729 + 13) as f64 * 0.618_033_988_75).fract() * 2.0 - 1.0;
        (0..count).map(|i| number(i) as f32).collect()
    }

    fn geometry(input: [usize; 2], kernel: usize, stride: usize, padding: usize, channels: [usize; 2]) -> Geometry {
        let along = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        Geometry {
            batch: 2,
            input,
            output: input.map(along),
            channels: channels[0],
            out_channels: channels[1],
            kernel: [kernel; 2],
            stride,
            padding: [padding; 2],
        }
    }

    /// One output, as [`SumOrder`] has it in words.
    fn output(g: &Geometry, order: SumOrder, x: &[f32], w: &[f32], bias: f32, at: [usize; 4], relu: bool) -> f32 {
        let [image, oy, ox, o] = at;
        let mut y = 0.0;
        for first in (0..g.channels).step_by(order.stretch) {
            let starts_at_bias = first == 0 && order.starts_at_bias;
            let mut sum = if starts_at_bias { bias } else { 0.0 };
            for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
                let row = (oy * g.stride + ky).wrapping_sub(g.padding[0]);
                let column = (ox * g.stride + kx).wrapping_sub(g.padding[1]);
                if row >= g.input[0] || column >= g.input[1] {
                    continue;
                }
                for c in first..(first + order.stretch).min(g.channels) {
                    let pixel = ((image * g.input[0] + row) * g.input[1] + column) * g.channels;
                    let weight = w[((o * g.channels + c) * g.kernel[0] + ky) * g.kernel[1] + kx];
                    sum = x[pixel + c].mul_add(weight, sum);
                }
            }
            y = match (first, order.starts_at_bias) {
                (0, true) => sum,
                (0, false) => sum + bias,
                _ => sum + y,
            };
        }
        if relu { y.max(0.0) } else { y }
    }

    fn check(g: &Geometry, order: SumOrder) {
        let pixels = g.output[0] * g.output[1];
        let (x, w) = (numbers(g.batch * g.image(), 1), numbers(g.out_channels * g.depth(), 2));
        for bias in [None, Some(numbers(g.out_channels, 3))] {
            let relu = bias.is_some();
            let expected: Vec<f32> = (0..g.batch * pixels * g.out_channels)
                .map(|i| {
                    let (o, pixel) = (i % g.out_channels, i / g.out_channels);
                    let at = [pixel / pixels, pixel % pixels / g.output[1], pixel % g.output[1], o];
                    output(g, order, &x, &w, bias.as_ref().map_or(0.0, |b| b[o]), at, relu)
                })
                .collect();
            for level in Level::available() {
                let conv = PackedConv::with_level(level, g, order, &w, bias.as_deref(), relu);
                let mut y = vec![f32::NAN; expected.len()];
                conv.run(g.batch, &x, &mut y);
                assert!(y == expected, "{level:?} {g:?} {order:?}");
                // The other way to split the work, and one image at a time.
                for by_panels in [true, false] {
                    y.fill(f32::NAN);
                    let parts = std::sync::Mutex::new(vec![false; y.len()]);
                    let then = |first: usize, part: &mut [f32]| {
                        parts.lock().expect("no panic")[first..first + part.len()].fill(true);
                        part.iter_mut().for_each(|y| *y = -*y);
                    };
                    let mut run = |g: &Geometry, x: &[f32]| conv.run_split(g, x, by_panels, &mut y, &then);
                    if conv.row_taps {
                        padded(g, &x, run)
                    } else {
                        run(g, &x)
                    }
                    assert!(y.iter().zip(&expected).all(|(y, e)| -y == *e), "{level:?} {g:?}, by panels: {by_panels}");
                    assert!(parts.into_inner().expect("no panic").iter().all(|done| *done), "every value passes once");
                }
                y.fill(f32::NAN);
                let images = x.chunks_exact(g.image()).zip(y.chunks_exact_mut(pixels * g.out_channels));
                images.for_each(|(x, y)| conv.run(1, x, y));
                assert!(y == expected, "{level:?} {g:?}, image by image");
            }
        }
    }

    #[test]
    fn every_instruction_set_sums_in_the_order_that_is_specified() {
        // Rows around a tile, output channels around both widths, input channels around a block and a stretch.
        for pixels in [1, 2, 3, 5, 6, 7, 12, 13] {
            let g = geometry([1, pixels], 1, 1, 0, [33, 17]);
            check(&g, SumOrder::conv(&g));
        }
        for outputs in [1, 15, 16, 17, 31, 32, 33, 65] {
            let g = geometry([2, 3], 3, 1, 1, [17, outputs]);
            check(&g, SumOrder::conv(&g));
        }
        for channels in [1, 3, 15, 16, 17, 32, 40] {
            for (input, kernel, stride, padding) in [
                ([5, 7], 3, 1, 1),
                ([7, 5], 3, 2, 1),
                ([1, 1], 3, 1, 1),
                ([2, 1], 5, 1, 2),
                ([9, 9], 7, 2, 3),
                ([4, 5], 1, 2, 0),
            ] {
                let g = geometry(input, kernel, stride, padding, [channels, 19]);
                check(&g, SumOrder::conv(&g));
            }
        }
        for channels in [191, 192, 193, 400] {
            check(&geometry([1, 1], 1, 1, 0, [channels, 33]), SumOrder::linear());
            check(
                &geometry([1, 1], 1, 1, 0, [channels + 64, 33]),
                SumOrder::conv(&geometry([1, 1], 1, 1, 0, [600, 33])),
            );
        }
    }

    #[test]
    fn nan_is_not_hidden_by_relu() {
        let g = geometry([1, 1], 1, 1, 0, [1, 1]);
        let mut y = [0.0; 2];
        PackedConv::new(&g, SumOrder::conv(&g), &[1.0], None, true).run(2, &[f32::NAN, -1.0], &mut y);
        assert!(y[0].is_nan() && y[1] == 0.0);
    }
}
