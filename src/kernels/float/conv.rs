use std::ops::Range;

use super::{
    Float,
    matmul::{Matrix, matmul, matmul_in_stretches},
    parallel::for_each_part,
};

/// Sizes of a convolution over NHWC activations with a `[kh, kw, in, out]` weight (depthwise: `[kh, kw, channels]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step in both directions.
    pub stride: usize,
    /// Zeros above and to the left; below and to the right as many as the output needs.
    pub padding: [usize; 2],
}

/// im2col works on as many values at a time as stay in the second-level cache beside the weights.
const PATCHES: usize = 96 * 1024;
/// A weight gradient up to this size is summed from parts of the batch; a larger one is itself cut in parts.
const SMALL_WEIGHT: usize = 64 * 1024;
/// Multiply-accumulates in the time of one scalar operation of [`for_each_part`]'s measure.
const MACS_PER_OPERATION: usize = 16;

impl Geometry {
    /// Values in one output row of pixels.
    pub(super) fn line(&self) -> usize {
        self.output[1] * self.out_channels
    }

    /// Output rows of pixels in the batch.
    pub(super) fn lines(&self) -> usize {
        self.batch * self.output[0]
    }

    /// Length of one patch: rows of the weight matrix.
    pub(in crate::kernels) fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    fn operations(&self) -> usize {
        self.lines() * self.line() * self.depth() / MACS_PER_OPERATION
    }

    /// Values of the input.
    pub(in crate::kernels) fn image(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    /// Whether the input itself is the matrix of patches.
    pub(in crate::kernels) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == 1 && self.padding == [0, 0] && self.input == self.output
    }

    /// The smallest kernel that sees the same pixels, and which rows and columns of this one it is: at a 1x1 input the
    /// outer ring of a padded 3x3 kernel only ever meets zeros.
    fn trimmed(&self) -> (Self, [Range<usize>; 2]) {
        let live = [0, 1].map(|d| {
            let meets = |k: &usize| {
                let (lo, hi) = (self.padding[d], self.padding[d] + self.input[d]);
                (0..self.output[d]).any(|o| (lo..hi).contains(&(o * self.stride + k)))
            };
            let first = (0..self.kernel[d]).find(meets).unwrap_or(0);
            let last = (0..self.kernel[d]).rev().find(meets).unwrap_or(0);
            first..last + 1
        });
        let geometry = Self {
            kernel: [live[0].len(), live[1].len()],
            padding: [self.padding[0] - live[0].start, self.padding[1] - live[1].start],
            ..*self
        };
        (geometry, live)
    }
}

/// The rows of `weight` that belong to the taps in `live`.
fn live_weight<T: Float>(g: &Geometry, live: &[Range<usize>; 2], weight: &[T]) -> Vec<T> {
    let tap = g.channels * g.out_channels;
    let mut kept = Vec::with_capacity(live[0].len() * live[1].len() * tap);
    for ky in live[0].clone() {
        let first = (ky * g.kernel[1] + live[1].start) * tap;
        kept.extend_from_slice(&weight[first..first + live[1].len() * tap]);
    }
    kept
}

/// `out = act(conv(x, weight) + bias)`, the activation being ReLU or none.
pub fn conv<T: Float>(g: &Geometry, x: &[T], weight: &[T], bias: Option<&[T]>, relu: bool, out: &mut [T]) {
    let (trimmed, live) = g.trimmed();
    if trimmed != *g {
        return conv(&trimmed, x, &live_weight(g, &live, weight), bias, relu, out);
    }
    let (depth, n) = (g.depth(), g.out_channels);
    let lines = lines_per_part(g, PATCHES / depth);
    let few = g.lines() <= 2 * lines && depth * n > SMALL_WEIGHT;
    // Few rows and a large weight: cutting the rows would pack the weight again for each part.
    let lines = if few && g.lines() * g.output[1] <= 512 { g.lines() } else { lines };
    for_each_part(out, lines * g.line(), g.operations(), |part, out| {
        let first = part * lines;
        let count = out.len() / g.line();
        let weight = Matrix::rows(weight, n);
        let rows = count * g.output[1];
        if g.is_pointwise() {
            let x = &x[first * g.output[1] * depth..];
            matmul_in_stretches([rows, depth, n], Matrix::rows(x, depth), weight, out, few);
        } else {
            T::with_scratch(rows * depth, |patches| {
                gather(g, x, first..first + count, 0..g.channels, None, patches);
                matmul_in_stretches([rows, depth, n], Matrix::rows(patches, depth), weight, out, few);
            });
        }
        if let Some(bias) = bias {
            for row in out.chunks_exact_mut(n) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += *b);
            }
        }
        if relu {
            out.iter_mut().for_each(|y| *y = y.most(T::ZERO));
        }
    });
}

