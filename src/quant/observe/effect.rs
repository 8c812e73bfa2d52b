use super::{BINS, Histogram, Range};
use crate::graph::{ActivationSpec, QParams};

/// What levels over a range do to the values that a histogram counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeEffect {
    /// Scale and zero point.
    pub qparams: QParams,
    /// `10 * log10(sum(x^2) / sum((x - quantize(x))^2))`, infinite where nothing is lost.
    pub sqnr_db: f64,
    /// Fraction of the values that lie beyond the first or last level.
    pub clipped: f64,
    /// Mean of `(x - quantize(x))^2` over all values, as far as it comes from those within the levels: rounding.
    pub rounding: f64,
    /// The same as far as it comes from those beyond: clipping.
    pub clipping: f64,
}

impl RangeEffect {
    /// Levels as the kernels have them: 0..=`qmax`, which under `reduce_range` reach past `range`. Values are taken as
    /// uniform within a bin, and the error is integrated exactly: with `r = x - k * scale` to the nearest level `k`, the
    /// integral of `r^2` up to `x` is `k * scale^3 / 12 + r^3 / 3`.
    pub(super) fn of(histogram: &Histogram, range: Range, spec: &ActivationSpec) -> Self {
        Self::with(histogram, range.qparams(spec))
    }

    /// The same of any scale, zero point and largest level.
    pub fn with(histogram: &Histogram, qparams: QParams) -> Self {
        let scale = f64::from(qparams.scale);
        let zero = f64::from(qparams.zero_point);
        let (first, last) = (-zero, f64::from(qparams.qmax) - zero);
        let (low, high) = ((first - 0.5) * scale, (last + 0.5) * scale);
        let error = |x: f64| {
            let k = (x / scale).round_ties_even().clamp(first, last);
            let r = x - k * scale;
            k * scale * scale * scale / 12.0 + r * r * r / 3.0
        };
        let (min, max) = (f64::from(histogram.range.min), f64::from(histogram.range.max));
        // A constant has its values in a bin of no width.
        let width = ((max - min) / BINS as f64).max(f64::MIN_POSITIVE);
        let (mut signal, mut noise, mut beyond, mut clipped, mut total) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (bin, count) in histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let count = f64::from(*count);
            total += count;
            if min == max {
                let k = (min / scale).round_ties_even().clamp(first, last);
                signal += count * min * min;
                let (lost, outside) = (count * (min - k * scale).powi(2), min < low || min > high);
                noise += lost;
                beyond += if outside { lost } else { 0.0 };
                clipped += if outside { count } else { 0.0 };
                continue;
            }
            let (from, to) = (min + width * bin as f64, min + width * (bin + 1) as f64);
            signal += count * (to * to + to * from + from * from) / 3.0;
            noise += count / width * (error(to) - error(from));
            // The part of the bin on either side, whose error is clipping's.
            for (a, b) in [(from, low.clamp(from, to)), (high.clamp(from, to), to)] {
                beyond += count / width * (error(b) - error(a));
            }
            let outside = (low.min(to) - from).max(0.0) + (to - high.max(from)).max(0.0);
            clipped += count * (outside / width).min(1.0);
        }
        let lost = noise.max(0.0);
        let sqnr_db = if lost == 0.0 { f64::INFINITY } else { 10.0 * (signal / lost).log10() };
        let share = |part: f64| if total > 0.0 { part / total } else { 0.0 };
        let clipping = beyond.clamp(0.0, lost);
        Self { qparams, sqnr_db, clipped: share(clipped), rounding: share(lost - clipping), clipping: share(clipping) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ObserverKind;

    fn histogram(values: &[f32]) -> Histogram {
        let (min, max) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        Histogram::first(Range { min, max }, &values.to_vec())
    }

    /// Against every value quantized by itself.
    #[test]
    fn it_is_what_quantizing_every_value_gives() {
        let values: Vec<f32> = (0..40_000).map(|i| ((i as f32 * 0.618_034).fract() - 0.3) * 6.0).collect();
        let histogram = histogram(&values);
        for (quant_max, range) in [
            (255, Range { min: -1.0, max: 2.0 }),
            (255, Range { min: -1.8, max: 4.2 }),
            (127, Range { min: -0.5, max: 1.0 }),
            (15, Range { min: -1.8, max: 4.2 }),
        ] {
            let bits = if quant_max == 15 { 4 } else { 8 };
            let spec = ActivationSpec { bits, ..ActivationSpec::new(ObserverKind::Histogram, quant_max) };
            let found = RangeEffect::of(&histogram, range, &spec);
            let q = found.qparams;
            let (mut signal, mut noise, mut beyond, mut clipped) = (0.0, 0.0, 0.0, 0);
            for v in &values {
                let back = q.dequantize(q.quantize(*v));
                signal += f64::from(*v).powi(2);
                noise += f64::from(*v - back).powi(2);
                clipped += usize::from((v - back).abs() > q.scale * 0.51);
                beyond += if (v - back).abs() > q.scale * 0.5001 { f64::from(*v - back).powi(2) } else { 0.0 };
            }
            let mean = |sum: f64| sum / values.len() as f64;
            let (rounding, clipping) = (mean(noise - beyond), mean(beyond));
            let close = |a: f64, b: f64| (a - b).abs() <= 0.02 * b + 0.001 * mean(noise);
            assert!(close(found.rounding, rounding), "{quant_max} {range:?}: {} {rounding}", found.rounding);
            assert!(close(found.clipping, clipping), "{quant_max} {range:?}: {} {clipping}", found.clipping);
            let expected = 10.0 * (signal / noise).log10();
            assert!((found.sqnr_db - expected).abs() < 0.05, "{quant_max} {range:?}: {} {expected}", found.sqnr_db);
            let share = clipped as f64 / values.len() as f64;
            assert!((found.clipped - share).abs() < 0.01, "{quant_max} {range:?}: {} {share}", found.clipped);
        }
    }

    #[test]
    fn a_constant_loses_nothing_inside_its_range() {
        let spec = ActivationSpec::new(ObserverKind::Histogram, 255);
        let histogram = histogram(&[2.0; 50]);
        assert_eq!(RangeEffect::of(&histogram, Range { min: 0.0, max: 1.0 }, &spec).clipped, 1.0);
        let inside = RangeEffect::of(&histogram, Range { min: 0.0, max: 2.0 }, &spec);
        assert!(inside.clipped == 0.0 && inside.sqnr_db > 100.0, "{inside:?}");
    }
}
