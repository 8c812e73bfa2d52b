//! Runs a model of the zoo once for every line on standard input, `float` or `int8`, and answers with the milliseconds it
//! took: what `tests/peers/run infer` asks in turn with other runtimes.
//!
//! `infer_speed MODEL BATCH THREADS`; random weights, 224x224, 33 classes. The first line it writes names the instruction set and
//! the milliseconds that the multiply-adds alone would take at the CPU's best.

use std::{
    error::Error,
    io::{BufRead, Write},
    time::Instant,
};

use octet::{
    exec::{
        float::{Device, Model},
        int8::{Plan, PlanOptions},
    },
    kernels::Kernels,
    session::synthetic_pair,
    zoo::ModelConfig,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, batch, threads] = arguments.as_slice() else { return Err("infer_speed MODEL BATCH THREADS".into()) };
    let (batch, threads): (usize, usize) = (batch.parse()?, threads.parse()?);
    let (float, int8) = synthetic_pair(model.parse()?, ModelConfig { classes: 33, size: 224 })?;
    let float = Model::new(&float, &Device::Cpu)?;
    let mut plan = Plan::new(&int8, &PlanOptions { isa: None, threads })?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let images: Vec<f32> = (0..batch * 3 * 224 * 224).map(|i| (i * 7919 % 1000) as f32 / 250.0 - 2.0).collect();
    let mut out = std::io::stdout().lock();
    let peak = Kernels::new(Some(plan.isa()), threads)?.peak_macs_per_second();
    let floor = peak.map_or(0.0, |p| (int8.macs() * batch as u64) as f64 / p * 1e3);
    writeln!(out, "{} {floor}", plan.isa())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let what = line?;
        let start = Instant::now();
        match what.as_str() {
            "int8" => drop(plan.run(&images, batch)),
            "float" => drop(pool.install(|| float.run(&images, batch))?),
            other => return Err(format!("`{other}`: expected float or int8").into()),
        }
        writeln!(out, "{}", start.elapsed().as_secs_f64() * 1e3)?;
        out.flush()?;
    }
    Ok(())
}
