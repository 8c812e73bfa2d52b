use std::collections::{BTreeMap, BTreeSet};

use super::prepare::{Source, source};
use super::*;
use crate::{
    graph::{Activation, ActivationSpec, Builder, ConvSpec, Graph, NodeId, Numeric, Op, QParams, Shape, WeightSpec},
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
    converted_with(prepared, &x86())
}

fn converted_with(prepared: &Graph, config: &QConfig) -> Result<(Graph, ConvertReport), QuantError> {
    let qparams = |n: &crate::graph::Node| (n.name.clone(), QParams::new(0.5, 3));
    let qparams: BTreeMap<String, QParams> = prepared.nodes.iter().map(qparams).collect();
    convert(prepared, &qparams, config)
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
        assert_eq!(report_prepared.float, [], "{model}");
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
fn a_batch_norm_left_over_stays_in_float_between_stubs_and_is_a_warning() {
    let disabled = BTreeSet::from(["layer1.0.conv1".to_owned()]);
    let (graph, report) = fuse(&stubbed(ModelId::ResNet18), &FuseOptions { disabled }).expect("a float model");
    assert_eq!(report.refusals[0], Refusal { node: "layer1.0.conv1".to_owned(), reason: Reason::SwitchedOff });
    let (prepared, report) = prepare(&graph, &x86()).expect("it still calibrates");
    check(
        &prepared,
        "layer1.0.",
        "layer1.0.conv1 = Conv2d 3x3 p1(maxpool) 64x8x8 observed Histogram 0..127
         layer1.0.conv1.dequant = DeQuantStub(layer1.0.conv1) 64x8x8
         layer1.0.bn1 = BatchNorm2d(layer1.0.conv1.dequant) 64x8x8
         layer1.0.relu = ReLU(layer1.0.bn1) 64x8x8
         layer1.0.relu.quant = QuantStub(layer1.0.relu) 64x8x8 observed Histogram 0..127
         layer1.0.conv2 = Conv2d 3x3 p1(layer1.0.relu.quant) 64x8x8 observed Histogram 0..127
         layer1.0.add_relu = AddReLU(layer1.0.conv2, maxpool) 64x8x8 observed Histogram 0..127",
    );
    let warned: Vec<String> = report.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warned.len(), 1, "ReLU follows its input: that is no trouble");
    assert!(warned[0].contains("`layer1.0.bn1`") && warned[0].contains("fuse it"), "{warned:?}");
    let (int8, _) = converted(&prepared).expect("a mixed graph");
    let numeric = |name: &str| int8.node(int8.require(name).expect("there")).numeric;
    assert_eq!((numeric("layer1.0.bn1"), numeric("layer1.0.relu")), (Numeric::Float, Numeric::Float));
    assert!(numeric("layer1.0.relu.quant").qparams().is_some() && numeric("layer1.0.conv2").qparams().is_some());
}

fn float(names: &[&str]) -> QConfig {
    names.iter().fold(x86(), |config, name| config.with_override(*name, Override::Float))
}

#[test]
fn float_neighbours_share_their_borders() {
    let config = float(&["layer1.0.conv1", "layer1.0.conv2", "layer1.0.add_relu"]);
    let (prepared, report) = prepare(&fused(ModelId::ResNet18), &config).expect("a fused graph");
    check(
        &prepared,
        "maxpool",
        "maxpool = MaxPool2d 3x3 s2 p1(conv1) 64x8x8
         maxpool.dequant = DeQuantStub(maxpool) 64x8x8",
    );
    check(
        &prepared,
        "layer1.0.",
        "layer1.0.conv1 = ConvReLU2d 3x3 p1(maxpool.dequant) 64x8x8
         layer1.0.conv2 = Conv2d 3x3 p1(layer1.0.conv1) 64x8x8
         layer1.0.add_relu = AddReLU(layer1.0.conv2, maxpool.dequant) 64x8x8
         layer1.0.add_relu.quant = QuantStub(layer1.0.add_relu) 64x8x8 observed Histogram 0..127",
    );
    assert!(report.float.iter().all(|f| f.why == WhyFloat::Chosen) && report.float.len() == 3);
    assert!(report.warnings().is_empty(), "the user chose it");
    let (int8, converted) = converted_with(&prepared, &config).expect("a mixed graph");
    let weight = |name: &str| int8.node(int8.require(name).expect("there")).op.weight().cloned().expect("a layer");
    assert!(weight("layer1.0.conv1").float().is_some() && weight("layer1.1.conv1").int8().is_some());
    assert!(!converted.layers.iter().any(|l| l.name.starts_with("layer1.0.")), "what stays float is not converted");
}

