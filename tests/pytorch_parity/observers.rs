//! What observers make of what they see, without running a model.

use octet::{
    graph::{Builder, Graph, NodeId, ObserverKind, Shape},
    quant::{self, Backend, Observers, QConfig},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    golden::{Golden, ensure, read_json},
    synth,
};

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

/// The extremes that PyTorch recorded give the scales that it recorded, to the bit.
fn compare(golden: &Golden) -> Result<(), String> {
    for (name, record) in &golden.minmax_qparams {
        let (Some(min), Some(max)) = (record.min, record.max) else { continue };
        let (graph, quant) = one_observer(ObserverKind::MinMax, record.quant_max);
        let mut observers = Observers::new(&graph).expect("prepared");
        observers.observe(quant, &vec![max, min]).map_err(|e| format!("`{name}`: {e}"))?;
        let found = observers.qparams().expect("it saw data")["quant"];
        let expected = record.qparams(name)?;
        ensure(found == expected, || format!("`{name}`: {found:?}, expected {expected:?}"))?;
    }
    Ok(())
}

crate::for_each_model!(compare);

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
    for case in read_json::<Vec<HistogramCase>>(path.as_ref()).expect("written by PyTorch") {
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
