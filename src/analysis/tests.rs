use super::*;
use crate::{
    exec::int8::{Plan, PlanOptions},
    graph::{Conv2d, Graph, Linear, Node, NodeId, Numeric, Op, QParams, QTensor, Shape, Tensor, Weight, check},
};

fn node(name: &str, op: Op, inputs: &[u32], shape: Shape, numeric: Numeric) -> Node {
    let inputs = inputs.iter().map(|i| NodeId(*i)).collect();
    Node { name: name.to_owned(), op, inputs, shape, numeric, fused: Vec::new() }
}

fn conv(shape: [usize; 4], data: Vec<i8>, stride: usize, padding: usize, groups: usize) -> Op {
    let scales = vec![0.01; shape[0]].into();
    let weight = Weight::Int8(QTensor { shape: shape.to_vec(), data: data.into(), scales });
    let bias = Some(Tensor::zeros([shape[0]]));
    Op::Conv2d(Conv2d { weight, bias, stride, padding, groups, bn: None, relu: false, fake: None })
}

/// Image, quantize with scale 1, one layer, dequantize: an image's values are the layer's levels.
fn around(input: Shape, zero_point: u8, op: Op) -> Graph {
    let output = op.infer_shape("layer", &[input]).expect("it fits");
    let int8 = |zero_point| Numeric::Int8(QParams::new(1.0, zero_point));
    let graph = Graph {
        name: "around".to_owned(),
        nodes: vec![
            node("input", Op::Input, &[], input, Numeric::Float),
            node("quant", Op::QuantStub, &[0], input, int8(zero_point)),
            node("layer", op, &[1], output, int8(128)),
            node("dequant", Op::DeQuantStub, &[2], output, Numeric::Float),
        ],
    };
    check(&graph).expect("sound");
    graph
}

fn counted(graph: &Graph, levels: &[u8], images: usize) -> Saturation {
    let zero_point = graph.nodes[1].numeric.qparams().expect("int8").zero_point;
    let values: Vec<f32> = levels.iter().map(|q| f32::from(*q) - f32::from(zero_point)).collect();
    let mut plan = Plan::new(graph, &PlanOptions::default()).expect("a plan");
    let mut detector = SaturationDetector::new(graph);
    detector.count(&mut plan, &values, images).expect("it runs");
    detector.finish()
}

/// Four pixels, two channels, three filters: every sum can be done by hand.
#[test]
fn a_case_whose_count_is_known() {
    let op = conv([3, 2, 1, 1], vec![127, 127, -128, -128, 127, -128], 1, 0, 1);
    let graph = around(Shape::new(2, 2, 2), 0, op);
    // Channels outermost: the pixels are (255, 255), (129, 129), (128, 129), (0, 255).
    let found = counted(&graph, &[255, 129, 128, 0, 255, 129, 129, 255], 1);
    // 127 * 510 is outside, 127 * 258 = 32766 is not; -128 * 510, * 258 and * 257 = -32896 are, -128 * 255 is not.
    // With weights of both signs nothing can leave.
    let layer = &found.layers[0];
    assert_eq!((layer.pairs, layer.saturated, layer.outputs, layer.saturated_outputs), (12, 4, 12, 4));
    assert_eq!(layer.worst, Some(-65_280));
    assert_eq!(layer.layer.bound, PairBound { low: -65_280, high: 64_770 });
    assert_eq!((layer.layer.name.as_str(), layer.layer.neighbours), ("layer", Neighbours::Channels));
    assert_eq!((found.images, found.safe(), found.overflowing().count()), (1, 0, 1));
}

/// 16 bits hold 255 * 128 and 127 * 258, and -128 * 256 exactly.
#[test]
fn the_bound_is_where_16_bits_end() {
    let bound = |w: [i8; 2], qmax: u8| {
        let mut graph = around(Shape::new(2, 1, 1), 0, conv([1, 2, 1, 1], w.to_vec(), 1, 0, 1));
        graph.nodes[1].numeric = Numeric::Int8(QParams { scale: 1.0, zero_point: 0, qmax });
        let bound = bounds(&graph)[0].bound;
        (bound.worst(), bound.is_safe())
    };
    assert_eq!(bound([64, 64], 255), (32_640, true));
    assert_eq!(bound([65, 64], 255), (32_895, false));
    assert_eq!(bound([-64, -64], 255), (-32_640, true));
    assert_eq!(bound([-65, -64], 255), (-32_895, false));
    assert_eq!(bound([-128, 127], 255), (-32_640, true));
    assert_eq!(bound([127, 127], 127), (32_258, true));
    assert_eq!(bound([-128, -128], 127), (-32_512, true));
    assert_eq!(bound([-128, -128], 128), (-32_768, true), "the least that 16 bits hold");
    assert_eq!(bound([-128, -128], 129), (-33_024, false));
    // A clamped input is what the plan really gives.
    assert_eq!(bound([0, 0], 255), (0, true));
}

