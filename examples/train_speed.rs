//! Training speed, optimizer included, at batch 64, 32x32 pixels and 33 classes.
//!
//! - `cargo run --release --example train_speed [-- MODEL...]` prints milliseconds a step and images a second.
//! - `-- --candle [MODEL...]` prints beside them what candle's own convolutions take for the same layers, forward and
//!   both gradients: what a step cost before Octet had its own, at the least, since batch norm, activations and the
//!   optimizer come on top.
//! - `-- --serve MODEL` takes one step for each line on standard input and answers with its milliseconds: so a step of
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
    train::{BatchSource, LabelledBatch, Optimizer, TrainConfig, TrainError, TrainEvent, train},
    zoo::{ModelConfig, ModelId, build, init},
};

const BATCH: usize = 64;
const CLASSES: usize = 33;
const SIZE: usize = 32;
/// Enough for a steady median, within seconds for the largest model.
const SECONDS: f64 = 4.0;

/// Noise that costs no time to make. Its iterator asks for each batch first, and notes when the step began.
struct Noise<'a> {
    ask: &'a dyn Fn() -> bool,
    began: Rc<Cell<Instant>>,
}

impl BatchSource for Noise<'_> {
    fn len(&self) -> usize {
        BATCH * 10_000
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
        let images: Vec<f32> = (0..batch * 3 * SIZE * SIZE).map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0).collect();
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
    if let Some(wrong) = flags.iter().find(|f| !["--serve", "--candle"].contains(&f.as_str())) {
        return Err(format!("{wrong}: expected --serve or --candle").into());
    }
    if has("--serve") {
        let [model] = named[..] else { return Err("--serve takes one model".into()) };
        return Ok(serve(model)?);
    }
    let models = if named.is_empty() { ModelId::ALL.to_vec() } else { named };
    let columns = if has("--candle") { "   candle's convolutions alone, ms" } else { "" };
    println!("{:22} {:>9} {:>9}{columns}", "model", "ms/step", "images/s");
    for model in models {
        let ms = median_step(model)?;
        let candle = if has("--candle") { format!("   {:10.1}", candle_ms(&graph(model)?)?) } else { String::new() };
        println!("{:22} {ms:9.2} {:9.0}{candle}", model.name(), BATCH as f64 * 1e3 / ms);
    }
    Ok(())
}

fn graph(model: ModelId) -> Result<Graph, octet::zoo::ZooError> {
    Ok(init(&build(model, ModelConfig { classes: CLASSES, size: SIZE })?, 1))
}

/// Steps for as long as `ask` says; `done` hears the milliseconds of each.
fn steps(model: ModelId, ask: &dyn Fn() -> bool, done: &mut dyn FnMut(f64)) -> Result<(), TrainError> {
    let optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let config = TrainConfig { epochs: 1, batch: BATCH, optimizer, learning_rate: 1e-3, ..TrainConfig::default() };
    let graph = graph(model).expect("a valid configuration");
    let began = Rc::new(Cell::new(Instant::now()));
    let noise = Noise { ask, began: began.clone() };
    let mut note = |event| {
        if let TrainEvent::Step { .. } = event {
            done(began.get().elapsed().as_secs_f64() * 1e3);
        }
    };
    train(&graph, &noise, None, &config, &Device::Cpu, &mut note, &|| ControlFlow::Continue(())).map(drop)
}

fn median_step(model: ModelId) -> Result<f64, TrainError> {
    let (begin, taken) = (Instant::now(), Cell::new(0));
    let mut times = Vec::new();
    let enough = || taken.replace(taken.get() + 1) > 6 && begin.elapsed().as_secs_f64() > SECONDS;
    steps(model, &|| !enough(), &mut |ms| times.push(ms))?;
    Ok(median(times))
}

fn serve(model: ModelId) -> Result<(), TrainError> {
    let ask = || std::io::stdin().lock().read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0);
    steps(model, &ask, &mut |ms| {
        println!("{ms}");
        // Who asks waits for the answer; if they are gone, the next line will not come.
        let _ = std::io::stdout().flush();
    })
}

/// Every convolution of `graph` forward and backward through candle's autograd, as training needs it.
fn candle_ms(graph: &Graph) -> candle_core::Result<f64> {
    let mut total = 0.0;
    for (_, node) in graph.iter() {
        let Op::Conv2d(conv) = &node.op else { continue };
        let from = graph.node(node.inputs[0]).shape;
        let image = Var::randn(0f32, 1.0, (BATCH, from.c, from.h, from.w), &candle_core::Device::Cpu)?;
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
