//! Numbers at their ends: sums as large as they get, images and weights that are none, data with nothing in it. Each is
//! computed right on every instruction set, or refused by its name.

mod accumulators;
mod activations;
mod data;

use std::collections::BTreeMap;

use octet::exec::int8::{Plan, PlanOptions};
use octet::graph::{Graph, Numeric, QParams};
use octet::kernels::Isa;
use octet::quant::{self, FuseOptions, QConfig};

/// The instruction sets of this CPU.
fn instruction_sets() -> Vec<Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.is_available()).collect()
}

fn plan(graph: &Graph, isa: Isa) -> Plan {
    Plan::new(graph, &PlanOptions { isa: Some(isa), threads: 1 }).expect("an int8 graph")
}

/// Logits of one image on every instruction set, which must agree bit by bit, with the levels of every node on the way.
fn run(graph: &Graph, image: &[f32]) -> Vec<f32> {
    let mut first: Option<(Vec<f32>, Vec<Vec<u8>>)> = None;
    for isa in instruction_sets() {
        let mut levels = Vec::new();
        let mut plan = plan(graph, isa);
        let fused = plan.run(image, 1);
        let traced = plan.run_traced(image, 1, &mut |_, found| levels.push(found.to_vec())).expect("the same graph");
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&fused), bits(&traced), "{isa}: fused and not");
        match &first {
            None => first = Some((fused, levels)),
            Some((logits, expected)) => {
                assert!(levels == *expected, "{isa}: other levels than {}", Isa::Scalar);
                assert_eq!(bits(&fused), bits(logits), "{isa}");
            }
        }
    }
    first.expect("scalar is always there").0
}

/// A float graph with every activation quantized alike: no image is needed for it.
fn converted(float: &Graph, levels: QParams) -> Graph {
    let config = QConfig::default();
    let (stubbed, _) = quant::insert_stubs(float).expect("a float graph");
    let (fused, _) = quant::fuse(&stubbed, &FuseOptions::default()).expect("a float graph");
    let (prepared, _) = quant::prepare(&fused, &config).expect("every operation can be quantized");
    let observed = prepared.nodes.iter().filter(|n| matches!(n.numeric, Numeric::Observed(_)));
    let qparams: BTreeMap<String, QParams> = observed.map(|n| (n.name.clone(), levels)).collect();
    quant::convert(&prepared, &qparams, &config).expect("a scale for each").0
}
