use super::{Float, Geometry, parallel::for_each_part, simd::vectorize};

/// Maximum over windows of `g.kernel`, padded with minus infinity. `g.out_channels == g.channels`.
pub fn max_pool<T: Float>(g: &Geometry, x: &[T], y: &mut [T]) {
    let line = g.output[1] * g.channels;
    let part = (g.batch * g.output[0]).div_ceil(8).max(1);
    for_each_part(y, part * line, operations(g), |index, y| max_pool_lines(g, x, index * part, y));
}

/// `dx` of [`max_pool`] from its input, output and `dy`; of equal maxima the first in row-major order takes it all, as in
/// PyTorch.
pub fn max_pool_grad<T: Float>(g: &Geometry, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
    for_each_part(dx, g.image(), operations(g), |image, dx| {
        let size = g.output[0] * g.output[1] * g.channels;
        let range = image * size..(image + 1) * size;
        T::with_scratch(g.channels, |left| {
            max_pool_grad_image(g, &x[image * g.image()..], &y[range.clone()], &dy[range], left, dx);
        });
    });
}

fn operations(g: &Geometry) -> usize {
    g.batch * g.output[0] * g.output[1] * g.channels * g.kernel[0] * g.kernel[1] / 8
}

/// Where in the image each tap of the window at output pixel `oy, ox` begins, row-major, taps outside left out.
#[inline(always)]
fn window(g: &Geometry, oy: usize, ox: usize) -> impl Iterator<Item = usize> {
    let g = *g;
    let along = move |dim: usize, at: usize| {
        let first = (at * g.stride).saturating_sub(g.padding[dim]);
        let last = (at * g.stride + g.kernel[dim]).saturating_sub(g.padding[dim]).min(g.input[dim]);
        first..last
    };
    along(0, oy).flat_map(move |y| along(1, ox).map(move |x| (y * g.input[1] + x) * g.channels))
}

vectorize! {
    fn max_pool_lines<T: Float>(g: &Geometry, x: &[T], first: usize, y: &mut [T]) {
        let c = g.channels;
        for (i, line) in y.chunks_exact_mut(g.output[1] * c).enumerate() {
            let (image, oy) = ((first + i) / g.output[0], (first + i) % g.output[0]);
            let x = &x[image * g.image()..(image + 1) * g.image()];
            for (ox, pixel) in line.chunks_exact_mut(c).enumerate() {
                pixel.fill(T::LEAST);
                for at in window(g, oy, ox) {
                    for (best, v) in pixel.iter_mut().zip(&x[at..at + c]) {
                        *best = if *best >= *v { *best } else { *v };
                    }
                }
            }
        }
    }
}

vectorize! {
    fn max_pool_grad_image<T: Float>(g: &Geometry, x: &[T], y: &[T], dy: &[T], left: &mut [T], dx: &mut [T]) {
        let c = g.channels;
        dx.fill(T::ZERO);
        for oy in 0..g.output[0] {
            for ox in 0..g.output[1] {
                let out = (oy * g.output[1] + ox) * c;
                // What is still to be given away: nothing is left once the first maximum has taken it.
                left.copy_from_slice(&dy[out..out + c]);
                let y = &y[out..out + c];
                for at in window(g, oy, ox) {
                    let (x, dx, left) = (&x[at..at + c], &mut dx[at..at + c], &mut left[..c]);
                    for i in 0..c {
                        let taken = if x[i] == y[i] { left[i] } else { T::ZERO };
                        dx[i] += taken;
                        left[i] = left[i] - taken;
                    }
                }
            }
        }
    }
}

/// Per image and channel the mean over `pixels` rows, summed as [`sum_pixels`] says.
pub fn mean_pixels<T: Float>(x: &[T], channels: usize, pixels: usize, y: &mut [T]) {
    for_each_part(y, channels, x.len(), |image, y| {
        mean_image(&x[image * channels * pixels..(image + 1) * channels * pixels], pixels, y);
    });
}

