use super::{
    Float,
    fake::{Grid, Rounder},
    norm::{ROWS, block_moments, join, joined_moments},
    parallel::for_each_part,
    simd::vectorize,
};

/// Mean, variance (biased), smallest and largest value of each channel, `[4, channels]`, in one pass over memory.
pub fn moments_and_extremes<T: Float>(x: &[T], channels: usize, out: &mut [T]) {
    let c = channels;
    let blocks = (x.len() / c).div_ceil(ROWS);
    let mut partial = vec![T::ZERO; blocks * 4 * c];
    for_each_part(&mut partial, 4 * c, 2 * x.len(), |block, sums| {
        let rows = &x[block * ROWS * c..((block + 1) * ROWS * c).min(x.len())];
        let (sums, extremes) = sums.split_at_mut(2 * c);
        let (mean, m2) = sums.split_at_mut(c);
        block_moments(rows, mean, m2);
        let (low, high) = extremes.split_at_mut(c);
        block_extremes(rows, low, high);
    });
    let moments = joined_moments(&partial, 4 * c, c, x.len() / c);
    out[..c].copy_from_slice(&moments.mean);
    out[c..2 * c].copy_from_slice(&moments.variance);
    let (low, high) = out[2 * c..].split_at_mut(c);
    low.fill(-T::LEAST);
    high.fill(T::LEAST);
    for block in partial.chunks_exact(4 * c) {
        low.iter_mut().zip(&block[2 * c..]).for_each(|(m, v)| *m = v.least(*m));
        high.iter_mut().zip(&block[3 * c..]).for_each(|(m, v)| *m = v.most(*m));
    }
}

vectorize! {
    fn block_extremes<T: Float>(rows: &[T], low: &mut [T], high: &mut [T]) {
        let c = low.len();
        low.fill(-T::LEAST);
        high.fill(T::LEAST);
        for row in rows.chunks_exact(c) {
            for ((low, high), v) in low.iter_mut().zip(high.iter_mut()).zip(row) {
                *low = v.least(*low);
                *high = v.most(*high);
            }
        }
    }
}

/// Batch norm, ReLU or none, and fake quantization of an output: `y = to_grid(relu(x * scale + shift))`, scale and shift
/// per channel.
#[derive(Clone, Copy, Debug)]
pub struct NormToGrid<'a, T> {
    /// `[channels]`
    pub scale: &'a [T],
    /// `[channels]`
    pub shift: &'a [T],
    /// Whether a ReLU stands between.
    pub relu: bool,
    /// The grid of the output.
    pub grid: Grid<T>,
}

impl<T: Float> NormToGrid<'_, T> {
    /// Below it everything is cut off: ReLU's 0, or nothing.
    fn floor(&self) -> T {
        if self.relu { T::ZERO } else { T::LEAST }
    }

    /// Forward.
    pub fn run(&self, x: &[T], y: &mut [T]) {
        let part = ROWS * self.scale.len();
        for_each_part(y, part, 3 * x.len(), |index, y| {
            let x = &x[index * part..index * part + y.len()];
            forward_rows(x, self.scale, self.shift, self.floor(), Rounder::new(self.grid), y);
        });
    }

    /// Per channel, with `g = dy` times the straight-through gradient of all that follows the sum, the sums over all rows
    /// of `g` and of `g * (x - mean)`, as `[2, channels]`.
    pub fn grad_sums(&self, x: &[T], dy: &[T], mean: &[T], sums: &mut [T]) {
        let c = self.scale.len();
        let blocks = (x.len() / c).div_ceil(ROWS);
        let mut partial = vec![T::ZERO; blocks * 2 * c];
        for_each_part(&mut partial, 2 * c, 4 * x.len(), |block, sums| {
            let rows = block * ROWS * c..((block + 1) * ROWS * c).min(x.len());
            let (x, dy) = (&x[rows.clone()], &dy[rows]);
            grad_sums_rows(x, dy, self.scale, self.shift, mean, self.floor(), Rounder::new(self.grid), sums);
        });
        join(&partial, sums);
    }

    /// `dx = scale * g - a - b * x` per channel, `g` as in [`NormToGrid::grad_sums`].
    pub fn input_grad(&self, x: &[T], dy: &[T], [a, b]: [&[T]; 2], dx: &mut [T]) {
        let part = ROWS * self.scale.len();
        for_each_part(dx, part, 4 * x.len(), |index, dx| {
            let range = index * part..index * part + dx.len();
            let (x, dy) = (&x[range.clone()], &dy[range]);
            input_grad_rows(x, dy, self.scale, self.shift, a, b, self.floor(), Rounder::new(self.grid), dx);
        });
    }
}

vectorize! {
    fn forward_rows<T: Float>(x: &[T], scale: &[T], shift: &[T], floor: T, grid: Rounder<T>, y: &mut [T]) {
        let c = scale.len();
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for (((y, x), a), b) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                let v = x.mul_add(*a, *b);
                *y = grid.value(if v < floor { floor } else { v });
            }
        }
    }
}

/// `dy` where neither the ReLU nor the grid's limits stop it. ReLU passes nothing at 0.
#[inline(always)]
fn passed<T: Float>(v: T, dy: T, floor: T, grid: Rounder<T>) -> T {
    let slope = grid.slope(v);
    if v > floor { dy * slope } else { T::ZERO }
}

vectorize! {
    fn grad_sums_rows<T: Float>(
        x: &[T], dy: &[T], scale: &[T], shift: &[T], mean: &[T], floor: T, grid: Rounder<T>, sums: &mut [T],
    ) {
        let c = scale.len();
        let (sum, dot) = sums.split_at_mut(c);
        let (shift, mean, sum, dot) = (&shift[..c], &mean[..c], &mut sum[..c], &mut dot[..c]);
        for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
            for i in 0..c {
                let g = passed(x[i].mul_add(scale[i], shift[i]), dy[i], floor, grid);
                sum[i] += g;
                dot[i] += g * (x[i] - mean[i]);
            }
        }
    }
}

vectorize! {
    fn input_grad_rows<T: Float>(
        x: &[T], dy: &[T], scale: &[T], shift: &[T], a: &[T], b: &[T], floor: T, grid: Rounder<T>, dx: &mut [T],
    ) {
        let c = scale.len();
        let (shift, a, b) = (&shift[..c], &a[..c], &b[..c]);
        for ((x, dy), dx) in x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c)) {
            for i in 0..c {
                let g = passed(x[i].mul_add(scale[i], shift[i]), dy[i], floor, grid);
                dx[i] = scale[i] * g - a[i] - b[i] * x[i];
            }
        }
    }
}
