//! How fast a network runs here: float and int8 in turns, from float images to float logits.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::SessionError;
use crate::exec::float::{Device, Model};
use crate::exec::int8::{LayerTime, Plan, PlanOptions};
use crate::graph::Graph;
use crate::int8_model::Int8Model;
use crate::kernels::{Kernels, cpu_name};
use crate::quant::{self, FuseOptions, Observers, QConfig};
use crate::zoo::{self, ModelConfig, ModelId};

/// What to time.
#[derive(Clone, Debug)]
pub enum BenchSubject {
    /// A model of the zoo with random weights: float and int8.
    Synthetic(ModelId, ModelConfig),
    /// An int8 file, alone.
    File(PathBuf),
}

/// How to time it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BenchOptions {
    /// Images a run.
    pub batch: usize,
    /// Threads of both; 0 means one a core.
    pub threads: usize,
    /// At least [`MIN_ROUNDS`], then until this much time is spent.
    pub seconds: f64,
    /// Whether to time layer by layer too.
    pub layers: bool,
}

/// Rounds at least, whatever the time they take.
pub const MIN_ROUNDS: usize = 7;
/// More rounds tell nothing more.
const MAX_ROUNDS: usize = 500;
/// Runs that are not counted, to warm caches and clocks.
const WARM_UP: usize = 2;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Benchmark {
    /// The graph's name.
    pub model: String,
    /// Images a run.
    pub batch: usize,
    /// Threads that took part.
    pub threads: usize,
    /// Height and width of an image.
    pub size: usize,
    /// The instruction set of the int8 kernels.
    pub isa: &'static str,
    /// The processor's own name.
    pub cpu: String,
    /// Of the float model, unless a file was timed.
    pub float: Option<Latency>,
    /// Of the int8 model.
    pub int8: Latency,
    /// Multiply-adds of convolutions and linear layers over what the CPU could do at best; not known for the scalar
    /// kernels.
    pub floor_ms: Option<f64>,
    /// The most memory that the process held so far, in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
    /// Layer by layer, one image at a time; empty unless it was asked for.
    pub layers: Vec<LayerCost>,
}

/// Milliseconds of one run of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half of the runs took less.
    pub median_ms: f64,
    /// Nine in ten took less.
    pub p90_ms: f64,
    /// By the median.
    pub images_per_second: f64,
}

/// What one layer costs.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCost {
    /// Name, operation, multiply-adds and median time.
    pub time: LayerTime,
    /// Its multiply-adds over the CPU's best, in microseconds.
    pub floor_us: Option<f64>,
}

/// Times a model of the zoo, or an int8 file.
///
/// # Errors
/// Those of building, reading and planning.
pub fn bench(subject: &BenchSubject, options: &BenchOptions) -> Result<Benchmark, SessionError> {
    let plan_options = PlanOptions { isa: None, threads: threads(options.threads) };
    let (float, graph, mut plan) = match subject {
        BenchSubject::Synthetic(model, config) => {
            let (fused, int8) = synthetic_pair(*model, *config)?;
            let plan = Plan::new(&int8, &plan_options)?;
            (Some(Model::new(&fused, &Device::Cpu)?), int8, plan)
        }
        BenchSubject::File(path) => {
            let (graph, plan) = Int8Model::with_options(path, &plan_options)?.into_parts();
            (None, graph, plan)
        }
    };
    let shape = graph.input_shape();
    let images = images(options.batch * shape.len());
    let (float, int8) = alternate(float.as_ref(), &mut plan, &images, options, plan_options.threads)?;
    let peak = Kernels::new(Some(plan.isa()), plan_options.threads).ok().and_then(|k| k.peak_macs_per_second());
    let layers = if options.layers { layers(&mut plan, &images[..shape.len()], peak) } else { Vec::new() };
    Ok(Benchmark {
        model: graph.name.clone(),
        batch: options.batch,
        threads: plan_options.threads,
        size: shape.h,
        isa: plan.isa().name(),
        cpu: cpu_name(),
        float,
        int8,
        floor_ms: peak.map(|p| (graph.macs() * options.batch as u64) as f64 / p * 1e3),
        peak_bytes: peak_bytes(),
        layers,
    })
}

