//! One training step of every model on the CPU and on a GPU, in float and with fake quantization, and how far apart they
//! come out: loss, every gradient, every parameter after SGD's step.
//!
//! - `cargo run --release --features cuda --example cuda_step [-- MODEL...]`; `tests/cuda/run` calls it.
//! - `-- --devices` lists the GPUs.
//!
//! Ends with 1 where anything is further apart than the issue allows, 2 where there is no GPU.

use std::{error::Error, ops::ControlFlow, process::ExitCode};

use candle_core::Tensor;
use octet::{
    exec::float::{Device, Trainable},
    graph::{FakeQuants, Graph, QatLevels, StepSize},
    quant::{self, Backend, FuseOptions, QConfig},
    train::{Optimizer, Stepper},
    zoo::{ModelConfig, ModelId, build, init},
};

const MODELS: [ModelId; 5] = [
    ModelId::ShuffleNetV2X05,
    ModelId::MobileNetV3Small,
    ModelId::MobileNetV3Large,
    ModelId::EfficientNetV2S,
    ModelId::ResNet18,
];
const CLASSES: usize = 10;
const BATCH: usize = 16;
const SIZE: usize = 64;
/// Relative, for all that is computed without rounding to levels, and for every loss.
const MOST: f64 = 1e-3;
/// Of gradients behind fake quantization: a value at the middle between two levels goes to either, by the last place of a
/// float.
const MOST_ON_LEVELS: f64 = 2e-2;

type Values = Vec<(String, Vec<f32>)>;

struct Outcome {
    loss: f32,
    gradients: Values,
    parameters: Values,
}

fn step(graph: &Graph, device: Device) -> Result<Outcome, Box<dyn Error>> {
    let go: &(dyn Fn() -> ControlFlow<()> + Sync) = &|| ControlFlow::Continue(());
    let mut model = Trainable::qat(graph, QatLevels::Int8, StepSize::MovingAverage, &FakeQuants::default(), &device)?;
    let optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let mut stepper = Stepper::new(optimizer, model.parameters())?;
    let images: Vec<f32> = (0..BATCH * 3 * SIZE * SIZE).map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0).collect();
    let labels: Vec<usize> = (0..BATCH).map(|i| i % CLASSES).collect();
    let pass = model.forward(&images, BATCH, 7, go)?;
    let (loss, gradients) = match pass.cross_entropy(&labels, 0.0)? {
        Some(loss) => {
            let gradients = model.backward_from(pass, &loss, go)?;
            (loss.read()?.0, gradients)
        }
        None => {
            let logits = pass.logits()?;
            let (loss, gradient) = cross_entropy(&logits, &labels);
            (loss, model.backward(pass, &gradient, go)?)
        }
    };
    stepper.step(model.parameters(), &gradients, 0.01)?;
    let named = model.parameters().iter();
    let gradients = named.clone().zip(&gradients).filter_map(|(p, g)| Some((p.key.clone(), values(g.as_ref()?))));
    Ok(Outcome {
        loss,
        gradients: gradients.collect(),
        parameters: named.map(|p| (p.key.clone(), values(&p.tensor))).collect(),
    })
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.contiguous().and_then(|t| t.flatten_all()?.to_vec1()).expect("a tensor's values")
}

fn cross_entropy(logits: &[f32], labels: &[usize]) -> (f32, Vec<f32>) {
    let (mut sum, mut gradient) = (0.0, Vec::new());
    for (row, label) in logits.chunks_exact(CLASSES).zip(labels) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = row.iter().map(|v| (v - most).exp()).sum();
        sum += most + total.ln() - row[*label];
        gradient.extend(
            row.iter()
                .enumerate()
                .map(|(i, v)| ((v - most).exp() / total - f32::from(u8::from(i == *label))) / labels.len() as f32),
        );
    }
    (sum / labels.len() as f32, gradient)
}

/// The largest distance, as a share of each tensor's norm; one that is next to nothing counts by the mean norm.
fn distance(a: &Values, b: &Values) -> (f64, String) {
    let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let usual = a.iter().map(|(_, v)| norm(v)).sum::<f64>() / a.len() as f64;
    let mut worst = (0.0, String::new());
    for ((key, a), (_, b)) in a.iter().zip(b) {
        let apart: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let share = norm(&apart) / norm(a).max(1e-3 * usual);
        if share.is_nan() || share > worst.0 {
            worst = (if share.is_nan() { f64::INFINITY } else { share }, key.clone());
        }
    }
    worst
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let gpus = match Device::gpus() {
        Ok(gpus) if !gpus.is_empty() => gpus,
        Ok(_) => {
            eprintln!("cuda_step: the NVIDIA driver finds no GPU on this machine");
            return Ok(ExitCode::from(2));
        }
        Err(error) => {
            eprintln!("cuda_step: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    for gpu in &gpus {
        println!("{}: {}, {:.1} GiB", gpu.device, gpu.name, gpu.memory as f64 / (1u64 << 30) as f64);
    }
    if names.iter().any(|n| n == "--devices") {
        return Ok(ExitCode::SUCCESS);
    }
    let named: Vec<ModelId> = names.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
    println!("\nOne step on the CPU and on the GPU, batch {BATCH} at {SIZE}x{SIZE}; distances relative to the CPU's\n");
    println!("| model | | loss | its distance | gradients' | parameters' | at most | |");
    println!("|---|---|---:|---:|---:|---:|---:|---|");
    let mut all_near = true;
    for model in if named.is_empty() { MODELS.to_vec() } else { named } {
        let float = init(&build(model, ModelConfig { classes: CLASSES, size: SIZE })?, 1);
        let (stubbed, _) = quant::insert_stubs(&float)?;
        let (fused, _) = quant::fuse_qat(&stubbed, &FuseOptions::default())?;
        let (qat, _) = quant::prepare_qat(&fused, &QConfig::qat(Backend::X86))?;
        for (what, graph, most) in [("float", &float, MOST), ("QAT", &qat, MOST_ON_LEVELS)] {
            let (cpu, gpu) = (step(graph, Device::Cpu)?, step(graph, Device::Cuda(0))?);
            let loss = f64::from((cpu.loss - gpu.loss).abs() / cpu.loss.abs());
            let (gradients, parameters) =
                (distance(&cpu.gradients, &gpu.gradients), distance(&cpu.parameters, &gpu.parameters));
            let near = loss <= MOST && gradients.0 <= most && parameters.0 <= most;
            all_near &= near;
            println!(
                "| {} | {what} | {:.5} | {loss:.1e} | {:.1e} | {:.1e} | {most:.0e} | {} |",
                model.name(),
                cpu.loss,
                gradients.0,
                parameters.0,
                if near { "near".to_owned() } else { format!("FAR: {}, {}", gradients.1, parameters.1) }
            );
        }
    }
    Ok(if all_near { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
