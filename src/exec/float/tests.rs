//! Whole training steps through the GPU's programs, on kernels compiled as C++, beside the CPU's own; and the CPU's two
//! ways to evaluate.

use std::ops::ControlFlow;

use candle_core::Tensor;

use super::{Device, Model, Parameter, Phase, Trainable, host_model::HostModel, tensor_model::TensorModel};
use crate::{
    graph::{Activation, Builder, ConvSpec, FakeQuants, Graph, Numeric, Op, QParams, QatLevels, Shape, StepSize},
    kernels::cuda::shim,
    quant::{self, Backend, FuseOptions, QConfig},
    train::{Optimizer, Stepper},
    zoo::{ModelConfig, ModelId, build, init},
};

const CLASSES: usize = 10;
const BATCH: usize = 8;
const SIZE: usize = 32;

fn float_graph(model: ModelId) -> Graph {
    init(&build(model, ModelConfig { classes: CLASSES, size: SIZE }).expect("a valid configuration"), 1)
}

fn qat_graph(float: &Graph) -> Graph {
    let (graph, _) = quant::insert_stubs(float).expect("stubs");
    let (graph, _) = quant::fuse_qat(&graph, &FuseOptions::default()).expect("fused");
    quant::prepare_qat(&graph, &QConfig::qat(Backend::X86)).expect("prepared").0
}

fn images() -> Vec<f32> {
    (0..BATCH * 3 * SIZE * SIZE).map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0).collect()
}

/// What one step leaves: the loss, and by name every gradient and every parameter after it.
struct Outcome {
    loss: f32,
    correct: usize,
    gradients: Vec<(String, Vec<f32>)>,
    parameters: Vec<(String, Vec<f32>)>,
    learnt: FakeQuants,
}

/// One step; with `simulated` as on a GPU.
fn train(graph: &Graph, optimizer: Optimizer, how: (QatLevels, StepSize), phase: Phase, simulated: bool) -> Outcome {
    let go: super::super::Checkpoint<'_> = &|| ControlFlow::Continue(());
    let mut model = Trainable::qat(graph, how.0, how.1, &FakeQuants::default(), &Device::Cpu).expect("a model");
    let mut stepper = Stepper::new(optimizer, model.parameters()).expect("an optimizer");
    let labels: Vec<usize> = (0..BATCH).map(|i| i % CLASSES).collect();
    model.set_phase(phase);
    let pass = model.forward(&images(), BATCH, 7, go).expect("forward");
    let (loss, correct, gradients);
    if simulated {
        let of = pass.cross_entropy(&labels, 0.1).expect("a loss").expect("programs run");
        gradients = model.backward_from(pass, &of, go).expect("backward");
        (loss, correct) = of.read().expect("read");
    } else {
        let logits = pass.logits().expect("logits");
        let of = crate::train::cross_entropy_for_tests(&logits, &labels, CLASSES, 0.1);
        (loss, correct) = (of.0, of.1);
        gradients = model.backward(pass, &of.2, go).expect("backward");
    }
    stepper.step(model.parameters(), &gradients, 0.01).expect("a step");
    let values = |t: &Tensor| t.contiguous().and_then(|t| t.flatten_all()?.to_vec1()).expect("values");
    let named = model.parameters().iter().zip(&gradients);
    Outcome {
        loss,
        correct,
        gradients: named.filter_map(|(p, g)| g.as_ref().map(|g| (p.key.clone(), values(g)))).collect(),
        parameters: model.parameters().iter().map(|p| (p.key.clone(), values(&p.tensor))).collect(),
        learnt: model.fake_quants().expect("what was learnt"),
    }
}

/// The largest distance of two lists of tensors, as a share of each tensor's norm, with its name; a tensor that is next to
/// nothing beside the rest counts by the mean norm.
fn distance(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) -> (f64, String) {
    assert_eq!(a.len(), b.len());
    let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let usual = a.iter().map(|(_, v)| norm(v)).sum::<f64>() / a.len() as f64;
    let mut worst = (0.0, String::new());
    for ((key, a), (other, b)) in a.iter().zip(b) {
        assert_eq!(key, other);
        let apart: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let share = norm(&apart) / norm(a).max(1e-3 * usual);
        assert!(share.is_finite(), "{key}");
        if share > worst.0 {
            worst = (share, key.clone());
        }
    }
    worst
}

/// What CPU and programs may be apart: in gradients, and in everything else.
#[derive(Clone, Copy)]
struct Apart {
    gradients: f64,
    rest: f64,
}

