use super::*;
use crate::{
    graph::{Builder, Scheme, Shape},
    quant::{self, Backend, Problem, QConfig},
};

fn observers(kind: ObserverKind) -> (Observers, NodeId) {
    let (mut builder, x) = Builder::new("pool", Shape::new(1, 8, 8));
    builder.max_pool("pool", x);
    let (graph, _) = quant::insert_stubs(&builder.finish()).expect("a float graph");
    let config = QConfig::new(Backend::Onednn).with_observer(kind);
    let (graph, _) = quant::prepare(&graph, &config).expect("a float graph");
    (Observers::new(&graph).expect("prepared"), graph.require("quant").expect("inserted"))
}

fn show(kind: ObserverKind, batches: &[&[f32]]) -> (Observers, NodeId) {
    let (mut observers, node) = observers(kind);
    for batch in batches {
        observers.observe(node, &batch.to_vec()).expect("finite values");
    }
    (observers, node)
}

#[test]
fn min_max_keeps_the_extremes_of_all_batches() {
    let (observers, node) = show(ObserverKind::MinMax, &[&[-1.0, 2.0], &[0.5, 3.0], &[-0.5, 0.0]]);
    let ends = |r: &Range| (r.min, r.max);
    let history: Vec<_> = observers.history(node).iter().map(ends).collect();
    assert_eq!(history, [(-1.0, 2.0), (-1.0, 3.0), (-1.0, 3.0)]);
    let q = observers.qparams().expect("it saw data")["quant"];
    assert_eq!((q.scale, q.zero_point, q.qmax), (4.0 / 255.0, 64, 255));
}

#[test]
fn a_moving_average_goes_a_hundredth_of_the_way() {
    let (observers, node) = show(ObserverKind::MovingAverageMinMax, &[&[-1.0, 2.0], &[-3.0, 1.0]]);
    let range = observers.range(node).expect("it saw data");
    assert_eq!((range.min, range.max), (-1.0 - 0.01 * 2.0, 2.0 - 0.01));
    assert!(observers.histogram(node).is_none());
}

#[test]
fn a_range_without_zero_is_stretched_to_it() {
    let above = Range { min: 2.0, max: 5.1 }.affine(255);
    assert_eq!((above.scale, above.zero_point), (5.1 / 255.0, 0));
    let below = Range { min: -5.1, max: -2.0 }.affine(127);
    assert_eq!((below.scale, below.zero_point), (5.1 / 127.0, 127));
}

#[test]
fn what_is_not_finite_is_refused_by_name_and_leaves_the_observer() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // Once among the vectors, once in the rest behind them.
        for at in [3, 32] {
            let (mut observers, node) = show(ObserverKind::Histogram, &[&[-1.0, 1.0]]);
            let mut values = vec![0.0; 33];
            values[at] = bad;
            let error = observers.observe(node, &values).expect_err("not finite").to_string();
            assert!(error.contains("`quant`"), "{error}");
            assert_eq!(observers.range(node), Some(Range { min: -1.0, max: 1.0 }));
        }
    }
}

#[test]
fn an_observer_without_data_is_named() {
    let (mut observers, node) = observers(ObserverKind::Histogram);
    observers.observe(node, &Vec::new()).expect("no values are no error");
    assert_eq!(observers.qparams(), Err(QuantError::NotCalibrated { nodes: vec!["quant".to_owned()] }));
}

#[test]
fn a_histogram_cuts_a_thin_tail_off() {
    let logistic = |i: usize| {
        let u = (i as f32 + 0.5) / 100_000.0;
        (u / (1.0 - u)).ln()
    };
    let values: Vec<f32> = (0..100_000).map(logistic).collect();
    let (observers, node) = show(ObserverKind::Histogram, &[&values]);
    let (seen, clip) = (observers.range(node).expect("data"), observers.clip(node).expect("data"));
    assert!(0.5 * seen.max < clip.max && clip.max < 0.95 * seen.max, "{clip:?} of {seen:?}");
}

/// Each value on its own, as `torch.histc` is defined.
fn histc(values: &[f32], bins: usize, lo: f32, hi: f32) -> Vec<f32> {
    let mut counts = vec![0.0; bins];
    for x in values.iter().filter(|x| (lo..=hi).contains(*x)) {
        counts[(((x - lo) * bins as f32 / (hi - lo)) as usize).min(bins - 1)] += 1.0;
    }
    counts
}

