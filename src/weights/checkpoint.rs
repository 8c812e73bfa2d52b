use std::{collections::BTreeMap, path::Path};

use safetensors::{SafeTensors, serialize};
use serde_json::Value;

use super::{
    WeightsError,
    file::{read_all, write_atomic},
    require_unique_keys,
    safe::{self, Raw},
    torch::format_error,
};
use crate::graph::Tensor;

/// The metadata's only entry.
const ENTRY: &str = "octet_checkpoint";

/// The state of a training: a safetensors file with named tensors and a document in its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// All that is no tensor.
    pub document: Value,
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Writes a checkpoint whole or not at all; the bytes of the file.
///
/// # Errors
/// [`WeightsError::Write`].
pub fn write_checkpoint(path: &Path, checkpoint: &Checkpoint) -> Result<u64, WeightsError> {
    let tensors = checkpoint.tensors.iter().map(|(key, t)| (key, Raw::float(t.shape.clone(), &t.data)));
    let metadata = [(ENTRY.to_owned(), checkpoint.document.to_string())].into();
    let bytes = serialize(tensors, Some(metadata)).map_err(|e| format_error(path, e.to_string()))?;
    write_atomic(path, &[&bytes])
}

/// Reads what [`write_checkpoint`] wrote.
///
/// # Errors
/// A missing or damaged file, or one that is no checkpoint.
pub fn read_checkpoint(path: &Path) -> Result<Checkpoint, WeightsError> {
    let data = read_all(path)?;
    let tensors = safe::read_bytes(path, &data)?;
    let refuse = |detail: &str| format_error(path, format!("is no checkpoint of Octet's: {detail}"));
    let (_, header) = SafeTensors::read_metadata(&data).map_err(|e| refuse(&e.to_string()))?;
    let entry = header.metadata().as_ref().and_then(|m| m.get(ENTRY));
    let entry = entry.ok_or_else(|| refuse("its metadata has no state of a training"))?;
    require_unique_keys(entry).map_err(|e| refuse(&e.to_string()))?;
    let document = serde_json::from_str(entry).map_err(|e| refuse(&e.to_string()))?;
    let tensors = tensors.iter().map(|(key, tensor)| (key.to_owned(), tensor.clone())).collect();
    Ok(Checkpoint { document, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.checkpoint");
        let tensors = [
            ("now.a".to_owned(), Tensor::new([2], vec![1.0e-30, -3.5])),
            ("b".to_owned(), Tensor::new([1], vec![0.1])),
        ];
        let checkpoint = Checkpoint { document: serde_json::json!({ "epochs": 3 }), tensors: tensors.into() };
        write_checkpoint(&path, &checkpoint).expect("room on the disk");
        assert_eq!(read_checkpoint(&path).expect("a whole file"), checkpoint);
    }

    #[test]
    fn another_file_is_no_checkpoint() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.safetensors");
        let tensors = [("a", Raw::float(vec![1], &[1.0]))];
        std::fs::write(&path, serialize(tensors, None).expect("a tensor")).expect("room on the disk");
        let error = read_checkpoint(&path).expect_err("no state inside").to_string();
        assert!(error.contains("is no checkpoint of Octet's"), "{error}");
        std::fs::write(&path, b"cut").expect("room on the disk");
        read_checkpoint(&path).expect_err("damaged");
    }
}
