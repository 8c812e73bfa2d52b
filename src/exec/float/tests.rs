//! Whole training steps through the GPU's programs, on kernels compiled as C++, beside the CPU's own.

use std::ops::ControlFlow;

use candle_core::Tensor;

use super::{Device, Model, Trainable};
use crate::{
    graph::{FakeQuants, Graph, QatLevels, StepSize},
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

fn qat_graph(model: ModelId) -> Graph {
    let (graph, _) = quant::insert_stubs(&float_graph(model)).expect("stubs");
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

/// `steps` steps; with `simulated` as on a GPU.
fn train(graph: &Graph, optimizer: Optimizer, how: (QatLevels, StepSize), steps: usize, simulated: bool) -> Outcome {
    let go: super::super::Checkpoint<'_> = &|| ControlFlow::Continue(());
    let mut model = Trainable::qat(graph, how.0, how.1, &FakeQuants::default(), &Device::Cpu).expect("a model");
    let mut stepper = Stepper::new(optimizer, model.parameters()).expect("an optimizer");
    let labels: Vec<usize> = (0..BATCH).map(|i| i % CLASSES).collect();
    let (mut loss, mut correct, mut gradients) = (0.0, 0, Vec::new());
    for step in 0..steps {
        let pass = model.forward(&images(), BATCH, 7 + step as u64, go).expect("forward");
        let found = if simulated {
            let of = pass.cross_entropy(&labels, 0.1).expect("a loss").expect("programs run");
            let found = model.backward_from(pass, &of, go).expect("backward");
            (loss, correct) = of.read().expect("read");
            found
        } else {
            let logits = pass.logits().expect("logits");
            let of = crate::train::cross_entropy_for_tests(&logits, &labels, CLASSES, 0.1);
            (loss, correct) = (of.0, of.1);
            model.backward(pass, &of.2, go).expect("backward")
        };
        stepper.step(model.parameters(), &found, 0.01).expect("a step");
        gradients = found;
    }
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

fn compare(model: ModelId, graph: &Graph, optimizer: Optimizer, how: (QatLevels, StepSize), most: f64) {
    if shim::shim().is_none() {
        return;
    }
    let cpu = train(graph, optimizer, how, 2, false);
    let gpu = shim::simulate(|| train(graph, optimizer, how, 2, true));
    let (gradients, parameters) =
        (distance(&cpu.gradients, &gpu.gradients), distance(&cpu.parameters, &gpu.parameters));
    println!(
        "{}: loss {} and {}, gradients apart {:.1e} ({}), parameters {:.1e} ({})",
        model.name(),
        cpu.loss,
        gpu.loss,
        gradients.0,
        gradients.1,
        parameters.0,
        parameters.1
    );
    let loss = f64::from((cpu.loss - gpu.loss).abs() / cpu.loss.abs());
    assert!(loss < most && gradients.0 < most && parameters.0 < most);
    assert_eq!(cpu.correct, gpu.correct);
    let ranges = |learnt: &FakeQuants| {
        let all = learnt.activations.iter().chain(&learnt.weights);
        all.map(|(k, r)| (k.clone(), [&r.min[..], &r.max, &r.step].concat())).collect::<Vec<_>>()
    };
    let (cpu, gpu) = (ranges(&cpu.learnt), ranges(&gpu.learnt));
    if !cpu.is_empty() {
        let (apart, key) = distance(&cpu, &gpu);
        assert!(apart < most, "{apart} in the range of {key}");
    }
}

const FLOAT: (QatLevels, StepSize) = (QatLevels::Int8, StepSize::MovingAverage);
const SGD: Optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: true };
const ADAMW: Optimizer = Optimizer::AdamW { weight_decay: 0.05 };

#[test]
fn float_steps_are_the_cpus() {
    for (model, optimizer) in [
        (ModelId::ShuffleNetV2X05, SGD),
        (ModelId::MobileNetV3Small, ADAMW),
        (ModelId::ResNet18, SGD),
        (ModelId::EfficientNetV2S, SGD),
    ] {
        compare(model, &float_graph(model), optimizer, FLOAT, 1e-3);
    }
}

/// Rounding to levels magnifies the last place of a float: a value at the middle between two levels goes to either.
#[test]
fn qat_steps_are_the_cpus() {
    for (model, optimizer, levels, step) in [
        (ModelId::ShuffleNetV2X05, SGD, QatLevels::Int8, StepSize::MovingAverage),
        (ModelId::ResNet18, SGD, QatLevels::PyTorch, StepSize::Learned),
        (ModelId::MobileNetV3Small, ADAMW, QatLevels::Int8, StepSize::MovingAverage),
    ] {
        compare(model, &qat_graph(model), optimizer, (levels, step), 2e-2);
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
