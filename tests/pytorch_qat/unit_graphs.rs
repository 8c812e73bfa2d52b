//! The single layers as graphs. A unit with two inputs takes them as the halves of one image's channels.

use std::collections::HashMap;

use octet::graph::{Activation, Builder, ConvSpec, Graph, MaxPool2d, NodeId, Op, Shape, Tensor};

use crate::{golden::UnitRecord, synth};

/// How a unit's inputs lie in the one image of its graph.
#[derive(Clone, Copy, PartialEq)]
pub enum Inputs {
    One,
    /// The first half of the channels and the second.
    Halves,
    /// The same, but the first input is one pixel, repeated all over its half.
    PixelAndHalf,
}

/// The unit's float graph with stubs and synthetic weights.
pub fn graph(unit: &str, record: &UnitRecord, seed: u64) -> Result<(Graph, Inputs), String> {
    let last = record.inputs.last().ok_or("no inputs")?;
    let (c, size) = match last[..] {
        [_, c, h, w] => (c, [h, w]),
        [_, c] => (c, [1, 1]),
        _ => return Err(format!("inputs of shape {last:?}")),
    };
    let inputs = match (record.inputs.len(), record.inputs[0] == *last) {
        (1, _) => Inputs::One,
        (_, true) => Inputs::Halves,
        (_, false) => Inputs::PixelAndHalf,
    };
    let channels = if inputs == Inputs::One { c } else { 2 * c };
    let (mut b, image) = Builder::new(unit, Shape::new(channels, size[0], size[1]));
    let mut stubs = Vec::new();
    for i in 0..record.inputs.len() {
        let mut x = image;
        if inputs != Inputs::One {
            x = b.push(format!("half{i}"), Op::Chunk { index: i, chunks: 2 }, &[x]);
        }
        if inputs == Inputs::PixelAndHalf && i == 0 {
            let pool = MaxPool2d { kernel: size[0], stride: size[0], padding: 0 };
            x = b.push("pixel", Op::MaxPool2d(pool), &[x]);
        }
        stubs.push(b.push(format!("quant.{i}"), Op::QuantStub, &[x]));
    }
    let y = operation(&mut b, unit, &stubs)?;
    let y = b.push("flatten", Op::Flatten, &[y]);
    b.push("dequant", Op::DeQuantStub, &[y]);
    let graph = b.finish();
    let named = |p: &octet::graph::ParamRef<'_>| {
        let key = graph.key(p);
        let name = format!("{unit}.{}", key.trim_start_matches("op."));
        (key, synth::parameter(&name, seed, &p.tensor.shape))
    };
    let values: HashMap<String, Tensor> = graph.params().iter().map(named).collect();
    Ok((graph.with_params(&values), inputs))
}

fn operation(b: &mut Builder, unit: &str, x: &[NodeId]) -> Result<NodeId, String> {
    let first = x[0];
    Ok(match unit {
        "conv_bn" => {
            let y = b.conv("op.0", first, ConvSpec::new(12, 3).stride(2));
            b.bn("op.1", y, 1e-5, 0.1)
        }
        "conv_bn_relu" => {
            let y = b.conv("op.0", first, ConvSpec::new(12, 1));
            let y = b.bn("op.1", y, 1e-3, 0.01);
            b.act("op.2", y, Activation::Relu)
        }
        "depthwise_bn_relu" => {
            let y = b.conv("op.0", first, ConvSpec::new(8, 3).depthwise());
            let y = b.bn("op.1", y, 1e-5, 0.1);
            b.act("op.2", y, Activation::Relu)
        }
        "one_signed_bn" => {
            let y = b.conv("op.0", first, ConvSpec::new(8, 1).depthwise());
            b.bn("op.1", y, 1e-5, 0.1)
        }
        "conv_relu" => {
            let y = b.conv("op.0", first, ConvSpec::new(6, 1).bias());
            b.act("op.1", y, Activation::Relu)
        }
        "conv_bias" => b.conv("op.0", first, ConvSpec::new(6, 1).bias()),
        "linear" => b.linear("op.0", first, 33),
        "hardswish" => b.act("op.0", first, Activation::Hardswish),
        "hardsigmoid" => b.act("op.0", first, Activation::Hardsigmoid),
        "add" => b.push("op", Op::Add { relu: false }, x),
        "add_relu" => b.push("op", Op::Add { relu: true }, x),
        // Ours has the factor second.
        "mul" => b.push("op", Op::Mul, &[x[1], first]),
        "cat" => b.push("op", Op::Cat, x),
        other => return Err(format!("unknown unit `{other}`")),
    })
}