#[test]
fn a_float_first_layer_reads_the_image_and_float_logits_need_no_stub() {
    let (prepared, _) = prepare(&fused(ModelId::ResNet18), &float(&["conv1", "fc"])).expect("a fused graph");
    check(&prepared, "conv1", "conv1 = ConvReLU2d 7x7 s2 p3(input) 64x16x16");
    check(
        &prepared,
        "maxpool",
        "maxpool = MaxPool2d 3x3 s2 p1(conv1) 64x8x8
         maxpool.quant = QuantStub(maxpool) 64x8x8 observed Histogram 0..127",
    );
    assert!(prepared.find("quant").is_none() && prepared.find("dequant").is_none());
    check(
        &prepared,
        "f",
        "flatten = Flatten(avgpool) 512
         flatten.dequant = DeQuantStub(flatten) 512
         fc = Linear(flatten.dequant) 10",
    );
    let (int8, _) = converted_with(&prepared, &float(&["conv1", "fc"])).expect("a mixed graph");
    assert_eq!(int8.node(int8.output()).numeric, Numeric::Float);
}

#[test]
fn dropout_is_gone_from_a_float_part_too() {
    let config = float(&["classifier.1", "classifier.3"]);
    let (prepared, report) = prepare(&fused(ModelId::MobileNetV3Small), &config).expect("a fused graph");
    let dropout = report.float.iter().find(|f| f.node == "classifier.2").expect("it follows its input");
    assert_eq!(dropout.why, WhyFloat::Input);
    let (int8, report) = converted_with(&prepared, &config).expect("a mixed graph");
    assert_eq!(report.removed, ["classifier.2"]);
    check(&int8, "classifier.3", "classifier.3 = Linear(classifier.1) 10");
}

#[test]
fn an_override_of_one_node_is_of_that_node_alone() {
    let own = ActivationSpec::new(ObserverKind::Entropy, 255).with_bits(6);
    let weight = WeightSpec { bits: 6, ..WeightSpec::new(ObserverKind::MinMax) };
    let config = x86()
        .with_override("layer1.0.conv1", Override::Int8 { activation: Some(own), weight: Some(weight) })
        .with_override("quant", Override::Int8 { activation: Some(own), weight: None });
    let float = zoo::init(&stubbed(ModelId::ResNet18), 1);
    let (graph, _) = fuse(&float, &FuseOptions::default()).expect("a float model");
    let (prepared, _) = prepare(&graph, &config).expect("a fused graph");
    let spec = |name: &str| prepared.node(prepared.require(name).expect("there")).numeric;
    assert_eq!((spec("quant"), spec("layer1.0.conv1")), (Numeric::Observed(own), Numeric::Observed(own)));
    assert_eq!(spec("layer1.0.conv2"), Numeric::Observed(config.activation));
    let (int8, _) = converted_with(&prepared, &config).expect("a prepared graph");
    let weight = |name: &str| {
        let weight = int8.node(int8.require(name).expect("there")).op.weight().cloned().expect("a layer");
        let int8 = weight.int8().cloned().expect("int8");
        (int8.scales.len(), int8.data.iter().any(|q| !(-32..32).contains(q)))
    };
    assert_eq!((weight("layer1.0.conv1"), weight("layer1.0.conv2")), ((1, false), (64, true)));
}

