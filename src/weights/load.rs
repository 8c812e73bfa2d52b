use std::collections::{HashMap, HashSet};

use super::{KeyErrors, StateDict, WeightsError};
use crate::graph::{Graph, Tensor};

/// What `DataParallel`, `torch.compile`, Lightning and hand-written wrappers put before torchvision's keys.
const PREFIXES: [&str; 10] = [
    "",
    "module.",
    "model.",
    "module.model.",
    "model.module.",
    "_orig_mod.",
    "module._orig_mod.",
    "model._orig_mod.",
    "backbone.",
    "net.",
];

/// The last layers of torchvision's classifiers.
const HEADS: [&str; 3] = ["fc.weight", "classifier.3.weight", "classifier.1.weight"];

/// The float graph with the values of `dict`. Keys are torchvision's; a wrapper's prefix is found and stripped;
/// `num_batches_tracked` is ignored, since no arithmetic of ours reads it.
///
/// # Errors
/// [`WeightsError::Keys`] listing every missing, surplus and misshapen key; [`WeightsError::NotFinite`] for a NaN or an
/// infinity.
pub fn load(graph: &Graph, dict: &StateDict) -> Result<Graph, WeightsError> {
    let params = graph.params();
    let wanted: Vec<(String, &Tensor)> = params.iter().map(|p| (graph.key(p), p.tensor)).collect();
    let prefix = prefix_of(dict, &wanted);
    let mut found: HashMap<&str, &Tensor> = HashMap::new();
    let mut errors = KeyErrors::default();
    let known: HashSet<&str> = wanted.iter().map(|(key, _)| key.as_str()).collect();
    for (key, tensor) in dict.iter().filter(|(key, _)| !is_counter(key)) {
        match key.strip_prefix(prefix).filter(|stripped| known.contains(stripped)) {
            Some(stripped) => {
                found.insert(stripped, tensor);
            }
            None => errors.surplus.push(key.to_owned()),
        }
    }
    let mut values = HashMap::new();
    for (key, expected) in &wanted {
        match found.get(key.as_str()) {
            None => errors.missing.push(key.clone()),
            Some(t) if t.shape != expected.shape => {
                errors.misshapen.push((key.clone(), t.shape.clone(), expected.shape.clone()));
            }
            Some(t) => {
                values.insert(key.clone(), (*t).clone());
            }
        }
    }
    let path = dict.source().to_owned();
    if !errors.is_empty() {
        return Err(WeightsError::Keys { path, model: graph.name.clone(), keys: Box::new(errors) });
    }
    for (key, _) in &wanted {
        if let Some((position, value)) = values[key].data.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(WeightsError::NotFinite { path, key: key.clone(), value: *value, position });
        }
    }
    Ok(graph.with_params(&values))
}

/// Rows of the head, that is the number of classes; `None` where no head of torchvision's is found.
pub fn classes(dict: &StateDict) -> Option<usize> {
    let matrix = |key: &str| dict.get(key).filter(|t| t.shape.len() == 2).map(|t| t.shape[0]);
    HEADS.iter().find_map(|head| PREFIXES.iter().find_map(|prefix| matrix(&format!("{prefix}{head}"))))
}

fn is_counter(key: &str) -> bool {
    key == "num_batches_tracked" || key.ends_with(".num_batches_tracked")
}

/// The prefix under which most of the wanted keys are found; none, where it does not matter.
fn prefix_of(dict: &StateDict, wanted: &[(String, &Tensor)]) -> &'static str {
    let hits = |prefix: &str| wanted.iter().filter(|(key, _)| dict.get(&format!("{prefix}{key}")).is_some()).count();
    let mut best = ("", hits(""));
    for prefix in PREFIXES {
        let count = hits(prefix);
        if count > best.1 {
            best = (prefix, count);
        }
    }
    best.0
}
