//! The QAT form: fused, prepared, and converted from made-up ranges.

use super::*;
use crate::quant::*;
use crate::{
    graph::{FakeQuants, Graph, LearnedRange, Numeric, Op, QatLevels, Weight},
    zoo::{self, ModelConfig, ModelId},
};

fn qat_form(model: ModelId) -> Graph {
    let graph = zoo::build(model, ModelConfig { classes: 10, size: 32 }).expect("a valid size");
    let (graph, _) = insert_stubs(&zoo::init(&graph, 1)).expect("a float model");
    let (graph, _) = fuse_qat(&graph, &FuseOptions::default()).expect("a float model");
    prepare_qat(&graph, &QConfig::qat(Backend::X86)).expect("a fused model").0
}

/// -1 to 2 on every output, -0.5 to 0.25 on every channel of every weight.
fn made_up(graph: &Graph) -> FakeQuants {
    let range = |count, min, max| LearnedRange { min: vec![min; count], max: vec![max; count], step: Vec::new() };
    let mut state = FakeQuants::default();
    for node in &graph.nodes {
        if matches!(node.numeric, Numeric::Learned(_)) {
            state.activations.insert(node.name.clone(), range(1, -1.0, 2.0));
        }
        if let (Some(_), Some(weight)) = (node.op.fake(), node.op.weight()) {
            state.weights.insert(node.name.clone(), range(weight.shape()[0], -0.5, 0.25));
        }
    }
    state
}

fn check(graph: &Graph, prefix: &str, expect: &str) {
    let dump = graph.to_string();
    let found: Vec<&str> = dump.lines().skip(1).filter(|line| line.starts_with(prefix)).collect();
    let expect: Vec<&str> = expect.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expect);
}

#[test]
fn mobilenet_in_the_qat_form() {
    check(
        &qat_form(ModelId::MobileNetV3Small),
        "features.1.",
        "features.1.block.0.0 = ConvBnReLU2d (depthwise) 3x3 s2 p1 g16(features.0.2) 16x8x8 learned 0..127
         features.1.block.1.avgpool = AdaptiveAvgPool2d(features.1.block.0.0) 16
         features.1.block.1.fc1 = ConvReLU2d 1x1(features.1.block.1.avgpool) 8 learned 0..127
         features.1.block.1.fc2 = Conv2d 1x1(features.1.block.1.fc1) 16 learned 0..127
         features.1.block.1.scale_activation = Hardsigmoid(features.1.block.1.fc2) 16 fake-quantized scale 3.90625e-3 zero point 0 of 0..255
         features.1.block.1.skip_mul = Mul(features.1.block.0.0, features.1.block.1.scale_activation) 16x8x8 learned 0..127
         features.1.block.2.0 = ConvBn2d 1x1(features.1.block.1.skip_mul) 16x8x8 learned 0..127",
    );
}

