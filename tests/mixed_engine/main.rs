//! Layers left in float between int8 ones: the plan gives what the graph gives node by node, level for level.

mod reference;

use std::{collections::BTreeMap, ops::ControlFlow};

use octet::{
    exec::{
        float::{Device, Model},
        int8::{Plan, PlanOptions},
    },
    graph::{Activation, Builder, Conv2d, ConvSpec, Graph, NodeId, Op, Shape, Tensor, Weight},
    kernels::Isa,
    quant::{self, Backend, FuseOptions, Observers, Override, QConfig},
    zoo::{self, ModelConfig, ModelId},
};

/// A branching network with every kind of border: residual sums, squeeze-excitation, concatenations, a shuffle, a
/// grouped and a depthwise convolution.
fn branching() -> Graph {
    let (mut b, x) = Builder::new("branching", Shape::new(3, 21, 19));
    let x = b.conv("stem", x, ConvSpec::new(10, 3).stride(2).bias());
    let x = b.act("stem_relu", x, Activation::Relu);
    let x = b.max_pool("pool", x);
    let left = b.push("left", Op::Chunk { index: 0, chunks: 2 }, &[x]);
    let right = b.push("right", Op::Chunk { index: 1, chunks: 2 }, &[x]);
    let right = b.conv("wide", right, ConvSpec::new(5, 5).depthwise().bias());
    let joined = b.push("cat", Op::Cat, &[left, right]);
    let shuffled = b.push("shuffle", Op::ChannelShuffle { groups: 2 }, &[joined]);
    let swish = b.conv("dense", shuffled, ConvSpec::new(10, 3).bias());
    let swish = b.act("swish", swish, Activation::Hardswish);
    let pooled = b.push("pooled", Op::AdaptiveAvgPool2d, &[swish]);
    let gate = b.conv("gate", pooled, ConvSpec::new(10, 1).bias());
    let gate = b.act("sigmoid", gate, Activation::Sigmoid);
    let scaled = b.push("mul", Op::Mul, &[swish, gate]);
    let sum = b.push("add", Op::Add { relu: true }, &[scaled, shuffled]);
    let six = b.act("six", sum, Activation::Relu6);
    let both = b.push("cat2", Op::Cat, &[sum, x, six]);
    let out = b.conv("padded", both, ConvSpec::new(7, 3).bias());
    let out = b.push("drop", Op::Dropout { p: 0.2 }, &[out]);
    let flat = b.push("flatten", Op::Flatten, &[out]);
    b.linear("fc", flat, 11);
    b.finish()
}

fn fused(float: &Graph) -> Graph {
    let (graph, _) = quant::insert_stubs(&zoo::init(float, 3)).expect("a float graph");
    quant::fuse(&graph, &FuseOptions::default()).expect("stubs are there").0
}

fn model(id: ModelId) -> Graph {
    fused(&zoo::build(id, ModelConfig { classes: 10, size: 32 }).expect("a valid size"))
}

fn images(graph: &Graph, count: usize) -> Vec<f32> {
    let number = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) % 1000;
    (0..count * graph.input_shape().len()).map(|i| number(i) as f32 / 250.0 - 2.0).collect()
}