/// Output lines per part of the work: about `rows` patches, but enough parts for every thread to get some.
fn lines_per_part(g: &Geometry, rows: usize) -> usize {
    let rows = rows.clamp(32, 2048);
    let fair = g.lines().div_ceil(4);
    (rows / g.output[1]).min(fair).max(1)
}

/// `dx` from `dy`: each patch's gradient, added where the patch was taken.
pub fn conv_input_grad<T: Float>(g: &Geometry, dy: &[T], weight: &[T], dx: &mut [T]) {
    let (trimmed, live) = g.trimmed();
    if trimmed != *g {
        return conv_input_grad(&trimmed, dy, &live_weight(g, &live, weight), dx);
    }
    let (depth, n) = (g.depth(), g.out_channels);
    let weight = Matrix::rows(weight, n).t();
    if g.is_pointwise() {
        let rows = (PATCHES / depth).clamp(64, 2048).min((dx.len() / depth).div_ceil(4)).max(1);
        let few = dx.len() / depth <= 512 && depth * n > SMALL_WEIGHT;
        let rows = if few { dx.len() / depth } else { rows };
        for_each_part(dx, rows * depth, g.operations(), |part, dx| {
            let dy = Matrix::rows(&dy[part * rows * n..], n);
            matmul([dx.len() / depth, n, depth], dy, weight, dx, false, few);
        });
        return;
    }
    let pixels = g.output[0] * g.output[1];
    let few = g.batch * pixels <= 512 && depth * n > SMALL_WEIGHT;
    let images = if few { g.batch } else { (PATCHES / depth / pixels).min(g.batch.div_ceil(4)).max(1) };
    for_each_part(dx, images * g.image(), g.operations(), |part, dx| {
        dx.fill(T::ZERO);
        let count = dx.len() / g.image();
        let lines = count * g.output[0];
        let step = (PATCHES / depth / g.output[1]).clamp(1, lines);
        let step = if few { lines } else { step };
        T::with_scratch(step * g.output[1] * depth, |patches| {
            for first in (0..lines).step_by(step) {
                let some = first..(first + step).min(lines);
                let rows = some.len() * g.output[1];
                let dy = &dy[(part * images * g.output[0] + first) * g.line()..];
                matmul([rows, n, depth], Matrix::rows(dy, n), weight, patches, false, few);
                scatter(g, patches, some, dx);
            }
        });
    });
}

/// `dw` from `x` and `dy`.
pub fn conv_weight_grad<T: Float>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let (trimmed, live) = g.trimmed();
    if trimmed != *g {
        let mut kept = vec![T::ZERO; trimmed.depth() * g.out_channels];
        conv_weight_grad(&trimmed, x, dy, &mut kept);
        dw.fill(T::ZERO);
        let tap = g.channels * g.out_channels;
        for (ky, kept) in live[0].clone().zip(kept.chunks_exact(live[1].len() * tap)) {
            let first = (ky * g.kernel[1] + live[1].start) * tap;
            dw[first..first + kept.len()].copy_from_slice(kept);
        }
        return;
    }
    if dw.len() <= SMALL_WEIGHT { weight_grad_by_batch(g, x, dy, dw) } else { weight_grad_by_tap(g, x, dy, dw) }
}

/// A sum of up to eight parts of the batch, each a matrix product of its own.
fn weight_grad_by_batch<T: Float>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    const PARTS: usize = 8;
    let depth = g.depth();
    let rows_at_least = 256usize.div_ceil(g.output[1]);
    let lines = g.lines().div_ceil(PARTS).max(rows_at_least);
    let parts = g.lines().div_ceil(lines);
    let mut sums = vec![T::ZERO; dw.len() * parts];
    for_each_part(&mut sums, dw.len(), g.operations(), |part, sum| {
        let all = part * lines..((part + 1) * lines).min(g.lines());
        product_with_patches(g, x, dy, all, 0..g.channels, None, depth, sum);
    });
    let (first, rest) = sums.split_at(dw.len());
    dw.copy_from_slice(first);
    for part in rest.chunks_exact(dw.len()) {
        dw.iter_mut().zip(part).for_each(|(a, b)| *a += *b);
    }
}

/// Each tap, or each half of one, is a matrix product over the whole batch.
fn weight_grad_by_tap<T: Float>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let pieces = if g.channels.is_multiple_of(4) && g.kernel == [1, 1] {
        4
    } else if g.channels.is_multiple_of(2) && g.channels >= 128 {
        2
    } else {
        1
    };
    let channels = g.channels / pieces;
    for_each_part(dw, channels * g.out_channels, g.operations(), |part, dw| {
        let (tap, piece) = (part / pieces, part % pieces);
        let tap = [tap / g.kernel[1], tap % g.kernel[1]];
        let channels = piece * channels..(piece + 1) * channels;
        product_with_patches(g, x, dy, 0..g.lines(), channels.clone(), Some(tap), channels.len(), dw);
    });
}