/// The products of every output in the order of its window's bytes, output channels outermost, by loops that share
/// nothing with the detector.
fn products(graph: &Graph, levels: &[u8]) -> Vec<Vec<i32>> {
    let (from, layer) = (graph.nodes[1].shape, &graph.nodes[2]);
    let zero_point = graph.nodes[1].numeric.qparams().expect("int8").zero_point;
    let (weight, [kh, kw], stride, padding, groups) = match &layer.op {
        Op::Conv2d(c) => (c.weight.int8(), c.kernel(), c.stride, c.padding, c.groups),
        Op::Linear(l) => (l.weight.int8(), [1, 1], 1, 0, 1),
        _ => panic!("no layer"),
    };
    let weight = weight.expect("int8");
    let (channels, per_group) = (from.c / groups, layer.shape.c / groups);
    let mut all = Vec::new();
    for o in 0..layer.shape.c {
        for (y, x) in (0..layer.shape.h).flat_map(|y| (0..layer.shape.w).map(move |x| (y, x))) {
            let mut products = Vec::new();
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                for c in 0..channels {
                    let [row, column] = [y * stride + ky, x * stride + kx].map(|v| v.wrapping_sub(padding));
                    let level = if row < from.h && column < from.w {
                        levels[((o / per_group * channels + c) * from.h + row) * from.w + column]
                    } else {
                        zero_point
                    };
                    let w = weight.data[((o * channels + c) * kh + ky) * kw + kx];
                    products.push(i32::from(level) * i32::from(w));
                }
            }
            all.push(products);
        }
    }
    all
}

/// Pairs, those outside 16 bits, outputs with one of them, and the farthest.
fn naive(graph: &Graph, levels: &[u8]) -> (u64, u64, u64, Option<i32>) {
    let (mut pairs, mut saturated, mut outputs, mut worst) = (0, 0, 0, None::<i32>);
    for products in products(graph, levels) {
        let sums = products.chunks_exact(2).map(|p| p[0] + p[1]);
        pairs += sums.len() as u64;
        let out: Vec<i32> = sums.filter(|s| i16::try_from(*s).is_err()).collect();
        saturated += out.len() as u64;
        outputs += u64::from(!out.is_empty());
        // Equally far outside, the positive one counts.
        let distance = |s: i32| (s - 32_767).max(-32_768 - s);
        worst = worst.into_iter().chain(out).max_by_key(|s| (distance(*s), *s));
    }
    (pairs, saturated, outputs, worst)
}

fn noise(i: usize, salt: usize) -> u8 {
    ((i * 7919 + salt * 104_729).wrapping_mul(2_654_435_761) >> 11) as u8
}

fn weights(len: usize) -> Vec<i8> {
    (0..len).map(|i| noise(i, 1) as i8).collect()
}

fn linear(out: usize, inputs: usize) -> Op {
    let weight =
        QTensor { shape: vec![out, inputs], data: weights(out * inputs).into(), scales: vec![0.01; out].into() };
    Op::Linear(Linear { weight: Weight::Int8(weight), bias: None, relu: true, fake: None })
}

