//! The backward walk over a graph that has every operation, and batch norm's running statistics.

use std::collections::HashMap;

use octet::{
    exec::float::{Device, Phase, Trainable},
    graph::{Activation, Builder, ConvSpec, Graph, Op, Shape, Tensor},
    quant::{self, Backend, FuseOptions, QConfig},
    train::{Optimizer, Stepper},
    zoo::init,
};

/// A checkpoint that never stops.
const GO_ON: fn() -> std::ops::ControlFlow<()> = || std::ops::ControlFlow::Continue(());

const BATCH: usize = 6;
const SIZE: usize = 10;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i * 7919 + seed * 104_729) as f64 * 0.618_033_988_75).fract() * 2.0 - 1.0) as f32).collect()
}

/// Values that are read once and twice, through operations that share, split, join and broadcast.
fn every_operation() -> Graph {
    let (mut b, image) = Builder::new("every operation", Shape::new(3, SIZE, SIZE));
    let x = b.push("quant", Op::QuantStub, &[image]);
    let x = b.conv("stem", x, ConvSpec::new(8, 3).stride(2));
    let x = b.bn("stem_bn", x, 1e-3, 0.1);
    let x = b.act("stem_act", x, Activation::Hardswish);
    let x = b.max_pool("pool", x);
    let left = b.push("left", Op::Chunk { index: 0, chunks: 2 }, &[x]);
    let right = b.push("right", Op::Chunk { index: 1, chunks: 2 }, &[x]);
    let right = b.conv("depthwise", right, ConvSpec::new(4, 3).depthwise());
    let right = b.bn("depthwise_bn", right, 1e-3, 0.1);
    let joined = b.push("cat", Op::Cat, &[left, right]);
    let joined = b.push("shuffle", Op::ChannelShuffle { groups: 2 }, &[joined]);
    let squeezed = b.push("squeeze", Op::AdaptiveAvgPool2d, &[joined]);
    let gate = b.conv("fc1", squeezed, ConvSpec::new(4, 1).bias());
    let gate = b.act("fc1_act", gate, Activation::Silu);
    let gate = b.conv("fc2", gate, ConvSpec::new(8, 1).bias());
    let gate = b.act("gate", gate, Activation::Sigmoid);
    let gated = b.push("mul", Op::Mul, &[joined, gate]);
    let gated = b.push("depth", Op::StochasticDepth { p: 0.3 }, &[gated]);
    let sum = b.push("add", Op::Add { relu: false }, &[x, gated]);
    let again = b.push("add_relu", Op::Add { relu: true }, &[sum, joined]);
    let y = b.conv("last", again, ConvSpec::new(6, 3));
    let y = b.bn("last_bn", y, 1e-3, 0.1);
    let squared = b.push("square", Op::Mul, &[y, y]);
    let flat = b.push("flatten", Op::Flatten, &[squared]);
    let flat = b.push("dropout", Op::Dropout { p: 0.2 }, &[flat]);
    let y = b.linear("fc", flat, 5);
    b.push("dequant", Op::DeQuantStub, &[y]);
    let graph = init(&b.finish(), 3);
    // A head of its usual size would leave the rounding of the logits above the slopes.
    let mut values = HashMap::new();
    let head = graph.params().into_iter().find(|p| graph.key(p) == "fc.weight").expect("the head");
    values.insert("fc.weight".to_owned(), Tensor::new(head.tensor.shape.clone(), numbers(head.tensor.len(), 9)));
    graph.with_params(&values)
}

/// The same for training with fake quantization, its batch norms no longer the identity.
fn qat_form() -> Graph {
    let graph = every_operation();
    let mut values = HashMap::new();
    for (i, param) in graph.params().into_iter().enumerate() {
        let (middle, reach) = match (param.part, param.tensor.shape.len()) {
            ("running_var", _) => (1.0, 0.5),
            ("weight", 1) => (1.2, 0.6),
            ("bias" | "running_mean", 1) => (0.0, 0.3),
            _ => continue,
        };
        let data: Vec<f32> = numbers(param.tensor.len(), 20 + i).iter().map(|v| middle + reach * v).collect();
        values.insert(graph.key(&param), Tensor::new(param.tensor.shape.clone(), data));
    }
    let graph = graph.with_params(&values);
    let (graph, _) = quant::fuse_qat(&graph, &FuseOptions::default()).expect("it fuses");
    quant::prepare_qat(&graph, &QConfig::qat(Backend::X86)).expect("it has stubs").0
}

