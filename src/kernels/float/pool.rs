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

/// Per image and channel the mean over `pixels` rows, summed in row-major order.
pub fn mean_pixels<T: Float>(x: &[T], channels: usize, pixels: usize, y: &mut [T]) {
    let count = T::of(pixels as f64);
    for_each_part(y, channels, x.len(), |image, y| {
        y.fill(T::ZERO);
        for row in x[image * channels * pixels..(image + 1) * channels * pixels].chunks_exact(channels) {
            y.iter_mut().zip(row).for_each(|(y, x)| *y += *x);
        }
        y.iter_mut().for_each(|y| *y = *y / count);
    });
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
