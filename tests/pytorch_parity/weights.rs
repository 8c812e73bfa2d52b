//! Folding and weight quantization: int8 weights by digest, scales and biases by sums.

use std::collections::BTreeMap;

use octet::{
    graph::{Conv2d, Graph, Linear, Node, Op},
    quant,
};
use sha2::{Digest, Sha256};

use crate::golden::{self, Golden, LayerRecord, ObserverRecord, ensure};

/// The int8 graph with PyTorch's own scales and zero points.
pub fn converted(golden: &Golden, fused: &Graph, qparams: &BTreeMap<String, ObserverRecord>) -> Result<Graph, String> {
    let config = golden.config()?;
    let (prepared, report) = quant::prepare(fused, &config).map_err(|e| e.to_string())?;
    let mut given = BTreeMap::new();
    for observed in report.observed {
        let node = prepared.node(prepared.require(&observed.name).map_err(|e| e.to_string())?);
        let name = golden::observer_name(node);
        let record = qparams.get(&name).ok_or_else(|| format!("PyTorch has no observer `{name}`"))?;
        given.insert(observed.name, record.qparams(&name)?);
    }
    Ok(quant::convert(&prepared, &given, &config).map_err(|e| e.to_string())?.0)
}

pub fn compare(golden: &Golden) -> Result<(), String> {
    let fused = golden.fused()?;
    compare_layers(&converted(golden, &fused, &golden.default_qparams)?, &golden.default_weights)?;
    compare_layers(&converted(golden, &fused, &golden.minmax_qparams)?, &golden.minmax_weights)
}

fn compare_layers(int8: &Graph, expected: &BTreeMap<String, LayerRecord>) -> Result<(), String> {
    let mut seen = Vec::new();
    for node in &int8.nodes {
        if node.op.weight().is_some() {
            let record = expected.get(&node.name).ok_or_else(|| format!("PyTorch has no layer `{}`", node.name))?;
            compare_layer(node, record).map_err(|e| format!("`{}`: {e}", node.name))?;
            seen.push(node.name.clone());
        }
    }
    seen.sort();
    let expected: Vec<&String> = expected.keys().collect();
    ensure(seen.iter().collect::<Vec<_>>() == expected, || format!("layers {seen:?}, expected {expected:?}"))
}

fn compare_layer(node: &Node, expected: &LayerRecord) -> Result<(), String> {
    let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. })) = &node.op else {
        return Err("it has no weight".to_owned());
    };
    let weight = weight.int8().ok_or("its weight is float")?;
    let bytes: Vec<u8> = weight.data.iter().map(|q| *q as u8).collect();
    let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let bias = bias.as_ref().map_or(0.0, |b| sum(&b.data));
    let out = node.numeric.qparams().ok_or("its output is float")?;
    ensure(weight.shape == expected.shape, || format!("shape {:?}, expected {:?}", weight.shape, expected.shape))?;
    ensure(weight.data.starts_with(&expected.first_int8), || "the first weights differ".to_owned())?;
    ensure(digest == expected.int8_sha256, || format!("digest {digest}, expected {}", expected.int8_sha256))?;
    ensure(weight.scales.starts_with(&expected.scales_first), || "the first scales differ".to_owned())?;
    ensure(close(sum(&weight.scales), expected.scales_sum), || {
        format!("sum of scales {}, expected {}", sum(&weight.scales), expected.scales_sum)
    })?;
    ensure(close(bias, expected.bias_sum), || format!("sum of biases {bias}, expected {}", expected.bias_sum))?;
    ensure((out.scale, out.zero_point) == (expected.scale, expected.zero_point), || {
        format!("output {out:?}, expected {} and {}", expected.scale, expected.zero_point)
    })
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v)).sum()
}

/// Equal but for the order in which f64 numbers were summed.
fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-9 * expected.abs().max(1.0)
}

crate::for_each_model!(compare);
