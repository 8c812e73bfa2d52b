//! Spoils the ranges of a model without changing what it computes, for `tests/accuracy/run`: the channels of two layers of
//! MobileNetV3 small are scaled from 1/32 to 32 in their batch norms, and the weights that read them divided.
//!
//! `plant WEIGHTS CLASSES OUT`: float safetensors in and out.

use std::{error::Error, path::Path};

use octet::{
    quant::spoil_ranges,
    weights,
    zoo::{self, ModelConfig, ModelId},
};

const PLANTED: [&str; 2] = ["features.2.block.0.0", "features.3.block.1.0"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, classes, to] = arguments.as_slice() else { return Err("plant WEIGHTS CLASSES OUT".into()) };
    let graph = zoo::build(ModelId::MobileNetV3Small, ModelConfig { classes: classes.parse()?, size: 32 })?;
    let graph = weights::load(&graph, &weights::read(Path::new(from))?)?;
    let scale = |channel: usize| 32.0_f32.powf((channel * 7919 % 97) as f32 / 48.0 - 1.0);
    weights::write_safetensors(Path::new(to), &spoil_ranges(&graph, &PLANTED, &scale)?, false)?;
    println!("{to}: the channels of {} scaled from 1/32 to 32", PLANTED.join(" and "));
    Ok(())
}
