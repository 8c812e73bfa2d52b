use super::*;
use crate::{
    graph::{Builder, Shape},
    quant::{self, Backend, QConfig},
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