/// `dw = patches^T * dy` over some lines, for all taps or one, and some input channels.
#[expect(clippy::too_many_arguments, reason = "a block of a matrix product is that many numbers")]
fn product_with_patches<T: Float>(
    g: &Geometry,
    x: &[T],
    dy: &[T],
    all: Range<usize>,
    channels: Range<usize>,
    tap: Option<[usize; 2]>,
    depth: usize,
    dw: &mut [T],
) {
    let (n, width) = (g.out_channels, g.output[1]);
    if g.is_pointwise() {
        let x = Matrix {
            data: &x[all.start * width * g.channels + channels.start..],
            row_stride: 1,
            col_stride: g.channels,
        };
        let dy = Matrix::rows(&dy[all.start * width * n..], n);
        return matmul([depth, all.len() * width, n], x, dy, dw, false, false);
    }
    let step = (PATCHES / depth / width).clamp(1, all.len().max(1));
    T::with_scratch(step * width * depth, |patches| {
        for first in all.clone().step_by(step) {
            let some = first..(first + step).min(all.end);
            let rows = some.len() * width;
            gather(g, x, some, channels.clone(), tap, patches);
            let dy = Matrix::rows(&dy[first * width * n..], n);
            matmul([depth, rows, n], Matrix::rows(patches, depth).t(), dy, dw, first != all.start, false);
        }
    });
}

/// Copies the patches of some output lines, one row a pixel: the whole patch, or one tap's part of it.
pub(super) fn gather<T: Float>(
    g: &Geometry,
    x: &[T],
    lines: Range<usize>,
    channels: Range<usize>,
    tap: Option<[usize; 2]>,
    patches: &mut [T],
) {
    let [height, width] = g.input;
    let whole = channels.len() == g.channels;
    let (kys, kxs) = match tap {
        Some([ky, kx]) => (ky..ky + 1, kx..kx + 1),
        None => (0..g.kernel[0], 0..g.kernel[1]),
    };
    let run = kxs.len() * channels.len();
    let mut rows = patches.chunks_exact_mut(run);
    for line in lines {
        let (image, oy) = (line / g.output[0], line % g.output[0]);
        for ox in 0..g.output[1] {
            for ky in kys.clone() {
                let row = rows.next().expect("the buffer holds a run for each tap row of each pixel");
                let y = (oy * g.stride + ky).wrapping_sub(g.padding[0]);
                if y >= height {
                    row.fill(T::ZERO);
                    continue;
                }
                let left = (ox * g.stride + kxs.start) as isize - g.padding[1] as isize;
                let first = (image * height + y) * width;
                if whole && left >= 0 && left as usize + kxs.len() <= width {
                    let from = (first + left as usize) * g.channels;
                    row.copy_from_slice(&x[from..from + run]);
                    continue;
                }
                for (i, cell) in row.chunks_exact_mut(channels.len()).enumerate() {
                    let x_at = left + i as isize;
                    if x_at < 0 || x_at as usize >= width {
                        cell.fill(T::ZERO);
                    } else {
                        let from = (first + x_at as usize) * g.channels + channels.start;
                        cell.copy_from_slice(&x[from..from + cell.len()]);
                    }
                }
            }
        }
    }
}

/// The transpose of [`gather`]: adds patches of some lines of these images to `dx`.
fn scatter<T: Float>(g: &Geometry, patches: &[T], lines: Range<usize>, dx: &mut [T]) {
    let [height, width] = g.input;
    let run = g.kernel[1] * g.channels;
    let mut rows = patches.chunks_exact(run);
    for line in lines {
        let (image, oy) = (line / g.output[0], line % g.output[0]);
        for ox in 0..g.output[1] {
            for ky in 0..g.kernel[0] {
                let row = rows.next().expect("the buffer holds a run for each tap row of each pixel");
                let y = (oy * g.stride + ky).wrapping_sub(g.padding[0]);
                if y >= height {
                    continue;
                }
                let left = (ox * g.stride) as isize - g.padding[1] as isize;
                let skipped = (-left).max(0) as usize;
                let from = (left + skipped as isize) as usize;
                let count = g.kernel[1].saturating_sub(skipped).min(width.saturating_sub(from));
                let at = ((image * height + y) * width + from) * g.channels;
                let part = &row[skipped * g.channels..(skipped + count) * g.channels];
                dx[at..at + part.len()].iter_mut().zip(part).for_each(|(a, b)| *a += *b);
            }
        }
    }
}