#[test]
fn parameters_bear_the_keys_of_pytorchs_qat_modules() {
    let graph = qat_form(ModelId::ShuffleNetV2X05);
    let keys: Vec<String> = graph.params().iter().take(5).map(|p| graph.key(p)).collect();
    let expected = ["weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
    assert_eq!(keys, expected.map(|part| format!("conv1.0.{part}")));
    let float = zoo::build(ModelId::ShuffleNetV2X05, ModelConfig { classes: 10, size: 32 }).expect("a valid size");
    assert_eq!(graph.param_count(), float.param_count(), "nothing is gone and nothing new");
}

#[test]
fn every_batch_norm_of_the_zoo_stays_in_its_convolution() {
    for model in ModelId::ALL {
        let graph = qat_form(model);
        for node in &graph.nodes {
            assert!(!matches!(node.op, Op::BatchNorm2d(_)), "{model}: {}", node.name);
            assert!(node.op.weight().is_none() || node.op.fake().is_some(), "{model}: {}", node.name);
        }
    }
}

#[test]
fn int8_is_what_was_trained() {
    let graph = qat_form(ModelId::MobileNetV3Small);
    let state = made_up(&graph);
    let (fake, _) = fake_quantize_qat(&graph, &state, QatLevels::Int8).expect("all ranges are there");
    let (int8, report) = convert_qat(&graph, &state, QatLevels::Int8).expect("all ranges are there");
    assert!(!report.layers.is_empty() && report.float.is_empty());
    for node in &int8.nodes {
        let trained = fake.node(fake.find(&node.name).expect("of the same name"));
        if let (Some(q), Numeric::FakeQuantized(trained)) = (node.numeric.qparams(), trained.numeric) {
            assert_eq!(q, trained, "{}", node.name);
            assert_eq!(
                q.qmax,
                if matches!(node.op, Op::Activation(a) if a.name() == "Hardsigmoid") { 255 } else { 127 }
            );
        }
        if let (Some(Weight::Int8(int8)), Some(Weight::Float(float))) = (node.op.weight(), trained.op.weight()) {
            let per_channel = float.len() / float.shape[0];
            for (i, (q, w)) in int8.data.iter().zip(float.data.iter()).enumerate() {
                assert_eq!(f32::from(*q) * int8.scale(i / per_channel), *w, "{}, weight {i}", node.name);
            }
        }
    }
}

#[test]
fn pytorchs_int8_has_other_scales_and_no_clamp() {
    let graph = qat_form(ModelId::ResNet18);
    let (int8, _) = convert_qat(&graph, &made_up(&graph), QatLevels::PyTorch).expect("all ranges are there");
    let conv1 = int8.node(int8.find("conv1").expect("the stem"));
    let q = conv1.numeric.qparams().expect("int8");
    assert_eq!((q.scale, q.zero_point, q.qmax), (3.0 / 127.0, 42, 255));
    assert_eq!(conv1.op.weight().and_then(|w| w.int8()).expect("int8").scale(3), 0.5 / 127.5);
}

#[test]
fn what_saw_nothing_is_named() {
    let graph = qat_form(ModelId::ResNet18);
    let mut state = made_up(&graph);
    state.activations.remove("layer1.0.conv1");
    state.weights.remove("fc");
    let error = convert_qat(&graph, &state, QatLevels::Int8).expect_err("two are missing").to_string();
    assert!(error.contains("layer1.0.conv1") && error.contains("fc (weight)"), "{error}");
    state = made_up(&graph);
    state.weights.insert("fc".to_owned(), LearnedRange { min: vec![0.0; 3], max: vec![1.0; 3], step: Vec::new() });
    let error = convert_qat(&graph, &state, QatLevels::Int8).expect_err("of another graph").to_string();
    assert!(error.contains("fc") && error.contains("3 ranges, expected 10"), "{error}");
    let float = zoo::build(ModelId::ResNet18, ModelConfig { classes: 10, size: 32 }).expect("a valid size");
    assert_eq!(convert_qat(&float, &state, QatLevels::Int8), Err(QuantError::NotQat { graph: "resnet18".to_owned() }));
}

#[test]
fn a_layer_left_in_float_keeps_its_batch_norm_until_it_is_converted() {
    let graph = zoo::build(ModelId::ResNet18, ModelConfig { classes: 10, size: 32 }).expect("a valid size");
    let (graph, _) = insert_stubs(&zoo::init(&graph, 1)).expect("a float model");
    let (graph, _) = fuse_qat(&graph, &FuseOptions::default()).expect("a float model");
    let config = QConfig::qat(Backend::X86).with_override("layer1.0.conv1", Override::Float);
    let (graph, _) = prepare_qat(&graph, &config).expect("a fused model");
    let of = |graph: &Graph| graph.node(graph.find("layer1.0.conv1").expect("it stays")).clone();
    assert!(of(&graph).op.bn().is_some() && of(&graph).op.fake().is_none());
    let (int8, report) = convert_qat(&graph, &made_up(&graph), QatLevels::Int8).expect("all ranges are there");
    assert!(of(&int8).op.bn().is_none() && of(&int8).op.weight().is_some_and(|w| w.float().is_some()));
    assert_eq!(report.float.len(), 1);
}