fn compare(name: &str, graph: &Graph, optimizer: Optimizer, how: (QatLevels, StepSize), phase: Phase, most: Apart) {
    if shim::shim().is_none() {
        return;
    }
    let cpu = train(graph, optimizer, how, phase, false);
    let gpu = shim::simulate(|| train(graph, optimizer, how, phase, true));
    let (gradients, parameters) =
        (distance(&cpu.gradients, &gpu.gradients), distance(&cpu.parameters, &gpu.parameters));
    println!(
        "{}: loss {} and {}, gradients apart {:.1e} ({}), parameters {:.1e} ({})",
        name, cpu.loss, gpu.loss, gradients.0, gradients.1, parameters.0, parameters.1
    );
    let loss = f64::from((cpu.loss - gpu.loss).abs() / cpu.loss.abs());
    assert!(loss < most.rest && gradients.0 < most.gradients && parameters.0 < most.rest, "{name}");
    assert_eq!(cpu.correct, gpu.correct);
    let ranges = |learnt: &FakeQuants| {
        let all = learnt.activations.iter().chain(&learnt.weights);
        all.map(|(k, r)| (k.clone(), [&r.min[..], &r.max, &r.step].concat())).collect::<Vec<_>>()
    };
    let (cpu, gpu) = (ranges(&cpu.learnt), ranges(&gpu.learnt));
    if !cpu.is_empty() {
        let (apart, key) = distance(&cpu, &gpu);
        assert!(apart < most.rest, "{apart} in the range of {key}");
    }
}

const FLOAT: (QatLevels, StepSize) = (QatLevels::Int8, StepSize::MovingAverage);
const SGD: Optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: true };

const TRAINING: Phase = Phase { observe: true, fake_quantize: true, batch_statistics: true };
/// As far as PyTorch's gradients are from themselves under another order of sums, several times over: most of all in
/// ShuffleNet, whose batch norms see eight values a channel here.
const NEAR: Apart = Apart { gradients: 1e-3, rest: 1e-3 };
const SHUFFLENET: Apart = Apart { gradients: 1e-2, rest: 1e-3 };

#[test]
fn float_steps_are_the_cpus() {
    for (model, optimizer, most) in [
        (ModelId::ShuffleNetV2X05, SGD, SHUFFLENET),
        (ModelId::MobileNetV3Small, SGD, NEAR),
        (ModelId::ResNet18, SGD, NEAR),
        (ModelId::EfficientNetV2S, SGD, NEAR),
    ] {
        compare(model.name(), &float_graph(model), optimizer, FLOAT, TRAINING, most);
    }
}

/// Without rounding: with it, one value that falls on the other side of a middle moves all that follows, and a deep
/// network's gradients lose their direction (PyTorch's too).
#[test]
fn whole_networks_in_the_qat_form_are_the_cpus() {
    let phase = Phase { fake_quantize: false, ..TRAINING };
    for (model, most) in [(ModelId::ShuffleNetV2X05, SHUFFLENET), (ModelId::MobileNetV3Small, NEAR)] {
        compare(model.name(), &qat_graph(&float_graph(model)), SGD, FLOAT, phase, most);
    }
}

/// Every kind of site that learns levels, few enough in a row for their values to fall on the same ones.
#[test]
fn steps_with_fake_quantization_are_the_cpus() {
    let (mut b, x) = Builder::new("sites", Shape::new(3, SIZE, SIZE));
    let y = b.conv("conv", x, ConvSpec::new(8, 3).stride(2));
    let y = b.bn("bn", y, 1e-5, 0.1);
    let stem = b.act("act", y, Activation::Hardswish);
    let y = b.conv("depthwise", stem, ConvSpec::new(8, 3).depthwise());
    let y = b.bn("depthwise_bn", y, 1e-5, 0.1);
    let y = b.act("relu", y, Activation::Relu);
    let gate = b.push("pool", Op::AdaptiveAvgPool2d, &[y]);
    let gate = b.conv("fc1", gate, ConvSpec::new(8, 1).bias());
    let gate = b.act("gate", gate, Activation::Hardsigmoid);
    let y = b.push("mul", Op::Mul, &[y, gate]);
    let y = b.push("add", Op::Add { relu: false }, &[stem, y]);
    let y = b.push("mean", Op::MeanHw, &[y]);
    let y = b.push("flatten", Op::Flatten, &[y]);
    b.linear("fc", y, CLASSES);
    let graph = qat_graph(&init(&b.finish(), 1));
    for step in [StepSize::MovingAverage, StepSize::Learned] {
        for levels in [QatLevels::Int8, QatLevels::PyTorch] {
            for phase in [TRAINING, Phase { batch_statistics: false, ..TRAINING }] {
                compare("sites", &graph, SGD, (levels, step), phase, NEAR);
            }
        }
    }
}

