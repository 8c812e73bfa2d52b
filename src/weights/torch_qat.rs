//! The state dict of a model that PyTorch prepared for quantization-aware training: float weights, batch norm, and under
//! `X.weight_fake_quant` and `X.activation_post_process` what fake quantization learnt.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::{KeyErrors, StateDict, WeightsError, load, torch::format_error};
use crate::graph::{FakeQuants, Graph, LearnedRange, Numeric, Tensor};

const ACTIVATION: &str = "activation_post_process";
const WEIGHT: &str = "weight_fake_quant";

/// On which levels a checkpoint was trained: its qconfig, as far as it decides integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QatLayout {
    /// The largest level of activations: 127 (`x86`, `fbgemm`) or 255.
    pub quant_max: u8,
    /// Whether weights have a range per output channel.
    pub per_channel: bool,
}

/// What a checkpoint of quantization-aware training holds for a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct QatState {
    /// Weights and batch norm, by the keys of the graph in the QAT form.
    pub params: HashMap<String, Tensor>,
    /// The ranges that were learnt.
    pub ranges: FakeQuants,
    /// Layers whose weight is still being watched: PyTorch's `convert` moves their ranges once more.
    pub watched: BTreeSet<String>,
}

/// The layout of a checkpoint, read off its first fake quantizations that have seen data.
///
/// # Errors
/// Where none has, or the levels are not those of a default qconfig.
pub fn qat_layout(dict: &StateDict) -> Result<QatLayout, WeightsError> {
    let path = Path::new(dict.source());
    let mut found = None;
    for (key, scale) in dict.iter() {
        let Some(stem) = key.strip_suffix(&format!("{ACTIVATION}.scale")) else { continue };
        let part = |part: &str| number(dict, &format!("{stem}{ACTIVATION}.{ACTIVATION}.{part}"));
        let (Some(min), Some(max), [scale]) = (part("min_val"), part("max_val"), &scale.data[..]) else { continue };
        let levels = (max.max(0.0) - min.min(0.0)) / scale;
        // A range that moved after the scale was written gives something in between.
        let nearest = if levels < 180.0 { 127 } else { 255 };
        if !levels.is_finite() || (levels / f32::from(nearest) - 1.0).abs() > 0.02 {
            continue;
        }
        found = Some(nearest);
        break;
    }
    let quant_max = found.ok_or_else(|| {
        format_error(
            path,
            "none of its fake quantizations has 128 or 256 levels over what it saw: expected a checkpoint that was trained \
             under a default QAT qconfig (x86, fbgemm, onednn, qnnpack)",
        )
    })?;
    let suffix = format!(".{WEIGHT}.{ACTIVATION}.min_val");
    let groups = dict.iter().filter(|(key, _)| key.ends_with(&suffix)).map(|(_, t)| t.len()).max().unwrap_or(1);
    Ok(QatLayout { quant_max, per_channel: groups > 1 })
}

/// What `dict` holds for `graph`, which is in the QAT form.
///
/// # Errors
/// [`WeightsError::Keys`] listing what is missing or of another shape.
pub fn qat_state(graph: &Graph, dict: &StateDict) -> Result<QatState, WeightsError> {
    let params = graph.params();
    let keys: Vec<String> = params.iter().map(|p| graph.key(p)).collect();
    let prefix = load::likeliest_prefix(|prefix| {
        keys.iter().filter(|key| dict.get(&format!("{prefix}{key}")).is_some()).count()
    });
    let get = |key: &str| dict.get(&format!("{prefix}{key}")).or_else(|| dict.get(key));
    let mut errors = KeyErrors::default();
    let mut state = QatState { params: HashMap::new(), ranges: FakeQuants::default(), watched: BTreeSet::new() };
    for (param, key) in params.iter().zip(keys) {
        match get(&key) {
            None => errors.missing.push(key),
            Some(t) if t.shape != param.tensor.shape => {
                errors.misshapen.push((key, t.shape.clone(), param.tensor.shape.clone()));
            }
            Some(t) => {
                if let Some((position, value)) = t.data.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                    let path = dict.source().to_owned();
                    return Err(WeightsError::NotFinite { path, key, value: *value, position });
                }
                state.params.insert(key, t.clone());
            }
        }
    }
    // One range, or one for each of `channels`; what saw no data has none or infinite ones, which is said below.
    let mut range = |stem: &str, channels: usize| {
        let mut part = |part: &str, expected: &[usize]| {
            let key = format!("{stem}.{ACTIVATION}.{part}");
            match get(&key).map(|t| t.data.to_vec()) {
                None => errors.missing.push(key),
                Some(found) if found.is_empty() || expected.contains(&found.len()) => return Some(found),
                Some(found) => errors.misshapen.push((key, vec![found.len()], vec![expected[0]])),
            }
            None
        };
        let any = [channels, 1];
        let min = part("min_val", &any)?;
        let as_many = [min.len()];
        let max = part("max_val", if min.is_empty() { &any } else { &as_many })?;
        Some(LearnedRange { min, max, step: Vec::new() })
    };
    for node in &graph.nodes {
        let name = &node.name;
        if matches!(node.numeric, Numeric::Learned(_))
            && let Some(found) = range(&format!("{name}.{ACTIVATION}"), 1)
        {
            state.ranges.activations.insert(name.clone(), found);
        }
        if node.op.fake().is_some()
            && let Some(channels) = node.op.weight().map(|w| w.shape()[0])
            && let Some(found) = range(&format!("{name}.{WEIGHT}"), channels)
        {
            let watching = get(&format!("{name}.{WEIGHT}.observer_enabled"));
            if watching.is_none_or(|t| t.data.first() != Some(&0.0)) {
                state.watched.insert(name.clone());
            }
            state.ranges.weights.insert(name.clone(), found);
        }
    }
    if !errors.is_empty() {
        let (path, model) = (dict.source().to_owned(), graph.name.clone());
        return Err(WeightsError::Keys { path, model, keys: Box::new(errors) });
    }
    for (name, range) in state.ranges.activations.iter().chain(&state.ranges.weights) {
        let (min, max) = (&range.min, &range.max);
        if min.is_empty() || max.is_empty() || min.iter().chain(max).any(|v| !v.is_finite()) {
            return Err(format_error(
                Path::new(dict.source()),
                format!("the fake quantization of `{name}` saw no data: train at least one step"),
            ));
        }
    }
    Ok(state)
}

fn number(dict: &StateDict, key: &str) -> Option<f32> {
    match dict.get(key)?.data[..] {
        [value] => Some(value),
        _ => None,
    }
}
