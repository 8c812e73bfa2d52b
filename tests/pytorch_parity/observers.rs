//! Where observers sit, and what they make of what they see.

use std::collections::BTreeSet;

use octet::{
    graph::{Builder, Graph, NodeId, ObserverKind, Shape},
    quant::{self, Backend, Observers, QConfig},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    golden::{self, Golden, MODELS},
    synth,
};

#[test]
fn observers_sit_where_pytorchs_do() {
    for model in MODELS {
        for engine in ["x86", "onednn"] {
            let golden = Golden::read(model, engine);
            let config = engine.parse().expect("a qconfig");
            let (prepared, report) = quant::prepare(&golden.fused(), &config).expect("a fused graph");
            let found: BTreeSet<String> = Observers::new(&prepared)
                .expect("prepared")
                .nodes()
                .map(|id| golden::observer_name(prepared.node(id)))
                .collect();
            for qparams in [&golden.default_qparams, &golden.minmax_qparams] {
                let ran = qparams.iter().filter(|(_, o)| o.min.is_some());
                let expected: BTreeSet<String> = ran.map(|(name, _)| name.clone()).collect();
                assert_eq!(found, expected, "{model} {engine}");
            }
            assert_eq!((report.observed.len(), report.warnings.len()), (found.len(), 0), "{model} {engine}");
        }
    }
}

/// A graph with one observer, on `quant`.
fn one_observer(observer: ObserverKind, quant_max: u8) -> (Graph, NodeId) {
    let (mut builder, x) = Builder::new("one", Shape::new(3, 4, 4));
    builder.max_pool("pool", x);
    let (graph, _) = quant::insert_stubs(&builder.finish()).expect("a float graph");
    let backend = if quant_max == 127 { Backend::X86 } else { Backend::Onednn };
    let (graph, _) = quant::prepare(&graph, &QConfig::new(backend).with_observer(observer)).expect("a float graph");
    let quant = graph.require("quant").expect("inserted");
    (graph, quant)
}

#[test]
fn min_and_max_give_pytorchs_scales() {
    for model in MODELS {
        for engine in ["x86", "onednn"] {
            for (name, record) in Golden::read(model, engine).minmax_qparams {
                let (Some(min), Some(max)) = (record.min, record.max) else { continue };
                let (graph, quant) = one_observer(ObserverKind::MinMax, record.quant_max);
                let mut observers = Observers::new(&graph).expect("prepared");
                observers.observe(quant, &vec![max, min]).expect("finite values");
                let found = observers.qparams().expect("it saw data")["quant"];
                assert_eq!(
                    (vec![found.scale], vec![i32::from(found.zero_point)], 0),
                    (record.scale, record.zero_point, record.quant_min),
                    "{model} {engine} {name}"
                );
            }
        }
    }
}

/// What PyTorch's HistogramObserver made of a few synthetic batches: `histogram_observer.py` wrote it.
#[derive(Deserialize)]
struct HistogramCase {
    title: String,
    quant_max: u8,
    batches: Vec<Batch>,
    min: f32,
    max: f32,
    clip_min: f32,
    clip_max: f32,
    scale: f32,
    zero_point: u8,
    counts_sum: f64,
    counts_sha256: String,
}

#[derive(Deserialize)]
struct Batch {
    name: String,
    count: usize,
    low: f64,
    high: f64,
    power: i32,
}

impl Batch {
    fn values(&self) -> Vec<f32> {
        let value = |u: f64| self.low + (self.high - self.low) * (1..self.power).fold(u, |v, _| v * u);
        synth::uniform(&self.name, 0, self.count).map(|u| value(u) as f32).collect()
    }
}

#[test]
fn histograms_clip_as_pytorchs_do() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/histogram_observer.json");
    for case in golden::read_json::<Vec<HistogramCase>>(path.into()) {
        let what = format!("{} at 0..{}", case.title, case.quant_max);
        let (graph, quant) = one_observer(ObserverKind::Histogram, case.quant_max);
        let mut observers = Observers::new(&graph).expect("prepared");
        for batch in &case.batches {
            observers.observe(quant, &batch.values()).expect("finite values");
        }
        let histogram = observers.histogram(quant).expect("it saw data");
        assert_eq!((histogram.range.min, histogram.range.max), (case.min, case.max), "{what}");
        let sum: f64 = histogram.counts.iter().map(|c| f64::from(*c)).sum();
        assert_eq!(sum, case.counts_sum, "{what}");
        let bytes: Vec<u8> = histogram.counts.iter().flat_map(|c| c.to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, case.counts_sha256, "{what}: the counts");
        let clip = observers.clip(quant).expect("it saw data");
        assert_eq!((clip.min, clip.max), (case.clip_min, case.clip_max), "{what}");
        let found = observers.qparams().expect("it saw data")["quant"];
        assert_eq!((found.scale, found.zero_point), (case.scale, case.zero_point), "{what}");
        assert_eq!(observers.history(quant).len(), case.batches.len(), "{what}");
    }
}
