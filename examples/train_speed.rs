//! Training speed of every model, batch 64 at 32x32, 33 classes: milliseconds a step and images a second.
//!
//! `cargo run --release --example train_speed [-- MODEL...]`

use std::time::Instant;

use octet::{
    exec::float::{Device, Trainable},
    zoo::{ModelConfig, ModelId, build, init},
};

const BATCH: usize = 64;
const CLASSES: usize = 33;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let named: Vec<ModelId> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let models = if named.is_empty() { ModelId::ALL.to_vec() } else { named };
    println!("{:22} {:>10} {:>10} {:>10} {:>9}", "model", "forward", "backward", "step ms", "images/s");
    for model in models {
        let graph = init(&build(model, ModelConfig { classes: CLASSES, size: 32 })?, 1);
        let mut trainable = Trainable::new(&graph, &Device::Cpu)?;
        let images: Vec<f32> = (0..BATCH * 3 * 32 * 32).map(|i| ((i * 7919 % 2003) as f32 / 1000.0) - 1.0).collect();
        let gradient: Vec<f32> = (0..BATCH * CLASSES).map(|i| (i % 7) as f32 * 1e-3 - 3e-3).collect();
        let mut times = Vec::new();
        let begin = Instant::now();
        for step in 0..200 {
            let start = Instant::now();
            let pass = trainable.forward(&images, BATCH, step)?;
            let forward = start.elapsed().as_secs_f64();
            let gradients = trainable.backward(pass, &gradient)?;
            let both = start.elapsed().as_secs_f64();
            drop(gradients);
            times.push((both, forward));
            if step >= 4 && begin.elapsed().as_secs_f64() > 3.0 {
                break;
            }
        }
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (both, forward) = times[times.len() / 2];
        let (ms, rate) = (both * 1e3, BATCH as f64 / both);
        println!("{model:22} {:10.2} {:10.2} {ms:10.2} {rate:9.0}", forward * 1e3, (both - forward) * 1e3);
    }
    Ok(())
}
