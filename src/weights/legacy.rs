//! `torch.save`'s format before version 1.6: five pickles, then the storages one after the other.

use std::{collections::HashMap, path::Path};

use super::{
    QuantizedDict, WeightsError,
    file::read_all,
    pickle::{self, Object, Pickle},
    torch::{byte_len, format_error, pickle_error, state_dict},
};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;

/// Whether a file starts as this format does: a pickle of protocol 2 that holds one ten-byte integer.
pub(super) fn is_legacy(start: &[u8]) -> bool {
    start == [0x80, 2, 0x8a, 10]
}

pub(super) fn read(path: &Path) -> Result<QuantizedDict, WeightsError> {
    let data = read_all(path)?;
    let mut rest = data.as_slice();
    let magic = next(path, &mut rest)?;
    let protocol = next(path, &mut rest)?;
    if !magic.is_int(magic.root, MAGIC) || !protocol.is_int(protocol.root, PROTOCOL) {
        return Err(format_error(path, "is a pickle, but not one of torch.save's"));
    }
    // Byte order and type sizes of the machine that wrote it: all that run PyTorch agree.
    let _system = next(path, &mut rest)?;
    let object = next(path, &mut rest)?;
    let keys = next(path, &mut rest)?;
    let places = places(path, &data, rest, &object, &keys)?;
    state_dict(path, &object, data.len() as u64, |storage| {
        let missing = || format_error(path, format!("storage `{}` is missing: the file is truncated", storage.key));
        let (claimed, start) = *places.get(storage.key.as_str()).ok_or_else(missing)?;
        if claimed != storage.len as u64 {
            return Err(format_error(
                path,
                format!("storage `{}` has {claimed} values, expected {}", storage.key, storage.len),
            ));
        }
        let end = start.checked_add(byte_len(path, storage)?).ok_or_else(missing)?;
        data.get(start..end).map(<[u8]>::to_vec).ok_or_else(missing)
    })
}

fn next(path: &Path, rest: &mut &[u8]) -> Result<Pickle, WeightsError> {
    let pickle = pickle::parse(rest).map_err(|e| pickle_error(path, e))?;
    *rest = &rest[pickle.consumed..];
    Ok(pickle)
}

/// Where each storage lies: key to (values, first byte). They follow in the order of `keys`, each after its length.
fn places<'a>(
    path: &Path,
    data: &[u8],
    mut rest: &[u8],
    object: &Pickle,
    keys: &'a Pickle,
) -> Result<HashMap<&'a str, (u64, usize)>, WeightsError> {
    let damaged = || format_error(path, "its storages are damaged or truncated; save or download it again");
    let mut widths = HashMap::new();
    for object in &object.objects {
        if let Object::Storage(storage) = object {
            widths.insert(storage.key.as_str(), storage.element.width());
        }
    }
    let mut places = HashMap::new();
    for key in keys.list(keys.root).ok_or_else(damaged)? {
        let key = keys.str(*key).ok_or_else(damaged)?;
        let width = *widths.get(key).ok_or_else(damaged)?;
        let (len, after) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let len = u64::from_le_bytes(*len);
        let start = data.len() - after.len();
        let skip = usize::try_from(len).ok().and_then(|len| len.checked_mul(width)).ok_or_else(damaged)?;
        rest = after.get(skip..).ok_or_else(damaged)?;
        places.insert(key, (len, start));
    }
    Ok(places)
}
