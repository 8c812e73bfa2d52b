use super::{
    Float,
    fake::{Grid, Rounder},
    parallel::for_each_part,
    simd::vectorize,
};

/// Rows of a weight that a thread takes at a time.
const ROWS: usize = 64;

/// The grids of a weight's output channels: scales and zero points, `[channels]` each, and the limits that all share.
#[derive(Clone, Copy, Debug)]
pub struct ChannelGrids<'a, T> {
    /// Width of one level.
    pub scales: &'a [T],
    /// The levels that stand for 0.
    pub zero_points: &'a [T],
    /// The least level.
    pub least: T,
    /// The largest level.
    pub most: T,
}

impl<T: Float> ChannelGrids<'_, T> {
    /// That of each channel, as loops want it.
    fn rounders(&self) -> Vec<Rounder<T>> {
        let (least, most) = (self.least, self.most);
        let channels = self.scales.iter().zip(self.zero_points);
        channels.map(|(s, z)| Rounder::new(Grid { scale: *s, zero_point: *z, least, most })).collect()
    }
}

/// The smallest and the largest `w * factor` of each output channel, `[2, channels]`; weights are rows of `channels`
/// values, and `factors` one a channel.
pub fn weight_extremes<T: Float>(w: &[T], factors: &[T], out: &mut [T]) {
    let c = factors.len();
    let part = ROWS * c;
    let mut parts = vec![T::ZERO; 2 * c * w.len().div_ceil(part)];
    for_each_part(&mut parts, 2 * c, w.len(), |index, out| {
        extremes_rows(&w[index * part..((index + 1) * part).min(w.len())], factors, out);
    });
    let (low, high) = out.split_at_mut(c);
    low.fill(-T::LEAST);
    high.fill(T::LEAST);
    for part in parts.chunks_exact(2 * c) {
        low.iter_mut().zip(part).for_each(|(m, v)| *m = v.least(*m));
        high.iter_mut().zip(&part[c..]).for_each(|(m, v)| *m = v.most(*m));
    }
}

vectorize! {
    fn extremes_rows<T: Float>(w: &[T], factors: &[T], out: &mut [T]) {
        let c = factors.len();
        let (low, high) = out.split_at_mut(c);
        low.fill(-T::LEAST);
        high.fill(T::LEAST);
        for row in w.chunks_exact(c) {
            for (((low, high), w), f) in low.iter_mut().zip(high.iter_mut()).zip(row).zip(factors) {
                let v = *w * *f;
                *low = v.least(*low);
                *high = v.most(*high);
            }
        }
    }
}

/// `out = fake_quantize(w * factor)`, each output channel on its own grid.
pub fn weight_to_grid<T: Float>(w: &[T], factors: &[T], grids: &ChannelGrids<'_, T>, out: &mut [T]) {
    let part = ROWS * factors.len();
    let rounders = grids.rounders();
    for_each_part(out, part, 2 * w.len(), |index, out| {
        to_grid_rows(&w[index * part..index * part + out.len()], factors, &rounders, out);
    });
}

vectorize! {
    fn to_grid_rows<T: Float>(w: &[T], factors: &[T], grids: &[Rounder<T>], out: &mut [T]) {
        let c = factors.len();
        for (out, w) in out.chunks_exact_mut(c).zip(w.chunks_exact(c)) {
            for (((out, w), f), grid) in out.iter_mut().zip(w).zip(factors).zip(grids) {
                *out = grid.value(*w * *f);
            }
        }
    }
}

/// The gradient of [`weight_to_grid`], straight through: from `dq`, that by the fake-quantized weight, `dw`, that by the
/// weight, and `by_factor`, that by each channel's factor.
pub fn weight_to_grid_grad<T: Float>(
    w: &[T],
    factors: &[T],
    grids: &ChannelGrids<'_, T>,
    dq: &[T],
    dw: &mut [T],
    by_factor: &mut [T],
) {
    let c = factors.len();
    let part = ROWS * c;
    let rounders = grids.rounders();
    let mut parts = vec![T::ZERO; c * w.len().div_ceil(part)];
    // Each part of the gradient goes with its part of the sums.
    let mut both: Vec<(&mut [T], &mut [T])> = dw.chunks_mut(part).zip(parts.chunks_exact_mut(c)).collect();
    for_each_part(&mut both, 1, 2 * w.len(), |index, both| {
        let (dw, sum) = &mut both[0];
        let rows = index * part..index * part + dw.len();
        to_grid_grad_rows(&w[rows.clone()], factors, &rounders, &dq[rows], dw, sum);
    });
    let mut total = vec![0.0; c];
    for part in parts.chunks_exact(c) {
        total.iter_mut().zip(part).for_each(|(t, v)| *t += v.f64());
    }
    by_factor.iter_mut().zip(total).for_each(|(s, t)| *s = T::of(t));
}

vectorize! {
    fn to_grid_grad_rows<T: Float>(
        w: &[T], factors: &[T], grids: &[Rounder<T>], dq: &[T], dw: &mut [T], sum: &mut [T],
    ) {
        let c = factors.len();
        let (grids, sum) = (&grids[..c], &mut sum[..c]);
        for ((dw, dq), w) in dw.chunks_exact_mut(c).zip(dq.chunks_exact(c)).zip(w.chunks_exact(c)) {
            for i in 0..c {
                let inside = dq[i] * grids[i].slope(w[i] * factors[i]);
                sum[i] += inside * w[i];
                dw[i] = inside * factors[i];
            }
        }
    }
}

/// The gradient of [`weight_to_grid`] by each channel's step size (LSQ), from that of the fake-quantized weight.
pub fn weight_step_grad<T: Float>(w: &[T], factors: &[T], grids: &ChannelGrids<'_, T>, dw: &[T], by_step: &mut [T]) {
    let c = factors.len();
    let rounders = grids.rounders();
    let mut total = vec![0.0; c];
    for (dw, w) in dw.chunks_exact(c).zip(w.chunks_exact(c)) {
        for ((((dw, w), f), grid), total) in dw.iter().zip(w).zip(factors).zip(&rounders).zip(&mut total) {
            *total += (*dw * grid.slope_by_step(*w * *f)).f64();
        }
    }
    by_step.iter_mut().zip(total).for_each(|(s, t)| *s = T::of(t));
}
