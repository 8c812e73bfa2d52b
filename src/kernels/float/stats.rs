use rayon::prelude::*;

use super::{Float, parallel::for_each_part};

/// Values a thread takes at a time.
const PART: usize = 64 * 1024;

/// The smallest and the largest value; `(inf, -inf)` of none, both NaN where any value is.
pub fn min_max(x: &[f32]) -> (f32, f32) {
    let of = |part: &[f32]| {
        if part.iter().fold(false, |nan, v| nan | v.is_nan()) {
            return (f32::NAN, f32::NAN);
        }
        part.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), v| (lo.min(*v), hi.max(*v)))
    };
    let join = |a: (f32, f32), b: (f32, f32)| {
        // `min` and `max` pass over a NaN.
        if a.0.is_nan() || b.0.is_nan() { (f32::NAN, f32::NAN) } else { (a.0.min(b.0), a.1.max(b.1)) }
    };
    if x.len() <= PART {
        return of(x);
    }
    x.par_chunks(PART).map(of).reduce(|| (f32::INFINITY, f32::NEG_INFINITY), join)
}

/// Counts in `bins` equal bins over `lo..=hi`, as `torch.histc` counts them: values outside are left out, `hi` itself is
/// in the last bin, and an empty range is widened to the values' own, then by 1 on both sides.
pub fn histogram(x: &[f32], bins: usize, lo: f32, hi: f32) -> Vec<f32> {
    let (mut lo, mut hi) = (lo, hi);
    if lo == hi && !x.is_empty() {
        (lo, hi) = min_max(x);
    }
    if lo == hi {
        (lo, hi) = (lo - 1.0, hi + 1.0);
    }
    let (count, width) = (bins as f32, hi - lo);
    let of = |part: &[f32]| {
        let mut counts = vec![0u32; bins];
        for v in part {
            if *v >= lo && *v <= hi {
                // In this order and precision: the edges fall where PyTorch's do.
                let bin = ((*v - lo) * count / width) as usize;
                counts[bin.min(bins - 1)] += 1;
            }
        }
        counts
    };
    let join = |mut a: Vec<u32>, b: Vec<u32>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    let counts = if x.len() <= PART { of(x) } else { x.par_chunks(PART).map(of).reduce(|| vec![0; bins], join) };
    counts.into_iter().map(|n| n as f32).collect()
}

/// `[batch, channels, pixels]` to `[batch, pixels, channels]`.
pub fn to_nhwc<T: Float>(x: &[T], channels: usize, pixels: usize, y: &mut [T]) {
    let image = channels * pixels;
    for_each_part(y, image, x.len(), |index, y| {
        let x = &x[index * image..(index + 1) * image];
        for (c, plane) in x.chunks_exact(pixels).enumerate() {
            y[c..].iter_mut().step_by(channels).zip(plane).for_each(|(y, x)| *y = *x);
        }
    });
}

/// `[batch, pixels, channels]` to `[batch, channels, pixels]`.
pub fn to_nchw<T: Float>(x: &[T], channels: usize, pixels: usize, y: &mut [T]) {
    to_nhwc(x, pixels, channels, y);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.histc(torch.tensor([...]), bins=4, min=0, max=1)`.
    #[test]
    fn histogram_counts_as_torch() {
        let x = [-0.1, 0.0, 0.24, 0.25, 0.5, 0.74, 0.99, 1.0, 1.01];
        assert_eq!(histogram(&x, 4, 0.0, 1.0), [2.0, 1.0, 2.0, 2.0]);
        assert_eq!(histogram(&[3.0, 3.0], 2, 5.0, 5.0), [0.0, 2.0], "widened to 2..=4");
    }

    #[test]
    fn extremes_of_many_parts() {
        let x: Vec<f32> = (0..3 * PART).map(|i| (i as f32 * 0.37).sin() * i as f32).collect();
        let expected = x.iter().fold((0.0f32, 0.0f32), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
        assert_eq!(min_max(&x), expected);
    }

    #[test]
    fn one_nan_is_not_passed_over() {
        for (len, at) in [(3, 1), (2 * PART + 5, 0), (2 * PART + 5, PART + 9), (2 * PART + 5, 2 * PART + 4)] {
            let mut x = vec![1.0; len];
            x[at] = f32::NAN;
            let (lo, hi) = min_max(&x);
            assert!(lo.is_nan() && hi.is_nan(), "value {at} of {len}");
        }
    }
}