/// One layer that fbgemm computed on a CPU without VNNI; `tests/fixtures/saturation.py` made them.
#[derive(serde::Deserialize)]
struct Recorded {
    name: String,
    shape: [usize; 4],
    groups: usize,
    stride: usize,
    padding: usize,
    size: usize,
    levels: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct Recording {
    scale: f32,
    zero_point: u8,
    layers: Vec<Recorded>,
}

/// That these are the pairs: with each sum clamped to 16 bits every output is what PyTorch's fbgemm gave, and with exact
/// sums it is not.
#[test]
fn the_pairs_are_those_of_fbgemm() {
    let recording: Recording =
        serde_json::from_str(include_str!("../../tests/fixtures/saturation.json")).expect("as the script wrote it");
    let kinds: Vec<&str> = recording.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    for layer in &recording.layers {
        let [outputs, per_group, kernel, _] = layer.shape;
        let data = weights(layer.shape.iter().product());
        let op = conv([outputs, per_group, kernel, kernel], data.clone(), layer.stride, layer.padding, layer.groups);
        let shape = Shape::new(per_group * layer.groups, layer.size, layer.size);
        let graph = around(shape, recording.zero_point, op);
        let levels: Vec<u8> = (0..shape.len()).map(|i| noise(i, 10).max(noise(i, 20))).collect();
        let products = products(&graph, &levels);
        let filter = data.len() / outputs;
        let per_output = products.len() / outputs;
        let output = |clamp: &dyn Fn(i32) -> i32| -> Vec<u8> {
            let level = |(i, products): (usize, &Vec<i32>)| {
                let weights = &data[i / per_output * filter..][..filter];
                let zeros = i32::from(recording.zero_point) * weights.iter().map(|w| i32::from(*w)).sum::<i32>();
                let sum: i32 = products.chunks(2).map(|pair| clamp(pair.iter().sum())).sum();
                let rounded = ((sum - zeros) as f32 * (1.0 / recording.scale)).round_ties_even();
                (rounded + 128.0).clamp(0.0, 255.0) as u8
            };
            products.iter().enumerate().map(level).collect()
        };
        let clamped = |sum: i32| sum.clamp(i16::MIN.into(), i16::MAX.into());
        assert!(output(&clamped) == layer.levels, "{}: other pairs than fbgemm's", layer.name);
        assert!(output(&|sum| sum) != layer.levels, "{}: a layer that says nothing", layer.name);
        let found = counted(&graph, &levels, 1);
        let expected = naive(&graph, &levels);
        let layer = &found.layers[0];
        assert_eq!((layer.pairs, layer.saturated, layer.saturated_outputs, layer.worst), expected);
    }
}

#[test]
fn counts_are_those_of_plain_loops() {
    let cases = [
        ("1x1", Shape::new(8, 5, 7), 13, conv([6, 8, 1, 1], weights(48), 1, 0, 1), Neighbours::Channels),
        (
            "odd channels, stride",
            Shape::new(3, 9, 8),
            200,
            conv([5, 3, 3, 3], weights(135), 2, 1, 1),
            Neighbours::Channels,
        ),
        ("depthwise", Shape::new(7, 6, 6), 255, conv([7, 1, 3, 3], weights(63), 1, 1, 7), Neighbours::Taps),
        ("depthwise 5x5", Shape::new(4, 9, 9), 120, conv([4, 1, 5, 5], weights(100), 2, 2, 4), Neighbours::Taps),
        ("grouped", Shape::new(6, 5, 5), 64, conv([4, 3, 3, 3], weights(108), 1, 1, 2), Neighbours::Channels),
        ("linear", Shape::flat(31), 3, linear(9, 31), Neighbours::Channels),
    ];
    for (what, shape, zero_point, op, neighbours) in cases {
        let graph = around(shape, zero_point, op);
        let images: Vec<Vec<u8>> =
            (0..3).map(|n| (0..shape.len()).map(|i| noise(i, 10 + n).max(noise(i, 20 + n))).collect()).collect();
        let found = counted(&graph, &images.concat(), 3);
        let mut expected = (0, 0, 0, None);
        for image in &images {
            let (pairs, saturated, outputs, worst) = naive(&graph, image);
            expected.0 += pairs;
            expected.1 += saturated;
            expected.2 += outputs;
            let distance = |s: i32| (s - 32_767).max(-32_768 - s);
            expected.3 = expected.3.into_iter().chain(worst).max_by_key(|s| (distance(*s), *s));
        }
        let layer = &found.layers[0];
        assert!(layer.saturated > 0, "{what}: a case that says nothing");
        assert_eq!((layer.pairs, layer.saturated, layer.saturated_outputs, layer.worst), expected, "{what}");
        assert_eq!((layer.outputs, found.images), (3 * graph.nodes[2].shape.len() as u64, 3), "{what}");
        assert_eq!(layer.layer.neighbours, neighbours, "{what}");
    }
}

#[test]
fn a_layer_that_no_image_saturates_is_not_run() {
    let graph = around(Shape::new(2, 3, 3), 0, conv([1, 2, 1, 1], vec![64, 64], 1, 0, 1));
    let found = counted(&graph, &[255; 18], 1);
    let layer = &found.layers[0];
    assert_eq!((layer.pairs, layer.saturated, layer.outputs, layer.worst), (9, 0, 9, None));
    assert!(layer.layer.bound.is_safe() && found.safe() == 1);
}

#[test]
fn layers_in_float_are_left_out() {
    let mut graph = around(Shape::new(2, 1, 1), 0, conv([1, 2, 1, 1], vec![127, 127], 1, 0, 1));
    assert_eq!(bounds(&graph).len(), 1);
    if let Op::Conv2d(c) = &mut graph.nodes[2].op {
        c.weight = Weight::Float(Tensor::zeros([1, 2, 1, 1]));
    }
    assert_eq!(bounds(&graph), []);
}
