//! What `torch.save` writes: a zip archive of one pickle and one file per storage.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{BufReader, Read},
    path::Path,
    sync::Arc,
};

use half::{bf16, f16};
use zip::ZipArchive;

use super::{
    QuantizedDict, StateDict, WeightsError, legacy,
    pickle::{self, ElementType, Grid, Id, Pickle, PickleError, QuantizedRef, StorageRef, TensorRef},
};
use crate::graph::{QTensor, Tensor};

/// Where training scripts keep the state dict in a checkpoint.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// The pickle of a state dict is a few hundred bytes a tensor.
const MAX_PICKLE: u64 = 16 << 20;

/// Values that expanded (stride 0) or shared tensors may take beyond the bytes of the file.
const EXPANDED: usize = 1 << 20;

/// Bytes that compressed storages may take beyond those of the file. `torch.save` does not compress.
const INFLATED: usize = 4 << 20;

/// What is wrong with a file. Names out of it may be anything: what is no text is escaped, what is long is cut.
pub(super) fn format_error(path: &Path, detail: impl Into<String>) -> WeightsError {
    WeightsError::Format { path: path.display().to_string(), detail: legible(&detail.into()) }
}

/// The same text, which may be out of a file, without control characters, and not longer than a sentence may be.
pub fn legible(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut out = String::new();
    for c in text.chars() {
        if out.len() > LONGEST {
            return out + "…";
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

pub(super) fn pickle_error(path: &Path, error: PickleError) -> WeightsError {
    match error {
        PickleError::Global(global) => {
            WeightsError::Global { path: path.display().to_string(), global: legible(&global) }
        }
        PickleError::Truncated | PickleError::Endless | PickleError::Opcode { .. } | PickleError::Malformed { .. } => {
            format_error(path, error.to_string())
        }
    }
}

/// Reads a `.pth` or `.pt` file, in either of PyTorch's formats.
pub(super) fn read(path: &Path) -> Result<QuantizedDict, WeightsError> {
    let unreadable = |source| WeightsError::Read { path: path.display().to_string(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(unreadable)?;
    if magic == b"PK\x03\x04" {
        return read_zip(path);
    }
    if legacy::is_legacy(&magic) {
        return legacy::read(path);
    }
    Err(format_error(
        path,
        "is not a PyTorch file (neither torch.save's zip archive nor its older format); a safetensors file must end in \
         .safetensors",
    ))
}

fn read_zip(path: &Path) -> Result<QuantizedDict, WeightsError> {
    let file = File::open(path).map_err(|source| WeightsError::Read { path: path.display().to_string(), source })?;
    let bytes = file.metadata().map_or(0, |m| m.len());
    let mut unread = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(INFLATED);
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| {
        format_error(path, format!("its zip archive is damaged or truncated ({e}); save or download it again"))
    })?;
    let names: Vec<String> = archive.file_names().filter_map(|n| n.ok().map(|n| n.into_owned())).collect();
    let Some(root) = names.iter().find_map(|n| n.strip_suffix("data.pkl")).filter(|r| r.is_empty() || r.ends_with('/'))
    else {
        return Err(format_error(path, "is a zip archive without `data.pkl`: not what torch.save writes"));
    };
    let big_endian = format!("{root}byteorder");
    if names.contains(&big_endian) && entry(path, &mut archive, &big_endian, 16)? == b"big" {
        return Err(format_error(path, "was written on a big-endian machine; save it again on a little-endian one"));
    }
    let data = entry(path, &mut archive, &format!("{root}data.pkl"), MAX_PICKLE)?;
    let parsed = pickle::parse(&data).map_err(|e| pickle_error(path, e))?;
    let fetch = |storage: &StorageRef| {
        let name = format!("{root}data/{}", storage.key);
        let len = byte_len(path, storage)?;
        // What is compressed may claim a thousand times the file.
        unread = unread.checked_sub(len).ok_or_else(|| {
            format_error(path, format!("storage `{name}` has {len} bytes: its storages are longer than the file"))
        })?;
        let raw = entry(path, &mut archive, &name, len as u64)?;
        if raw.len() == len {
            return Ok(raw);
        }
        Err(format_error(path, format!("storage `{name}` has {} bytes, expected {len}: it is truncated", raw.len())))
    };
    state_dict(path, &parsed, bytes, fetch)
}

/// The content of one entry, which must not exceed `limit` bytes; what the archive says of its length is not trusted.
fn entry(
    path: &Path,
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, WeightsError> {
    let file = archive.by_name(name).map_err(|e| format_error(path, format!("`{name}` in its archive: {e}")))?;
    // At most what is allowed: what the archive says may be anything.
    let mut content = Vec::with_capacity(usize::try_from(file.size().min(limit)).unwrap_or(0) + 1);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|e| format_error(path, format!("`{name}` in its archive is damaged: {e}")))?;
    if content.len() as u64 > limit {
        return Err(format_error(path, format!("`{name}` in its archive is longer than the {limit} bytes expected")));
    }
    Ok(content)
}

/// Bytes of a storage.
pub(super) fn byte_len(path: &Path, storage: &StorageRef) -> Result<usize, WeightsError> {
    let width = storage.element.width();
    storage
        .len
        .checked_mul(width)
        .ok_or_else(|| format_error(path, format!("storage `{}` claims {} elements", storage.key, storage.len)))
}

/// The state dict in `parsed`: the dictionary itself, or the one a checkpoint holds. `fetch` gives a storage's bytes;
/// each is asked for once. `bytes`, the file's length, bounds what strided views may expand to.
pub(super) fn state_dict<F: FnMut(&StorageRef) -> Result<Vec<u8>, WeightsError>>(
    path: &Path,
    parsed: &Pickle,
    bytes: u64,
    fetch: F,
) -> Result<QuantizedDict, WeightsError> {
    let dict = find_dict(path, parsed)?;
    let room = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(EXPANDED);
    let mut reader = Reader { path, parsed, room, fetch, storages: HashMap::new() };
    let (mut seen, mut plain, mut weights) = (HashSet::new(), Vec::new(), BTreeMap::new());
    for (key, value) in dict {
        let Some(key) = parsed.str(*key) else {
            return Err(format_error(path, "has a key that is no text: not a state dict"));
        };
        if parsed.is_none(*value) || parsed.is_dtype(*value) {
            continue;
        }
        if !seen.insert(key) {
            return Err(format_error(path, format!("`{key}` is there twice")));
        }
        let layer = key.strip_suffix("._packed_params._packed_params");
        match (layer, parsed.tuple(*value)) {
            // A quantized linear layer keeps weight and bias together.
            (Some(layer), Some([weight, bias])) => {
                let name = format!("{layer}.weight");
                weights.insert(name, reader.quantized(key, *weight)?);
                if !parsed.is_none(*bias) {
                    plain.push((format!("{layer}.bias"), reader.tensor(key, *bias)?));
                }
            }
            _ if parsed.quantized(*value).is_some() => {
                let name = key.replace("._packed_params.weight", ".weight");
                weights.insert(name, reader.quantized(key, *value)?);
            }
            _ => plain.push((key.replace("._packed_params.bias", ".bias"), reader.tensor(key, *value)?)),
        }
    }
    Ok(QuantizedDict { plain: StateDict::new(path, plain), weights })
}

/// Takes tensors out of a pickle and its storages.
struct Reader<'a, F> {
    path: &'a Path,
    parsed: &'a Pickle,
    /// Values that may still be read.
    room: usize,
    fetch: F,
    storages: HashMap<&'a StorageRef, Vec<u8>>,
}

impl<'a, F: FnMut(&StorageRef) -> Result<Vec<u8>, WeightsError>> Reader<'a, F> {
    fn tensor(&mut self, key: &str, value: Id) -> Result<Tensor, WeightsError> {
        let Some(view) = self.parsed.tensor(value) else {
            return Err(format_error(self.path, format!("`{key}` is no tensor; expected a state dict of tensors")));
        };
        let (storage, len) = self.fetch(key, view)?;
        let element = storage.element;
        let raw = &self.storages[storage];
        let values = gather(view, element.width(), raw, len, 0.0, |raw| element.decode(raw));
        Ok(Tensor { shape: view.shape.clone(), data: values })
    }

    /// A weight: qint8, symmetric, per tensor or per output channel.
    fn quantized(&mut self, key: &str, value: Id) -> Result<QTensor, WeightsError> {
        let refuse = |detail: String| format_error(self.path, format!("`{key}` {detail}"));
        let Some(QuantizedRef { view, grid }) = self.parsed.quantized(value) else {
            return Err(refuse("is no quantized tensor; expected the weight of a quantized layer".to_owned()));
        };
        let (scales, zero_points) = match grid {
            Grid::PerTensor { scale, zero_point } => (vec![*scale as f32], vec![*zero_point as f32]),
            Grid::PerChannel { axis: 0, scales, zero_points } => {
                let (scales, zero_points) = (self.tensor(key, *scales)?, self.tensor(key, *zero_points)?);
                (scales.data.to_vec(), zero_points.data.to_vec())
            }
            Grid::PerChannel { axis, .. } => {
                return Err(refuse(format!("has its scales along axis {axis}; expected output channels, axis 0")));
            }
        };
        let refuse = |detail: String| format_error(self.path, format!("`{key}` {detail}"));
        if let Some(odd) = scales.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            return Err(refuse(format!("has the scale {odd}, expected a finite one above 0")));
        }
        if let Some(odd) = zero_points.iter().find(|z| **z != 0.0) {
            return Err(refuse(format!(
                "has the zero point {odd}: Octet's int8 weights are symmetric, with zero point 0, as PyTorch's default \
                 qconfigs make them"
            )));
        }
        let channels = view.shape.first().copied().unwrap_or(0);
        if scales.len() != 1 && (scales.len() != channels || zero_points.len() != channels) {
            return Err(refuse(format!("has {} scales for {channels} channels", scales.len())));
        }
        let (storage, len) = self.fetch(key, view)?;
        if storage.element != ElementType::I8 {
            return Err(format_error(self.path, format!("`{key}` is {:?}, expected qint8", storage.element)));
        }
        let data = gather(view, 1, &self.storages[storage], len, 0, |raw| raw[0] as i8);
        Ok(QTensor { shape: view.shape.clone(), data, scales: scales.into() })
    }

    /// Sees to it that the storage of a view is there; how many values the view has.
    fn fetch(&mut self, key: &str, view: &TensorRef) -> Result<(&'a StorageRef, usize), WeightsError> {
        let Some(storage) = self.parsed.storage(view) else {
            return Err(format_error(self.path, format!("`{key}` has no storage")));
        };
        let len = view_len(view, storage).filter(|len| *len <= self.room).ok_or_else(|| {
            let (shape, held) = (&view.shape, storage.len);
            format_error(self.path, format!("`{key}` of shape {shape:?} does not fit its storage of {held} values"))
        })?;
        self.room -= len;
        if !self.storages.contains_key(storage) {
            let raw = (self.fetch)(storage)?;
            self.storages.insert(storage, raw);
        }
        Ok((storage, len))
    }
}

fn find_dict<'a>(path: &Path, parsed: &'a Pickle) -> Result<&'a [(Id, Id)], WeightsError> {
    let no_dict = || format_error(path, "holds no state dict: expected a dictionary of tensors");
    let root = parsed.dict(parsed.root).ok_or_else(no_dict)?;
    let is_tensor = |value: Id| parsed.tensor(value).is_some() || parsed.quantized(value).is_some();
    let has_tensors = |dict: &[(Id, Id)]| dict.iter().any(|(_, value)| is_tensor(*value));
    if has_tensors(root) {
        return Ok(root);
    }
    let nested = |name: &str| {
        let (_, value) = root.iter().find(|(key, _)| parsed.str(*key) == Some(name))?;
        parsed.dict(*value).filter(|dict| has_tensors(dict))
    };
    NESTED.iter().find_map(|name| nested(name)).ok_or_else(no_dict)
}

