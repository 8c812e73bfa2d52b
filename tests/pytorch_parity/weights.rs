//! Folding and weight quantization: int8 weights by digest, scales and biases by sums.

use std::collections::BTreeMap;

use octet::{
    graph::{Conv2d, Graph, Linear, Op, QParams},
    quant::{self, QConfig},
    zoo::ModelId,
};
use sha2::{Digest, Sha256};

use crate::golden::{self, Golden, LayerRecord, ObserverRecord};

/// The int8 graph with PyTorch's own scales and zero points.
pub fn converted(golden: &Golden, qparams: &BTreeMap<String, ObserverRecord>) -> Graph {
    let config: QConfig = golden.engine.parse().expect("a qconfig");
    let (prepared, _) = quant::prepare(&golden.fused(), &config).expect("a fused graph");
    let given = quant::prepare(&golden.fused(), &config)
        .expect("a fused graph")
        .1
        .observed
        .iter()
        .map(|observed| {
            let node = prepared.node(prepared.require(&observed.name).expect("it is in the report"));
            let record = &qparams[&golden::observer_name(node)];
            (observed.name.clone(), QParams::new(record.scale[0], record.zero_point[0] as u8))
        })
        .collect();
    quant::convert(&prepared, &given, &config).expect("all nodes have qparams").0
}

fn check(model: ModelId) {
    for engine in ["x86", "onednn"] {
        let golden = Golden::read(model, engine);
        let runs =
            [(&golden.default_qparams, &golden.default_weights), (&golden.minmax_qparams, &golden.minmax_weights)];
        for (qparams, layers) in runs {
            check_layers(&converted(&golden, qparams), layers);
        }
    }
}

fn check_layers(int8: &Graph, expected: &BTreeMap<String, LayerRecord>) {
    let mut seen = Vec::new();
    for node in &int8.nodes {
        let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. })) = &node.op else {
            continue;
        };
        let name = &node.name;
        let expected = expected.get(name).unwrap_or_else(|| panic!("{name}: PyTorch has no such layer"));
        seen.push(name.clone());
        let weight = weight.int8().expect("converted");
        let bytes: Vec<u8> = weight.data.iter().map(|q| *q as u8).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(weight.shape, expected.shape, "{name}");
        assert_eq!(weight.data[..expected.first_int8.len()], expected.first_int8[..], "{name}");
        assert_eq!(digest, expected.int8_sha256, "{name}");
        assert_eq!(weight.scales[..expected.scales_first.len()], expected.scales_first[..], "{name}");
        let sum = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>();
        assert!((sum(&weight.scales) - expected.scales_sum).abs() < 1e-9, "{name}");
        let bias = bias.as_ref().map_or(0.0, |b| sum(&b.data));
        assert!((bias - expected.bias_sum).abs() < 1e-6, "{name}: bias sum {bias}, expected {}", expected.bias_sum);
        let out = node.numeric.qparams().expect("converted");
        assert_eq!((out.scale, out.zero_point), (expected.scale, expected.zero_point), "{name}");
    }
    seen.sort();
    assert_eq!(seen, expected.keys().cloned().collect::<Vec<_>>(), "the layers that are quantized");
}

#[test]
fn resnet18() {
    check(ModelId::ResNet18);
}

#[test]
fn resnet50() {
    check(ModelId::ResNet50);
}

#[test]
fn shufflenet_v2_x0_5() {
    check(ModelId::ShuffleNetV2X05);
}

#[test]
fn mobilenet_v3_small() {
    check(ModelId::MobileNetV3Small);
}

#[test]
fn mobilenet_v3_large() {
    check(ModelId::MobileNetV3Large);
}

#[test]
fn efficientnet_v2_s() {
    check(ModelId::EfficientNetV2S);
}
