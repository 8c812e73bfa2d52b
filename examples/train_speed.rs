//! Training speed, optimizer included: milliseconds a step and images a second, batch 64 at 32x32, 33 classes.
//!
//! `cargo run --release --example train_speed [-- MODEL...]`

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use octet::{
    exec::float::Device,
    train::{BatchSource, LabelledBatch, Optimizer, TrainConfig, TrainEvent, train},
    zoo::{ModelConfig, ModelId, build, init},
};

const BATCH: usize = 64;
const CLASSES: usize = 33;
const IMAGE: usize = 3 * 32 * 32;
/// Enough for a steady median, within seconds for the largest model.
const SECONDS: f64 = 4.0;

/// Noise that costs no time to make.
struct Noise;

impl BatchSource for Noise {
    fn len(&self) -> usize {
        BATCH * 1000
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
        let images: Vec<f32> = (0..batch * IMAGE).map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0).collect();
        let one = LabelledBatch { images, labels: (0..batch).map(|i| i % CLASSES).collect() };
        Box::new(std::iter::repeat_n(one, order.len() / batch))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let named: Vec<ModelId> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let models = if named.is_empty() { ModelId::ALL.to_vec() } else { named };
    let optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let config = TrainConfig { epochs: 1, batch: BATCH, optimizer, learning_rate: 1e-3, ..TrainConfig::default() };
    println!("{:22} {:>9} {:>9}", "model", "ms/step", "images/s");
    for model in models {
        let graph = init(&build(model, ModelConfig { classes: CLASSES, size: 32 })?, 1);
        let (begin, mut rates, steps) = (Instant::now(), Vec::new(), AtomicUsize::new(0));
        let enough = || {
            let done = steps.load(Ordering::Relaxed) > 6 && begin.elapsed().as_secs_f64() > SECONDS;
            if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut note = |event| {
            if let TrainEvent::Step { images_per_second, .. } = event {
                rates.push(images_per_second);
                steps.fetch_add(1, Ordering::Relaxed);
            }
        };
        train(&graph, &Noise, None, &config, &Device::Cpu, &mut note, &enough)?;
        rates.sort_by(f64::total_cmp);
        let rate = rates[rates.len() / 2];
        println!("{:22} {:9.2} {rate:9.0}", model.name(), BATCH as f64 * 1e3 / rate);
    }
    Ok(())
}
