//! Training speed, optimizer included, at batch 64, 32x32 pixels and 33 classes.
//!
//! - `cargo run --release --example train_speed [-- MODEL...]` prints milliseconds a step and images a second, in float and
//!   with fake quantization, and the most memory that the process has held so far (Linux).
//! - `-- --batch=8 --size=224 [MODEL...]` takes other sizes.
//! - `-- --candle [MODEL...]` prints beside them what candle's own convolutions take for the same layers, forward and
//!   both gradients: what a step cost before Octet had its own, at the least, since batch norm, activations and the
//!   optimizer come on top.
//! - `-- --device=cuda` trains on a GPU; the peak is then that of its tensors.
//! - `-- --serve [--qat] MODEL` takes one step for each line on standard input and answers with its milliseconds: so a step of
//!   something else can be timed in between (`tests/peers`).

use std::{
    cell::Cell,
    io::{BufRead, Write},
    ops::ControlFlow,
    rc::Rc,
    time::Instant,
};

use candle_core::{Tensor, Var};
use octet::{
    exec::float::Device,
    graph::{Graph, Op},
    quant::{self, Backend, FuseOptions, QConfig},
    train::{BatchSource, LabelledBatch, Optimizer, QatConfig, TrainConfig, TrainError, TrainEvent, Training},
    zoo::{ModelConfig, ModelId, build, init},
};

const CLASSES: usize = 33;
/// Enough for a steady median, within seconds for the largest model.
const SECONDS: f64 = 4.0;

/// What is measured.
#[derive(Clone, Copy)]
struct Case {
    model: ModelId,
    batch: usize,
    size: usize,
    qat: bool,
    device: Device,
}

/// Noise that costs no time to make. Its iterator asks for each batch first, and notes when the step began.
struct Noise<'a> {
    case: Case,
    ask: &'a dyn Fn() -> bool,
    began: Rc<Cell<Instant>>,
}

impl BatchSource for Noise<'_> {
    fn len(&self) -> usize {
        self.case.batch * 10_000
    }

    fn shuffled(&self, _seed: u64) -> Vec<usize> {
        (0..self.len()).collect()
    }

    fn batches(
        &self,
        order: Vec<usize>,
        batch: usize,
        _augment: Option<u64>,
    ) -> Box<dyn Iterator<Item = LabelledBatch> + '_> {
        let values = batch * 3 * self.case.size * self.case.size;
        let images: Vec<f32> = (0..values).map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0).collect();
        let one = LabelledBatch { images, labels: (0..batch).map(|i| i % CLASSES).collect() };
        let steps = order.len() / batch;
        Box::new((0..steps).take_while(|_| (self.ask)()).map(move |_| {
            let images = one.clone();
            self.began.set(Instant::now());
            images
        }))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, names): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let named: Vec<ModelId> = names.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    let number = |flag: &str, default: usize| -> Result<usize, std::num::ParseIntError> {
        flags.iter().find_map(|f| f.strip_prefix(flag)).map_or(Ok(default), str::parse)
    };
    let known = |f: &&String| {
        ["--serve", "--candle", "--qat"].contains(&f.as_str())
            || ["--batch=", "--size=", "--device="].iter().any(|flag| f.starts_with(flag))
    };
    if let Some(wrong) = flags.iter().find(|f| !known(f)) {
        return Err(
            format!("{wrong}: expected --serve, --candle, --qat, --batch=N, --size=N or --device=cpu|cuda").into()
        );
    }
    let (batch, size) = (number("--batch=", 64)?, number("--size=", 32)?);
    let device = flags.iter().find_map(|f| f.strip_prefix("--device=")).unwrap_or("cpu").parse::<Device>()?;
    let case = |model, qat| Case { model, batch, size, qat, device };
    if has("--serve") {
        let [model] = named[..] else { return Err("--serve takes one model".into()) };
        return Ok(serve(case(model, has("--qat")))?);
    }
    let models = if named.is_empty() { ModelId::ALL.to_vec() } else { named };
    let columns = if has("--candle") { "   candle's convolutions alone, ms" } else { "" };
    println!("batch {batch} at {size}x{size}");
    println!(
        "{:22} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8}{columns}",
        "model", "float, ms", "images/s", "QAT, ms", "images/s", "ratio", "peak, MB"
    );
    for model in models {
        let (float, qat) = (median_step(case(model, false))?, median_step(case(model, true))?);
        let rate = |ms: f64| batch as f64 * 1e3 / ms;
        let candle = match has("--candle") {
            true => format!("   {:10.1}", candle_ms(&graph(case(model, false))?, batch)?),
            false => String::new(),
        };
        println!(
            "{:22} {float:9.2} {:9.0} {qat:9.2} {:9.0} {:6.2} {:8.0}{candle}",
            model.name(),
            rate(float),
            rate(qat),
            qat / float,
            peak_mb(device).unwrap_or(f64::NAN)
        );
    }
    Ok(())
}

