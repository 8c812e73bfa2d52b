use super::{Float, parallel::for_each_part, simd::vectorize};

/// Values a thread takes at a time.
const PART: usize = 16 * 1024;
/// Values that are compared side by side.
const LANES: usize = 32;

/// Evenly spaced values: `(level - zero_point) * scale` for the whole numbers `least..=most`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid<T> {
    /// Width of one level.
    pub scale: T,
    /// The level that stands for 0.
    pub zero_point: T,
    /// The least level.
    pub least: T,
    /// The largest level.
    pub most: T,
}

/// A [`Grid`] as a loop wants it: levels counted from zero's.
#[derive(Clone, Copy)]
pub(super) struct Rounder<T> {
    inverse: T,
    scale: T,
    low: T,
    high: T,
}

impl<T: Float> Rounder<T> {
    #[inline(always)]
    pub fn new(grid: Grid<T>) -> Self {
        Self {
            inverse: T::ONE / grid.scale,
            scale: grid.scale,
            low: grid.least - grid.zero_point,
            high: grid.most - grid.zero_point,
        }
    }

    /// The nearest level, ties to even; what lies outside by more than one level counts as that far outside. NaN stays.
    #[inline(always)]
    fn level(self, x: T) -> T {
        clamp(x * self.inverse, self.low - T::ONE, self.high + T::ONE) + T::ROUND - T::ROUND
    }

    /// The nearest value of the grid.
    #[inline(always)]
    pub fn value(self, x: T) -> T {
        clamp(self.level(x), self.low, self.high) * self.scale
    }

    /// The straight-through gradient: 1 where the level lies in the range, its limits included, before it is clamped.
    #[inline(always)]
    pub fn slope(self, x: T) -> T {
        let level = self.level(x);
        if level >= self.low && level <= self.high { T::ONE } else { T::ZERO }
    }

    /// The gradient of the value by the step size (LSQ): how far rounding moved the level; outside the limit itself.
    #[inline(always)]
    pub fn slope_by_step(self, x: T) -> T {
        let level = self.level(x);
        let limited = clamp(level, self.low, self.high);
        if level == limited { limited - x * self.inverse } else { limited }
    }
}

/// NaN stays.
#[inline(always)]
fn clamp<T: Float>(x: T, low: T, high: T) -> T {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// Every value moved to the nearest one of `grid`, as PyTorch's fake quantization:
///
/// ```text
/// q = round_ties_even(x * (1 / scale)) + zero_point        y = (clamp(q, least, most) - zero_point) * scale
/// ```
///
/// NaN stays.
pub fn to_grid<T: Float>(x: &[T], grid: Grid<T>, y: &mut [T]) {
    for_each_part(y, PART, 2 * x.len(), |index, y| {
        let x = &x[index * PART..index * PART + y.len()];
        to_grid_part(x, Rounder::new(grid), y);
    });
}

vectorize! {
    fn to_grid_part<T: Float>(x: &[T], grid: Rounder<T>, y: &mut [T]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = grid.value(*x));
    }
}

/// The straight-through gradient of [`to_grid`]: `dx = dy` where the level lies in the range before it is clamped, else 0.
/// With `relu` `x` is the output of a ReLU whose gradient is taken along: 0 too where `x` is not above 0.
pub fn to_grid_grad<T: Float>(x: &[T], dy: &[T], grid: Grid<T>, relu: bool, dx: &mut [T]) {
    let above = if relu { T::ZERO } else { T::LEAST };
    for_each_part(dx, PART, 2 * x.len(), |index, dx| {
        let range = index * PART..index * PART + dx.len();
        to_grid_grad_part(&x[range.clone()], &dy[range], Rounder::new(grid), above, dx);
    });
}

vectorize! {
    fn to_grid_grad_part<T: Float>(x: &[T], dy: &[T], grid: Rounder<T>, above: T, dx: &mut [T]) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            let slope = grid.slope(*x);
            *dx = if *x > above { *dy * slope } else { T::ZERO };
        }
    }
}

/// The gradient of [`to_grid`] by the step size (LSQ, Esser et al. 2020, equation 3), summed over all values.
pub fn step_grad<T: Float>(x: &[T], dy: &[T], grid: Grid<T>) -> T {
    let mut sums = vec![T::ZERO; x.len().div_ceil(PART)];
    for_each_part(&mut sums, 1, 2 * x.len(), |index, sum| {
        let range = index * PART..((index + 1) * PART).min(x.len());
        step_grad_part(&x[range.clone()], &dy[range], Rounder::new(grid), sum);
    });
    T::of(sums.iter().map(|s| s.f64()).sum())
}

vectorize! {
    fn step_grad_part<T: Float>(x: &[T], dy: &[T], grid: Rounder<T>, sum: &mut [T]) {
        let mut lanes = [T::ZERO; LANES];
        for (x, dy) in x.chunks(LANES).zip(dy.chunks(LANES)) {
            for ((lane, x), dy) in lanes.iter_mut().zip(x).zip(dy) {
                *lane += *dy * grid.slope_by_step(*x);
            }
        }
        sum[0] = lanes.iter().fold(T::ZERO, |sum, lane| sum + *lane);
    }
}

/// The smallest and the largest value; `(inf, -inf)` of none. NaN is passed over: it stays in the values themselves.
pub fn extremes<T: Float>(x: &[T]) -> [T; 2] {
    let mut parts = vec![T::ZERO; 2 * x.len().div_ceil(PART)];
    for_each_part(&mut parts, 2, x.len(), |index, out| {
        extremes_part(&x[index * PART..((index + 1) * PART).min(x.len())], out);
    });
    parts.chunks_exact(2).fold([-T::LEAST, T::LEAST], |[low, high], part| [part[0].least(low), part[1].most(high)])
}

vectorize! {
    fn extremes_part<T: Float>(x: &[T], out: &mut [T]) {
        let (mut low, mut high) = ([-T::LEAST; LANES], [T::LEAST; LANES]);
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                low[i] = block[i].least(low[i]);
                high[i] = block[i].most(high[i]);
            }
        }
        out[0] = low.iter().chain(rest).fold(-T::LEAST, |m, v| v.least(m));
        out[1] = high.iter().chain(rest).fold(T::LEAST, |m, v| v.most(m));
    }
}
