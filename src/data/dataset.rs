use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{DataError, Fit, Preprocess, Split, cifar, folder, idx, random::Random};

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The Fashion-MNIST subset in the binary: 32x32, ten classes.
    Sample,
    /// An image folder, a folder of CIFAR-10 or Fashion-MNIST files, or one CIFAR-10 file.
    Path(PathBuf),
}

/// A file that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its path.
    pub name: String,
    /// One sentence.
    pub reason: String,
}

/// Images to train or calibrate on, and images held out.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Names of the classes; empty in a folder without any.
    pub labels: Vec<String>,
    /// For training and calibration.
    pub train: Split,
    /// Held out; may be empty.
    pub valid: Split,
    /// What in the folder is no image, seen while listing it. Files that do not decode are found later, batch by batch.
    pub skipped: Vec<Skipped>,
    /// Whether the images have classes.
    pub labelled: bool,
    preprocess: Preprocess,
}

/// One part in so many is held out, where the data does not say what is.
const HELD_OUT: usize = 5;

impl Dataset {
    /// Lists the images of `source`. Where it does not say itself what is held out, a fifth of every class is drawn by
    /// `seed`; classes of fewer than five images go to training whole.
    ///
    /// # Errors
    /// A missing or empty folder, a damaged file, a held-out class that training does not have.
    pub fn open(source: &Source, seed: u64) -> Result<Self, DataError> {
        match source {
            Source::Sample => idx::sample(),
            Source::Path(path) => open_path(path, seed),
        }
    }

    /// How its images are preprocessed unless the user says otherwise: small ones as they are, others cropped to 224.
    pub fn preprocess(&self) -> Preprocess {
        self.preprocess
    }

    pub(super) fn new(labels: Vec<String>, train: Split, valid: Split, preprocess: Preprocess) -> Self {
        Self { labelled: !labels.is_empty(), labels, train, valid, skipped: Vec::new(), preprocess }
    }

    pub(super) fn with_skipped(self, skipped: Vec<Skipped>) -> Self {
        Self { skipped, ..self }
    }

    /// Divides `all` by class, a fifth held out.
    pub(super) fn divide(labels: Vec<String>, all: &Split, seed: u64, preprocess: Preprocess) -> Self {
        let (train, valid) = stratified(all, seed);
        Self::new(labels, all.select(&train), all.select(&valid), preprocess)
    }
}

/// Images that are small already.
pub(super) fn small(size: usize) -> Preprocess {
    Preprocess::new(size, Fit::Pad)
}

fn open_path(path: &Path, seed: u64) -> Result<Dataset, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return cifar::open_file(path, seed);
    }
    if let Some(dataset) = cifar::open_folder(path, seed)? {
        return Ok(dataset);
    }
    match idx::open_folder(path)? {
        Some(dataset) => Ok(dataset),
        None => folder::open(path, seed),
    }
}

/// Indices to train on and to hold out, both ascending.
fn stratified(split: &Split, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut classes: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for i in 0..split.len() {
        classes.entry(split.label(i)).or_default().push(i);
    }
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for (class, mut members) in classes {
        Random::new(seed, class.map_or(0, |c| c as u64 + 1)).shuffle(&mut members);
        let held_out = members.len() / HELD_OUT;
        valid.extend_from_slice(&members[..held_out]);
        train.extend_from_slice(&members[held_out..]);
    }
    train.sort_unstable();
    valid.sort_unstable();
    (train, valid)
}
