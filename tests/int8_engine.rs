//! The int8 engine on a small branching graph: the same integers however it is run.

use octet::{
    exec::int8::{Plan, PlanOptions},
    graph::{Activation, Builder, ConvSpec, Graph, NodeId, Numeric, Op, QParams, Shape},
    kernels::Isa,
    quant::{self, Backend, FuseOptions, QConfig},
    zoo,
};

/// A branching network with every kind of border and view: shuffle, padded convolutions of two sizes, residual sum,
/// squeeze-excitation, a concatenation that a padded convolution reads.
fn branching() -> Graph {
    let (mut b, x) = Builder::new("branching", Shape::new(3, 21, 19));
    let x = b.conv("stem", x, ConvSpec::new(10, 3).stride(2).bias());
    let x = b.max_pool("pool", x);
    let left = b.push("left", Op::Chunk { index: 0, chunks: 2 }, &[x]);
    let right = b.push("right", Op::Chunk { index: 1, chunks: 2 }, &[x]);
    let right = b.conv("wide", right, ConvSpec::new(5, 5).depthwise().bias());
    let joined = b.push("cat", Op::Cat, &[left, right]);
    let shuffled = b.push("shuffle", Op::ChannelShuffle { groups: 2 }, &[joined]);
    let swish = b.conv("grouped", shuffled, ConvSpec { groups: 2, ..ConvSpec::new(10, 3).bias() });
    let swish = b.act("swish", swish, Activation::Hardswish);
    let pooled = b.push("pooled", Op::AdaptiveAvgPool2d, &[swish]);
    let gate = b.conv("gate", pooled, ConvSpec::new(10, 1).bias());
    let gate = b.act("sigmoid", gate, Activation::Sigmoid);
    let scaled = b.push("mul", Op::Mul, &[swish, gate]);
    let sum = b.push("add", Op::Add { relu: false }, &[scaled, shuffled]);
    let both = b.push("cat2", Op::Cat, &[sum, x]);
    let out = b.conv("padded", both, ConvSpec::new(7, 3).bias());
    let flat = b.push("flatten", Op::Flatten, &[out]);
    b.linear("fc", flat, 11);
    b.finish()
}

fn converted(float: &Graph) -> Graph {
    let config = QConfig::new(Backend::Onednn);
    let (graph, _) = quant::insert_stubs(&zoo::init(float, 3)).expect("a float graph");
    let (graph, _) = quant::fuse(&graph, &FuseOptions::default()).expect("stubs are there");
    let (graph, _) = quant::prepare(&graph, &config).expect("a float graph");
    let observed = graph.nodes.iter().filter(|n| matches!(n.numeric, Numeric::Observed(_)));
    let qparams =
        observed.enumerate().map(|(i, n)| (n.name.clone(), QParams::new(0.02, (i * 37 % 200) as u8))).collect();
    quant::convert(&graph, &qparams, &config).expect("all have qparams").0
}

fn images(count: usize) -> Vec<f32> {
    (0..count * 3 * 21 * 19).map(|i| (i * 7919 % 1000) as f32 / 250.0 - 2.0).collect()
}

#[test]
fn every_way_to_run_gives_the_same_integers() {
    let graph = converted(&branching());
    let images = images(3);
    let scalar = PlanOptions { isa: Some(Isa::Scalar), threads: 1 };
    let mut plan = Plan::new(&graph, &scalar).expect("an int8 graph");
    let expected = plan.run(&images, 3);
    let levels = plan.output_levels().to_vec();
    assert_eq!(levels.len(), expected.len());
    assert!(expected.iter().any(|x| *x != expected[0]), "logits that say nothing");
    for isa in Isa::ALL.iter().copied().filter(|i| i.is_available()) {
        for threads in [1, 2, 5] {
            let options = PlanOptions { isa: Some(isa), threads };
            let mut plan = Plan::new(&graph, &options).expect("an int8 graph");
            assert_eq!(plan.run(&images, 3), expected, "{options:?}");
            assert_eq!(plan.output_levels(), levels, "{options:?}");
            let single: Vec<f32> = images.chunks(images.len() / 3).flat_map(|image| plan.run(image, 1)).collect();
            assert_eq!(single, expected, "{options:?}, one image at a time");
            let traced = plan.run_traced(&images, 3, &mut |_, _| {}).expect("it was planned before");
            assert_eq!(traced, expected, "{options:?}, traced");
        }
    }
}

#[test]
fn a_trace_has_every_int8_node_once_an_image() {
    let graph = converted(&branching());
    let mut plan = Plan::new(&graph, &PlanOptions::default()).expect("an int8 graph");
    let mut seen: Vec<(NodeId, usize)> = Vec::new();
    let mut relevels = Vec::new();
    plan.run_traced(&images(1), 1, &mut |node, levels| {
        seen.push((node, levels.len()));
        if graph.node(node).name == "fc" {
            relevels = levels.to_vec();
        }
    })
    .expect("an int8 graph");
    seen.sort();
    let int8 = graph.iter().filter(|(_, n)| n.numeric.qparams().is_some());
    assert_eq!(seen, int8.map(|(id, n)| (id, n.shape.len())).collect::<Vec<_>>());
    assert_eq!(plan.output_levels(), relevels);
}

#[test]
fn times_name_each_layer_once() {
    let graph = converted(&branching());
    let mut plan = Plan::new(&graph, &PlanOptions::default()).expect("an int8 graph");
    let times = plan.time_layers(&images(1), 3);
    let mut names: Vec<&str> = times.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(times.iter().map(|t| t.macs).sum::<u64>(), graph.macs());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), times.len());
}
