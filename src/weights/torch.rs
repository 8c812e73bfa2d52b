//! What `torch.save` writes: a zip archive of one pickle and one file per storage.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use half::{bf16, f16};
use zip::ZipArchive;

use super::{
    StateDict, WeightsError, legacy,
    pickle::{self, ElementType, Id, Pickle, PickleError, StorageRef, TensorRef},
};
use crate::graph::Tensor;

/// Where training scripts keep the state dict in a checkpoint.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// The pickle of a state dict is a few hundred bytes a tensor.
const MAX_PICKLE: u64 = 256 << 20;

/// Values that expanded (stride 0) or shared tensors may take beyond the bytes of the file.
const EXPANDED: usize = 1 << 24;

pub(super) fn format_error(path: &Path, detail: impl Into<String>) -> WeightsError {
    WeightsError::Format { path: path.display().to_string(), detail: detail.into() }
}

pub(super) fn pickle_error(path: &Path, error: PickleError) -> WeightsError {
    match error {
        PickleError::Global(global) => WeightsError::Global { path: path.display().to_string(), global },
        PickleError::Truncated | PickleError::Opcode { .. } | PickleError::Malformed { .. } => {
            format_error(path, error.to_string())
        }
    }
}

/// Reads a `.pth` or `.pt` file, in either of PyTorch's formats.
pub(super) fn read(path: &Path) -> Result<StateDict, WeightsError> {
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

fn read_zip(path: &Path) -> Result<StateDict, WeightsError> {
    let file = File::open(path).map_err(|source| WeightsError::Read { path: path.display().to_string(), source })?;
    let bytes = file.metadata().map_or(0, |m| m.len());
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
    let mut content = Vec::new();
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
pub(super) fn state_dict(
    path: &Path,
    parsed: &Pickle,
    bytes: u64,
    mut fetch: impl FnMut(&StorageRef) -> Result<Vec<u8>, WeightsError>,
) -> Result<StateDict, WeightsError> {
    let dict = find_dict(path, parsed)?;
    let mut room = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(EXPANDED);
    let mut storages: HashMap<&StorageRef, Vec<u8>> = HashMap::new();
    let (mut seen, mut entries) = (HashSet::new(), Vec::new());
    for (key, value) in dict {
        let Some(key) = parsed.str(*key) else {
            return Err(format_error(path, "has a key that is no text: not a state dict"));
        };
        if parsed.is_none(*value) {
            continue;
        }
        let Some((tensor, storage)) = parsed.tensor(*value).and_then(|t| Some((t, parsed.storage(t)?))) else {
            return Err(format_error(path, format!("`{key}` is no tensor; expected a state dict of tensors")));
        };
        if !seen.insert(key) {
            return Err(format_error(path, format!("`{key}` is there twice")));
        }
        let len = view_len(tensor, storage).filter(|len| *len <= room).ok_or_else(|| {
            format_error(
                path,
                format!("`{key}` of shape {:?} does not fit its storage of {} values", tensor.shape, storage.len),
            )
        })?;
        room -= len;
        if !storages.contains_key(storage) {
            storages.insert(storage, fetch(storage)?);
        }
        let values = gather(tensor, storage.element, &storages[storage], len);
        entries.push((key.to_owned(), Tensor::new(tensor.shape.clone(), values)));
    }
    Ok(StateDict::new(path, entries))
}

fn find_dict<'a>(path: &Path, parsed: &'a Pickle) -> Result<&'a [(Id, Id)], WeightsError> {
    let no_dict = || format_error(path, "holds no state dict: expected a dictionary of tensors");
    let root = parsed.dict(parsed.root).ok_or_else(no_dict)?;
    let has_tensors = |dict: &[(Id, Id)]| dict.iter().any(|(_, value)| parsed.tensor(*value).is_some());
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
fn gather(tensor: &TensorRef, element: ElementType, raw: &[u8], len: usize) -> Vec<f32> {
    let width = element.width();
    let mut values = Vec::with_capacity(len);
    let mut index = vec![0; tensor.shape.len()];
    let mut at = tensor.offset;
    for _ in 0..len {
        values.push(element.decode(&raw[at * width..(at + 1) * width]));
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += tensor.stride[axis];
            if index[axis] < tensor.shape[axis] {
                break;
            }
            at -= index[axis] * tensor.stride[axis];
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