#[test]
fn counting_in_blocks_is_counting_one_by_one() {
    for len in [0, 1, 15, 16, 511, 512, 513, 5000] {
        let values: Vec<f32> = (0..len).map(|i| ((i * 7919 % 1013) as f32 / 100.0 - 3.0).max(-2.0)).collect();
        for (bins, lo, hi) in [(2048, -2.0, 7.13), (10, -1.0, 1.0), (1, 0.0, 5.0)] {
            assert_eq!(values.histogram(bins, lo, hi), histc(&values, bins, lo, hi), "{len} values, {bins} bins");
        }
        let fold = |pick: fn(f32, f32) -> f32, start| values.iter().copied().fold(start, pick);
        assert_eq!(values.min_max(), (fold(f32::min, f32::INFINITY), fold(f32::max, f32::NEG_INFINITY)), "{len}");
    }
}

/// An observer of this kind at 0..=255 that has seen `values`, once.
fn seen(spec: ActivationSpec, values: &[f32]) -> (Observers, NodeId) {
    let (mut builder, x) = Builder::new("pool", Shape::new(1, 8, 8));
    builder.max_pool("pool", x);
    let (graph, _) = quant::insert_stubs(&builder.finish()).expect("a float graph");
    let config = QConfig { activation: spec, ..QConfig::new(Backend::Onednn) };
    let (graph, _) = quant::prepare(&graph, &config).expect("a float graph");
    let mut observers = Observers::new(&graph).expect("prepared");
    let node = graph.require("quant").expect("inserted");
    observers.observe(node, &values.to_vec()).expect("finite values");
    (observers, node)
}

fn clip_of(spec: ActivationSpec, values: &[f32]) -> Range {
    let (observers, node) = seen(spec, values);
    observers.clip(node).expect("it saw data")
}

/// `count` values evenly spread from `low` to `high`.
fn even(low: f32, high: f32, count: usize) -> Vec<f32> {
    (0..count).map(|i| low + (high - low) * (i as f32 + 0.5) / count as f32).collect()
}

/// Quantiles of a logistic distribution: a hump with long tails.
fn logistic(count: usize) -> Vec<f32> {
    let quantile = |u: f32| (u / (1.0 - u)).ln();
    even(0.0, 1.0, count).into_iter().map(quantile).collect()
}

#[test]
fn symmetric_levels_lie_on_both_sides_of_zero() {
    let range = Range { min: -1.0, max: 3.0 };
    for (quant_max, zero_point) in [(255, 128), (127, 64), (15, 8)] {
        let q = range.symmetric(quant_max);
        assert_eq!((q.scale, q.zero_point), (3.0 / (f32::from(quant_max) / 2.0), zero_point));
    }
    assert_eq!(Range { min: -3.0, max: -1.0 }.symmetric(255).scale, 3.0 / 127.5, "the side below counts as well");
    assert_eq!(Range { min: 0.0, max: 0.0 }.symmetric(255).scale, quant::EPS);
}

#[test]
fn fewer_bits_clamp_where_they_end() {
    let spec = ActivationSpec::new(ObserverKind::MinMax, 255).with_bits(4);
    let (observers, _) = seen(spec, &[-1.0, 2.0]);
    let q = observers.qparams().expect("it saw data")["quant"];
    assert_eq!((q.scale, q.zero_point, q.qmax), (3.0 / 15.0, 5, 15));
    assert_eq!(q.quantize(100.0), 15);
    let full = ActivationSpec::new(ObserverKind::MinMax, 127);
    let (observers, _) = seen(full, &[-1.0, 2.0]);
    assert_eq!(observers.qparams().expect("it saw data")["quant"].qmax, 255, "PyTorch's kernels clamp at 255");
}

#[test]
fn a_percentile_of_an_even_spread_is_its_part() {
    let values = even(-2.0, 6.0, 100_000);
    for percentile in [99.99, 99.0, 90.0, 60.0] {
        let spec = ActivationSpec { percentile, ..ActivationSpec::new(ObserverKind::Percentile, 255) };
        let clip = clip_of(spec, &values);
        // Half of what is cut lies on each side; a bin is 8 / 2048.
        let cut = 8.0 * (1.0 - percentile / 100.0) / 2.0;
        assert!(
            (clip.min - (-2.0 + cut)).abs() < 0.002 && (clip.max - (6.0 - cut)).abs() < 0.002,
            "{percentile}: {clip:?}"
        );
    }
    let all = ActivationSpec { percentile: 100.0, ..ActivationSpec::new(ObserverKind::Percentile, 255) };
    let clip = clip_of(all, &values);
    assert_eq!((clip.min, clip.max), (values[0], values[99_999]));
}

