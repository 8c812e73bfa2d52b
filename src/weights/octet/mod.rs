//! The int8 file, `NAME.octet.safetensors`: a whole model, ready to run.
//!
//! It is a safetensors file. `NODE.weight` is a layer's weight, I8 or F32. Everything that is one number a channel or a
//! node is packed, in the order of the nodes, so that the header stays small:
//!
//! | tensor | holds |
//! |---|---|
//! | `weight_scales` | scales of the int8 weights: one, or one a channel |
//! | `biases` | float32 biases |
//! | `activation_scales` | scales of the uint8 outputs; zero points stand in the graph |
//! | `batch_norm` | weight, bias, running mean, running variance, eps, momentum of what was not fused |
//!
//! The metadata has one entry, `octet`: JSON with the format's version, the graph, labels, preprocessing and recipe.
//! The same model gives the same bytes.

mod read;
mod rows;
mod write;

use serde::{Deserialize, Serialize};

pub use read::{is_octet, read};
pub use write::write;

/// Version of the format that this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// What an int8 file says beside its graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Names of the classes in the order of the logits; empty where they are not known.
    pub labels: Vec<String>,
    /// How an image becomes the input (`data::Preprocess`).
    pub preprocess: serde_json::Value,
    /// How the model was made.
    pub recipe: serde_json::Value,
}

const ENTRY: &str = "octet";
const WEIGHT_SCALES: &str = "weight_scales";
const BIASES: &str = "biases";
const ACTIVATION_SCALES: &str = "activation_scales";
const BATCH_NORM: &str = "batch_norm";

/// The metadata's JSON.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    model: String,
    nodes: Vec<rows::Row>,
    #[serde(flatten)]
    meta: Meta,
}

#[cfg(test)]
mod tests;
