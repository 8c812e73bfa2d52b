//! int32 sums. A level less its zero point is within 255 and a weight within 128, so a layer of K products sums to
//! `K * 255 * 128` at most; the zero point's share is counted apart, so no moment of a sum is beyond twice that.

use octet::graph::{
    Conv2d, Graph, Linear, MAX_POOLED, MAX_PRODUCTS, Node, NodeId, Numeric, Op, QParams, QTensor, Shape, Tensor,
    Weight, check,
};
use octet::zoo::{self, ModelConfig, ModelId};

use crate::run;

/// The bound itself, and that every layer of the zoo is within it.
#[test]
fn no_layer_of_the_zoo_can_leave_32_bits() {
    let most = 2 * MAX_PRODUCTS as i64 * 255 * 128;
    assert!(most <= i64::from(i32::MAX) && MAX_POOLED as i64 * 255 <= i64::from(i32::MAX));
    let mut largest = (0, String::new());
    for model in ModelId::ALL {
        let graph = zoo::build(model, ModelConfig { classes: 1000, size: 224 }).expect("a valid configuration");
        for node in &graph.nodes {
            let Some(weight) = node.op.weight() else { continue };
            let products: usize = weight.shape()[1..].iter().product();
            assert!(products <= MAX_PRODUCTS, "{model} {}: {products}", node.name);
            if products > largest.0 {
                largest = (products, format!("{model}, {}", node.name));
            }
        }
    }
    println!("the largest of the zoo: {} products ({})", largest.0, largest.1);
    // A third of the way would be worth a look.
    assert!(largest.0 * 3 < MAX_PRODUCTS, "{largest:?}");
}

fn node(name: &str, op: Op, input: Option<u32>, shape: Shape, numeric: Numeric) -> Node {
    Node {
        name: name.to_owned(),
        op,
        inputs: input.map(NodeId).into_iter().collect(),
        shape,
        numeric,
        fused: Vec::new(),
    }
}

/// Image, quantize, one operation, dequantize.
fn single(input: Shape, zero_point: u8, op: Op, output: Shape, to: QParams) -> Graph {
    let from = QParams::new(1.0, zero_point);
    let mut nodes = vec![
        node("x", Op::Input, None, input, Numeric::Float),
        node("quant", Op::QuantStub, Some(0), input, Numeric::Int8(from)),
        node("op", op, Some(1), output, Numeric::Int8(to)),
    ];
    nodes.push(node("dequant", Op::DeQuantStub, Some(2), output, Numeric::Float));
    Graph { name: "single".to_owned(), nodes }
}

fn int8(shape: &[usize], scale: f32, value: impl Fn(usize) -> i8) -> Weight {
    let len = shape.iter().product();
    Weight::Int8(QTensor { shape: shape.to_vec(), data: (0..len).map(value).collect(), scales: [scale].into() })
}

/// Levels that all weights of one sign meet: 255 where the zero point is 0, and the other way round.
const ENDS: [(u8, f32); 4] = [(0, 255.0), (255, -255.0), (128, 127.0), (128, -128.0)];

/// `rne(f32(sum) * multiplier) + zero point`, clamped: what the sum must have been.
fn level(sum: i64, multiplier: f32, to: QParams) -> f32 {
    let level = (sum as f32 * multiplier).round_ties_even() + f32::from(to.zero_point);
    (level.clamp(0.0, 255.0) - f32::from(to.zero_point)) * to.scale
}

/// A linear layer of as many products as are allowed, all of them as large as they get.
#[test]
fn the_largest_sum_of_a_linear_layer_comes_out_right() {
    // With 1e-7 the largest sum, 1.07e9, is 107 levels.
    let scale = 1e-7_f32;
    let to = QParams::new(1.0, 120);
    for (zero_point, image) in ENDS {
        for weight in [-128_i8, 127] {
            let linear =
                Linear { weight: int8(&[24, MAX_PRODUCTS], scale, |_| weight), bias: None, relu: false, fake: None };
            let shape = Shape::flat(MAX_PRODUCTS);
            let graph = single(shape, zero_point, Op::Linear(linear), Shape::flat(24), to);
            check(&graph).expect("within the bound");
            let logits = run(&graph, &vec![image; MAX_PRODUCTS]);
            let sum = MAX_PRODUCTS as i64 * image as i64 * i64::from(weight);
            assert_eq!(logits, vec![level(sum, scale, to); 24], "{zero_point} {weight}");
        }
    }
}

/// One product more is refused: by its name, where the graph is made, read or planned.
#[test]
fn one_product_more_is_refused() {
    let products = MAX_PRODUCTS + 1;
    let linear = Linear { weight: int8(&[1, products], 1e-7, |_| 1), bias: None, relu: false, fake: None };
    let graph = single(Shape::flat(products), 0, Op::Linear(linear), Shape::flat(1), QParams::new(1.0, 0));
    let error = check(&graph).expect_err("beyond the bound").to_string();
    assert!(error.contains("`op`") && error.contains("32769") && error.contains("leave it in float"), "{error}");
    // Conversion ends in the same check.
    let (mut b, x) = octet::graph::Builder::new("wide", Shape::new(products, 1, 1));
    let x = b.push("flat", Op::Flatten, &[x]);
    b.linear("fc", x, 2);
    let float = b.finish();
    let config = octet::quant::QConfig::default();
    let (stubbed, _) = octet::quant::insert_stubs(&float).expect("a float graph");
    let (prepared, _) = octet::quant::prepare(&stubbed, &config).expect("a float graph");
    let qparams = prepared.nodes.iter().map(|n| (n.name.clone(), QParams::new(0.1, 3))).collect();
    let error = octet::quant::convert(&prepared, &qparams, &config).expect_err("beyond the bound").to_string();
    assert!(error.contains("`fc`") && error.contains("leave it in float"), "{error}");
}