/// Prepared, calibrated on a few images and converted, these nodes left in float.
fn converted(fused: &Graph, float: &[&str]) -> Graph {
    let config = float.iter().fold(QConfig::new(Backend::Onednn), |c, name| c.with_override(*name, Override::Float));
    let (graph, _) = quant::prepare(fused, &config).expect("a float graph");
    let mut observers = Observers::new(&graph).expect("observers");
    let mut seen = Ok(());
    let model = Model::new(&graph, &Device::Cpu).expect("a float graph");
    model
        .run_observed(&images(&graph, 4), 4, &mut |node, values| {
            seen = observers.observe(node, values);
            if seen.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .expect("it runs");
    seen.expect("finite values");
    let qparams = observers.qparams().expect("all saw data");
    quant::convert(&graph, &qparams, &config).expect("all have qparams").0
}

fn plan(graph: &Graph, isa: Isa, threads: usize) -> Plan {
    Plan::new(graph, &PlanOptions { isa: Some(isa), threads }).unwrap_or_else(|e| panic!("{e}"))
}

/// Two images on every instruction set and one or two threads, traced and not, against the reference.
fn agree(graph: &Graph, what: &str) {
    let images = images(graph, 2);
    let each = images.len() / 2;
    let mut expected = Vec::new();
    let mut levels = Vec::new();
    for image in images.chunks_exact(each) {
        let (values, logits) = reference::run(graph, image);
        expected.extend(logits);
        levels.extend(values.into_iter().filter_map(|(id, value)| Some((id, value.levels()?))));
    }
    assert!(expected.iter().any(|x| *x != expected[0]), "{what}: logits that say nothing");
    for isa in Isa::ALL.iter().copied().filter(|i| i.is_available()) {
        for threads in [1, 2] {
            let mut plan = plan(graph, isa, threads);
            assert_eq!(plan.run(&images, 2), expected, "{what} on {isa}, {threads} threads");
            let single: Vec<f32> = images.chunks_exact(each).flat_map(|image| plan.run(image, 1)).collect();
            assert_eq!(single, expected, "{what}, one image at a time");
        }
        let mut seen: Vec<(NodeId, Vec<u8>)> = Vec::new();
        let mut plan = plan(graph, isa, 1);
        let traced = plan.run_traced(&images, 2, &mut |id, levels| seen.push((id, levels.to_vec())));
        assert_eq!(traced.expect("it was planned before"), expected, "{what}, traced");
        // A view is whole as soon as what it looks at is: within an image, another order than the graph's.
        let half = seen.len() / 2;
        seen[..half].sort_by_key(|(id, _)| *id);
        seen[half..].sort_by_key(|(id, _)| *id);
        for ((id, found), (expected_id, expected)) in seen.iter().zip(&levels) {
            let name = &graph.node(*id).name;
            assert_eq!((id, found), (expected_id, expected), "{what} on {isa}: levels of `{name}`");
        }
        assert_eq!(seen.len(), levels.len(), "{what}: every int8 node once an image");
    }
}

#[test]
fn each_node_of_a_branching_graph_left_in_float() {
    let fused = fused(&branching());
    let names: Vec<String> =
        quant::choosable(&fused).into_iter().filter(|(_, can)| can.float).map(|(name, _)| name).collect();
    assert!(names.len() > 10, "{names:?}");
    agree(&converted(&fused, &[]), "all int8");
    for name in &names {
        let graph = converted(&fused, &[name]);
        let node = graph.node(graph.require(name).expect("it keeps its name"));
        assert!(node.numeric.qparams().is_none(), "{name} is int8");
        agree(&graph, &format!("`{name}` in float"));
    }
    let but_one: Vec<&str> = names.iter().map(String::as_str).filter(|n| *n != "dense").collect();
    agree(&converted(&fused, &but_one), "all but `dense` in float");
}

#[test]
fn parts_of_mobilenet_left_in_float() {
    let fused = model(ModelId::MobileNetV3Small);
    let of = |keep: &dyn Fn(&str, &Op) -> bool| -> Vec<String> {
        let can = quant::choosable(&fused);
        let float = |name: &str| can.iter().any(|(n, c)| n == name && c.float);
        let all = fused.nodes.iter().filter(|n| float(&n.name) && keep(&n.name, &n.op));
        all.map(|n| n.name.clone()).collect()
    };
    let depthwise = of(&|_, op| matches!(op, Op::Conv2d(c) if c.is_depthwise()));
    let squeeze = of(&|name, _| [".fc1", ".fc2", ".scale_activation", ".skip_mul"].iter().any(|e| name.ends_with(e)));
    let ends = of(&|name, _| name == "features.0.0" || name == "classifier.3");
    for (nodes, count, what) in
        [(depthwise, 11, "depthwise"), (squeeze, 36, "squeeze-excitation"), (ends, 2, "first and last")]
    {
        assert_eq!(nodes.len(), count, "{what}: {nodes:?}");
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        agree(&converted(&fused, &nodes), &format!("{what} in float"));
    }
}

#[test]
fn a_concatenation_of_one_float_and_one_int8_branch() {
    let fused = model(ModelId::ShuffleNetV2X05);
    agree(&converted(&fused, &["stage2.1.branch2.5"]), "a branch in float");
    agree(&converted(&fused, &["stage2.1.cat", "stage3.0.branch1.0"]), "concatenation and shuffle in float");
    agree(&converted(&fused, &["conv1.0", "fc"]), "first and last in float");
}

/// Nothing is int8: the plan runs the float graph, batch norm and stubs in.
#[test]
fn every_layer_in_float_gives_the_float_logits() {
    let close = |graph: &Graph, what: &str| {
        let images = images(graph, 3);
        let expected = Model::new(graph, &Device::Cpu).expect("a float graph").run(&images, 3).expect("it runs");
        let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for threads in [1, 2] {
            let mut plan = plan(graph, Isa::Scalar, threads);
            let found = plan.run(&images, 3);
            let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(found.len(), expected.len());
            assert!(far <= 1e-5 * largest, "{what}: {far} of {largest}");
            assert!(plan.output_levels().is_empty());
        }
    };
    for id in [ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small, ModelId::ResNet18] {
        let plain = zoo::init(&zoo::build(id, ModelConfig { classes: 10, size: 32 }).expect("a valid size"), 5);
        close(&plain, &format!("{id}, batch norm in"));
        close(&model(id), &format!("{id}, fused"));
    }
    close(&fused(&branching()), "branching");
}

/// Float execution has no grouped convolution: the same as a dense one with zeros between the groups.
#[test]
fn a_grouped_convolution_in_float() {
    let build = |groups: usize| {
        let (mut b, x) = Builder::new("grouped", Shape::new(6, 7, 5));
        b.conv("conv", x, ConvSpec { groups, ..ConvSpec::new(4, 3).bias() });
        b.finish()
    };
    let grouped = zoo::init(&build(2), 9);
    let weight = grouped.nodes[1].op.weight().and_then(|w| w.float()).expect("a float weight").clone();
    let dense: Vec<f32> = (0..4 * 6 * 9)
        .map(|i| {
            let (out, channel, tap) = (i / 54, i / 9 % 6, i % 9);
            if channel / 3 == out / 2 { weight.data[(out * 3 + channel % 3) * 9 + tap] } else { 0.0 }
        })
        .collect();
    let bias = grouped.params().iter().find(|p| p.part == "bias").expect("a bias").tensor.clone();
    let weight = octet::graph::Tensor::new([4, 6, 3, 3], dense);
    let dense = build(1).with_params(&[("conv.weight".to_owned(), weight), ("conv.bias".to_owned(), bias)].into());
    let images = images(&grouped, 2);
    let expected = Model::new(&dense, &Device::Cpu).expect("a float graph").run(&images, 2).expect("it runs");
    let found = plan(&grouped, Isa::Scalar, 1).run(&images, 2);
    // The plan's logits are channels outermost, as PyTorch has them; the executor's rows are pixels.
    let expected = reference::to_chw(&expected, grouped.nodes[1].shape);
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
}

/// What a user leaves a layer in float for.
#[test]
fn giving_a_layer_back_to_float_improves_the_result() {
    let fused = model(ModelId::MobileNetV3Small);
    let images = images(&fused, 8);
    let float = Model::new(&fused, &Device::Cpu).expect("a float graph").run(&images, 8).expect("it runs");
    let sqnr = |float_nodes: &[&str]| {
        let mut plan = Plan::new(&converted(&fused, float_nodes), &PlanOptions::default()).expect("a plan");
        let found = plan.run(&images, 8);
        let noise: f64 = float.iter().zip(&found).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let signal: f64 = float.iter().map(|a| f64::from(*a).powi(2)).sum();
        10.0 * (signal / noise).log10()
    };
    let (all, last) = (sqnr(&[]), sqnr(&["classifier.3"]));
    let more = sqnr(&["classifier.0", "classifier.1", "classifier.3"]);
    println!("all int8 {all:.2} dB, classifier.3 in float {last:.2} dB, the whole classifier {more:.2} dB");
    assert!(last > all && more > last);
}

#[test]
fn times_and_sizes_count_float_layers() {
    let fused = fused(&branching());
    let image = images(&fused, 1);
    let int8 = converted(&fused, &[]);
    let graph = converted(&fused, &["dense", "fc", "cat2"]);
    let mut plan = plan(&graph, Isa::Scalar, 1);
    let times = plan.time_layers(&image, 3);
    assert_eq!(times.iter().map(|t| t.macs).sum::<u64>(), graph.macs());
    let mut names: Vec<&str> = times.iter().map(|t| t.name.as_str()).collect();
    for name in ["dense", "dense.quant", "shuffle.dequant", "fc"] {
        assert!(names.contains(&name), "{name} is not timed: {names:?}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), times.len(), "each node once");
    let bytes = |graph: &Graph| Plan::new(graph, &PlanOptions::default()).expect("a plan").arena_bytes();
    assert!(bytes(&graph) > bytes(&int8), "float32 takes more room");
    assert!(bytes(&graph) < 4 * bytes(&int8), "and only where it is");
}

#[test]
fn what_cannot_run_is_refused_by_its_node() {
    let refused = |graph: &Graph| Plan::new(graph, &PlanOptions::default()).expect_err("refused").to_string();
    let (prepared, _) = quant::prepare(&fused(&branching()), &QConfig::default()).expect("a float graph");
    let error = refused(&prepared);
    assert!(error.contains("`quant`") && error.contains("convert"), "{error}");
    let mut graph = converted(&fused(&branching()), &["dense"]);
    let at = graph.require("dense").expect("there");
    let stub = graph.node(at).inputs[0];
    graph.nodes[at.index()].inputs = graph.node(stub).inputs.clone();
    let error = refused(&graph);
    assert!(error.contains("`dense`") && error.contains("dequantize is missing"), "{error}");
}

/// Few outputs, far apart in a wide border: no graph that is checked has it, and one that is not is not planned.
#[test]
fn padding_that_no_memory_holds_is_refused() {
    let (mut b, x) = Builder::new("padded", Shape::new(3, 21, 19));
    let weight = Weight::Float(Tensor::zeros([4, 3, 1, 1]));
    let conv = Conv2d { weight, bias: None, stride: 1, padding: 0, groups: 1, bn: None, relu: false, fake: None };
    b.push("far", Op::Conv2d(conv), &[x]);
    let mut graph = converted(&fused(&b.finish()), &[]);
    let far = graph.nodes.iter().position(|n| n.name == "far").expect("it is there");
    for node in &mut graph.nodes[far..] {
        node.shape = Shape::new(4, 3, 3);
        if let Op::Conv2d(conv) = &mut node.op {
            (conv.stride, conv.padding) = (60_000, 60_000);
        }
    }
    let error = octet::graph::check(&graph).expect_err("wider than its kernel").to_string();
    assert!(error.contains("`far`") && error.contains("padding 60000"), "{error}");
    let error = Plan::new(&graph, &PlanOptions::default()).expect_err("43 GB").to_string();
    assert!(error.contains("`quant`") && error.contains("4 GiB"), "{error}");
}

#[test]
fn a_mixed_file_comes_back_and_runs_the_same() {
    let fused = model(ModelId::ShuffleNetV2X05);
    let graph = converted(&fused, &["conv1.0", "stage2.1.branch2.5", "fc"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mixed.octet.safetensors");
    octet::weights::octet::write(&path, &graph, &Default::default()).expect("written");
    let (again, _) = octet::weights::octet::read(&path).expect("read");
    assert_eq!(again, graph);
    let images = images(&graph, 1);
    assert_eq!(plan(&again, Isa::Scalar, 1).run(&images, 1), plan(&graph, Isa::Scalar, 1).run(&images, 1));
    // Three layers of four bytes a weight, and nothing else.
    octet::weights::octet::write(&path, &converted(&fused, &[]), &Default::default()).expect("written");
    let int8 = std::fs::metadata(&path).expect("a file").len();
    let grown = octet::weights::octet::write(&path, &graph, &Default::default()).expect("written") - int8;
    let weights = |name: &str| {
        let node = graph.node(graph.require(name).expect("there"));
        node.op.weight().map_or(0, |w| w.shape().iter().product::<usize>()) as u64
    };
    let three: u64 = ["conv1.0", "stage2.1.branch2.5", "fc"].into_iter().map(weights).sum();
    assert!((2 * three..4 * three).contains(&grown), "{grown} bytes more for {three} weights");
}

/// Fake quantization runs in the plan too: a file of it opens like any other.
#[test]
fn a_fake_quantized_graph_gives_the_float_executors_logits() {
    let fused = fused(&branching());
    let config = QConfig::new(Backend::Onednn).with_bits(6);
    let (prepared, report) = quant::prepare(&fused, &config).expect("a float graph");
    let qparams: BTreeMap<_, _> = report
        .observed
        .iter()
        .map(|o| (o.name.clone(), octet::graph::QParams { scale: 0.11, zero_point: 21, qmax: 63 }))
        .collect();
    let (graph, _) = quant::fake_quantize(&prepared, &qparams, &config).expect("all have qparams");
    let images = images(&graph, 1);
    let expected = Model::new(&graph, &Device::Cpu).expect("a float graph").run(&images, 1).expect("it runs");
    assert_eq!(plan(&graph, Isa::Scalar, 2).run(&images, 1), expected);
}
