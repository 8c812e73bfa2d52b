use super::{BINS, Histogram, Range};

/// The range that holds `percent` of the values, half of the rest below it and half above: what ONNX Runtime's
/// `PercentileCalibrater` does with an asymmetric range. Values are taken as uniform within a bin.
pub(super) fn percentile_clip(histogram: &Histogram, percent: f32) -> Range {
    let total: f64 = histogram.counts.iter().map(|c| f64::from(*c)).sum();
    let tail = total * (1.0 - f64::from(percent) / 100.0) / 2.0;
    let Range { min, max } = histogram.range;
    if total == 0.0 || min == max {
        return histogram.range;
    }
    let below = depth(histogram.counts.iter(), tail);
    let above = depth(histogram.counts.iter().rev(), tail);
    let width = (f64::from(max) - f64::from(min)) / BINS as f64;
    Range { min: (f64::from(min) + below * width) as f32, max: (f64::from(max) - above * width) as f32 }
}

/// How many bins from one end hold `mass`.
fn depth<'a>(counts: impl Iterator<Item = &'a f32>, mass: f64) -> f64 {
    let mut left = mass;
    let mut bins = 0.0;
    for count in counts {
        let count = f64::from(*count);
        if count > left {
            return bins + left / count;
        }
        left -= count;
        bins += 1.0;
    }
    bins
}