vectorize! {
    fn mean_image<T: Float>(x: &[T], pixels: usize, y: &mut [T]) {
        let (c, count) = (y.len(), T::of(pixels as f64));
        let mut done = 0;
        while done < c {
            let lanes = (c - done).min(LANES);
            let sum = sum_pixels::<T>(pixels, |pixel| {
                let from = &x[pixel * c + done..][..lanes];
                from.try_into().unwrap_or_else(|_| std::array::from_fn(|i| if i < lanes { from[i] } else { T::ZERO }))
            });
            y[done..done + lanes].iter_mut().zip(sum).for_each(|(y, sum)| *y = sum / count);
            done += lanes;
        }
    }
}

/// Channels that are summed side by side.
const LANES: usize = 16;

/// The sum of `pixels` values, in the order of PyTorch's `sum` over the two inner dimensions of an NCHW tensor
/// (`SumKernel.cpp`, on AVX2): pixels are dealt to eight vector lanes, the vectors to four sums, and those are added up in
/// the end, the pixels that fill no vector first. Fewer than eight pixels are dealt to the four sums directly.
#[inline(always)]
fn sum_pixels<T: Float>(pixels: usize, at: impl Fn(usize) -> [T; LANES]) -> [T; LANES] {
    const VECTOR: usize = 8;
    if pixels < VECTOR {
        return sum_row(pixels, at);
    }
    let vectors = pixels / VECTOR;
    let mut sum = [T::ZERO; LANES];
    (vectors * VECTOR..pixels).for_each(|pixel| add_to(&mut sum, at(pixel)));
    for lane in 0..VECTOR {
        add_to(&mut sum, sum_row(vectors, |vector| at(vector * VECTOR + lane)));
    }
    sum
}

/// Four sums of every fourth value, what is left over in the first, then one sum.
#[inline(always)]
fn sum_row<T: Float>(count: usize, at: impl Fn(usize) -> [T; LANES]) -> [T; LANES] {
    const SUMS: usize = 4;
    let steps = count / SUMS;
    let mut sums: [[T; LANES]; SUMS] = std::array::from_fn(|k| sum_in_levels(steps, |i| at(i * SUMS + k)));
    (steps * SUMS..count).for_each(|i| add_to(&mut sums[0], at(i)));
    let [mut sum, rest @ ..] = sums;
    rest.into_iter().for_each(|other| add_to(&mut sum, other));
    sum
}

/// A sum whose error grows slowly: every `step` values go to the next of four levels, as digits carry.
#[inline(always)]
fn sum_in_levels<T: Float>(count: usize, at: impl Fn(usize) -> [T; LANES]) -> [T; LANES] {
    const LEVELS: usize = 4;
    let bits = (usize::BITS - count.saturating_sub(1).leading_zeros()) as usize; // of log2, rounded up
    let power = (bits / LEVELS).max(4);
    let step = 1 << power;
    let mut levels = [[T::ZERO; LANES]; LEVELS];
    for i in 0..count {
        add_to(&mut levels[0], at(i));
        let done = i + 1;
        if !done.is_multiple_of(step) {
            continue;
        }
        for level in 1..LEVELS {
            let below = std::mem::replace(&mut levels[level - 1], [T::ZERO; LANES]);
            add_to(&mut levels[level], below);
            if !(done >> (level * power)).is_multiple_of(step) {
                break;
            }
        }
    }
    let [mut sum, rest @ ..] = levels;
    rest.into_iter().for_each(|level| add_to(&mut sum, level));
    sum
}

#[inline(always)]
fn add_to<T: Float>(sum: &mut [T; LANES], values: [T; LANES]) {
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
}

/// `dx` of [`mean_pixels`].
pub fn mean_pixels_grad<T: Float>(dy: &[T], channels: usize, pixels: usize, dx: &mut [T]) {
    let scale = T::ONE / T::of(pixels as f64);
    for_each_part(dx, channels * pixels, dy.len() * pixels, |image, dx| {
        let dy = &dy[image * channels..(image + 1) * channels];
        for row in dx.chunks_exact_mut(channels) {
            row.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = *dy * scale);
        }
    });
}
