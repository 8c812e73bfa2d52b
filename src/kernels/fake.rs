use rayon::prelude::*;

/// Values a thread takes at a time.
const PART: usize = 1 << 15;

/// Every value moved to the nearest of the levels 0..=`qmax`, as PyTorch's `fake_quantize_per_tensor_affine`, in float32:
///
/// ```text
/// y = (clamp(round_ties_even(x * (1 / scale)) + zero_point, 0, qmax) - zero_point) * scale
/// ```
///
/// NaN stays NaN.
///
/// # Panics
/// If `y` is not as long as `x`.
pub fn fake_quantize(x: &[f32], scale: f32, zero_point: u8, qmax: u8, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "a value for each value");
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even, in plain arithmetic, for what lies
    // within 2^22 of zero. Clamping to integers first gives the same as clamping last.
    const ROUND: f32 = 12_582_912.0;
    let inverse = 1.0 / scale;
    let (least, most) = (-f32::from(zero_point), f32::from(qmax) - f32::from(zero_point));
    let part = |(x, y): (&[f32], &mut [f32])| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = ((x * inverse).clamp(least, most) + ROUND - ROUND) * scale;
        }
    };
    x.par_chunks(PART).zip(y.par_chunks_mut(PART)).for_each(part);
}

/// Per image and channel the average of `pixels` values that lie on levels, on the same levels, rounded as the int8 engine
/// rounds it: a tie falls the same way. [`super::average_pool`] divides the sum of the integers, [`super::mean`] (`values`)
/// that of the values, in row-major order.
///
/// # Panics
/// If `x` does not hold `pixels` values for each of `y`.
pub fn fake_average(x: &[f32], channels: usize, pixels: usize, scale: f32, values: bool, y: &mut [f32]) {
    assert_eq!(x.len(), y.len() * pixels, "{pixels} values for each average");
    let (inverse, count) = (1.0 / scale, pixels as f32);
    let image = |(x, y): (&[f32], &mut [f32])| {
        y.fill(0.0);
        for row in x.chunks_exact(channels) {
            for (sum, x) in y.iter_mut().zip(row) {
                *sum += if values { *x } else { (x * inverse).round_ties_even() };
            }
        }
        for y in y {
            let level = if values { *y / count * inverse } else { *y / count };
            *y = level.round_ties_even() * scale;
        }
    };
    x.par_chunks(channels * pixels).zip(y.par_chunks_mut(channels)).for_each(image);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_formula_step_by_step() {
        let x: Vec<f32> = (-40_000..40_000).map(|i| i as f32 * 0.01).chain([0.5, 1.5, -2.5, 1e30, -1e30]).collect();
        for (scale, zero_point, qmax) in
            [(1.0, 0, 255), (0.37, 128, 255), (0.021, 7, 15), (0.5, 64, 127), (3e-7, 255, 255)]
        {
            let mut y = vec![0.0; x.len()];
            fake_quantize(&x, scale, zero_point, qmax, &mut y);
            for (x, y) in x.iter().zip(&y) {
                let level = ((x * (1.0 / scale)).round_ties_even() + f32::from(zero_point)).clamp(0.0, f32::from(qmax));
                assert_eq!((level - f32::from(zero_point)) * scale, *y, "{x} at {scale} {zero_point} 0..{qmax}");
            }
        }
    }

    /// The engine's own average of the same levels, ties among them: 64 pixels have one in 64.
    #[test]
    fn averages_are_the_engines() {
        use super::super::{Kernels, Levels, Map, average_pool, mean};
        let (c, h, w, scale, zero_point) = (24, 8, 8, 0.0371_f32, 37);
        let levels: Vec<u8> = (0..c * h * w).map(|i| (i * i * 31 + i * 7) as u8 % 128).collect();
        let x: Vec<f32> = levels.iter().map(|q| (f32::from(*q) - f32::from(zero_point)) * scale).collect();
        let kernels = Kernels::new(None, 1).expect("this CPU");
        let map = |h, w| Map::dense(h, w, c);
        for values in [false, true] {
            let mut engine = vec![0; c];
            let to = Levels::new(zero_point, 127, false);
            if values {
                mean(&kernels, (&levels, map(h, w)), scale, to, (&mut engine, map(1, 1)));
            } else {
                average_pool(&kernels, (&levels, map(h, w)), to, (&mut engine, map(1, 1)));
            }
            let mut y = vec![0.0; c];
            fake_average(&x, c, h * w, scale, values, &mut y);
            let expected: Vec<f32> = engine.iter().map(|q| (f32::from(*q) - f32::from(zero_point)) * scale).collect();
            assert_eq!(y, expected, "of values: {values}");
        }
    }

    #[test]
    fn nan_is_seen() {
        let mut y = [0.0; 2];
        fake_quantize(&[f32::NAN, 1.0], 0.5, 0, 255, &mut y);
        assert!(y[0].is_nan() && y[1] == 1.0);
    }
}
