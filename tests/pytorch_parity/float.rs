//! The float executor against PyTorch's float logits, before and after fusion.

use octet::{
    exec::float::{Device, Model},
    graph::Graph,
};

use crate::golden::{Golden, ensure};

/// Relative to the largest logit: sums are taken in another order than PyTorch's.
const TOLERANCE: f32 = 1e-4;

pub fn compare(golden: &Golden) -> Result<(), String> {
    compare_logits(golden, &golden.float()?, "float_logits")?;
    compare_logits(golden, &golden.fused()?, "fused_logits")
}

fn compare_logits(golden: &Golden, graph: &Graph, name: &str) -> Result<(), String> {
    let expected = golden.logits(name)?;
    let (images, count) = golden.probe(expected);
    let found = Model::new(graph, &Device::Cpu).and_then(|m| m.run(&images, count)).map_err(|e| e.to_string())?;
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let off = found.iter().zip(expected).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs())) / largest;
    println!("{} {} {name}: off by {off:.1e} of the largest logit", golden.model.0, golden.engine);
    ensure(found.len() == expected.len() && off < TOLERANCE, || {
        format!("`{name}` is off by {off:e} of the largest logit, {TOLERANCE:e} is allowed")
    })
}

crate::for_each_model!(compare);
