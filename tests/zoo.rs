//! Every family at odd sizes and class counts, from random weights to int8: it runs, and every instruction set gives the
//! integers of the scalar reference.

use std::ops::ControlFlow;

use octet::{
    exec::{
        float::{Device, Model},
        int8::{Plan, PlanOptions},
    },
    graph::Graph,
    kernels::Isa,
    quant::{self, FuseOptions, Observers, QConfig},
    zoo::{ModelConfig, ModelId, build, init},
};

/// Above this many multiply-adds the scalar reference takes longer than a test should.
const SCALAR_MACS: u64 = 400_000_000;

fn image(size: usize) -> Vec<f32> {
    (0..3 * size * size).map(|i| ((i * 7919) as f64 * 0.618_033_988_75).fract() as f32 * 4.0 - 2.0).collect()
}

/// All passes, calibrated on one image.
fn converted(float: &Graph, image: &[f32]) -> Graph {
    let qconfig = QConfig::default();
    let (graph, _) = quant::insert_stubs(float).expect("a float graph");
    let (graph, _) = quant::fuse(&graph, &FuseOptions::default()).expect("stubs are there");
    let (graph, _) = quant::prepare(&graph, &qconfig).expect("a float graph");
    let mut observers = Observers::new(&graph).expect("a prepared graph");
    let model = Model::new(&graph, &Device::Cpu).expect("it runs");
    model
        .run_observed(image, 1, &mut |node, values| {
            observers.observe(node, values).expect("finite values");
            ControlFlow::Continue(())
        })
        .expect("it runs");
    quant::convert(&graph, &observers.qparams().expect("all have seen the image"), &qconfig).expect("observed").0
}

fn check(models: &[ModelId], configs: &[(usize, usize)]) {
    for &model in models {
        for &(size, classes) in configs {
            let what = format!("{model} at {size} pixels, {classes} classes");
            let float = init(&build(model, ModelConfig { classes, size }).expect("a valid configuration"), 1);
            let image = image(size);
            let logits = Model::new(&float, &Device::Cpu).and_then(|m| m.run(&image, 1)).expect("it runs");
            assert!(logits.len() == classes && logits.iter().all(|v| v.is_finite()), "{what}: {logits:?}");

            let int8 = converted(&float, &image);
            let run = |isa| Plan::new(&int8, &PlanOptions { isa, threads: 2 }).expect("an int8 graph").run(&image, 1);
            let found = run(None);
            assert!(found.len() == classes && found.iter().all(|v| v.is_finite()), "{what}: {found:?}");
            if float.macs() > SCALAR_MACS {
                continue;
            }
            let expected = run(Some(Isa::Scalar));
            assert!(classes == 1 || expected.iter().any(|v| *v != expected[0]), "{what}: logits that say nothing");
            for isa in Isa::ALL.iter().copied().filter(|isa| isa.is_available()) {
                assert_eq!(run(Some(isa)), expected, "{what} on {isa:?}");
            }
        }
    }
}

#[test]
fn shufflenet() {
    let all = [ModelId::ShuffleNetV2X05, ModelId::ShuffleNetV2X10, ModelId::ShuffleNetV2X15, ModelId::ShuffleNetV2X20];
    check(&all[..1], &[(33, 1), (47, 2), (100, 33), (225, 1000)]);
    check(&all[1..], &[(33, 1), (47, 1000)]);
}

#[test]
fn mobilenet() {
    let both = [ModelId::MobileNetV3Small, ModelId::MobileNetV3Large];
    check(&both, &[(33, 1), (47, 2), (100, 33), (225, 1000)]);
}

#[test]
fn efficientnet() {
    check(&[ModelId::EfficientNetV2S], &[(33, 1), (47, 2), (100, 33), (225, 1000)]);
}

#[test]
fn resnet() {
    check(&[ModelId::ResNet18, ModelId::ResNet50], &[(33, 1), (47, 2), (100, 33), (225, 1000)]);
    check(&[ModelId::ResNet34], &[(33, 2)]);
}