#[test]
fn a_percentile_is_what_sorting_gives() {
    let values = logistic(40_000);
    let spec = ActivationSpec { percentile: 99.0, ..ActivationSpec::new(ObserverKind::Percentile, 255) };
    let clip = clip_of(spec, &values);
    let bin = (values[39_999] - values[0]) / BINS as f32;
    assert!((clip.min - values[200]).abs() <= bin && (clip.max - values[39_799]).abs() <= bin, "{clip:?}");
}

/// Mean squared error of really quantizing the values, clamped at `quant_max`.
fn mean_squared_error(values: &[f32], range: Range, spec: &ActivationSpec) -> f64 {
    let q = QParams { qmax: spec.quant_max, ..range.qparams(spec) };
    values.iter().map(|x| f64::from(x - q.dequantize(q.quantize(*x))).powi(2)).sum::<f64>() / values.len() as f64
}

/// Values of several shapes: even, humps with tails, one-sided as behind a ReLU, one outlier.
fn shapes() -> Vec<(&'static str, Vec<f32>)> {
    let tails = logistic(20_000);
    let relu: Vec<f32> = tails.iter().map(|x| x.max(0.0)).collect();
    let below: Vec<f32> = tails.iter().map(|x| x.min(0.0)).collect();
    let lopsided: Vec<f32> = tails.iter().map(|x| if *x < 0.0 { 0.2 * x } else { 3.0 * x }).collect();
    let mut outlier = even(-1.0, 1.0, 20_000);
    outlier.push(60.0);
    vec![("tails", tails), ("relu", relu), ("below", below), ("lopsided", lopsided), ("outlier", outlier)]
}

#[test]
fn the_integral_of_the_error_is_the_error() {
    for (name, values) in shapes() {
        for spec in [127, 255, 15].map(|q| ActivationSpec::new(ObserverKind::Mse, q)) {
            let (observers, node) = seen(spec, &values);
            let histogram = observers.histogram(node).expect("it keeps one");
            for share in [1.0, 0.6, 0.25] {
                let Range { min, max } = histogram.range;
                let range = Range { min: min * share, max: max * share };
                let integral = mse::squared_error(histogram, range, &spec) / values.len() as f64;
                let sum = mean_squared_error(&values, range, &spec);
                // The integral takes values as uniform within a bin, so it is off by the bin's own variance at most.
                let bin = f64::from((max - min) / BINS as f32);
                let slack = bin * bin + 2.0 * bin * sum.sqrt();
                assert!(
                    (integral - sum).abs() <= slack + 1e-9,
                    "{name} {share} 0..{}: {integral:e} {sum:e}",
                    spec.quant_max
                );
            }
        }
    }
}

#[test]
fn the_mse_clip_is_as_good_as_trying_every_range() {
    for (name, values) in shapes() {
        for spec in [
            ActivationSpec::new(ObserverKind::Mse, 127),
            ActivationSpec::new(ObserverKind::Mse, 255).with_bits(4),
            ActivationSpec { scheme: Scheme::Symmetric, ..ActivationSpec::new(ObserverKind::Mse, 255).with_bits(6) },
        ] {
            let (observers, node) = seen(spec, &values);
            let histogram = observers.histogram(node).expect("it keeps one");
            let Range { min, max } = histogram.range;
            let mut best = f64::INFINITY;
            for low in 1..=64 {
                for high in 1..=64 {
                    let at = |end: f32, i: usize| end * i as f32 / 64.0;
                    let range = Range { min: at(min.min(0.0), low), max: at(max.max(0.0), high) };
                    best = best.min(mse::squared_error(histogram, range, &spec));
                }
            }
            let found = mse::squared_error(histogram, observers.clip(node).expect("data"), &spec);
            assert!(found <= 1.01 * best, "{name} 0..{} {:?}: {found:e}, best {best:e}", spec.quant_max, spec.scheme);
            let whole = mse::squared_error(histogram, Range { min, max }, &spec);
            assert!(found <= whole, "{name}: never worse than not clipping");
        }
    }
}

