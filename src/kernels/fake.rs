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

    #[test]
    fn nan_is_seen() {
        let mut y = [0.0; 2];
        fake_quantize(&[f32::NAN, 1.0], 0.5, 0, 255, &mut y);
        assert!(y[0].is_nan() && y[1] == 1.0);
    }
}
