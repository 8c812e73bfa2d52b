use std::collections::BTreeMap;

use super::Score;
use crate::graph::{FakeQuants, Graph};

/// All that training needs to go on after an epoch as if it had never stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// Epochs that are finished.
    pub epochs: usize,
    /// The weights and running statistics of the moment.
    pub graph: Graph,
    /// What fake quantization has learnt; `None` in float training.
    pub fake_quants: Option<FakeQuants>,
    /// What the optimizer remembers.
    pub optimizer: OptimizerState,
    /// The best weights so far.
    pub best: Option<Best>,
}

/// The best weights of the epochs so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Their epoch, from 0.
    pub epoch: usize,
    /// With these weights.
    pub graph: Graph,
    /// What fake quantization had learnt then; `None` in float training.
    pub fake_quants: Option<FakeQuants>,
    /// Their score on the held-out images.
    pub valid: Option<Score>,
}

/// What an optimizer remembers from step to step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerState {
    /// Steps taken.
    pub steps: i32,
    /// By the key of each trained parameter: its velocity (SGD), or its first and second moments (AdamW), in the order of
    /// the kernels' layout.
    pub slots: BTreeMap<String, Vec<Vec<f32>>>,
}
