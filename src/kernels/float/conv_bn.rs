//! What is small in a convolution trained with batch norm and fake quantization: numbers per channel, which join
//! convolution, batch norm, ReLU and fake quantization into one pass forward and two backward.
//!
//! With `z` the convolution with the scaled weight and `f` the factor that it was scaled by:
//!
//! ```text
//! f = gamma / sqrt(running_var + eps)        z = conv(x, fake_quantize(w * f))        y = z / f + bias
//! xhat = (y - mean) * inverse                out = fake_quantize(relu(xhat * gamma + beta))
//! ```
//!
//! where mean and `inverse = 1 / sqrt(variance + eps)` are those of this batch's `y`, or the running ones once frozen.

use super::{Float, Grid, NormToGrid};

/// Rows of [`coefficients`], each `[channels]`; behind them stand the four numbers of the output's grid.
const SCALE: usize = 0;
const SHIFT: usize = 1;
const MEAN: usize = 2;
const SLOPE: usize = 3;
const FACTOR: usize = 4;
const BY_GAMMA: usize = 5;
const LEFT: usize = 6;
/// How many rows there are.
pub const ROWS: usize = 7;
/// Numbers of a grid: scale, zero point, least and largest level.
pub const GRID: usize = 4;

/// What batch norm's statistics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// This batch's: they depend on the input.
    Batch,
    /// The running ones: constants.
    Running,
}

/// `f`, by what each channel's weight is multiplied. 1 where it would be 0, since the result is divided by it, and
/// everywhere if the weight is not `scaled`.
pub fn factors<T: Float>(gamma: &[T], running_var: &[T], eps: T, scaled: bool, out: &mut [T]) {
    for ((out, gamma), var) in out.iter_mut().zip(gamma).zip(running_var) {
        let factor = *gamma / (*var + eps).sqrt();
        *out = if scaled && factor != T::ZERO { factor } else { T::ONE };
    }
}

/// Fills the rows from the mean and variance of z (`statistics`, `[2, channels]` or longer), gamma, beta, running mean,
/// running variance and bias (`own`, `[5, channels]`), and the factors.
pub fn coefficients<T: Float>(
    [statistics, own, factors]: [&[T]; 3],
    eps: T,
    of: Statistics,
    scaled: bool,
    out: &mut [T],
) {
    let c = factors.len();
    for (i, f) in factors.iter().copied().enumerate() {
        let [gamma, beta, running_mean, running_var, bias] = [0, 1, 2, 3, 4].map(|k| own[k * c + i]);
        let (mean, variance) = match of {
            Statistics::Batch => (statistics[i], statistics[c + i] / (f * f)),
            Statistics::Running => ((running_mean - bias) * f, running_var),
        };
        let inverse = T::ONE / (variance + eps).sqrt();
        let slope = inverse / f;
        let by_gamma = T::ONE / (running_var + eps).sqrt();
        // out = z * SCALE + SHIFT
        out[SCALE * c + i] = gamma * slope;
        out[SHIFT * c + i] = beta - mean * (gamma * slope);
        // xhat = (z - MEAN) * SLOPE
        out[MEAN * c + i] = mean;
        out[SLOPE * c + i] = slope;
        out[FACTOR * c + i] = f;
        // The factor by gamma; a factor that was made 1 does not depend on it.
        let depends = scaled && gamma * by_gamma != T::ZERO;
        out[BY_GAMMA * c + i] = if depends { by_gamma } else { T::ZERO };
        // What batch norm's gradient leaves of sum(g * (z - MEAN)): its variance has eps added.
        out[LEFT * c + i] = eps * inverse * inverse;
    }
}

fn row<T>(coefficients: &[T], which: usize) -> &[T] {
    let c = (coefficients.len() - GRID) / ROWS;
    &coefficients[which * c..(which + 1) * c]
}

/// Batch norm as one scale and one shift of z.
pub fn scale_and_shift<T>(coefficients: &[T]) -> [&[T]; 2] {
    [row(coefficients, SCALE), row(coefficients, SHIFT)]
}

/// The mean of z.
pub fn mean<T>(coefficients: &[T]) -> &[T] {
    row(coefficients, MEAN)
}

