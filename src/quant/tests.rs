use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    graph::{Activation, Builder, ConvSpec, Graph, NodeId, Numeric, Op, QParams, Shape},
    zoo::{self, ModelConfig, ModelId},
};

fn stubbed(model: ModelId) -> Graph {
    let graph = zoo::build(model, ModelConfig { classes: 10, size: 32 }).expect("a valid size");
    insert_stubs(&graph).expect("a float model").0
}

fn fused(model: ModelId) -> Graph {
    fuse(&stubbed(model), &FuseOptions::default()).expect("a float model").0
}

fn x86() -> QConfig {
    QConfig::new(Backend::X86)
}

/// The int8 graph with one made-up scale throughout.
fn converted(prepared: &Graph) -> Result<(Graph, ConvertReport), QuantError> {
    let qparams = |n: &crate::graph::Node| (n.name.clone(), QParams::new(0.5, 3));
    let qparams: BTreeMap<String, QParams> = prepared.nodes.iter().map(qparams).collect();
    convert(prepared, &qparams, &x86())
}

/// The lines of the graph's dump whose names start with `prefix`.
fn check(graph: &Graph, prefix: &str, expect: &str) {
    let dump = graph.to_string();
    let found: Vec<&str> = dump.lines().skip(1).filter(|line| line.starts_with(prefix)).collect();
    let expect: Vec<&str> = expect.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expect);
}

#[test]
fn stubs_stand_at_both_ends() {
    let graph = stubbed(ModelId::ResNet18);
    check(&graph, "quant", "quant = QuantStub(input) 3x32x32");
    check(&graph, "conv1", "conv1 = Conv2d 7x7 s2 p3(quant) 64x16x16");
    check(&graph, "dequant", "dequant = DeQuantStub(fc) 10");
    assert_eq!(insert_stubs(&graph), Err(QuantError::AlreadyStubbed { node: "quant".to_owned() }));
}

#[test]
fn resnet_is_fused() {
    check(
        &fused(ModelId::ResNet18),
        "layer2.0",
        "layer2.0.conv1 = ConvReLU2d 3x3 s2 p1(layer1.1.add_relu) 128x4x4
         layer2.0.conv2 = Conv2d 3x3 p1(layer2.0.conv1) 128x4x4
         layer2.0.downsample.0 = Conv2d 1x1 s2(layer1.1.add_relu) 128x4x4
         layer2.0.add_relu = AddReLU(layer2.0.conv2, layer2.0.downsample.0) 128x4x4",
    );
}

#[test]
fn shufflenet_is_fused() {
    check(
        &fused(ModelId::ShuffleNetV2X05),
        "stage2.1",
        "stage2.1.x1 = Chunk 0/2(stage2.0.channel_shuffle) 24x4x4
         stage2.1.x2 = Chunk 1/2(stage2.0.channel_shuffle) 24x4x4
         stage2.1.branch2.0 = ConvReLU2d 1x1(stage2.1.x2) 24x4x4
         stage2.1.branch2.3 = Conv2d (depthwise) 3x3 p1 g24(stage2.1.branch2.0) 24x4x4
         stage2.1.branch2.5 = ConvReLU2d 1x1(stage2.1.branch2.3) 24x4x4
         stage2.1.cat = Cat(stage2.1.x1, stage2.1.branch2.5) 48x4x4
         stage2.1.channel_shuffle = ChannelShuffle 2(stage2.1.cat) 48x4x4",
    );
}

#[test]
fn every_batch_norm_of_the_zoo_is_fused() {
    for model in ModelId::ALL {
        let (graph, report) = fuse(&stubbed(model), &FuseOptions::default()).expect("a float model");
        assert!(!graph.nodes.iter().any(|n| matches!(n.op, Op::BatchNorm2d(_))), "{model}");
        let (prepared, report_prepared) = prepare(&graph, &x86()).expect("a fused graph");
        assert_eq!(report_prepared.warnings, [], "{model}");
        let (int8, converted) = converted(&prepared).expect("a prepared graph");
        let layers = |g: &Graph| g.nodes.iter().filter(|n| n.op.weight().is_some()).count();
        assert_eq!(converted.layers.len(), layers(&int8), "{model}");
        assert!(report.sites.iter().all(|s| graph.require(&s.name).is_ok() && s.nodes.len() > 1), "{model}");
    }
}

