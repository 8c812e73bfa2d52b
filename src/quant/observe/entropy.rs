use super::{BINS, Histogram, Range};
use crate::graph::{ActivationSpec, Scheme};

/// Bins from one candidate to the next: a 256th of the range.
const STRIDE: usize = 8;
/// What a bin gets that no level stands for, as a share of all values: a divergence must stay finite.
const FLOOR: f64 = 1e-6;

/// The range whose levels keep most of what the distribution says: of all thresholds `t`, values clipped to `-t..=t`, the
/// one with the smallest Kullback-Leibler divergence between the histogram and the histogram as seen through the levels.
/// The method of TensorRT's entropy calibrator (S. Migacz, "8-bit inference with TensorRT", GTC 2017) and of ONNX
/// Runtime's `EntropyCalibrater`; as NVIDIA's `pytorch-quantization` does, the bin of zero, which is always a level, counts
/// as its neighbours do, or the zeros behind a ReLU would drown everything else.
pub(super) fn entropy_clip(histogram: &Histogram, spec: &ActivationSpec) -> Range {
    let Range { min, max } = histogram.range;
    if min == max {
        return histogram.range;
    }
    let counts = without_zeros(histogram);
    let (min, max) = (f64::from(min), f64::from(max));
    let width = (max - min) / BINS as f64;
    let mut best = (f64::INFINITY, 0, BINS);
    for back in (0..BINS).step_by(STRIDE) {
        let threshold = max.abs().max(min.abs()) - back as f64 * width;
        // The bins that lie within the threshold; half a bin of rounding is nobody's loss.
        let first = ((-threshold - min) / width).round().clamp(0.0, BINS as f64) as usize;
        let end = ((threshold - min) / width).round().clamp(0.0, BINS as f64) as usize;
        let levels = levels_inside(first, end, threshold / width, spec);
        if end <= first || end - first < levels {
            break;
        }
        let divergence = divergence(&counts, first, end, levels);
        if divergence < best.0 {
            best = (divergence, first, end);
        }
    }
    let (_, first, end) = best;
    Range { min: (min + first as f64 * width) as f32, max: (min + end as f64 * width) as f32 }
}

/// Levels that lie over the bins `first..end`: all of them where they are affine, else those on the side in use.
fn levels_inside(first: usize, end: usize, threshold_bins: f64, spec: &ActivationSpec) -> usize {
    let all = usize::from(spec.quant_max) + 1;
    match spec.scheme {
        Scheme::Affine => all,
        Scheme::Symmetric => {
            let share = end.saturating_sub(first) as f64 / (2.0 * threshold_bins).max(1.0);
            ((all as f64 * share).round() as usize).clamp(1, all)
        }
    }
}

/// The counts, that of the bin of zero replaced by the mean of its neighbours'.
fn without_zeros(histogram: &Histogram) -> Vec<f64> {
    let mut counts: Vec<f64> = histogram.counts.iter().map(|c| f64::from(*c)).collect();
    let Range { min, max } = histogram.range;
    if min <= 0.0 && max >= 0.0 {
        let bin = (((0.0 - min) * BINS as f32 / (max - min)) as usize).min(BINS - 1);
        let beside: Vec<f64> =
            [bin.checked_sub(1), Some(bin + 1)].into_iter().flatten().filter_map(|i| counts.get(i).copied()).collect();
        counts[bin] = beside.iter().sum::<f64>() / beside.len() as f64;
    }
    counts
}

/// The divergence of the bins `first..end`, the values outside put into the outermost of them, from the same bins with
/// each level's values (those outside not) spread evenly over its bins that hold any.
pub(super) fn divergence(counts: &[f64], first: usize, end: usize, levels: usize) -> f64 {
    let bins = end - first;
    let inside = &counts[first..end];
    let below: f64 = counts[..first].iter().sum();
    let above: f64 = counts[end..].iter().sum();
    let clipped = |i: usize| inside[i] + if i == 0 { below } else { 0.0 } + if i + 1 == bins { above } else { 0.0 };
    let all: f64 = counts.iter().sum();
    let kept: f64 = inside.iter().sum();
    if kept == 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    let mut from = 0;
    for level in 0..levels {
        let to = (level + 1) * bins / levels;
        let held = (from..to).filter(|i| clipped(*i) > 0.0).count();
        let mass: f64 = inside[from..to].iter().sum();
        let seen = (mass / held.max(1) as f64 / kept).max(FLOOR / all.max(1.0));
        for i in from..to {
            let p = clipped(i) / all;
            if p > 0.0 {
                sum += p * (p / seen).ln();
            }
        }
        from = to;
    }
    sum
}