#[test]
fn an_override_that_cannot_be_says_why() {
    let observer = Override::Int8 { activation: Some(x86().activation), weight: None };
    let weight = Override::Int8 { activation: None, weight: Some(x86().weight) };
    for (model, node, other, words) in [
        (ModelId::ResNet18, "conv9", Override::Float, "as conv1"),
        (ModelId::ResNet18, "layer1.0.bn1", Override::Float, "fused into `layer1.0.conv1`"),
        (ModelId::ResNet18, "layer1.0", Override::Float, "as layer1.0.conv1"),
        (ModelId::ResNet18, "quant", Override::Float, "where the image becomes int8"),
        (ModelId::ResNet18, "maxpool", Override::Float, "choose for `conv1`"),
        (ModelId::ResNet18, "layer1.0.add_relu", weight, "no weight"),
        (ModelId::MobileNetV3Small, "features.1.block.1.scale_activation", observer, "no observer"),
    ] {
        let error = prepare(&fused(model), &x86().with_override(node, other)).expect_err("it cannot be").to_string();
        assert!(error.contains(&format!("`{node}`")) && error.contains(words), "{error}");
    }
}

#[test]
fn a_model_all_in_float_is_refused() {
    let (mut b, x) = Builder::new("one", Shape::new(2, 4, 4));
    b.conv("conv", x, ConvSpec::new(2, 3));
    let (graph, _) = insert_stubs(&b.finish()).expect("a float graph");
    assert_eq!(prepare(&graph, &float(&["conv"])), Err(QuantError::AllFloat { graph: "one".to_owned() }));
}

#[test]
fn every_choice_that_is_offered_can_be_made() {
    let own = x86().activation;
    for model in ModelId::ALL {
        let graph = fused(model);
        for (name, can) in choosable(&graph) {
            let mut config = x86();
            if can.float {
                config = config.with_override(&name, Override::Float);
                prepare(&graph, &config).expect("offered");
            }
            if can.observer || can.weight {
                let other = Override::Int8 {
                    activation: can.observer.then_some(own),
                    weight: can.weight.then_some(config.weight),
                };
                prepare(&graph, &config.with_override(&name, other)).expect("offered");
            }
        }
    }
}

#[test]
fn fake_quantization_has_int8s_weights_and_levels() {
    let float = zoo::init(&stubbed(ModelId::MobileNetV3Small), 1);
    let (graph, _) = fuse(&float, &FuseOptions::default()).expect("a float model");
    let config = x86().with_override("classifier.3", Override::Float);
    let (prepared, _) = prepare(&graph, &config).expect("a fused graph");
    let qparams: BTreeMap<String, QParams> =
        prepared.nodes.iter().map(|n| (n.name.clone(), QParams::new(0.5, 3))).collect();
    let (int8, int8_report) = convert(&prepared, &qparams, &config).expect("a prepared graph");
    let (fake, report) = fake_quantize(&prepared, &qparams, &config).expect("a prepared graph");
    assert_eq!(report.layers, int8_report.layers);
    for node in int8.nodes.iter().filter(|n| !matches!(n.op, Op::Input)) {
        let twin = fake.node(fake.require(&node.name).expect("the same nodes"));
        match (source(&node.op), node.numeric) {
            (Source::Observer | Source::Unit, Numeric::Int8(q)) => {
                assert_eq!(twin.numeric, Numeric::FakeQuantized(q), "{}", node.name);
            }
            _ => assert_eq!(twin.numeric, Numeric::Float, "{}", node.name),
        }
        let Some(weight) = node.op.weight() else { continue };
        let twin = twin.op.weight().and_then(|w| w.float()).expect("fake quantization is float");
        match weight {
            crate::graph::Weight::Float(w) => assert_eq!(w, twin, "{} is left in float", node.name),
            crate::graph::Weight::Int8(q) => {
                let per_channel = q.data.len() / q.shape[0];
                let stands_for = q.data.iter().enumerate().map(|(i, v)| f32::from(*v) * q.scale(i / per_channel));
                assert!(stands_for.eq(twin.data.iter().copied()), "{}", node.name);
            }
        }
    }
}

