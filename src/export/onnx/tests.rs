use super::*;
use crate::graph::{Activation, Builder, ConvSpec, Graph, Numeric, Op, QParams, Shape, Tensor};
use crate::session::synthetic_pair;
use crate::zoo::{self, ModelConfig, ModelId};

const MODELS: [ModelId; 4] =
    [ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small, ModelId::ResNet18, ModelId::EfficientNetV2S];

fn config() -> ModelConfig {
    ModelConfig { classes: 5, size: 32 }
}

/// What a value moves through without changing, and so is not written: names of such nodes.
fn is_silent(op: &Op) -> bool {
    matches!(op, Op::Dropout { .. } | Op::StochasticDepth { .. } | Op::DeQuantStub)
}

/// Both graphs' nodes that compute something, side by side.
fn computing<'a>(a: &'a Graph, b: &'a Graph) -> Vec<(&'a crate::graph::Node, &'a crate::graph::Node)> {
    let nodes = |g: &'a Graph| g.nodes.iter().filter(|n| !is_silent(&n.op)).collect::<Vec<_>>();
    let (one, two) = (nodes(a), nodes(b));
    assert_eq!(
        one.iter().map(|n| &n.name).collect::<Vec<_>>(),
        two.iter().map(|n| &n.name).collect::<Vec<_>>(),
        "{}",
        a.name
    );
    one.into_iter().zip(two).collect()
}

#[test]
fn a_float_model_comes_back_as_it_was() {
    for model in MODELS {
        let graph = zoo::init(&zoo::build(model, config()).expect("a model of the zoo"), 1);
        let bytes = encode(&graph, &[]).expect("a float graph");
        assert_eq!(bytes, encode(&graph, &[]).expect("a float graph"), "the same bytes each time");
        let back = decode(&bytes).unwrap_or_else(|e| panic!("{model}: {e}"));
        assert_eq!((back.params().len(), back.input_shape()), (graph.params().len(), graph.input_shape()));
        for (a, b) in computing(&graph, &back) {
            if let (Op::BatchNorm2d(a), Op::BatchNorm2d(b)) = (&a.op, &b.op) {
                assert!((a.momentum - b.momentum).abs() < 1e-6 && a.weight == b.weight && a.eps == b.eps);
                assert!(a.running_var == b.running_var && a.running_mean == b.running_mean && a.bias == b.bias);
            } else {
                assert_eq!(a.op, b.op, "{model}: {}", a.name);
            }
        }
    }
}

#[test]
fn an_int8_model_comes_back_but_for_its_rounded_biases() {
    for model in MODELS {
        let (_, graph) = synthetic_pair(model, config()).expect("a model of the zoo");
        let back = decode(&encode(&graph, &[]).expect("an int8 graph")).unwrap_or_else(|e| panic!("{model}: {e}"));
        for (a, b) in computing(&graph, &back) {
            assert_eq!((a.numeric, a.shape), (b.numeric, b.shape), "{model}: {}", a.name);
            let si = graph.node(*a.inputs.first().unwrap_or(&crate::graph::NodeId(0))).numeric.qparams();
            let layer = |op: &Op| match op {
                Op::Conv2d(c) => Some((c.weight.clone(), c.bias.clone(), (c.stride, c.padding, c.groups, c.relu))),
                Op::Linear(l) => Some((l.weight.clone(), l.bias.clone(), (1, 0, 1, l.relu))),
                _ => None,
            };
            let (Some(one), Some(two)) = (layer(&a.op), layer(&b.op)) else {
                assert_eq!(a.op, b.op, "{model}: {}", a.name);
                continue;
            };
            assert_eq!((&one.0, one.2), (&two.0, two.2), "{model}: {}", a.name);
            let (bias, back) = (one.1.expect("a folded bias"), two.1.expect("it was written"));
            let weight = one.0.int8().expect("an int8 layer").clone();
            let si = si.expect("an int8 input").scale;
            for (c, (exact, rounded)) in bias.data.iter().zip(back.data.iter()).enumerate() {
                let level = si * weight.scale(c);
                assert!((exact - rounded).abs() <= 0.501 * level + exact.abs() * 1e-6, "{model}: {} {c}", a.name);
            }
        }
    }
}