#[test]
fn a_site_says_what_it_replaces() {
    let (graph, report) = fuse(&stubbed(ModelId::MobileNetV3Small), &FuseOptions::default()).expect("a float model");
    let site = |name: &str| report.sites.iter().find(|s| s.name == name).expect("fused");
    let excite = site("features.1.block.1.fc1");
    assert_eq!(excite.pattern, Pattern::ConvRelu);
    assert_eq!(excite.nodes, ["features.1.block.1.fc1", "features.1.block.1.activation"]);
    assert!(excite.factors.is_empty());
    let first = site("features.1.block.0.0");
    assert_eq!((first.pattern, first.factors.len()), (Pattern::ConvBnRelu, 16));
    assert_eq!(graph.node(graph.require(&first.name).expect("there")).fused, first.nodes);
    let reason = |name: &str| &report.refusals.iter().find(|r| r.node == name).expect("refused").reason;
    assert_eq!(*reason("features.0.2"), Reason::NoFusedKernel { activation: Activation::Hardswish });
    assert_eq!(reason("features.1.block.1.fc2").to_string(), "followed by Hardsigmoid, not by batch norm or ReLU");
}

/// A convolution whose output a batch norm and a sum both read.
fn shared() -> Graph {
    let (mut b, x) = Builder::new("shared", Shape::new(2, 4, 4));
    let x = b.conv("conv", x, ConvSpec::new(2, 3));
    let y = b.bn("bn", x, 1e-5, 0.1);
    b.push("add", Op::Add { relu: false }, &[x, y]);
    insert_stubs(&b.finish()).expect("a float graph").0
}

#[test]
fn a_value_with_two_users_stays() {
    let before = shared();
    let (after, report) = fuse(&before, &FuseOptions::default()).expect("nothing to fuse");
    assert_eq!(after, before);
    let reasons: Vec<String> = report.refusals.iter().map(|r| format!("{}: {}", r.node, r.reason)).collect();
    let why = "the output of `conv` has 2 users (bn, add): it must exist";
    assert_eq!(reasons, [format!("conv: {why}"), format!("bn: {why}")]);
}

#[test]
fn a_batch_norm_left_over_is_a_warning_then_an_error_with_its_remedy() {
    let disabled = BTreeSet::from(["layer1.0.conv1".to_owned()]);
    let (graph, report) = fuse(&stubbed(ModelId::ResNet18), &FuseOptions { disabled }).expect("a float model");
    assert_eq!(report.refusals[0], Refusal { node: "layer1.0.conv1".to_owned(), reason: Reason::SwitchedOff });
    let (prepared, report) = prepare(&graph, &x86()).expect("it still calibrates");
    let warned: Vec<&str> = report.warnings.iter().map(|w| w.node.as_str()).collect();
    assert_eq!(warned, ["layer1.0.bn1"]);
    let error = converted(&prepared).expect_err("no kernel").to_string();
    assert!(error.contains("`layer1.0.bn1`") && error.contains("fuse it"), "{error}");
}

#[test]
fn a_name_that_no_node_bears_cannot_be_switched_off() {
    let options = FuseOptions { disabled: BTreeSet::from(["conv9".to_owned()]) };
    let error = fuse(&stubbed(ModelId::ResNet18), &options).expect_err("no such node").to_string();
    assert!(error.contains("conv9"), "{error}");
}

#[test]
fn folding_names_a_broken_batch_norm() {
    let graph = stubbed(ModelId::ResNet18);
    let broken = crate::graph::Tensor::full([64], -1.0);
    let graph = graph.with_params(&[("layer1.0.bn1.running_var".to_owned(), broken)].into());
    let error = fuse(&graph, &FuseOptions::default()).expect_err("a negative variance").to_string();
    assert!(error.contains("`layer1.0.bn1`"), "{error}");
}

#[test]
fn mobilenet_is_prepared() {
    let (prepared, _) = prepare(&fused(ModelId::MobileNetV3Small), &x86()).expect("a fused graph");
    check(
        &prepared,
        "features.1.",
        "features.1.block.0.0 = ConvReLU2d (depthwise) 3x3 s2 p1 g16(features.0.2) 16x8x8 observed Histogram 0..127
         features.1.block.1.avgpool = AdaptiveAvgPool2d(features.1.block.0.0) 16
         features.1.block.1.fc1 = ConvReLU2d 1x1(features.1.block.1.avgpool) 8 observed Histogram 0..127
         features.1.block.1.fc2 = Conv2d 1x1(features.1.block.1.fc1) 16 observed Histogram 0..127
         features.1.block.1.scale_activation = Hardsigmoid(features.1.block.1.fc2) 16
         features.1.block.1.skip_mul = Mul(features.1.block.0.0, features.1.block.1.scale_activation) 16x8x8 observed Histogram 0..127
         features.1.block.2.0 = Conv2d 1x1(features.1.block.1.skip_mul) 16x8x8 observed Histogram 0..127",
    );
    let again = prepare(&prepared, &x86());
    assert_eq!(again, Err(QuantError::AlreadyPrepared { node: "quant".to_owned() }));
}

