//! Training that survives an interruption: its state after each epoch, in a file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::Reporter;
use super::{Recipe, Session, SessionError};
use crate::graph::{FakeQuants, Graph, Tensor};
use crate::train::{Best, OptimizerState, Score, TrainState};
use crate::weights::{Checkpoint, read_checkpoint, write_checkpoint};

/// Version of what a checkpoint says beside its tensors.
const FORMAT: u32 = 1;

/// More steps than anybody trains.
const MOST_STEPS: i32 = 1 << 30;

/// Where training keeps its state after each epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    /// The file; each epoch replaces it whole.
    pub path: PathBuf,
    /// Whether to go on from what it holds.
    pub resume: bool,
}

/// What a checkpoint says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    recipe: Value,
    epochs: usize,
    steps: i32,
    fake_quants: Option<FakeQuants>,
    best: Option<BestRow>,
}

#[derive(Serialize, Deserialize)]
struct BestRow {
    epoch: usize,
    fake_quants: Option<FakeQuants>,
    /// Right, seen, and the bits of the loss: a decimal might come back as another number.
    valid: Option<(usize, usize, u64)>,
}

impl Session {
    /// The state to go on from, if that was asked for.
    pub(super) fn resumed(&self, graph: &Graph, to: &mut Reporter<'_>) -> Result<Option<TrainState>, SessionError> {
        let Some(CheckpointFile { path, resume: true }) = &self.checkpoint else { return Ok(None) };
        let state = read(path, graph, &self.recipe)?;
        to.info(format!("Going on from {} after {} epochs.", path.display(), state.epochs));
        Ok(Some(state))
    }

    /// Keeps a state, where that was asked for and where the session keeps itself.
    pub(super) fn keep(&self, state: &TrainState) -> Result<(), SessionError> {
        self.autosave_training(state)?;
        let Some(CheckpointFile { path, .. }) = &self.checkpoint else { return Ok(()) };
        write(path, state, &self.recipe)
    }
}

/// All that decides how training goes.
fn identity(recipe: &Recipe) -> Value {
    // Neither threads nor how many images observers see change what is trained.
    let recipe = Recipe { threads: 0, calibration: Default::default(), ..recipe.clone() };
    serde_json::to_value(recipe).expect("a recipe becomes JSON")
}

pub(super) fn write(path: &Path, state: &TrainState, recipe: &Recipe) -> Result<(), SessionError> {
    let mut tensors = BTreeMap::new();
    let mut put = |prefix: &str, graph: &Graph| {
        for param in graph.params() {
            tensors.insert(format!("{prefix}.{}", name(graph, &param)), param.tensor.clone());
        }
    };
    put("now", &state.graph);
    if let Some(best) = &state.best {
        put("best", &best.graph);
    }
    for (key, slots) in &state.optimizer.slots {
        for (i, slot) in slots.iter().enumerate() {
            tensors.insert(format!("optimizer.{i}.{key}"), Tensor::new([slot.len()], slot.clone()));
        }
    }
    let best = state.best.as_ref().map(|best| BestRow {
        epoch: best.epoch,
        fake_quants: best.fake_quants.clone(),
        valid: best.valid.map(|s| (s.correct, s.total, s.loss.to_bits())),
    });
    let document = Document {
        format: FORMAT,
        recipe: identity(recipe),
        epochs: state.epochs,
        steps: state.optimizer.steps,
        fake_quants: state.fake_quants.clone(),
        best,
    };
    let document = serde_json::to_value(document).expect("plain numbers and names become JSON");
    Ok(write_checkpoint(path, &Checkpoint { document, tensors }).map(drop)?)
}

fn read(path: &Path, graph: &Graph, recipe: &Recipe) -> Result<TrainState, SessionError> {
    let refuse = |detail: String| SessionError::Checkpoint { path: path.display().to_string(), detail };
    let Checkpoint { document, mut tensors } = read_checkpoint(path)?;
    let document: Document = serde_json::from_value(document).map_err(|e| refuse(e.to_string()))?;
    if document.format != FORMAT {
        return Err(refuse(format!("its format is {}, expected {FORMAT}", document.format)));
    }
    if let Some(key) = first_difference(&document.recipe, &identity(recipe), String::new()) {
        return Err(refuse(format!("it is of another training: `{key}` differs")));
    }
    let mut take = |prefix: &str| -> Result<Graph, SessionError> {
        let mut values = HashMap::new();
        for param in graph.params() {
            let key = name(graph, &param);
            let stored = format!("{prefix}.{key}");
            let Some(tensor) = tensors.remove(&stored) else { return Err(refuse(format!("`{stored}` is missing"))) };
            if tensor.shape != param.tensor.shape {
                let (found, expected) = (&tensor.shape, &param.tensor.shape);
                return Err(refuse(format!("`{stored}` has the shape {found:?}, expected {expected:?}")));
            }
            require_finite(&stored, &tensor).map_err(refuse)?;
            values.insert(key, tensor);
        }
        Ok(graph.with_params(&values))
    };
    let now = take("now")?;
    let best = match document.best {
        Some(best) => Some(Best {
            epoch: best.epoch,
            graph: take("best")?,
            fake_quants: best.fake_quants,
            valid: best.valid.map(|(correct, total, loss)| Score { correct, total, loss: f64::from_bits(loss) }),
        }),
        None => None,
    };
    let mut slots: BTreeMap<String, Vec<Vec<f32>>> = BTreeMap::new();
    for (key, tensor) in tensors {
        // In the order of their number, since the map is sorted.
        let Some((_, key)) = key.strip_prefix("optimizer.").and_then(|k| k.split_once('.')) else {
            return Err(refuse(format!("`{key}` is no part of a checkpoint")));
        };
        require_finite(key, &tensor).map_err(refuse)?;
        slots.entry(key.to_owned()).or_default().push(tensor.data.to_vec());
    }
    if !(0..MOST_STEPS).contains(&document.steps) {
        return Err(refuse(format!("it says {} steps, expected 0 to {MOST_STEPS}", document.steps)));
    }
    let optimizer = OptimizerState { steps: document.steps, slots };
    Ok(TrainState { epochs: document.epochs, graph: now, fake_quants: document.fake_quants, optimizer, best })
}

/// That a tensor holds numbers alone; else what is wrong.
pub(super) fn require_finite(key: &str, tensor: &Tensor) -> Result<(), String> {
    match tensor.data.iter().find(|v| !v.is_finite()) {
        Some(odd) => Err(format!("`{key}` holds {odd}")),
        None => Ok(()),
    }
}

fn name(graph: &Graph, param: &crate::graph::ParamRef<'_>) -> String {
    format!("{}.{}", graph.node(param.node).name, param.part)
}

/// The first key, depth first, at which two values differ.
fn first_difference(a: &Value, b: &Value, at: String) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            let join = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
            keys.into_iter().find_map(|key| match (x.get(key), y.get(key)) {
                (Some(x), Some(y)) => first_difference(x, y, join(key)),
                (_, _) => Some(join(key)),
            })
        }
        (_, _) => (a != b).then_some(at),
    }
}
