use std::collections::{HashMap, HashSet};

use super::{KeyErrors, StateDict, WeightsError, timm};
use crate::graph::{Graph, NodeId, Tensor};

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

/// The last layers of torchvision's classifiers, and of timm's.
const HEADS: [&str; 4] = ["fc.weight", "classifier.3.weight", "classifier.1.weight", "classifier.weight"];

/// The float graph with the values of `dict`. Keys are torchvision's, or timm's for the same architecture; a wrapper's
/// prefix is found and stripped; `num_batches_tracked` is ignored, since no arithmetic of ours reads it.
///
/// # Errors
/// [`WeightsError::Keys`] listing every missing, surplus and misshapen key; [`WeightsError::NotFinite`] for a NaN or an
/// infinity; [`WeightsError::Padding`] for a file of timm's that computes something else here.
pub fn load(graph: &Graph, dict: &StateDict) -> Result<Graph, WeightsError> {
    fill(graph, dict, None)
}

/// As [`load`], but the last layer keeps what `graph` has there, and the file's, of whatever class count, is left out.
///
/// # Errors
/// As [`load`].
pub fn load_without_head(graph: &Graph, dict: &StateDict) -> Result<Graph, WeightsError> {
    fill(graph, dict, graph.params().last().map(|p| p.node))
}

/// What a user should know before trusting `dict` in `graph`, where there is something: timm's keys do not tell its
/// variants apart.
pub fn caution(graph: &Graph, dict: &StateDict) -> Option<String> {
    timm_prefix(dict).is_some().then(|| {
        format!(
            "{} has timm's keys: read as its {} with PyTorch's padding. Weights of the tf_ variant have the same keys but \
             pad otherwise, and would do worse: compare the accuracy.",
            dict.source(),
            graph.name
        )
    })
}

/// Takes every parameter from `dict`, except those of the node `kept`.
fn fill(graph: &Graph, dict: &StateDict, kept: Option<NodeId>) -> Result<Graph, WeightsError> {
    let renamed = match timm_prefix(dict) {
        Some(prefix) => timm::to_torchvision(graph, dict, prefix)?,
        None => None,
    };
    let dict = renamed.as_ref().unwrap_or(dict);
    let params = graph.params();
    let named = |kept_ones: bool| {
        let params = params.iter().filter(move |p| (kept == Some(p.node)) == kept_ones);
        params.map(|p| (graph.key(p), p.tensor)).collect::<Vec<(String, &Tensor)>>()
    };
    let wanted = named(false);
    let left_out: HashSet<String> = named(true).into_iter().map(|(key, _)| key).collect();
    let prefix = prefix_of(dict, &wanted);
    let mut found: HashMap<&str, &Tensor> = HashMap::new();
    let mut errors = KeyErrors::default();
    let known: HashSet<&str> = wanted.iter().map(|(key, _)| key.as_str()).collect();
    for (key, tensor) in dict.iter().filter(|(key, _)| !is_counter(key)) {
        match key.strip_prefix(prefix).filter(|stripped| known.contains(stripped)) {
            Some(stripped) => {
                found.insert(stripped, tensor);
            }
            None if key.strip_prefix(prefix).is_some_and(|k| left_out.contains(k)) => {}
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

/// Rows of the head, that is the number of classes; `None` where no head of torchvision's or timm's is found.
pub fn classes(dict: &StateDict) -> Option<usize> {
    head(|key| dict.get(key).map(|t| t.shape.as_slice()))
}

/// Rows of the head among weights of which `shape` tells the dimensions.
pub(super) fn head<'a>(shape: impl Fn(&str) -> Option<&'a [usize]>) -> Option<usize> {
    let rows = |key: &str| if let Some([rows, _]) = shape(key) { Some(*rows) } else { None };
    HEADS.iter().find_map(|head| PREFIXES.iter().find_map(|prefix| rows(&format!("{prefix}{head}"))))
}

pub(super) fn is_counter(key: &str) -> bool {
    key == "num_batches_tracked" || key.ends_with(".num_batches_tracked")
}

/// The prefix before timm's keys of a MobileNet or an EfficientNet, where they are that.
fn timm_prefix(dict: &StateDict) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| timm::recognizes(dict, prefix))
}

/// The prefix under which most of the wanted keys are found; none, where it does not matter.
fn prefix_of(dict: &StateDict, wanted: &[(String, &Tensor)]) -> &'static str {
    likeliest_prefix(|prefix| wanted.iter().filter(|(key, _)| dict.get(&format!("{prefix}{key}")).is_some()).count())
}

/// The prefix with the most hits, the first of equals.
pub(super) fn likeliest_prefix(hits: impl Fn(&str) -> usize) -> &'static str {
    let mut best = ("", hits(""));
    for prefix in PREFIXES {
        let count = hits(prefix);
        if count > best.1 {
            best = (prefix, count);
        }
    }
    best.0
}
