//! Milliseconds of the int8 engine on synthetic weights, batch 1, 224x224, 33 classes, and where they go.
//!
//! `cargo run --release --example int8_speed [MODEL ...] [--layers] [--rounds N]`; without models, six of the zoo.

use std::{collections::BTreeMap, time::Instant};

use octet::{
    exec::int8::{LayerTime, Plan, PlanOptions},
    graph::{Graph, Numeric, QParams},
    quant::{self, Backend, FuseOptions, QConfig},
    zoo::{self, ModelConfig, ModelId},
};

const MODELS: [ModelId; 6] = [
    ModelId::ShuffleNetV2X05,
    ModelId::MobileNetV3Small,
    ModelId::MobileNetV3Large,
    ModelId::EfficientNetV2S,
    ModelId::ResNet18,
    ModelId::ResNet50,
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut models, mut layers, mut rounds) = (Vec::new(), false, 15);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--layers" => layers = true,
            "--rounds" => rounds = arguments.next().ok_or("--rounds needs a number")?.parse()?,
            name => models.push(name.parse()?),
        }
    }
    if models.is_empty() {
        models = MODELS.to_vec();
    }
    let images: Vec<f32> = (0..3 * 224 * 224).map(|i| (i * 7919 % 1000) as f32 / 250.0 - 2.0).collect();
    println!("model                  isa          threads   least ms  median ms   GMAC/s  arena KiB");
    for model in models {
        let graph = int8(model)?;
        for threads in [1, 2] {
            let mut plan = Plan::new(&graph, &PlanOptions { isa: None, threads })?;
            plan.run(&images, 1);
            let mut times: Vec<f64> = (0..rounds)
                .map(|_| {
                    let start = Instant::now();
                    plan.run(&images, 1);
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            println!(
                "{:22} {:12} {threads:7} {:10.3} {:10.3} {:8.1} {:10}",
                model.name(),
                plan.isa().name(),
                times[0],
                times[rounds / 2],
                graph.macs() as f64 / times[0] / 1e6,
                plan.arena_bytes() / 1024
            );
            if threads == 1 {
                by_kind(&plan.time_layers(&images, rounds), layers);
            }
        }
    }
    Ok(())
}

fn by_kind(times: &[LayerTime], layers: bool) {
    let mut kinds: BTreeMap<&str, (f64, u64, usize)> = BTreeMap::new();
    for layer in times {
        let kind = kinds.entry(layer.op).or_default();
        *kind = (kind.0 + layer.micros, kind.1 + layer.macs, kind.2 + 1);
        if layers {
            let rate = layer.macs as f64 / layer.micros / 1e3;
            println!("      {:42} {:24} {:9.1} us {rate:8.1} GMAC/s", layer.name, layer.op, layer.micros);
        }
    }
    for (kind, (micros, macs, count)) in kinds {
        let rate = macs as f64 / micros / 1e3;
        println!("    {kind:24} {count:4} nodes {micros:10.1} us {rate:8.1} GMAC/s");
    }
}

/// The model with random weights and made-up quantization parameters: what it computes means nothing, at full cost.
fn int8(model: ModelId) -> Result<Graph, Box<dyn std::error::Error>> {
    let graph = zoo::init(&zoo::build(model, ModelConfig { classes: 33, size: 224 })?, 1);
    let config = QConfig::new(Backend::X86);
    let (graph, _) = quant::insert_stubs(&graph)?;
    let (graph, _) = quant::fuse(&graph, &FuseOptions::default())?;
    let (graph, _) = quant::prepare(&graph, &config)?;
    let observed = graph.nodes.iter().filter(|n| matches!(n.numeric, Numeric::Observed(_)));
    let qparams = observed.map(|n| (n.name.clone(), QParams::new(0.02, 64))).collect();
    Ok(quant::convert(&graph, &qparams, &config)?.0)
}
