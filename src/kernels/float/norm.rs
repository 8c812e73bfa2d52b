use super::{
    Float,
    parallel::for_each_part,
    pointwise::{Function, with_function},
    simd::vectorize,
};

/// Rows summed in working precision before the sum goes on in `f64`.
pub(super) const ROWS: usize = 256;

/// Mean and variance (biased, over `rows`) of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments<T> {
    /// `[channels]`
    pub mean: Vec<T>,
    /// `[channels]`
    pub variance: Vec<T>,
}

/// Mean and variance over all rows: exact per block of rows, blocks joined by Chan's formula in `f64`, in order.
pub fn moments<T: Float>(x: &[T], channels: usize) -> Moments<T> {
    let blocks = (x.len() / channels).div_ceil(ROWS);
    let mut partial = vec![T::ZERO; blocks * 2 * channels];
    for_each_part(&mut partial, 2 * channels, x.len(), |block, sums| {
        let rows = &x[block * ROWS * channels..((block + 1) * ROWS * channels).min(x.len())];
        let (mean, m2) = sums.split_at_mut(channels);
        block_moments(rows, mean, m2);
    });
    joined_moments(&partial, 2 * channels, channels, x.len() / channels)
}

/// Blocks of `stride` values, a mean and a sum of squares a channel first, joined by Chan's formula in `f64`, in order.
pub(super) fn joined_moments<T: Float>(partial: &[T], stride: usize, channels: usize, all_rows: usize) -> Moments<T> {
    let (mut mean, mut m2, mut count) = (vec![0.0; channels], vec![0.0; channels], 0.0);
    for (block, sums) in partial.chunks_exact(stride).enumerate() {
        let rows = ROWS.min(all_rows - block * ROWS) as f64;
        let total = count + rows;
        for c in 0..channels {
            let delta = sums[c].f64() - mean[c];
            mean[c] += delta * rows / total;
            m2[c] += sums[channels + c].f64() + delta * delta * count * rows / total;
        }
        count = total;
    }
    Moments { mean: mean.iter().map(|v| T::of(*v)).collect(), variance: m2.iter().map(|v| T::of(*v / count)).collect() }
}

vectorize! {
    pub(super) fn block_moments<T: Float>(rows: &[T], mean: &mut [T], m2: &mut [T]) {
        let c = mean.len();
        let scale = T::ONE / T::of((rows.len() / c) as f64);
        for row in rows.chunks_exact(c) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += *v);
        }
        mean.iter_mut().for_each(|m| *m = *m * scale);
        for row in rows.chunks_exact(c) {
            for ((s, v), m) in m2.iter_mut().zip(row).zip(mean.iter()) {
                let d = *v - *m;
                *s += d * d;
            }
        }
    }
}

/// `y = f(x * scale + shift)`, both per channel, the argument rounded once.
pub fn scale_shift<T: Float>(x: &[T], scale: &[T], shift: &[T], function: Function, y: &mut [T]) {
    let c = scale.len();
    let part = ROWS * c;
    for_each_part(y, part, x.len() * function.cost(), |index, y| {
        let x = &x[index * part..index * part + y.len()];
        with_function!(function, F => scale_shift_rows::<T, F>(x, scale, shift, y));
    });
}

vectorize! {
    fn scale_shift_rows<T: Float, F: super::pointwise::Curve>(x: &[T], scale: &[T], shift: &[T], y: &mut [T]) {
        let c = scale.len();
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for (((y, x), a), b) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = F::value(x.mul_add(*a, *b));
            }
        }
    }
}

/// The first half of batch norm's gradient, `y = f(z)`, `z = x * scale + shift`: with `g = dy * f'(z)`, per channel the
/// sums over all rows of `g` and of `g * (x - mean)`, as `[2, channels]`.
pub fn norm_grad_sums<T: Float>(
    x: &[T],
    dy: &[T],
    [scale, shift, mean]: [&[T]; 3],
    function: Function,
    sums: &mut [T],
) {
    let c = scale.len();
    let blocks = (x.len() / c).div_ceil(ROWS);
    let mut partial = vec![T::ZERO; blocks * 2 * c];
    for_each_part(&mut partial, 2 * c, 2 * x.len() * function.cost(), |block, sums| {
        let rows = block * ROWS * c..((block + 1) * ROWS * c).min(x.len());
        let (dy, x) = (&dy[rows.clone()], &x[rows]);
        with_function!(function, F => grad_sums_rows::<T, F>(x, dy, scale, shift, mean, sums));
    });
    join(&partial, sums);
}

/// Adds blocks of sums in `f64`, in order.
pub(super) fn join<T: Float>(partial: &[T], sums: &mut [T]) {
    let mut total = vec![0.0; sums.len()];
    for block in partial.chunks_exact(sums.len()) {
        total.iter_mut().zip(block).for_each(|(t, v)| *t += v.f64());
    }
    sums.iter_mut().zip(total).for_each(|(s, t)| *s = T::of(t));
}

vectorize! {
    fn grad_sums_rows<T: Float, F: super::pointwise::Curve>(
        x: &[T], dy: &[T], scale: &[T], shift: &[T], mean: &[T], sums: &mut [T],
    ) {
        let c = scale.len();
        let (sum, dot) = sums.split_at_mut(c);
        let (shift, mean, sum, dot) = (&shift[..c], &mean[..c], &mut sum[..c], &mut dot[..c]);
        for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
            for i in 0..c {
                let g = dy[i] * F::slope(x[i].mul_add(scale[i], shift[i]));
                sum[i] += g;
                dot[i] += g * (x[i] - mean[i]);
            }
        }
    }
}

/// The second half: `dx = scale * g - a - b * x` per channel, which is
/// `scale * (g - mean(g) - (x - mean) / (variance + eps) * mean(g * (x - mean)))` with the constants gathered.
pub fn norm_input_grad<T: Float>(x: &[T], dy: &[T], [scale, shift, a, b]: [&[T]; 4], function: Function, dx: &mut [T]) {
    let c = scale.len();
    let part = ROWS * c;
    for_each_part(dx, part, 2 * x.len() * function.cost(), |index, dx| {
        let range = index * part..index * part + dx.len();
        let (dy, x) = (&dy[range.clone()], &x[range]);
        with_function!(function, F => input_grad_rows::<T, F>(x, dy, scale, shift, a, b, dx));
    });
}

vectorize! {
    fn input_grad_rows<T: Float, F: super::pointwise::Curve>(
        x: &[T], dy: &[T], scale: &[T], shift: &[T], a: &[T], b: &[T], dx: &mut [T],
    ) {
        let c = scale.len();
        let (shift, a, b) = (&shift[..c], &a[..c], &b[..c]);
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            for i in 0..c {
                let g = dy[i] * F::slope(x[i].mul_add(scale[i], shift[i]));
                dx[i] = scale[i] * g - a[i] - b[i] * x[i];
            }
        }
    }
}

/// Per channel the sum over all rows: a bias' gradient.
pub fn channel_sums<T: Float>(dy: &[T], sums: &mut [T]) {
    let c = sums.len();
    let blocks = (dy.len() / c).div_ceil(ROWS);
    let mut partial = vec![T::ZERO; blocks * c];
    for_each_part(&mut partial, c, dy.len(), |block, sum| {
        for row in dy[block * ROWS * c..((block + 1) * ROWS * c).min(dy.len())].chunks_exact(c) {
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += *v);
        }
    });
    join(&partial, sums);
}