/// A stubbed convolution of two output channels with these weights, and what is said of it.
fn warned(weights: [f32; 2], config: &QConfig) -> Vec<Problem> {
    let (mut b, x) = Builder::new("two", Shape::new(1, 4, 4));
    b.conv("conv", x, ConvSpec::new(2, 1));
    let (graph, _) = insert_stubs(&b.finish()).expect("a float graph");
    let weight = crate::graph::Tensor::new([2, 1, 1, 1], weights.to_vec());
    let graph = graph.with_params(&[("conv.weight".to_owned(), weight)].into());
    weight_warnings(&graph, config).into_iter().map(|w| w.problem).collect()
}

#[test]
fn dead_and_uneven_channels_are_warned_of() {
    assert_eq!(warned([1.0, -0.5], &x86()), []);
    assert_eq!(warned([0.0, -0.5], &x86()), [Problem::ZeroChannels { channels: vec![0], of: 2 }]);
    assert_eq!(warned([0.5, -0.001], &QConfig::new(Backend::Qnnpack)), [], "500 times");
    let uneven = Problem::UnevenChannels { ratio: 2048.0, widest: 0, narrowest: 1 };
    assert_eq!(warned([2.0, -1.0 / 1024.0], &x86()), [], "a scale per channel holds both");
    assert_eq!(warned([2.0, -1.0 / 1024.0], &QConfig::new(Backend::Qnnpack)), [uneven]);
    assert_eq!(warned([0.0, 1.0], &float(&["conv"])), [], "what stays in float loses nothing");
}

#[test]
fn images_that_are_normalized_otherwise_are_warned_of() {
    let full = |v| crate::graph::Tensor::full([3], v);
    let norm = crate::graph::BatchNorm2d {
        weight: full(1.0),
        bias: full(0.0),
        running_mean: crate::graph::Tensor::new([3], vec![-0.5, 0.0, 2.0]),
        running_var: crate::graph::Tensor::new([3], vec![1.0, 4.0, 0.25]),
        eps: 1e-5,
        momentum: 0.1,
    };
    let warn = |mean: [f32; 3], variance: [f32; 3]| normalization_warning("bn1", &norm, &mean, &variance);
    assert_eq!(warn([-0.5, 0.0, 2.0], [1.0, 4.0, 0.25]), None, "as in training");
    assert_eq!(warn([-0.2, 0.5, 1.9], [0.6, 5.0, 0.3]), None, "other images of the same kind");
    assert_eq!(warn([-0.5, 40.0, 2.0], [1.0, 900.0, 0.25]), None, "one odd channel of three");
    let dark = warn([-0.5, 0.0, 2.0], [0.05, 0.2, 0.0125]).expect("a twentieth of the variance");
    assert_eq!(dark.problem, Problem::Normalization { shift: 0.0, spread: 0.05 });
    assert!(warn([2.0, 6.0, 3.5], [1.0, 4.0, 0.25]).is_some(), "two to three standard deviations away");
    let text = dark.to_string();
    assert!(text.contains("`bn1`") && text.contains("mean and standard deviation"), "{text}");
}

#[test]
fn a_fusion_that_moves_the_output_is_warned_of() {
    let graph = fused(ModelId::ResNet18);
    assert_eq!(fusion_warning(&graph, 9e-6), None);
    let warning = fusion_warning(&graph, 2e-5).expect("more than rounding");
    assert_eq!((warning.node.as_str(), warning.kind()), ("dequant", "fusion_moved"));
    assert!(fusion_warning(&graph, f32::NAN).is_some());
}

#[test]
fn classes_that_tie_are_told_above_one_image_in_fifty_and_where_logits_have_levels() {
    let (prepared, _) = prepare(&fused(ModelId::ResNet18), &x86()).expect("a fused model");
    let (int8, _) = converted(&prepared).expect("scales for all");
    assert_eq!(tie_warning(&int8, 2, 100), None);
    assert_eq!(tie_warning(&int8, 0, 0), None, "nothing was measured");
    let warning = tie_warning(&int8, 3, 100).expect("more than one in fifty");
    assert_eq!((warning.node.as_str(), warning.kind()), ("fc", "tied_classes"));
    assert_eq!(warning.problem, Problem::TiedClasses { tied: 3, of: 100, scale: 0.5 });
    assert_eq!(tie_warning(&fused(ModelId::ResNet18), 3, 100), None, "float logits have no levels");
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
