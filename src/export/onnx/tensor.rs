//! Initializers: numbers to little-endian bytes and back.

use super::proto;

pub(super) const FLOAT: i32 = 1;
pub(super) const UINT8: i32 = 2;
pub(super) const INT8: i32 = 3;
pub(super) const INT32: i32 = 6;
pub(super) const INT64: i32 = 7;

fn raw(name: &str, dims: &[usize], data_type: i32, bytes: Vec<u8>) -> proto::Tensor {
    proto::Tensor {
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: Some(data_type),
        name: Some(name.to_owned()),
        raw_data: Some(bytes),
    }
}

pub(super) fn float(name: &str, dims: &[usize], data: &[f32]) -> proto::Tensor {
    raw(name, dims, FLOAT, data.iter().flat_map(|v| v.to_le_bytes()).collect())
}

pub(super) fn uint8(name: &str, value: u8) -> proto::Tensor {
    raw(name, &[], UINT8, vec![value])
}

pub(super) fn int8(name: &str, dims: &[usize], data: &[i8]) -> proto::Tensor {
    raw(name, dims, INT8, data.iter().map(|v| *v as u8).collect())
}

pub(super) fn int32(name: &str, data: &[i32]) -> proto::Tensor {
    raw(name, &[data.len()], INT32, data.iter().flat_map(|v| v.to_le_bytes()).collect())
}

pub(super) fn int64(name: &str, data: &[i64]) -> proto::Tensor {
    raw(name, &[data.len()], INT64, data.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// Dimensions and bytes of a tensor of this type, its length verified; else what is wrong with it.
pub(super) fn bytes(tensor: &proto::Tensor, data_type: i32) -> Result<(Vec<usize>, &[u8]), String> {
    let name = tensor.name.as_deref().unwrap_or("");
    let width = match data_type {
        UINT8 | INT8 => 1,
        FLOAT | INT32 => 4,
        _ => 8,
    };
    if tensor.data_type != Some(data_type) {
        return Err(format!("`{name}` has data type {:?}, expected {data_type}", tensor.data_type));
    }
    let held = tensor.raw_data.as_deref().unwrap_or(&[]);
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let expected = dims.as_ref().and_then(|d| d.iter().try_fold(width, |len: usize, d| len.checked_mul(*d)));
    match dims {
        Some(dims) if expected == Some(held.len()) => Ok((dims, held)),
        Some(_) | None => Err(format!("`{name}` of dimensions {:?} holds {} bytes", tensor.dims, held.len())),
    }
}

/// A float32 tensor.
pub(super) fn floats(tensor: &proto::Tensor) -> Result<(Vec<usize>, Vec<f32>), String> {
    let (dims, held) = bytes(tensor, FLOAT)?;
    Ok((dims, held.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
}

/// An int32 tensor.
pub(super) fn ints(tensor: &proto::Tensor) -> Result<Vec<i32>, String> {
    let (_, held) = bytes(tensor, INT32)?;
    Ok(held.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// An int64 tensor.
pub(super) fn longs(tensor: &proto::Tensor) -> Result<Vec<i64>, String> {
    let (_, held) = bytes(tensor, INT64)?;
    let long = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    Ok(held.chunks_exact(8).map(long).collect())
}
