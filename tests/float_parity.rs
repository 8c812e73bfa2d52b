//! The float executor against PyTorch's logits: `tests/golden/`, 33 classes, 64x64, seed 0.

use std::{collections::HashMap, path::Path};

use octet::{
    exec::float::{Device, Model},
    graph::{Graph, Tensor},
    quant::{FuseOptions, fuse},
    zoo::{ModelConfig, ModelId, build},
};
use safetensors::SafeTensors;

/// The numbers that the golden files' weights and images were made of: SplitMix64's finalizer over a counter that starts
/// at the name's FNV-1a hash, as fractions of 2^24.
fn synthetic(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (1..=count as u64).map(move |i| {
        let mut z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / (1u64 << 24) as f64
    })
}

fn with_synthetic_weights(graph: &Graph) -> Graph {
    let mut values = HashMap::new();
    for p in graph.params() {
        let (key, shape) = (graph.key(&p), &p.tensor.shape);
        let fan_in = shape[1..].iter().product::<usize>() as f64;
        let one_dimensional = shape.len() == 1;
        let value = |u: f64| match p.part {
            "running_mean" => (2.0 * u - 1.0) * 0.2,
            "running_var" => 0.5 + u,
            "weight" if one_dimensional => 0.5 + 0.5 * u,
            "weight" => (2.0 * u - 1.0) * (6.0 / fan_in).sqrt(),
            "bias" => (2.0 * u - 1.0) * 0.1,
            part => panic!("unknown part {part}"),
        };
        let data: Vec<f32> = synthetic(&key, p.tensor.len()).map(|u| value(u) as f32).collect();
        values.insert(key, Tensor::new(shape.clone(), data));
    }
    graph.with_params(&values)
}

fn golden(model: ModelId, tensor: &str) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{model}.x86.safetensors"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(tensor).expect("the tensor is in the file");
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The largest difference, relative to the largest logit.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    found.iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

fn check(model: ModelId) {
    let graph = build(model, ModelConfig { classes: 33, size: 64 }).expect("a valid configuration");
    let graph = with_synthetic_weights(&graph);
    let images: Vec<f32> =
        synthetic("images/1000", 4 * graph.input_shape().len()).map(|u| ((2.0 * u - 1.0) * 2.0) as f32).collect();
    let (fused, _) = fuse(&graph, &FuseOptions::default()).expect("every model fuses");
    for (graph, name) in [(&graph, "float_logits"), (&fused, "fused_logits")] {
        let logits = Model::new(graph, &Device::Cpu).and_then(|m| m.run(&images, 4)).expect("the model runs");
        let off = difference(&logits, &golden(model, name));
        assert!(off < 1e-4, "{model}, {name}: off by {off:e} of the largest logit");
    }
}

#[test]
fn shufflenet() {
    check(ModelId::ShuffleNetV2X05);
}

#[test]
fn mobilenet_small() {
    check(ModelId::MobileNetV3Small);
}

#[test]
fn mobilenet_large() {
    check(ModelId::MobileNetV3Large);
}

#[test]
fn efficientnet() {
    check(ModelId::EfficientNetV2S);
}

#[test]
fn resnet18() {
    check(ModelId::ResNet18);
}

#[test]
fn resnet50() {
    check(ModelId::ResNet50);
}
