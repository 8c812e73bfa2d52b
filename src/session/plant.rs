//! Weights that are spoilt on purpose, for a lesson: they compute what they did, and break with one scale a tensor.

use std::path::Path;

use super::SessionError;
use super::weigh::shipped;
use crate::quant::{Planted, plant_wide_channel};
use crate::weights;
use crate::zoo::{self, ModelConfig, ModelId};

/// How many times wider the channel becomes: a power of two, so that no output changes.
const FACTOR: f32 = 1024.0;

/// Writes the weights that ship for `model`, spoilt, to `path`; what was done to them.
///
/// # Errors
/// [`SessionError::NothingShipped`] where none ship or nothing in the model can be spoilt so; those of the disk.
pub fn plant(model: ModelId, path: &Path) -> Result<Planted, SessionError> {
    let nothing = || SessionError::NothingShipped { model: model.title().to_owned() };
    let bytes = shipped(model).ok_or_else(nothing)?;
    let dict = weights::from_safetensors(&format!("assets/weights/{}.safetensors", model.name()), bytes)?;
    let classes = weights::classes(&dict).ok_or_else(nothing)?;
    let graph = zoo::build(model, ModelConfig { classes, size: zoo::MIN_SIZE })?;
    let graph = weights::load(&graph, &dict)?;
    let (planted, what) = plant_wide_channel(&graph, FACTOR)?.ok_or_else(nothing)?;
    if let Some(folder) = path.parent() {
        // Where it cannot be made, writing says so.
        let _ = std::fs::create_dir_all(folder);
    }
    weights::write_safetensors(path, &planted, false)?;
    Ok(what)
}