/// A model of the zoo with random weights, fused, in float and in int8, its ranges those of a few made-up images: what they
/// compute means nothing, at full cost.
///
/// # Errors
/// Those of the zoo, the passes and float execution.
pub fn synthetic_pair(model: ModelId, config: ModelConfig) -> Result<(Graph, Graph), SessionError> {
    const IMAGES: usize = 2;
    let float = zoo::init(&zoo::build(model, config)?, 0);
    let (fused, _) = quant::fuse(&quant::insert_stubs(&float)?.0, &FuseOptions::default())?;
    let qconfig = QConfig::default();
    let (prepared, _) = quant::prepare(&fused, &qconfig)?;
    let mut observers = Observers::new(&prepared)?;
    let mut seen = Ok(());
    let values = images(IMAGES * prepared.input_shape().len());
    // Real ranges: kernels for CPUs without VNNI are faster where levels stay below 128, as calibrated ones mostly do.
    Model::new(&prepared, &Device::Cpu)?.run_observed(&values, IMAGES, &mut |node, values| {
        seen = observers.observe(node, values);
        if seen.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    seen?;
    let (int8, _) = quant::convert(&prepared, &observers.qparams()?, &qconfig)?;
    Ok((fused, int8))
}

fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// Values as normalized images have them.
fn images(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1000) as f32 / 250.0 - 2.0).collect()
}

/// Runs both in turns, so that whatever else the machine does falls on both.
fn alternate(
    float: Option<&Model>,
    plan: &mut Plan,
    images: &[f32],
    options: &BenchOptions,
    threads: usize,
) -> Result<(Option<Latency>, Latency), SessionError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let run_float = |model: &Model| match &pool {
        Ok(pool) => pool.install(|| model.run(images, options.batch)),
        Err(_) => model.run(images, options.batch),
    };
    for _ in 0..WARM_UP {
        float.map(run_float).transpose()?;
        plan.run(images, options.batch);
    }
    let (mut float_times, mut int8_times) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while int8_times.len() < MAX_ROUNDS
        && (int8_times.len() < MIN_ROUNDS || begin.elapsed().as_secs_f64() < options.seconds)
    {
        if let Some(model) = float {
            let start = Instant::now();
            run_float(model)?;
            float_times.push(start.elapsed());
        }
        let start = Instant::now();
        plan.run(images, options.batch);
        int8_times.push(start.elapsed());
    }
    let float = float.map(|_| Latency::new(float_times, options.batch));
    Ok((float, Latency::new(int8_times, options.batch)))
}

impl Latency {
    fn new(times: Vec<Duration>, batch: usize) -> Self {
        let mut ms: Vec<f64> = times.into_iter().map(|t| t.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let median_ms = ms[ms.len() / 2];
        Self { median_ms, p90_ms: ms[ms.len() * 9 / 10], images_per_second: batch as f64 / median_ms * 1e3 }
    }
}

/// What every layer of a converted graph costs, on one image of made-up values.
///
/// # Errors
/// Those of planning.
pub fn layer_costs(graph: &Graph, threads_asked: usize) -> Result<Vec<LayerCost>, SessionError> {
    let options = PlanOptions { isa: None, threads: threads(threads_asked) };
    let mut plan = Plan::new(graph, &options)?;
    let image = images(graph.input_shape().len());
    (0..WARM_UP).for_each(|_| drop(plan.run(&image, 1)));
    let peak = Kernels::new(Some(plan.isa()), options.threads).ok().and_then(|k| k.peak_macs_per_second());
    Ok(layers(&mut plan, &image, peak))
}

fn layers(plan: &mut Plan, image: &[f32], peak: Option<f64>) -> Vec<LayerCost> {
    const ROUNDS: usize = 25;
    plan.time_layers(image, ROUNDS)
        .into_iter()
        .map(|time| LayerCost { floor_us: peak.map(|p| time.macs as f64 / p * 1e6), time })
        .collect()
}

/// The peak of the resident memory, as Linux counts it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p90_are_of_the_sorted_times() {
        let times = (1..=11).rev().map(Duration::from_millis).collect();
        let found = Latency::new(times, 4);
        assert!((found.median_ms - 6.0).abs() < 1e-9 && (found.p90_ms - 10.0).abs() < 1e-9, "{found:?}");
        assert!((found.images_per_second - 4.0 / 6e-3).abs() < 1e-6);
    }
}
