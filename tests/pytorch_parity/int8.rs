//! The int8 engine, fed PyTorch's own scales and zero points: every logit is PyTorch's, integer for integer, on every
//! instruction set of this CPU.

use std::collections::BTreeMap;

use octet::{
    exec::int8::{Plan, PlanOptions},
    graph::{Graph, QParams},
    kernels::Isa,
};

use crate::{
    golden::{Golden, ObserverRecord, ensure},
    weights::converted,
};

pub fn compare(golden: &Golden) -> Result<(), String> {
    let fused = golden.fused()?;
    for isa in Isa::ALL.iter().copied().filter(|i| i.is_available()) {
        compare_on(golden, &fused, isa)?;
    }
    Ok(())
}

/// On one instruction set.
pub fn compare_on(golden: &Golden, fused: &Graph, isa: Isa) -> Result<(), String> {
    compare_run(golden, fused, isa, &golden.minmax_qparams, "minmax_int8_logits")?;
    compare_run(golden, fused, isa, &golden.default_qparams, "default_int8_logits")
}

fn compare_run(
    golden: &Golden,
    fused: &Graph,
    isa: Isa,
    qparams: &BTreeMap<String, ObserverRecord>,
    name: &str,
) -> Result<(), String> {
    let expected = golden.logits(name)?;
    let (images, count) = golden.probe(expected);
    let graph = converted(golden, fused, qparams)?;
    let mut plan = Plan::new(&graph, &PlanOptions { isa: Some(isa), threads: 2 }).map_err(|e| e.to_string())?;
    let found = plan.run(&images, count);
    let head = head(&graph)?;
    let differ = plan.output_levels().iter().zip(expected).filter(|(q, x)| i32::from(**q) != level(head, **x)).count();
    ensure(differ == 0, || format!("`{name}` on {isa}: {differ} of {} integers differ", expected.len()))?;
    // As float32 too: a logit that is no multiple of the scale would round to the right integer.
    ensure(found == expected, || format!("`{name}` on {isa}: integers agree, but a logit is no multiple of the scale"))
}

/// Scale and zero point of the logits.
pub fn head(graph: &Graph) -> Result<QParams, String> {
    let last = graph.node(graph.node(graph.output()).inputs[0]);
    last.numeric.qparams().ok_or_else(|| format!("`{}` is not int8", last.name))
}

/// The integer that a logit stands for.
pub fn level(head: QParams, logit: f32) -> i32 {
    (logit / head.scale).round() as i32 + i32::from(head.zero_point)
}

crate::for_each_model!(compare);