/// Batch norm, ReLU and fake quantization of z in one pass.
pub fn norm_to_grid<T: Float>(coefficients: &[T], relu: bool) -> NormToGrid<'_, T> {
    let [scale, shift] = scale_and_shift(coefficients);
    let grid = &coefficients[coefficients.len() - GRID..];
    let grid = Grid { scale: grid[0], zero_point: grid[1], least: grid[2], most: grid[3] };
    NormToGrid { scale, shift, relu, grid }
}

/// The extremes of `relu(z * scale + shift)` over all channels, `[2]`, exactly as rounded: a rounded product with a
/// constant and a rounded sum keep the order of their operands, so the extremes of z (rows 2 and 3 of
/// [`super::moments_and_extremes`]) give them.
pub fn output_extremes<T: Float>(statistics: &[T], coefficients: &[T], relu: bool, out: &mut [T]) {
    let c = statistics.len() / 4;
    let floor = if relu { T::ZERO } else { T::LEAST };
    (out[0], out[1]) = (-T::LEAST, T::LEAST);
    for i in 0..c {
        for z in [statistics[2 * c + i], statistics[3 * c + i]] {
            let y = z.mul_add(coefficients[SCALE * c + i], coefficients[SHIFT * c + i]).most(floor);
            (out[0], out[1]) = (y.least(out[0]), y.most(out[1]));
        }
    }
}

/// Mean and variance of y, `[2, channels]`, from those of z: what moves the running ones.
pub fn output_moments<T: Float>([statistics, bias, factors]: [&[T]; 3], out: &mut [T]) {
    let c = factors.len();
    for (i, f) in factors.iter().copied().enumerate() {
        out[i] = statistics[i] / f + bias[i];
        out[c + i] = statistics[c + i] / (f * f);
    }
}

/// The constants `a` and `b` of `dz = SCALE * g - a - b * z`, `[2, channels]`, from the sums of `g` and `g * (z - MEAN)`
/// over `rows` rows; 0 where the statistics are constants.
pub fn input_constants<T: Float>(sums: &[T], coefficients: &[T], of: Statistics, rows: T, out: &mut [T]) {
    let c = sums.len() / 2;
    for i in 0..c {
        let (scale, slope) = (row(coefficients, SCALE)[i], row(coefficients, SLOPE)[i]);
        let b = scale * slope * slope * sums[c + i] / rows;
        (out[i], out[c + i]) = match of {
            Statistics::Batch => (scale * sums[i] / rows - b * row(coefficients, MEAN)[i], b),
            Statistics::Running => (T::ZERO, T::ZERO),
        };
    }
}

/// The gradient by gamma, which has three paths: batch norm's own, the scaled weight (`by_factor`, the gradient by the
/// factor on that path) and the division by the factor, `-sum(dz * z) / f`. The last two cancel but for rounding and
/// clipping.
pub fn gamma_grad<T: Float>([sums, coefficients, by_factor]: [&[T]; 3], of: Statistics, out: &mut [T]) {
    let c = sums.len() / 2;
    for i in 0..c {
        let (sum, dot) = (sums[i], sums[c + i]);
        let left = match of {
            Statistics::Batch => dot * row(coefficients, LEFT)[i],
            Statistics::Running => dot + row(coefficients, MEAN)[i] * sum,
        };
        let divided = -(row(coefficients, SCALE)[i] * left / row(coefficients, FACTOR)[i]);
        let by_factor = (by_factor[i] + divided) * row(coefficients, BY_GAMMA)[i];
        out[i] = dot * row(coefficients, SLOPE)[i] + by_factor;
    }
}

/// The gradient by the convolution's own bias. The batch's mean takes any constant out again.
pub fn bias_grad<T: Float>(sums: &[T], coefficients: &[T], of: Statistics, out: &mut [T]) {
    for i in 0..sums.len() / 2 {
        out[i] = match of {
            Statistics::Batch => T::ZERO,
            Statistics::Running => row(coefficients, FACTOR)[i] * row(coefficients, SCALE)[i] * sums[i],
        };
    }
}