/// The most memory that the process has held (Linux), or its tensors on a GPU.
fn peak_mb(device: Device) -> Option<f64> {
    if device != Device::Cpu {
        return device.peak_memory(false).ok()?.map(|bytes| bytes as f64 / 1e6);
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kb| kb / 1e3)
}

fn graph(case: Case) -> Result<Graph, Box<dyn std::error::Error>> {
    let graph = init(&build(case.model, ModelConfig { classes: CLASSES, size: case.size })?, 1);
    if !case.qat {
        return Ok(graph);
    }
    let (graph, _) = quant::insert_stubs(&graph)?;
    let (graph, _) = quant::fuse_qat(&graph, &FuseOptions::default())?;
    Ok(quant::prepare_qat(&graph, &QConfig::qat(Backend::X86))?.0)
}

/// Steps for as long as `ask` says; `done` hears the milliseconds of each.
fn steps(case: Case, ask: &dyn Fn() -> bool, done: &mut dyn FnMut(f64)) -> Result<(), TrainError> {
    let optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let config = TrainConfig { epochs: 1, batch: case.batch, optimizer, learning_rate: 1e-3, ..TrainConfig::default() };
    let graph = graph(case).expect("a valid configuration");
    let began = Rc::new(Cell::new(Instant::now()));
    let noise = Noise { case, ask, began: began.clone() };
    let mut note = |event| {
        if let TrainEvent::Step { .. } = event {
            done(began.get().elapsed().as_secs_f64() * 1e3);
        }
    };
    let qat = QatConfig::for_epochs(1);
    let training = Training {
        graph: &graph,
        source: &noise,
        valid: None,
        config: &config,
        qat: case.qat.then_some(&qat),
        device: &case.device,
        resume: None,
    };
    training.run(&mut note, None, &|| ControlFlow::Continue(())).map(drop)
}

fn median_step(case: Case) -> Result<f64, TrainError> {
    let (begin, taken) = (Instant::now(), Cell::new(0));
    let mut times = Vec::new();
    let enough = || taken.replace(taken.get() + 1) > 6 && begin.elapsed().as_secs_f64() > SECONDS;
    steps(case, &|| !enough(), &mut |ms| times.push(ms))?;
    Ok(median(times))
}

fn serve(case: Case) -> Result<(), TrainError> {
    let ask = || std::io::stdin().lock().read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0);
    steps(case, &ask, &mut |ms| {
        match case.device {
            Device::Cpu => println!("{ms}"),
            Device::Cuda(_) => println!("{ms} {}", peak_mb(case.device).unwrap_or(f64::NAN)),
        }
        // Who asks waits for the answer; if they are gone, the next line will not come.
        let _ = std::io::stdout().flush();
    })
}

/// Every convolution of `graph` forward and backward through candle's autograd, as training needs it.
fn candle_ms(graph: &Graph, batch: usize) -> candle_core::Result<f64> {
    let mut total = 0.0;
    for (_, node) in graph.iter() {
        let Op::Conv2d(conv) = &node.op else { continue };
        let from = graph.node(node.inputs[0]).shape;
        let image = Var::randn(0f32, 1.0, (batch, from.c, from.h, from.w), &candle_core::Device::Cpu)?;
        let weight = Var::randn(0f32, 0.1, conv.weight.shape(), &candle_core::Device::Cpu)?;
        let step = || -> candle_core::Result<f64> {
            let start = Instant::now();
            let y = Tensor::conv2d(&image, &weight, conv.padding, conv.stride, 1, conv.groups)?;
            y.sum_all()?.backward()?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        total += median((0..3).map(|_| step()).collect::<Result<_, _>>()?);
    }
    Ok(total)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