#[test]
fn an_outlier_is_cut_off_and_an_even_spread_is_kept() {
    let mut outlier = even(-1.0, 1.0, 2_000_000);
    outlier.push(60.0);
    let flat = even(-1.0, 1.0, 200_000);
    for observer in [ObserverKind::Percentile, ObserverKind::Mse, ObserverKind::Entropy] {
        let spec = ActivationSpec::new(observer, 127);
        let clip = clip_of(spec, &outlier);
        assert!(clip.max < 10.0, "{observer:?}: {clip:?}");
        let clip = clip_of(spec, &flat);
        assert!(clip.min < -0.95 && clip.max > 0.95, "{observer:?}: {clip:?}");
    }
}

/// The divergence written out: the two distributions bin by bin, then `sum p * ln(p / q)`.
fn divergence_by_hand(counts: &[f64], first: usize, end: usize, levels: usize) -> f64 {
    let mut p: Vec<f64> = counts[first..end].to_vec();
    p[0] += counts[..first].iter().sum::<f64>();
    let last = p.len() - 1;
    p[last] += counts[end..].iter().sum::<f64>();
    let bins = p.len();
    // The level of bin i is the last one whose first bin is not beyond it.
    let level_of = |i: usize| (0..levels).rev().find(|l| l * bins / levels <= i).expect("the first level starts at 0");
    let mut q = vec![0.0; bins];
    for i in 0..bins {
        let same: Vec<usize> = (0..bins).filter(|j| level_of(*j) == level_of(i)).collect();
        let held = same.iter().filter(|j| p[**j] > 0.0).count();
        if p[i] > 0.0 {
            q[i] = same.iter().map(|j| counts[first + j]).sum::<f64>() / held as f64;
        }
    }
    let (all, kept): (f64, f64) = (p.iter().sum(), q.iter().sum());
    let part =
        |(p, q): (&f64, &f64)| if *p > 0.0 { p / all * ((p / all) / (q / kept).max(1e-6 / all)).ln() } else { 0.0 };
    p.iter().zip(&q).map(part).sum()
}

#[test]
fn the_divergence_is_what_its_definition_gives() {
    let counts: Vec<f64> = (0..97).map(|i| f64::from((i * 7919 % 31) * u32::from(i % 5 != 0))).collect();
    for (first, end, levels) in [(0, 97, 16), (0, 97, 97), (10, 80, 16), (3, 90, 7), (40, 60, 20)] {
        let (found, expected) =
            (entropy::divergence(&counts, first, end, levels), divergence_by_hand(&counts, first, end, levels));
        assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "{first}..{end}: {found} {expected}");
    }
    let flat = vec![3.0; 64];
    assert!(entropy::divergence(&flat, 0, 64, 16).abs() < 1e-12, "levels lose nothing of an even spread");
}

#[test]
fn entropy_clips_a_hump_with_tails_and_the_zeros_of_relu_do_not_matter() {
    let values = logistic(200_000);
    let spec = ActivationSpec::new(ObserverKind::Entropy, 127);
    let clip = clip_of(spec, &values);
    assert!(clip.max < 0.95 * values[199_999] && clip.max > 0.3 * values[199_999], "{clip:?}");
    let relu: Vec<f32> = values.iter().map(|x| x.max(0.0)).collect();
    let clip = clip_of(spec, &relu);
    assert!(clip.min == 0.0 && clip.max > 0.3 * values[199_999], "{clip:?}");
}

#[test]
fn one_value_alone_is_a_dead_range_and_no_value_is_no_data() {
    for observer in ObserverKind::OF_ACTIVATIONS {
        let spec = ActivationSpec::new(observer, 255);
        let problems = |values: &[f32]| -> Vec<Problem> {
            seen(spec, values).0.warnings().into_iter().map(|w| w.problem).collect()
        };
        assert_eq!(problems(&[0.0; 40]), [Problem::DeadRange { min: 0.0, max: 0.0 }], "{observer:?}");
        assert_eq!(problems(&[]), [Problem::NoData], "{observer:?}");
        assert_eq!(problems(&[0.0, 0.5]), [], "{observer:?}");
        assert_eq!(problems(&[2.0; 40]), [], "{observer:?}: zero belongs to the range");
        let (observers, _) = seen(spec, &[0.0; 40]);
        assert_eq!(observers.qparams().expect("it saw data")["quant"].scale, quant::EPS, "{observer:?}");
    }
}
