use super::{
    Float, Geometry, SumOrder,
    conv::gather,
    parallel::for_each_part,
    simd::Level,
    tile::{OUTSIDE, ROWS, Strip, strip, width},
};

/// A dense convolution (or linear layer) for inference: its weight packed once, each output summed in a [`SumOrder`].
///
/// Every instruction set, number of threads and split of a batch gives the same bits.
#[derive(Clone, Debug)]
pub struct PackedConv {
    level: Level,
    /// Of one image.
    geometry: Geometry,
    order: SumOrder,
    /// Panels of [`width`] output channels, zeros behind the last; in each, a row of weights for each product in the
    /// order of the sum.
    weight: Vec<f32>,
    /// Zeros where there is none, and behind the last channel.
    bias: Vec<f32>,
    relu: bool,
    /// Whether patches are copied into rows first: so few channels that a tap alone is not worth a loop.
    gathered: bool,
}

/// Values of the input, or of the patches, that a thread works on at a time: they stay in the second-level cache.
const INPUT_VALUES: usize = 48 * 1024;
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
        let width = width(level);
        let outputs = g.out_channels.next_multiple_of(width);
        let mut packed = Vec::with_capacity(outputs * g.channels * taps);
        for panel in (0..outputs).step_by(width) {
            for first in (0..g.channels).step_by(order.stretch) {
                for tap in 0..taps {
                    for channel in first..(first + order.stretch).min(g.channels) {
                        let of = |out: usize| weight.get((out * g.channels + channel) * taps + tap).copied();
                        packed.extend((panel..panel + width).map(|out| of(out).unwrap_or(0.0)));
                    }
                }
            }
        }
        let mut padded = bias.map_or_else(Vec::new, <[f32]>::to_vec);
        padded.resize(outputs, 0.0);
        let gathered = taps > 1 && order.stretch == g.channels;
        Self { level, geometry, order, weight: packed, bias: padded, relu, gathered }
    }

    /// `out = act(conv(x, weight) + bias)`, both NHWC.
    ///
    /// # Panics
    /// Where `x` or `out` are not as long as the geometry says.
    pub fn run(&self, batch: usize, x: &[f32], out: &mut [f32]) {
        let g = Geometry { batch, ..self.geometry };
        let (rows, depth) = (g.lines() * g.output[1], g.depth());
        assert!(x.len() == batch * g.image() && out.len() == rows * g.out_channels, "activations of {g:?}");
        let operations = rows * g.out_channels * depth / MACS_PER_OPERATION;
        if rows < FEW_ROWS && x.len() < self.weight.len() {
            self.run_by_panels(&g, x, operations, out);
        } else {
            self.run_by_rows(&g, x, operations, out);
        }
    }

    /// Each part is some lines of pixels, all channels.
    fn run_by_rows(&self, g: &Geometry, x: &[f32], operations: usize, out: &mut [f32]) {
        let values = if self.gathered { g.depth() } else { g.channels };
        let lines = (INPUT_VALUES / values / g.output[1]).min(g.lines().div_ceil(4)).max(1);
        for_each_part(out, lines * g.line(), operations, |part, out| {
            let lines = part * lines..part * lines + out.len() / g.line();
            self.with_rows(g, x, lines, |x, rows, starts| {
                let width = width(self.level);
                for first in (0..g.out_channels).step_by(width) {
                    let last = (first + width).min(g.out_channels);
                    self.panel(x, starts, first / width, rows, &mut out[first..], g.out_channels, last - first);
                }
            });
        });
    }

    /// Each part is some panels of channels, all pixels; what they write is put in its place afterwards.
    fn run_by_panels(&self, g: &Geometry, x: &[f32], operations: usize, out: &mut [f32]) {
        let width = width(self.level);
        self.with_rows(g, x, 0..g.lines(), |x, rows, starts| {
            let mut panels = vec![0.0; rows * self.bias.len()];
            for_each_part(&mut panels, rows * width, operations, |panel, out| {
                self.panel(x, starts, panel, rows, out, width, width);
            });
            for (panel, values) in panels.chunks_exact(rows * width).enumerate() {
                let first = panel * width;
                let count = width.min(g.out_channels - first);
                for (out, values) in out.chunks_exact_mut(g.out_channels).zip(values.chunks_exact(width)) {
                    out[first..first + count].copy_from_slice(&values[..count]);
                }
            }
        });
    }

    /// Calls `f` with the input of these lines, their number of pixels, and where in the input each tap of each pixel
    /// begins.
    fn with_rows(
        &self,
        g: &Geometry,
        x: &[f32],
        lines: std::ops::Range<usize>,
        f: impl FnOnce(&[f32], usize, &[[usize; ROWS]]),
    ) {
        let rows = lines.len() * g.output[1];
        if self.gathered {
            let depth = g.depth();
            return f32::with_scratch(rows * depth, |patches| {
                gather(g, x, lines, 0..g.channels, None, patches);
                f(patches, rows, &in_tiles(rows, 1, |row, _| row * depth));
            });
        }
        let first = lines.start * g.output[1];
        let starts = in_tiles(rows, g.kernel[0] * g.kernel[1], |row, tap| {
            let (line, column) = ((first + row) / g.output[1], (first + row) % g.output[1]);
            let (image, line) = (line / g.output[0], line % g.output[0]);
            let y = (line * g.stride + tap / g.kernel[1]).wrapping_sub(g.padding[0]);
            let x = (column * g.stride + tap % g.kernel[1]).wrapping_sub(g.padding[1]);
            if y >= g.input[0] || x >= g.input[1] {
                OUTSIDE
            } else {
                ((image * g.input[0] + y) * g.input[1] + x) * g.channels
            }
        });
        f(x, rows, &starts);
    }

    /// One panel of output channels at `rows` pixels, `count` of its channels written, `step` values from pixel to pixel.
    #[expect(clippy::too_many_arguments, reason = "a block of a matrix product is that many numbers")]
    fn panel(
        &self,
        x: &[f32],
        starts: &[[usize; ROWS]],
        panel: usize,
        rows: usize,
        out: &mut [f32],
        step: usize,
        count: usize,
    ) {
        let g = &self.geometry;
        let width = width(self.level);
        let depth = g.depth();
        let weight = &self.weight[panel * depth * width..(panel + 1) * depth * width];
        let bias = &self.bias[panel * width..(panel + 1) * width];
        // Gathered patches are one tap with all its products.
        let (taps, channels, stretch) =
            if self.gathered { (1, depth, depth) } else { (g.kernel[0] * g.kernel[1], g.channels, self.order.stretch) };
        for first in (0..channels).step_by(stretch) {
            let some = stretch.min(channels - first);
            strip(
                self.level,
                &Strip {
                    x,
                    starts,
                    taps,
                    rows,
                    first,
                    channels: some,
                    weight: &weight[first * taps * width..(first + some) * taps * width],
                    bias: (first == 0).then_some(bias),
                    starts_at_bias: self.order.starts_at_bias,
                    relu: self.relu && first + some == channels,
                    step,
                    count,
                },
                out,
            );
        }
    }
}

/// `start(row, tap)` of every row and tap, for each tile of [`ROWS`] rows one tap after the other.
fn in_tiles(rows: usize, taps: usize, start: impl Fn(usize, usize) -> usize) -> Vec<[usize; ROWS]> {
    let tiles = (0..rows).step_by(ROWS).flat_map(|tile| (0..taps).map(move |tap| (tile, tap)));
    tiles
        .map(|(tile, tap)| std::array::from_fn(|i| if tile + i < rows { start(tile + i, tap) } else { OUTSIDE }))
        .collect()
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
                let other = Geometry { batch: g.batch, ..*g };
                y.fill(f32::NAN);
                conv.run_by_panels(&other, &x, 1 << 20, &mut y);
                assert!(y == expected, "{level:?} {g:?}, by panels");
                y.fill(f32::NAN);
                conv.run_by_rows(&other, &x, 1 << 20, &mut y);
                assert!(y == expected, "{level:?} {g:?}, by rows");
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
