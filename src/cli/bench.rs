use serde_json::{Map, Value, json};

use super::{args::BenchArgs, print_json, print_line};
use crate::session::{Benchmark, Latency, bench};

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
        let layer = |l: &crate::session::LayerCost| {
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