/// A sum of int8 that may not use the levels above 100, behind a layer left in float.
fn mixed() -> Graph {
    let (mut b, x) = Builder::new("mixed", Shape::new(2, 4, 4));
    let y = b.conv("float", x, ConvSpec::new(2, 3).bias());
    let y = b.push("quant", Op::QuantStub, &[y]);
    let z = b.act("act", y, Activation::Relu6);
    let z = b.push("sum", Op::Add { relu: true }, &[y, z]);
    let z = b.push("pool", Op::MeanHw, &[z]);
    b.push("dequant", Op::DeQuantStub, &[z]);
    let mut graph = b.finish();
    for node in &mut graph.nodes {
        if ["quant", "act", "sum", "pool"].contains(&node.name.as_str()) {
            node.numeric = Numeric::Int8(QParams { scale: 0.05, zero_point: 30, qmax: 100 });
        }
    }
    graph
}

#[test]
fn largest_levels_and_layers_left_in_float_come_back() {
    let graph = mixed();
    let back = decode(&encode(&graph, &[]).expect("a mixed graph")).expect("our own model");
    for (a, b) in computing(&graph, &back) {
        assert_eq!((&a.op, a.numeric), (&b.op, b.numeric), "{}", a.name);
    }
}

#[test]
fn a_bias_beyond_32_bits_widens_its_channel() {
    let (mut b, x) = Builder::new("wide", Shape::new(1, 2, 2));
    let x = b.push("quant", Op::QuantStub, &[x]);
    let x = b.conv("conv", x, ConvSpec::new(1, 1).bias());
    b.push("dequant", Op::DeQuantStub, &[x]);
    let mut graph = b.finish();
    for node in &mut graph.nodes[1..3] {
        node.numeric = Numeric::Int8(QParams::new(0.01, 128));
    }
    let Op::Conv2d(conv) = &mut graph.nodes[2].op else { panic!("the convolution") };
    let (data, scales) = (vec![100_i8].into(), vec![1.2e-7_f32].into());
    conv.weight = crate::graph::Weight::Int8(crate::graph::QTensor { shape: vec![1, 1, 1, 1], data, scales });
    conv.bias = Some(Tensor::new([1], vec![10.0]));
    let back = decode(&encode(&graph, &[]).expect("an int8 graph")).expect("our own model");
    let Op::Conv2d(conv) = &back.nodes[2].op else { panic!("the convolution") };
    let bias = conv.bias.as_ref().expect("it was written").data[0];
    assert!((bias - 10.0).abs() < 1e-5, "{bias}");
}

#[test]
fn what_is_in_the_middle_of_its_steps_is_refused_by_node() {
    let mut graph = mixed();
    graph.nodes[1].numeric = Numeric::FakeQuantized(QParams::new(0.1, 0));
    let error = encode(&graph, &[]).expect_err("fake-quantized").to_string();
    assert!(error.contains("`float`") && error.contains("convert"), "{error}");
}

/// Whatever a byte is changed to or wherever the file ends, the reader answers; it never panics.
#[test]
fn a_broken_file_is_an_error_or_a_graph_that_holds() {
    let bytes = encode(&mixed(), &[]).expect("a mixed graph");
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "truncated at {end}");
    }
    let mut refused = 0;
    for at in 0..bytes.len() {
        for flip in [1_u8, 0x10, 0x80, 0xff] {
            let mut broken = bytes.clone();
            broken[at] ^= flip;
            match decode(&broken) {
                Ok(graph) => crate::graph::check(&graph).expect("what is read holds"),
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().contains('\n'), "{error:?}");
                }
            }
        }
    }
    assert!(refused > bytes.len(), "{refused} of {} were refused", 4 * bytes.len());
    assert!(decode(b"not a model").is_err() && decode(&[]).is_err());
}