#[test]
fn a_graph_is_prepared_only_between_stubs_and_per_tensor() {
    let graph = zoo::build(ModelId::ResNet18, ModelConfig { classes: 10, size: 32 }).expect("a valid size");
    assert_eq!(prepare(&graph, &x86()), Err(QuantError::NoStubs { graph: "resnet18".to_owned() }));
    let found = ObserverKind::PerChannelMinMax;
    let error = prepare(&fused(ModelId::ResNet18), &x86().with_observer(found));
    assert_eq!(error, Err(QuantError::ActivationObserver { found }));
}

#[test]
fn mobilenet_is_converted() {
    let float = zoo::init(&stubbed(ModelId::MobileNetV3Small), 1);
    let (graph, _) = fuse(&float, &FuseOptions::default()).expect("a float model");
    let (prepared, _) = prepare(&graph, &x86()).expect("a fused graph");
    let (int8, report) = converted(&prepared).expect("all nodes have qparams");
    check(
        &int8,
        "features.1.block.1.",
        "features.1.block.1.avgpool = AdaptiveAvgPool2d(features.1.block.0.0) 16 int8 scale 5e-1 zero point 3
         features.1.block.1.fc1 = ConvReLU2d 1x1(features.1.block.1.avgpool) 8 int8 scale 5e-1 zero point 3
         features.1.block.1.fc2 = Conv2d 1x1(features.1.block.1.fc1) 16 int8 scale 5e-1 zero point 3
         features.1.block.1.scale_activation = Hardsigmoid(features.1.block.1.fc2) 16 int8 scale 3.90625e-3 zero point 0
         features.1.block.1.skip_mul = Mul(features.1.block.0.0, features.1.block.1.scale_activation) 16x8x8 int8 scale 5e-1 zero point 3",
    );
    check(&int8, "classifier.3", "classifier.3 = Linear(classifier.1) 10 int8 scale 5e-1 zero point 3");
    check(&int8, "dequant", "dequant = DeQuantStub(classifier.3) 10");
    assert_eq!(report.removed, ["classifier.2"]);
    let head = report.layers.last().expect("layers");
    assert_eq!((head.float_bytes, head.int8_bytes), (4 * (10 * 1024 + 10), 10 * 1024 + 4 * (10 + 10)));
    assert!(head.scale_min <= head.scale_max && head.weight_sqnr_db > 35.0, "{head:?}");
}

#[test]
fn convert_names_what_calibration_left_out() {
    let graph = fused(ModelId::ResNet18);
    assert_eq!(converted(&graph), Err(QuantError::NotPrepared { graph: "resnet18".to_owned() }));
    let (prepared, _) = prepare(&graph, &x86()).expect("a fused graph");
    let mut qparams: BTreeMap<String, QParams> =
        prepared.nodes.iter().map(|n| (n.name.clone(), QParams::new(1.0, 0))).collect();
    qparams.remove("fc");
    qparams.remove("maxpool");
    let error = convert(&prepared, &qparams, &x86());
    assert_eq!(error, Err(QuantError::NoQParams { nodes: vec!["fc".to_owned()] }), "maxpool needs none");
}

/// Parameters that are not finite, or a scale of zero from a file, stop at `convert`.
#[test]
fn a_scale_of_zero_is_refused() {
    let (prepared, _) = prepare(&fused(ModelId::ResNet18), &x86()).expect("a fused graph");
    let qparams = prepared.nodes.iter().map(|n| (n.name.clone(), QParams::new(0.0, 0))).collect();
    let error = convert(&prepared, &qparams, &x86()).expect_err("a scale of zero").to_string();
    assert!(error.contains("`quant`"), "{error}");
}

#[test]
fn what_lies_outside_the_stubs_stays_float() {
    let (mut b, x) = Builder::new("partly", Shape::new(2, 4, 4));
    let x = b.push("quant", Op::QuantStub, &[x]);
    let x = b.conv("inside", x, ConvSpec::new(2, 3));
    let x = b.push("dequant", Op::DeQuantStub, &[x]);
    b.conv("outside", x, ConvSpec::new(2, 3));
    let (prepared, _) = prepare(&b.finish(), &x86()).expect("a float graph");
    let (int8, _) = converted(&prepared).expect("all nodes have qparams");
    let numeric = |name: &str| int8.node(int8.require(name).expect("there")).numeric;
    assert_eq!((numeric("outside"), int8.node(NodeId(0)).numeric), (Numeric::Float, Numeric::Float));
    assert!(numeric("inside").qparams().is_some());
}
