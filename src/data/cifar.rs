//! CIFAR-10's binary version (<https://www.cs.toronto.edu/~kriz/cifar.html>): a label byte, then three planes of 32x32.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    DataError, Dataset, Split,
    dataset::small,
    split::{Decoded, Layout},
};

const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const LABELS: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// One file of any number of records, a fifth held out.
pub(super) fn open_file(path: &Path, seed: u64) -> Result<Dataset, DataError> {
    let all = read(path, &[path.to_owned()])?;
    Ok(Dataset::divide(labels(), &all, seed, small(SIDE)))
}

/// `data_batch_*.bin` to train on, `test_batch.bin` held out; either alone is divided. Nothing where neither is there.
pub(super) fn open_folder(path: &Path, seed: u64) -> Result<Option<Dataset>, DataError> {
    let nested = path.join("cifar-10-batches-bin");
    if nested.is_dir() {
        return open_folder(&nested, seed);
    }
    let files = |keep: fn(&str) -> bool| -> Result<Vec<PathBuf>, DataError> {
        let entries = fs::read_dir(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        let named = entries.flatten().filter(|e| e.file_name().to_str().is_some_and(keep));
        let mut paths: Vec<PathBuf> = named.map(|e| e.path()).collect();
        paths.sort();
        Ok(paths)
    };
    let train = files(|n| n.starts_with("data_batch") && n.ends_with(".bin"))?;
    let test = files(|n| n == "test_batch.bin")?;
    Ok(match (train.is_empty(), test.is_empty()) {
        (true, true) => None,
        (false, true) => Some(Dataset::divide(labels(), &read(path, &train)?, seed, small(SIDE))),
        (true, false) => Some(Dataset::divide(labels(), &read(path, &test)?, seed, small(SIDE))),
        (false, false) => Some(Dataset::new(labels(), read(path, &train)?, read(path, &test)?, small(SIDE))),
    })
}

fn labels() -> Vec<String> {
    LABELS.map(str::to_owned).to_vec()
}

fn read(path: &Path, files: &[PathBuf]) -> Result<Split, DataError> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        let refuse = |detail: String| DataError::Format { path: file.clone(), detail };
        let bytes = fs::read(file).map_err(|source| DataError::Read { path: file.clone(), source })?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
            return Err(refuse(format!(
                "has {} bytes, which is no whole number of CIFAR-10's records of {RECORD} bytes: truncated, or of \
                 another kind",
                bytes.len()
            )));
        }
        for record in bytes.chunks_exact(RECORD) {
            let label = record[0];
            if usize::from(label) >= LABELS.len() {
                return Err(refuse(format!("has the label {label}, expected 0 to 9: not CIFAR-10")));
            }
            labels.push(u32::from(label));
            pixels.extend_from_slice(&record[1..]);
        }
    }
    let images = Decoded { path: path.to_owned(), width: SIDE, height: SIDE, layout: Layout::Planes, pixels };
    Ok(Split::memory(images, labels))
}