/// Number of values of a view that lies within its storage; `None` where it does not.
fn view_len(tensor: &TensorRef, storage: &StorageRef) -> Option<usize> {
    let (mut len, mut last) = (1usize, tensor.offset);
    for (size, stride) in tensor.shape.iter().zip(&tensor.stride) {
        len = len.checked_mul(*size)?;
        last = last.checked_add(size.saturating_sub(1).checked_mul(*stride)?)?;
    }
    (len == 0 || last < storage.len).then_some(len)
}

/// The view's values in row-major order. The caller has checked that it lies within `raw`.
fn gather<T: Copy>(
    view: &TensorRef,
    width: usize,
    raw: &[u8],
    len: usize,
    zero: T,
    decode: impl Fn(&[u8]) -> T,
) -> Arc<[T]> {
    // Filled where it stays: a vector would be copied.
    let mut values: Arc<[T]> = std::iter::repeat_n(zero, len).collect();
    let mut index = vec![0; view.shape.len()];
    let mut at = view.offset;
    for value in Arc::get_mut(&mut values).into_iter().flatten() {
        *value = decode(&raw[at * width..(at + 1) * width]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += view.stride[axis];
            if index[axis] < view.shape[axis] {
                break;
            }
            at -= index[axis] * view.stride[axis];
            index[axis] = 0;
        }
    }
    values
}

impl ElementType {
    /// Bytes of one element.
    pub(super) fn width(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// One little-endian element of [`Self::width`] bytes as float32.
    fn decode(self, b: &[u8]) -> f32 {
        match self {
            Self::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Self::I64 => i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Self::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Self::I32 => i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32,
            Self::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Self::BF16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Self::I16 => f32::from(i16::from_le_bytes([b[0], b[1]])),
            Self::I8 => f32::from(b[0] as i8),
            Self::U8 => f32::from(b[0]),
            Self::Bool => f32::from(u8::from(b[0] != 0)),
        }
    }
}
