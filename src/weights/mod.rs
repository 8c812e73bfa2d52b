//! Weights in and out: state dicts (`.pth`, `.pt`, `.safetensors`) and the int8 file (`.octet.safetensors`).
//!
//! A state dict loads into a float graph by torchvision's keys, or by timm's for the same architecture. Reading a pickle
//! never runs code: the interpreter knows a handful of globals and builds plain data; anything else is refused by name.
//! Every reader checks lengths before it allocates, every writer writes a temporary file and renames it.
//!
//! This room knows the graph. It knows nothing of candle, of passes or of images.

mod checkpoint;
mod dict;
mod file;
mod legacy;
mod load;
pub mod octet;
mod pickle;
mod quantized;
mod safe;
mod timm;
mod torch;
mod torch_int8;
mod torch_pickle;
mod torch_qat;
mod torch_write;
mod unique;

use std::{io, path::Path};

use crate::graph::GraphError;

pub use checkpoint::{Checkpoint, read_checkpoint, write_checkpoint};
pub use dict::StateDict;
pub use file::{clear_folder, write_file, write_new_file};
pub use load::{caution, classes, load, load_without_head};
pub use quantized::{AnyDict, Int8State, QuantizedDict};
pub use safe::{safetensors_bytes, write_safetensors};
pub use torch::legible;
pub use torch_int8::write_torch_int8;
pub use torch_qat::{QatLayout, QatState, qat_layout, qat_state};
pub use torch_write::write_torch;
pub use unique::require_unique_keys;

/// Why weights could not be read, written or used. Each message is one sentence that names the file and the key.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum WeightsError {
    /// The file cannot be opened or read.
    #[error("{path}: cannot be read: {source}")]
    Read { path: String, source: io::Error },
    /// The file cannot be written: a full disk, a missing folder, no permission. Nothing is left behind.
    #[error("{path}: cannot be written: {source}; what was there before is unchanged")]
    Write { path: String, source: io::Error },
    /// Not a file of this kind, or a damaged one.
    #[error("{path}: {detail}")]
    Format { path: String, detail: String },
    /// A pickle that would call something a state dict does not need.
    #[error(
        "{path}: its pickle names `{global}`, which a plain state dict does not need and Octet never runs; save \
         `model.state_dict()` alone, or as safetensors"
    )]
    Global { path: String, global: String },
    /// The state dict is not this model's.
    #[error("{path}: does not fit {model}: {}", keys.describe())]
    Keys { path: String, model: String, keys: Box<KeyErrors> },
    /// A value that is no number.
    #[error("{path}: `{key}` holds {value} at position {position}; weights must be finite: training has diverged")]
    NotFinite { path: String, key: String, value: f32, position: usize },
    /// timm's variants with TensorFlow's padding.
    #[error(
        "{path}: timm's tf_ models pad as TensorFlow does, one pixel off at every stride of 2, so these weights would not \
         compute the same in torchvision's {model}: use those of a model without tf_, or torchvision's own"
    )]
    Padding { path: String, model: String },
    /// A state dict of another kind.
    #[error(
        "{path}: is the state dict {what}; expected float weights (`octet export FILE --model NAME --format octet` makes an \
         int8 file of it)"
    )]
    NotFloat { path: String, what: &'static str },
    /// A graph that PyTorch has no quantized module for.
    #[error("{model} cannot become a state dict of PyTorch's: {detail}")]
    NoTwin { model: String, detail: String },
    /// A graph that breaks its own rules.
    #[error("{path}: {source}")]
    Graph { path: String, source: GraphError },
}

/// What differs between a model's keys and a state dict's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyErrors {
    /// The model has them, the file does not.
    pub missing: Vec<String>,
    /// The file has them, the model does not.
    pub surplus: Vec<String>,
    /// Key, shape found, shape expected.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// So many keys of each kind are listed by name, then a count.
const LISTED: usize = 8;

impl KeyErrors {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.misshapen.is_empty()
    }

    fn describe(&self) -> String {
        let misshapen = self.misshapen.iter().map(|(k, found, expected)| format!("`{k}` {found:?}, not {expected:?}"));
        let quoted = |keys: &[String]| keys.iter().map(|k| format!("`{}`", legible(k))).collect::<Vec<_>>();
        let parts = [
            list("missing", &quoted(&self.missing)),
            list("surplus", &quoted(&self.surplus)),
            list("of another shape", &misshapen.collect::<Vec<_>>()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

fn list(what: &str, items: &[String]) -> Option<String> {
    let rest = items.len().saturating_sub(LISTED);
    let shown = items[..items.len() - rest].join(", ");
    match (items.len(), rest) {
        (0, _) => None,
        (n, 0) => Some(format!("{n} {what}: {shown}")),
        (n, rest) => Some(format!("{n} {what}: {shown} and {rest} more")),
    }
}

/// Reads a state dict: safetensors by its ending, else what PyTorch's `torch.save` writes (zip or the older format),
/// by its content. Values become float32.
///
/// A checkpoint that holds its state dict under `state_dict`, `model_state_dict` or `model` is looked into.
///
/// # Errors
/// A missing or damaged file, a pickle that names anything but tensors, an entry that is no tensor;
/// [`WeightsError::NotFloat`] for a quantized model's.
pub fn read(path: &Path) -> Result<StateDict, WeightsError> {
    match read_any(path)? {
        AnyDict::Float(dict) => Ok(dict),
        AnyDict::Quantized(_) => Err(WeightsError::NotFloat {
            path: path.display().to_string(),
            what: "of a quantized model: its weights are int8 already",
        }),
        AnyDict::Qat(_) => Err(WeightsError::NotFloat {
            path: path.display().to_string(),
            what: "of a model in quantization-aware training",
        }),
    }
}

/// Reads a state dict of any kind.
///
/// # Errors
/// As [`read`].
pub fn read_any(path: &Path) -> Result<AnyDict, WeightsError> {
    let safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    if safetensors { safe::read(path).map(AnyDict::from) } else { torch::read(path).map(AnyDict::from) }
}

/// Reads a safetensors state dict that is in memory; `name` stands for its path in messages.
///
/// # Errors
/// As [`read`].
pub fn from_safetensors(name: &str, bytes: &[u8]) -> Result<StateDict, WeightsError> {
    safe::read_bytes(Path::new(name), bytes)
}

#[cfg(test)]
mod tests;
