//! The int8 engine, fed PyTorch's own scales and zero points: every logit is PyTorch's, integer for integer.

use octet::{
    exec::int8::{Plan, PlanOptions},
    kernels::Isa,
    zoo::ModelId,
};
use safetensors::SafeTensors;

use crate::{
    golden::{self, Golden},
    synth,
    weights::converted,
};

const PROBE: usize = 4;

fn probe_images(golden: &Golden) -> Vec<f32> {
    let count = PROBE * 3 * golden.size * golden.size;
    synth::uniform("images/1000", golden.seed, count).map(|u| ((2.0 * u - 1.0) * 2.0) as f32).collect()
}

fn check(model: ModelId) {
    for engine in ["x86", "onednn"] {
        let golden = Golden::read(model, engine);
        let path = golden::folder().join(format!("{model}.{engine}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let images = probe_images(&golden);
        for (qparams, key) in
            [(&golden.minmax_qparams, "minmax_int8_logits"), (&golden.default_qparams, "default_int8_logits")]
        {
            let data = tensors.tensor(key).expect("in every golden file").data();
            let logits = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            let graph = converted(&golden, qparams);
            let head = graph.nodes[graph.nodes.len() - 2].numeric.qparams().expect("the head is int8");
            let level = |x: f32| (x / head.scale).round() as i32 + i32::from(head.zero_point);
            let expected: Vec<i32> = logits.map(level).collect();
            assert_eq!(expected.len(), PROBE * golden.classes, "{model} {engine} {key}");
            for isa in Isa::ALL.iter().copied().filter(|i| i.is_available()) {
                let mut plan = Plan::new(&graph, &PlanOptions { isa: Some(isa), threads: 2 }).expect("an int8 graph");
                let found: Vec<i32> = plan.run(&images, PROBE).into_iter().map(level).collect();
                let differ = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
                assert_eq!(differ, 0, "{model} {engine} {key} {isa}: logits of {} that differ", expected.len());
                let levels: Vec<i32> = plan.output_levels().iter().map(|q| i32::from(*q)).collect();
                assert_eq!(levels, expected, "{model} {engine} {key} {isa}: levels");
            }
        }
    }
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
