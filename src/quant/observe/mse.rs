use super::{BINS, Histogram, Range};
use crate::graph::{ActivationSpec, Scheme};

/// Steps of the first search over one end of the range; both ends are searched together where both can be clipped.
const COARSE: usize = 32;
/// Each later search looks at so many steps to both sides of the best so far, each so many times finer than before.
const AROUND: usize = 4;
/// How often the search is refined: the last step is 1/2,048 of the range.
const ROUNDS: usize = 3;

/// The range whose levels lose least over the values seen: the mean of `(x - quantize(x))^2`, what lies outside clipped.
/// Searched over both ends between zero and the extremes, coarse to fine; under a symmetric scheme the two are one.
pub(super) fn mse_clip(histogram: &Histogram, spec: &ActivationSpec) -> Range {
    let Range { min, max } = histogram.range;
    if min == max {
        return histogram.range;
    }
    let (low, high) = match spec.scheme {
        Scheme::Affine => (min.min(0.0), max.max(0.0)),
        Scheme::Symmetric => (0.0, max.max(-min)),
    };
    // A side without values has nothing to clip: its end stays.
    let at =
        |share: [f64; 2]| Range { min: (f64::from(low) * share[0]) as f32, max: (f64::from(high) * share[1]) as f32 };
    let sides = [low < 0.0, high > 0.0];
    let mut best = ([1.0, 1.0], squared_error(histogram, at([1.0, 1.0]), spec));
    let mut step = 1.0 / COARSE as f64;
    let mut offsets: Vec<f64> = (0..COARSE).map(|i| -(i as f64)).collect();
    for _ in 0..ROUNDS {
        let centre = best.0;
        let moves = |side: usize| if sides[side] { offsets.as_slice() } else { &[0.0] };
        for a in moves(0) {
            for b in moves(1) {
                let share = [centre[0] + a * step, centre[1] + b * step];
                if share.iter().all(|s| *s > 0.0 && *s <= 1.0) {
                    let error = squared_error(histogram, at(share), spec);
                    if error < best.1 {
                        best = (share, error);
                    }
                }
            }
        }
        step /= 2.0 * AROUND as f64;
        let reach = 2 * AROUND as i32;
        offsets = (-reach..=reach).map(f64::from).collect();
    }
    at(best.0)
}

/// The sum over all values of their squared distance to the nearest level that `spec` lays over `clip`, values uniform
/// within a bin. Exact: with levels `k * scale` and `r = x - k * scale` to the nearest, the integral of `r^2` up to `x` is
/// `k * scale^3 / 12 + r^3 / 3`, and beyond the last level `r` simply grows.
pub(super) fn squared_error(histogram: &Histogram, clip: Range, spec: &ActivationSpec) -> f64 {
    let q = clip.qparams(spec);
    let scale = f64::from(q.scale);
    let (first, last) = (-f64::from(q.zero_point), f64::from(spec.quant_max) - f64::from(q.zero_point));
    let integral = |x: f64| {
        let k = (x / scale).round_ties_even().clamp(first, last);
        let r = x - k * scale;
        k * scale * scale * scale / 12.0 + r * r * r / 3.0
    };
    let min = f64::from(histogram.range.min);
    let width = (f64::from(histogram.range.max) - min) / BINS as f64;
    let mut before = integral(min);
    let mut error = 0.0;
    for (bin, count) in histogram.counts.iter().enumerate() {
        let after = integral(min + width * (bin + 1) as f64);
        error += f64::from(*count) / width * (after - before);
        before = after;
    }
    error
}
