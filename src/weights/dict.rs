use std::{collections::HashMap, path::Path};

use crate::graph::Tensor;

/// The tensors of a file by name, in the file's order (safetensors have none: by name), as float32.
#[derive(Clone, Debug)]
pub struct StateDict {
    source: String,
    entries: Vec<(String, Tensor)>,
    index: HashMap<String, usize>,
}

impl StateDict {
    /// From entries; `source` is the file that errors name.
    pub fn new(source: &Path, entries: Vec<(String, Tensor)>) -> Self {
        let index = entries.iter().enumerate().map(|(i, (key, _))| (key.clone(), i)).collect();
        Self { source: source.display().to_string(), entries, index }
    }

    /// The file it came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensor at `key`, spelled as in the file.
    pub fn get(&self, key: &str) -> Option<&Tensor> {
        self.index.get(key).map(|i| &self.entries[*i].1)
    }

    /// Keys and tensors in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(key, tensor)| (key.as_str(), tensor))
    }
}
