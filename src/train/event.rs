use std::sync::Arc;

use super::Score;

/// What training reports as it goes.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainEvent {
    /// One optimizer step.
    Step {
        /// From 0.
        epoch: usize,
        /// Within the epoch, from 0.
        step: usize,
        /// Steps in an epoch.
        steps: usize,
        /// Of this batch.
        loss: f32,
        /// Of this step.
        learning_rate: f64,
        /// Since the last step, waiting for images included.
        images_per_second: f64,
    },
    /// The end of an epoch.
    Epoch(EpochReport),
    /// What fake quantization has learnt so far: every few steps, and at the end of an epoch.
    Ranges(RangeReport),
    /// Something stands still from the beginning of this epoch on.
    Frozen {
        /// From 0.
        epoch: usize,
        /// What.
        what: Frozen,
    },
}

/// What stands still in the later epochs of training with fake quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// The ranges of all fake quantization.
    Observers,
    /// The statistics of every convolution's batch norm.
    BatchNorm,
}

/// The ranges of all fake-quantized outputs after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeReport {
    /// From 0.
    pub epoch: usize,
    /// Within the epoch, from 0.
    pub step: usize,
    /// In the order of the graph.
    pub ranges: Vec<FakeQuantRange>,
}

/// The range of one fake-quantized output.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeQuantRange {
    /// Its node.
    pub node: Arc<str>,
    /// The averaged smallest value.
    pub min: f32,
    /// The averaged largest value.
    pub max: f32,
    /// Width of one level.
    pub scale: f32,
    /// The level that stands for 0.
    pub zero_point: u8,
}

/// One time through the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochReport {
    /// From 0.
    pub epoch: usize,
    /// Over the epoch's batches, as they were seen, augmented.
    pub train: Score,
    /// On the held-out images with the epoch's last weights; fake-quantized where they are trained so.
    pub valid: Option<Score>,
    /// Whether these are the best weights so far.
    pub best: bool,
    /// Training and scoring.
    pub seconds: f64,
}