/// `<direction, logits>` in training, always with the same dropout.
fn objective(graph: &Graph, phase: Phase, images: &[f32], direction: &[f32]) -> f64 {
    let mut model = Trainable::new(graph, &Device::Cpu).expect("it runs");
    model.set_phase(phase);
    let logits = model.forward(images, BATCH, 11, &GO_ON).and_then(|p| p.logits()).expect("it runs");
    logits.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn each_parameters_gradient_is_the_slope_along_it() {
    slopes(&every_operation(), Phase::default(), 13);
}

/// Rounding has no slope, but all the rest of the QAT form has: the scaled weight and the division, which share gamma, and
/// batch norm with either statistics.
#[test]
fn the_qat_form_without_rounding_has_true_gradients() {
    for batch_statistics in [true, false] {
        slopes(&qat_form(), Phase { observe: true, fake_quantize: false, batch_statistics }, 13);
    }
}

/// One step of all parameters against the gradient lowers what is trained, rounding and all.
#[test]
fn a_step_against_the_straight_through_gradient_goes_down() {
    let graph = qat_form();
    let (images, direction) = (numbers(BATCH * 3 * SIZE * SIZE, 1), numbers(BATCH * 5, 2));
    let mut model = Trainable::new(&graph, &Device::Cpu).expect("it runs");
    let pass = model.forward(&images, BATCH, 11, &GO_ON).expect("it runs");
    let gradients = model.backward(pass, &direction, &GO_ON).expect("it runs backward");
    let before = objective(&graph, Phase::default(), &images, &direction);
    let optimizer = Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let mut stepper = Stepper::new(optimizer, model.parameters()).expect("state on the CPU");
    stepper.step(model.parameters(), &gradients, 2e-3).expect("it steps");
    let after = objective(&model.graph().expect("it comes back"), Phase::default(), &images, &direction);
    assert!(after < before, "from {before} to {after}");
}

fn slopes(graph: &Graph, phase: Phase, at_least: usize) {
    let (images, direction) = (numbers(BATCH * 3 * SIZE * SIZE, 1), numbers(BATCH * 5, 2));
    let mut model = Trainable::new(graph, &Device::Cpu).expect("it runs");
    model.set_phase(phase);
    let pass = model.forward(&images, BATCH, 11, &GO_ON).expect("it runs");
    let gradients = model.backward(pass, &direction, &GO_ON).expect("it runs backward");
    let mut checked = 0;
    for (parameter, gradient) in model.parameters().iter().zip(&gradients) {
        assert_eq!(gradient.is_some(), parameter.is_trainable(), "{}", parameter.key);
        let Some(gradient) = gradient else { continue };
        let in_graph = graph.params().into_iter().find(|p| graph.key(p) == parameter.key).expect("of the graph");
        let gradient = in_graph_layout(gradient, &in_graph.tensor.shape);
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        // A bias before batch norm, or a channel that never fires, has no slope to compare.
        if norm < 1e-3 {
            continue;
        }
        // Small beside the kinks of ReLU and the pool, large beside float32's rounding.
        let step = 5e-4;
        let moved = |by: f64| {
            let data: Vec<f32> = in_graph
                .tensor
                .data
                .iter()
                .zip(&gradient)
                .map(|(p, g)| (f64::from(*p) + by * f64::from(*g) / norm) as f32)
                .collect();
            let values = HashMap::from([(parameter.key.clone(), Tensor::new(in_graph.tensor.shape.clone(), data))]);
            objective(&graph.with_params(&values), phase, &images, &direction)
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((slope / norm - 1.0).abs() < 0.01, "{}: slope {slope}, gradient {norm}", parameter.key);
        checked += 1;
    }
    assert!(checked >= at_least, "only {checked} parameters had a gradient worth checking");
}

/// `[kh, kw, in, out]` to `[out, in, kh, kw]`, `[1, 1, in, out]` to `[out, in]`.
fn in_graph_layout(gradient: &candle_core::Tensor, shape: &[usize]) -> Vec<f32> {
    let values = gradient.flatten_all().and_then(|g| g.to_vec1::<f32>()).expect("float32 on the CPU");
    let [out, inner] = match shape {
        [_] => return values,
        [out, rest @ ..] => [*out, rest[0]],
        [] => unreachable!("parameters have a dimension"),
    };
    let taps = values.len() / out / inner;
    let mut moved = vec![0.0; values.len()];
    for (i, v) in values.into_iter().enumerate() {
        let (tap, within) = (i / (inner * out), i % (inner * out));
        moved[((within % out) * inner + within / out) * taps + tap] = v;
    }
    moved
}

#[test]
fn running_statistics_move_as_torchs() {
    let (mut b, x) = Builder::new("norm", Shape::new(2, 1, 2));
    let x = b.bn("bn", x, 1e-5, 0.1);
    b.push("flatten", Op::Flatten, &[x]);
    let mut model = Trainable::new(&b.finish(), &Device::Cpu).expect("it runs");
    // Channel 0 holds 1, 2, 3, 6 (mean 3, unbiased variance 14 / 3); channel 1 is constant.
    model.forward(&[1.0, 2.0, 5.0, 5.0, 3.0, 6.0, 5.0, 5.0], 2, 0, &GO_ON).expect("it runs");
    let graph = model.graph().expect("it comes back");
    let of =
        |part: &str| graph.params().into_iter().find(|p| p.part == part).expect("of batch norm").tensor.data.to_vec();
    let close = |a: Vec<f32>, b: [f32; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(close(of("running_mean"), [0.3, 0.5]), "{:?}", of("running_mean"));
    assert!(close(of("running_var"), [0.9 + 0.1 * 14.0 / 3.0, 0.9]), "{:?}", of("running_var"));
}
