//! Whole networks: the recipe of the golden files, step by step.

use std::ops::ControlFlow;

use octet::{
    exec::float::{Device, Pass, Phase, Trainable},
    graph::{Activation, FakeQuants, Graph, Op, QatLevels, StepSize},
    quant::{self, Backend, FuseOptions, QConfig},
    train::{Optimizer, Stepper},
    zoo::{self, ModelConfig},
};

use crate::{
    golden::{Network, Recipe},
    synth,
};

/// A checkpoint that never stops.
pub const GO_ON: fn() -> ControlFlow<()> = || ControlFlow::Continue(());

pub fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// The network in the QAT form, weights synthetic, no dropout.
pub fn qat_form(golden: &Network) -> Result<Graph, String> {
    let config = ModelConfig { classes: golden.classes, size: golden.size };
    let (mut graph, _) = quant::insert_stubs(&zoo::build(golden.id()?, config).map_err(text)?).map_err(text)?;
    for node in &mut graph.nodes {
        if let Op::Dropout { p } = &mut node.op {
            *p = 0.0;
        }
    }
    let graph = synth::weights(&graph, golden.recipe.seed);
    let (graph, _) = quant::fuse_qat(&graph, &FuseOptions::default()).map_err(text)?;
    Ok(quant::prepare_qat(&graph, &QConfig::qat(Backend::X86)).map_err(text)?.0)
}

/// Ready to train as PyTorch trains it.
pub fn trainable(graph: &Graph) -> Result<Trainable, String> {
    Trainable::qat(graph, QatLevels::PyTorch, StepSize::MovingAverage, &FakeQuants::default(), &Device::Cpu)
        .map_err(text)
}

pub fn stepper(recipe: &Recipe, model: &Trainable) -> Stepper {
    let optimizer = Optimizer::Sgd { momentum: recipe.momentum, weight_decay: recipe.weight_decay, nesterov: false };
    Stepper::new(optimizer, model.parameters()).expect("state on the CPU")
}

/// `count` images of that number.
pub fn images(golden: &Network, number: usize, count: usize) -> Vec<f32> {
    synth::images(&format!("images/{number}"), golden.recipe.seed, count * 3 * golden.size * golden.size)
}

/// What one step gave.
pub struct Step {
    pub loss: f64,
    pub logits: Vec<f32>,
    /// By parameter, in the file's order and layout.
    pub gradients: Vec<Vec<f32>>,
    /// L2 norms of the fake-quantized outputs, in the file's order.
    pub output_norms: Vec<f64>,
}

/// Step `k`: forward, loss, backward; `stepper` then moves the parameters.
pub fn step(
    golden: &Network,
    model: &mut Trainable,
    graph: &Graph,
    k: usize,
    stepper: &mut Stepper,
) -> Result<Step, String> {
    let batch = golden.batch;
    let pass = model.forward(&images(golden, k, batch), batch, 0, &GO_ON).map_err(text)?;
    let logits = pass.logits().map_err(text)?;
    let output_norms = if k == 0 { output_norms(golden, graph, &pass)? } else { Vec::new() };
    let labels: Vec<usize> = (0..batch).map(|i| (7 * i + 3 * k) % golden.classes).collect();
    let (loss, gradient) = cross_entropy(&logits, &labels, golden.classes);
    let gradients = model.backward(pass, &gradient, &GO_ON).map_err(text)?;
    let mut by_file = Vec::new();
    let known = graph.params();
    for param in &golden.params {
        let at = model.parameters().iter().position(|p| p.key == param.key);
        let at = at.ok_or_else(|| format!("no parameter `{}`", param.key))?;
        let gradient = gradients[at].as_ref().ok_or_else(|| format!("`{}` has no gradient", param.key))?;
        let tensor = known.iter().find(|p| graph.key(p) == param.key).expect("of the graph").tensor;
        by_file.push(in_graph_layout(gradient, &tensor.shape));
    }
    stepper.step(model.parameters(), &gradients, golden.recipe.lr).map_err(text)?;
    Ok(Step { loss, logits, gradients: by_file, output_norms })
}

/// torchvision's Hardswish works in place: what the file has of the layer before it is hardswish of that layer's output.
fn output_norms(golden: &Network, graph: &Graph, pass: &Pass) -> Result<Vec<f64>, String> {
    let hardswish = Activation::Hardswish;
    let norm = |name: &str| {
        let id = graph.require(name).map_err(text)?;
        let mut values = pass.output(id).map_err(text)?.ok_or_else(|| format!("`{name}` was not kept"))?;
        let readers = graph.nodes.iter().filter(|n| n.inputs.contains(&id));
        if readers.into_iter().any(|n| matches!(n.op, Op::Activation(a) if a == hardswish)) {
            values.iter_mut().for_each(|v| *v = hardswish.apply(*v));
        }
        Ok(crate::compare::norm(&values))
    };
    golden.act_fake_quants.iter().map(|m| norm(&m.module)).collect()
}

/// Mean cross-entropy and its gradient by the logits.
fn cross_entropy(logits: &[f32], labels: &[usize], classes: usize) -> (f64, Vec<f32>) {
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for (row, label) in logits.chunks_exact(classes).zip(labels) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = row.iter().map(|v| f64::from(v - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        loss -= (powers[*label] / sum).ln();
        gradient.extend(
            powers.iter().enumerate().map(|(i, p)| (p / sum - f64::from(u8::from(i == *label))) / labels.len() as f64),
        );
    }
    (loss / labels.len() as f64, gradient.into_iter().map(|g| g as f32).collect())
}

/// `[kh, kw, in, out]` to `[out, in, kh, kw]`, `[1, 1, in, out]` to `[out, in]`.
pub fn in_graph_layout(tensor: &candle_core::Tensor, shape: &[usize]) -> Vec<f32> {
    let values = tensor.flatten_all().and_then(|g| g.to_vec1::<f32>()).expect("float32 on the CPU");
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

/// Values of the graph's parameters of these keys.
pub fn parameters(graph: &Graph, keys: &[crate::golden::Key]) -> Result<Vec<Vec<f32>>, String> {
    let known = graph.params();
    let of = |key: &str| {
        let param = known.iter().find(|p| graph.key(p) == key).ok_or_else(|| format!("no parameter `{key}`"))?;
        Ok(param.tensor.data.to_vec())
    };
    keys.iter().map(|k| of(&k.key)).collect()
}

/// The evaluation phase of the golden files: nothing is observed, batch norm keeps its statistics.
pub const EVALUATION: Phase = Phase { observe: false, fake_quantize: true, batch_statistics: false };

/// Smallest or largest values in the file's order; those of fixed ranges are left out, with their places.
pub fn act_ranges(golden: &Network, state: &FakeQuants) -> Result<Vec<(usize, f64, f64)>, String> {
    let mut all = Vec::new();
    for (i, module) in golden.act_fake_quants.iter().enumerate().filter(|(_, m)| !m.fixed) {
        let range = state.activations.get(&module.module).ok_or_else(|| format!("`{}` saw nothing", module.module))?;
        all.push((i, f64::from(range.min[0]), f64::from(range.max[0])));
    }
    Ok(all)
}