/// Convolutions whose every product is as large as it gets: as a matrix product, by Winograd's sums (which wrap around on the
/// way and must come out right), each channel apart, in groups.
#[test]
fn the_largest_sums_of_convolutions_come_out_right() {
    // Input channels, groups, output channels; 3x3, padded with the zero point.
    for (channels, groups, out) in [(512, 1, 16), (16, 1, 16), (112, 1, 16), (115, 1, 16), (32, 32, 32), (24, 3, 12)] {
        let per_group = channels / groups;
        for (zero_point, image) in ENDS {
            for weight in [-128_i8, 127] {
                let products = 9 * per_group as i64;
                let scale = 100.0 / (products as f32 * 255.0 * 128.0);
                let to = QParams::new(1.0, 120);
                let conv = Conv2d {
                    weight: int8(&[out, per_group, 3, 3], scale, |_| weight),
                    bias: None,
                    stride: 1,
                    padding: 1,
                    groups,
                    bn: None,
                    relu: false,
                    fake: None,
                };
                let side = 16;
                let graph = single(
                    Shape::new(channels, side, side),
                    zero_point,
                    Op::Conv2d(conv),
                    Shape::new(out, side, side),
                    to,
                );
                check(&graph).expect("within the bound");
                let logits = run(&graph, &vec![image; channels * side * side]);
                // A corner sees four ninths of the window, an edge six; what is outside adds nothing.
                let seen = |at: usize| if at == 0 || at == side - 1 { 2 } else { 3 };
                for (i, logit) in logits.iter().enumerate() {
                    let (y, x) = (i / side % side, i % side);
                    let taps = seen(y) * seen(x) * per_group as i64;
                    let expected = level(taps * image as i64 * i64::from(weight), scale, to);
                    assert_eq!(*logit, expected, "{channels} in {groups} groups, {zero_point} {weight}, {y} {x}");
                }
            }
        }
    }
}

/// Signs that alternate, so that sums are large on the way and small in the end.
#[test]
fn sums_that_cancel_come_out_right() {
    for channels in [16, 64, 112, 512] {
        let scale = 1e-5_f32;
        let to = QParams::new(1.0, 120);
        let weight = |i: usize| if (i * 7 / 3).is_multiple_of(2) { 127 } else { -128 };
        let conv = Conv2d {
            weight: int8(&[16, channels, 3, 3], scale, weight),
            bias: None,
            stride: 1,
            padding: 1,
            groups: 1,
            bn: None,
            relu: false,
            fake: None,
        };
        let shape = Shape::new(channels, 12, 12);
        let graph = single(shape, 3, Op::Conv2d(conv), Shape::new(16, 12, 12), to);
        let image: Vec<f32> = (0..shape.len()).map(|i| if (i / 5) % 3 == 0 { 252.0 } else { -3.0 }).collect();
        // `run` compares every instruction set with the specification.
        let logits = run(&graph, &image);
        assert!(logits.iter().any(|v| *v != logits[0]), "they tell nothing");
    }
}

/// 2^23 pixels of 255, and one row more.
#[test]
fn the_largest_average_comes_out_right_and_a_larger_one_is_refused() {
    let pool = |h: usize, w: usize| {
        single(Shape::new(1, h, w), 0, Op::AdaptiveAvgPool2d, Shape::flat(1), QParams::new(1.0, 0))
    };
    let graph = pool(4096, 2048);
    assert_eq!(4096 * 2048, MAX_POOLED);
    check(&graph).expect("within the bound");
    assert_eq!(run(&graph, &vec![255.0; MAX_POOLED]), [255.0]);
    let error = check(&pool(4096, 2049)).expect_err("beyond the bound").to_string();
    assert!(error.contains("`op`"), "{error}");
}

/// Scales that are each a number, and whose product or quotient is none.
#[test]
fn scales_that_give_no_number_are_refused() {
    let linear = |scale: f32, bias: f32| Linear {
        weight: int8(&[2, 4], scale, |_| 1),
        bias: Some(Tensor::full([2], bias)),
        relu: false,
        fake: None,
    };
    let graph = |scale, bias, to| single(Shape::flat(4), 0, Op::Linear(linear(scale, bias)), Shape::flat(2), to);
    let plan = |graph: &Graph| octet::exec::int8::Plan::new(graph, &Default::default()).map(drop);
    plan(&graph(0.1, 1.0, QParams::new(1.0, 0))).expect("numbers");
    for (scale, bias, to) in [(1e-30, 1e30, 1.0), (1e30, 0.0, 1e-20)] {
        let error = plan(&graph(scale, bias, QParams::new(to, 0))).expect_err("infinite").to_string();
        assert!(error.contains("`op`") && error.contains("too far apart"), "{error}");
    }
    // One whose inverse is infinite.
    let error = check(&graph(0.1, 1.0, QParams::new(1e-45, 0))).expect_err("no scale").to_string();
    assert!(error.contains("`op`") && error.contains("inverse"), "{error}");
}