/// Three steps by given gradients, the state going on from one to the next.
#[test]
fn optimizers_are_the_cpus() {
    if shim::shim().is_none() {
        return;
    }
    let adamw = Optimizer::AdamW { weight_decay: 0.05 };
    let plain = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let graph = qat_graph(&float_graph(ModelId::ShuffleNetV2X05));
    for (rule, step) in
        [SGD, plain, adamw].into_iter().zip([StepSize::MovingAverage, StepSize::Learned, StepSize::Learned])
    {
        let run = || {
            let model = Trainable::qat(&graph, QatLevels::Int8, step, &FakeQuants::default(), &Device::Cpu);
            let model = model.expect("a model");
            let mut stepper = Stepper::new(rule, model.parameters()).expect("an optimizer");
            for k in 0..3 {
                let gradient = |p: &Parameter| {
                    let n = p.tensor.elem_count();
                    let values: Vec<f32> = (0..n).map(|i| ((i * 37 + k * 11) % 101) as f32 / 50.0 - 1.01).collect();
                    p.is_trainable()
                        .then(|| Tensor::from_vec(values, p.tensor.shape(), p.tensor.device()).expect("a tensor"))
                };
                let gradients: Vec<_> = model.parameters().iter().map(gradient).collect();
                stepper.step(model.parameters(), &gradients, 0.01).expect("a step");
            }
            let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1()).expect("values");
            model.parameters().iter().map(|p| (p.key.clone(), values(&p.tensor))).collect::<Vec<_>>()
        };
        let (apart, key) = distance(&run(), &shim::simulate(run));
        assert!(apart < 1e-6, "{rule:?}: {apart} in {key}");
    }
}

#[test]
fn evaluation_and_observers_are_the_cpus() {
    let Some(_) = shim::shim() else { return };
    let graph = float_graph(ModelId::MobileNetV3Small);
    let run = || {
        let model = Model::new(&graph, &Device::Cpu).expect("a model");
        let (logits, mut seen) = (model.run(&images(), BATCH).expect("logits"), Vec::new());
        let mut visit = |_, a: &super::Activation<'_>| {
            let (lo, hi) = a.min_max();
            seen.push((lo, hi, a.histogram(64, lo, hi), a.as_slice().len()));
            ControlFlow::Continue(())
        };
        model.run_traced(&images(), BATCH, &|_| true, &mut visit).expect("it runs");
        (logits, seen)
    };
    let (cpu, gpu) = (run(), shim::simulate(run));
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-3 * a.abs().max(b.abs()).max(1e-3);
    assert!(cpu.0.iter().zip(&gpu.0).all(|(a, b)| near(*a, *b)), "{:?} {:?}", cpu.0, gpu.0);
    for (a, b) in cpu.1.iter().zip(&gpu.1) {
        assert!(near(a.0, b.0) && near(a.1, b.1) && a.3 == b.3, "{a:?} {b:?}");
        assert_eq!(a.2.iter().sum::<f32>(), b.2.iter().sum::<f32>());
    }
}

/// Over buffers and over tensors, to the bit: plain, and on levels, averages among them.
#[test]
fn both_walks_compute_the_same() {
    for id in [ModelId::MobileNetV3Small, ModelId::ShuffleNetV2X05, ModelId::ResNet18] {
        let float = float_graph(id);
        let mut levels = float.clone();
        for node in levels.nodes.iter_mut().filter(|n| !n.inputs.is_empty()) {
            node.numeric = Numeric::FakeQuantized(QParams { scale: 0.03, zero_point: 50, qmax: 127 });
        }
        for graph in [&float, &levels] {
            let host = HostModel::new(graph, 2).expect("a model");
            let tensors = TensorModel::new(graph, candle_core::Device::Cpu).expect("a model");
            let (mut all, mut seen) = (Vec::new(), 0);
            let mut keep = |_, a: &super::Activation<'_>| {
                all.push(a.as_slice().to_vec());
                ControlFlow::Continue(())
            };
            tensors.run_traced(&images(), BATCH, &|_| true, &mut keep).expect("it runs");
            let mut compare = |node, a: &super::Activation<'_>| {
                assert!(a.as_slice() == all[seen], "{}: {}", id.name(), graph.node(node).name);
                seen += 1;
                ControlFlow::Continue(())
            };
            host.run_traced(&images(), BATCH, &|_| true, &mut compare).expect("it runs");
            let alone = host.run(&images(), BATCH).expect("logits");
            assert!(seen == graph.nodes.len() && alone == all[seen - 1], "{}", id.name());
            assert_eq!(alone, tensors.run(&images(), BATCH).expect("logits"));
        }
    }
}
