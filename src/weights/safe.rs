use std::{borrow::Cow, fmt::Display, path::Path, sync::Arc};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, View, serialize};

use super::{
    StateDict, WeightsError,
    file::{measured, read_all, write_atomic},
    require_unique_keys,
    torch::format_error,
};
use crate::graph::{Graph, Tensor};

/// Reads float tensors of 32 or 16 bits; integers only where they are batch norm's counters.
pub(super) fn read(path: &Path) -> Result<StateDict, WeightsError> {
    read_bytes(path, &read_all(path)?)
}

/// The same of a file that is in memory already.
pub(super) fn read_bytes(path: &Path, data: &[u8]) -> Result<StateDict, WeightsError> {
    let file = parse(path, data)?;
    let mut entries = Vec::new();
    // The crate has them in no order; of several that are wrong, the same one is named each time.
    let mut tensors = file.tensors();
    tensors.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (key, view) in tensors {
        let bytes = view.data();
        // Collected where they stay: a vector would be copied.
        let values: Arc<[f32]> = match view.dtype() {
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::I64 if key.ends_with("num_batches_tracked") => continue,
            other => {
                return Err(format_error(path, format!("`{key}` holds {other:?}; expected F32, F16 or BF16")));
            }
        };
        entries.push((key, Tensor::new(view.shape(), values)));
    }
    Ok(StateDict::new(path, entries))
}

/// The header, verified against the length of the data.
pub(super) fn parse<'a>(path: &Path, data: &'a [u8]) -> Result<SafeTensors<'a>, WeightsError> {
    let damaged = |e: &dyn Display| {
        format_error(path, format!("is not a whole safetensors file ({e}): damaged, truncated or of another kind"))
    };
    let file = SafeTensors::deserialize(data).map_err(|e| damaged(&e))?;
    // The crate takes the last of two entries of one name.
    require_unique_keys(header(data).unwrap_or_default()).map_err(|e| damaged(&e))?;
    Ok(file)
}

/// The header's text; nothing where the file is too short for it.
fn header(data: &[u8]) -> Option<&str> {
    let (len, rest) = data.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    std::str::from_utf8(rest.get(..len)?).ok()
}

/// Writes the float parameters of `graph` under torchvision's keys. With `half`, weights of convolutions and linear
/// layers are float16; biases and batch norm, a hundredth of the file, stay float32. Returns the bytes of the file.
///
/// # Errors
/// [`WeightsError::Write`]; [`WeightsError::NotFinite`] for a value that is no number, or beyond float16's 65,504.
pub fn write_safetensors(path: &Path, graph: &Graph, half: bool) -> Result<u64, WeightsError> {
    write_atomic(path, &[&serialized(path, graph, half)?])
}

/// Length of the file that [`write_safetensors`] would write without `half`, from one that is really written beside `near`
/// and removed again.
///
/// # Errors
/// As [`write_safetensors`].
pub fn safetensors_bytes(near: &Path, graph: &Graph) -> Result<u64, WeightsError> {
    measured(near, &serialized(near, graph, false)?)
}

fn serialized(path: &Path, graph: &Graph, half: bool) -> Result<Vec<u8>, WeightsError> {
    let mut tensors = Vec::new();
    for param in graph.params() {
        let key = graph.key(&param);
        let halve = half && param.tensor.shape.len() > 1;
        let rounded = |v: f32| if halve { f16::from_f32(v).to_f32() } else { v };
        if let Some((position, value)) = param.tensor.data.iter().enumerate().find(|(_, v)| !rounded(**v).is_finite()) {
            return Err(WeightsError::NotFinite { path: path.display().to_string(), key, value: *value, position });
        }
        let data = &param.tensor.data;
        let tensor = if halve {
            let bytes = data.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            Raw { dtype: Dtype::F16, shape: param.tensor.shape.clone(), bytes }
        } else {
            Raw::float(param.tensor.shape.clone(), data)
        };
        tensors.push((key, tensor));
    }
    // One entry alone keeps the header's bytes the same from run to run: the crate's map has no order.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    serialize(tensors, Some(metadata)).map_err(|e| format_error(path, e.to_string()))
}

/// A tensor as the safetensors crate writes it.
pub(super) struct Raw {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Raw {
    /// float32, little-endian.
    pub fn float(shape: Vec<usize>, data: &[f32]) -> Self {
        Self { dtype: Dtype::F32, shape, bytes: data.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }
}

impl View for Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
