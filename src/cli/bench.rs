use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{args::positive, print_json, print_line};
use crate::session::{BenchOptions, BenchSubject, Benchmark, Latency, LayerCost, ModelConfig, ModelId, bench};

/// `octet bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// An int8 file [default: a model of the zoo with random weights]
    #[arg(conflicts_with_all = ["model", "classes", "size"])]
    file: Option<PathBuf>,
    /// Which architecture
    #[arg(long, default_value_t = ModelId::ShuffleNetV2X05)]
    model: ModelId,
    /// Length of the logits
    #[arg(long, default_value_t = 33, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    classes: u32,
    /// Height and width of an image
    #[arg(long, default_value_t = 224, value_name = "N", value_parser = clap::value_parser!(u32).range(32..))]
    size: u32,
    /// Images a run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Threads of both [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Seconds to measure for
    #[arg(long, default_value_t = 3.0, value_name = "X", value_parser = positive)]
    seconds: f64,
    /// Time every layer too
    #[arg(long)]
    layers: bool,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// What to time.
    pub fn subject(&self) -> BenchSubject {
        let config = ModelConfig { classes: self.classes as usize, size: self.size as usize };
        self.file.clone().map_or(BenchSubject::Synthetic(self.model, config), BenchSubject::File)
    }

    /// How to time it.
    pub fn options(&self) -> BenchOptions {
        BenchOptions {
            batch: self.batch as usize,
            threads: self.threads.map_or(0, usize::from),
            seconds: self.seconds,
            layers: self.layers,
        }
    }
}

pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let found = bench(&args.subject(), &args.options())?;
    if args.json { print_json(&report(&found)) } else { print_table(&found) }
}

/// What `--json` prints.
fn report(b: &Benchmark) -> Value {
    let latency = |l: &Latency| {
        let mut value = Map::new();
        value.insert("median_ms".to_owned(), json!(l.median_ms));
        value.insert("p90_ms".to_owned(), json!(l.p90_ms));
        value.insert("images_per_second".to_owned(), json!(l.images_per_second));
        value
    };
    let mut int8 = latency(&b.int8);
    int8.insert("floor_ms".to_owned(), json!(b.floor_ms));
    let mut value = json!({
        "model": b.model,
        "batch": b.batch,
        "threads": b.threads,
        "size": b.size,
        "isa": b.isa,
        "cpu": b.cpu,
        "int8": int8,
        "peak_bytes": b.peak_bytes,
    });
    if let Some(float) = &b.float {
        value["float"] = latency(float).into();
    }
    if !b.layers.is_empty() {
        let layer = |l: &LayerCost| {
            json!({
                "name": l.time.name,
                "op": l.time.op,
                "macs": l.time.macs,
                "us": l.time.micros,
                "floor_us": l.floor_us,
            })
        };
        value["layers"] = b.layers.iter().map(layer).collect();
    }
    value
}

fn print_table(b: &Benchmark) -> anyhow::Result<()> {
    print_line(&format!(
        "{}, batch {}, {} threads, {}x{}, {} on {}",
        b.model, b.batch, b.threads, b.size, b.size, b.isa, b.cpu
    ))?;
    print_line(&format!("{:<8}{:>12}{:>12}{:>14}", "", "median ms", "p90 ms", "images/s"))?;
    let row = |name: &str, l: &Latency| {
        print_line(&format!("{name:<8}{:>12.3}{:>12.3}{:>14.1}", l.median_ms, l.p90_ms, l.images_per_second))
    };
    if let Some(float) = &b.float {
        row("float", float)?;
    }
    row("int8", &b.int8)?;
    if let Some(float) = &b.float {
        print_line(&format!("int8 is {:.2} times as fast", float.median_ms / b.int8.median_ms))?;
    }
    if let Some(floor) = b.floor_ms {
        let share = floor / b.int8.median_ms * 100.0;
        print_line(&format!(
            "floor   {floor:>12.3}   multiply-adds at this CPU's best: {share:.0} % of it is reached"
        ))?;
    }
    if let Some(bytes) = b.peak_bytes {
        print_line(&format!("memory  {:>9.1} MB at most", bytes as f64 / 1e6))?;
    }
    for l in &b.layers {
        let floor = l.floor_us.map_or("-".to_owned(), |f| format!("{f:.1}"));
        let l = &l.time;
        print_line(&format!("{:<44} {:<20} {:>10.1} us   floor {floor:>8} us", l.name, l.op, l.micros))?;
    }
    Ok(())
}
