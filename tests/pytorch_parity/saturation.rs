//! Where fbgemm goes wrong at 0..255: its depthwise kernels add two products in 16 bits. PyTorch's own logits there differ
//! from the golden files, which hold exact arithmetic; the detector must find those layers, and only depthwise models
//! have them.

use octet::{
    analysis::{Neighbours, Saturation, SaturationDetector},
    exec::int8::{Plan, PlanOptions},
};

use crate::{
    golden::{Golden, MODELS, engines, ensure, folder},
    weights::converted,
};

#[test]
fn depthwise_layers_overflow_at_0_to_255() {
    let mut failures = Vec::new();
    for (model, engine) in MODELS.into_iter().flat_map(|m| engines(m).into_iter().map(move |e| (m, e))) {
        if let Err(difference) = Golden::read(&folder(), model, engine).and_then(|golden| compare(&golden)) {
            failures.push(format!("{model} {engine}: {difference}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn compare(golden: &Golden) -> Result<(), String> {
    let fused = golden.fused()?;
    for (name, records) in [("minmax", &golden.minmax_qparams), ("default", &golden.default_qparams)] {
        let graph = converted(golden, &fused, records)?;
        let (images, count) = golden.probe(golden.logits(&format!("{name}_int8_logits"))?);
        let mut plan = Plan::new(&graph, &PlanOptions { isa: None, threads: 2 }).map_err(|e| e.to_string())?;
        let mut detector = SaturationDetector::new(&graph);
        detector.count(&mut plan, &images, count).map_err(|e| e.to_string())?;
        let found = detector.finish();
        let (taps, channels) = (Kind::of(&found, Neighbours::Taps), Kind::of(&found, Neighbours::Channels));
        println!("{} {} {name}: depthwise {taps}; dense {channels}", golden.model.0, golden.engine);
        // At 0..127 a sum leaves 16 bits only where levels beyond the layout occur: PyTorch clamps at 255.
        if golden.engine == "onednn" {
            ensure((taps.overflowing > 0) == (taps.layers > 0), || format!("{name}: depthwise {taps}"))?;
        }
        let bounded = found.layers.iter().all(|l| {
            l.worst.is_none_or(|w| (l.layer.bound.low..=l.layer.bound.high).contains(&w) && i16::try_from(w).is_err())
        });
        ensure(bounded, || format!("{name}: a sum beyond what the weights allow"))?;
    }
    Ok(())
}

struct Kind {
    layers: usize,
    overflowing: usize,
    possible: usize,
    saturated: u64,
    pairs: u64,
}

impl Kind {
    fn of(found: &Saturation, neighbours: Neighbours) -> Self {
        let mut kind = Self { layers: 0, overflowing: 0, possible: 0, saturated: 0, pairs: 0 };
        for l in found.layers.iter().filter(|l| l.layer.neighbours == neighbours) {
            kind.layers += 1;
            kind.overflowing += usize::from(l.saturated > 0);
            kind.possible += usize::from(!l.layer.bound.is_safe());
            kind.saturated += l.saturated;
            kind.pairs += l.pairs;
        }
        kind
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { layers, overflowing, possible, saturated, pairs } = self;
        write!(f, "{overflowing} of {layers} layers overflow ({possible} could), {saturated} of {pairs} sums")
    }
}
