use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::SessionError;
use crate::analysis::{LayerBound, PairBound, bounds};
use crate::graph::{Graph, Weight};
use crate::quant::Override;
use crate::weights::{self, AnyDict, octet};

/// What is inside a file.
#[derive(Clone, Debug)]
pub enum Contents {
    /// A file of Octet's.
    Int8 {
        /// Its path.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// int8, or mixed.
        graph: Box<Graph>,
        /// A name for each class.
        labels: Vec<String>,
        /// How images become numbers.
        preprocess: Value,
        /// How it was made.
        recipe: Value,
    },
    /// Float weights without a graph.
    StateDict {
        /// Its path.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// Keys and shapes, in the file's order.
        tensors: Vec<(String, Vec<usize>)>,
    },
}

/// Whether a file begins as Octet's int8 files do; no more of it is read.
pub fn is_int8_file(file: &Path) -> bool {
    octet::is_octet(file)
}

/// Reads a file and tells what it holds.
///
/// # Errors
/// Those of reading it.
pub fn inspect(file: &Path) -> Result<Contents, SessionError> {
    let bytes = std::fs::metadata(file).map(|m| m.len()).unwrap_or(0);
    let path = file.to_owned();
    if octet::is_octet(file) {
        let (graph, meta) = octet::read(file)?;
        return Ok(Contents::Int8 {
            file: path,
            bytes,
            graph: Box::new(graph),
            labels: meta.labels,
            preprocess: meta.preprocess,
            recipe: meta.recipe,
        });
    }
    let shapes = |dict: &weights::StateDict| dict.iter().map(|(key, t)| (key.to_owned(), t.shape.clone())).collect();
    let tensors: Vec<(String, Vec<usize>)> = match weights::read_any(file)? {
        AnyDict::Float(dict) | AnyDict::Qat(dict) => shapes(&dict),
        AnyDict::Quantized(dict) => {
            let mut tensors: Vec<_> = dict.weights.iter().map(|(key, w)| (key.clone(), w.shape.clone())).collect();
            tensors.extend::<Vec<_>>(shapes(&dict.plain));
            tensors
        }
    };
    Ok(Contents::StateDict { file: path, bytes, tensors })
}

/// Writes a graph's float weights as a safetensors state dict, those of convolutions and linear layers as float16 with
/// `half`; its size in bytes.
///
/// # Errors
/// Those of writing it.
pub fn save_float(path: &Path, graph: &Graph, half: bool) -> Result<u64, SessionError> {
    Ok(weights::write_safetensors(path, graph, half)?)
}

impl Contents {
    /// Names of the layers that were left in float; none for a state dict.
    pub fn float_layers(&self) -> Vec<&str> {
        match self {
            Self::Int8 { graph, .. } => float_layers(graph),
            Self::StateDict { .. } => Vec::new(),
        }
    }

    /// What each int8 layer's weights say about 16-bit overflow on other engines; none for a state dict.
    pub fn bounds(&self) -> Vec<LayerBound> {
        match self {
            Self::Int8 { graph, .. } => bounds(graph),
            Self::StateDict { .. } => Vec::new(),
        }
    }

    /// By which method the file was made, as the recipe says it; `None` for a state dict.
    pub fn method(&self) -> Option<&'static str> {
        match self {
            Self::Int8 { recipe, .. } if recipe.pointer("/method/qat").is_some() => Some("qat"),
            Self::Int8 { .. } => Some("ptq"),
            Self::StateDict { .. } => None,
        }
    }

    /// What was done otherwise with some layers, as the recipe says it: the layer and a phrase. None for a state dict, or
    /// a recipe of another program.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let Self::Int8 { recipe, .. } = self else { return Vec::new() };
        let overrides = recipe.pointer("/qconfig/overrides").cloned().unwrap_or_default();
        let overrides: BTreeMap<String, Override> = serde_json::from_value(overrides).unwrap_or_default();
        overrides.into_iter().map(|(node, other)| (node, other.to_string())).collect()
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        match self {
            Self::Int8 { file, bytes, graph, labels, preprocess, recipe } => {
                let shape = graph.input_shape();
                json!({
                    "file": file,
                    "kind": "int8",
                    "model": graph.name,
                    "bytes": bytes,
                    "input": [shape.c, shape.h, shape.w],
                    "classes": graph.classes(),
                    "labels": labels,
                    "preprocess": preprocess,
                    "recipe": recipe,
                    "method": self.method(),
                    "overrides": self.overrides().into_iter().collect::<BTreeMap<_, _>>(),
                    "nodes": nodes(graph),
                    "layers": layers(graph),
                    "float_layers": float_layers(graph),
                    "saturation": bounds(graph).iter().map(bound).collect::<Vec<_>>(),
                })
            }
            Self::StateDict { file, bytes, tensors } => {
                let tensors: Vec<Value> =
                    tensors.iter().map(|(key, shape)| json!({ "key": key, "shape": shape })).collect();
                json!({ "file": file, "kind": "state_dict", "bytes": bytes, "tensors": tensors })
            }
        }
    }
}

fn nodes(graph: &Graph) -> Vec<Value> {
    graph
        .nodes
        .iter()
        .map(|n| {
            let inputs: Vec<&str> = n.inputs.iter().map(|i| graph.node(*i).name.as_str()).collect();
            let qparams = n.numeric.qparams();
            json!({
                "name": n.name,
                "op": n.op.name(),
                "inputs": inputs,
                "shape": [n.shape.c, n.shape.h, n.shape.w],
                "scale": qparams.map(|q| q.scale),
                "zero_point": qparams.map(|q| q.zero_point),
                "fused": n.fused,
            })
        })
        .collect()
}

/// Names of the layers whose weights are float32.
fn float_layers(graph: &Graph) -> Vec<&str> {
    let float = graph.nodes.iter().filter(|n| n.op.weight().is_some_and(|w| w.float().is_some()));
    float.map(|n| n.name.as_str()).collect()
}

/// What a layer's weights allow, without an image: the extreme sums of two products that engines add in 16 bits.
fn bound(layer: &LayerBound) -> Value {
    let PairBound { low, high } = layer.bound;
    json!({
        "layer": layer.name,
        "adjacent": layer.neighbours.title(),
        "lowest": low,
        "highest": high,
        "safe": layer.bound.is_safe(),
    })
}

fn layers(graph: &Graph) -> Vec<Value> {
    graph
        .nodes
        .iter()
        .filter_map(|n| n.op.weight().map(|w| (n, w)))
        .map(|(n, weight)| {
            let (dtype, bytes, scales) = match weight {
                Weight::Float(t) => ("float32", t.len() * 4, None),
                Weight::Int8(q) => ("int8", q.data.len(), Some(q.scales.to_vec())),
            };
            json!({
                "name": n.name,
                "dtype": dtype,
                "shape": weight.shape(),
                "weight_bytes": bytes,
                "weight_scales": scales,
                "macs": n.op.macs(n.shape),
            })
        })
        .collect()
}
