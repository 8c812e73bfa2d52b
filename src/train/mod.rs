//! Trains a float graph, or one in the QAT form with its fake quantization: loss, optimizer, schedule and the epoch loop.
//!
//! Everything drawn at random comes from the configuration's seed, and no sum depends on the number of threads: the same
//! configuration gives the same weights, bit for bit. This room does not know sessions, files or windows; images come as
//! a [`BatchSource`].

mod config;
mod evaluate;
mod event;
mod loss;
mod optimizer;
mod qat_config;
mod run;
mod schedule;
mod state;

pub use config::{Optimizer, TrainConfig};
pub use evaluate::{Score, evaluate};
pub use event::{EpochReport, FakeQuantRange, Frozen, RangeReport, TrainEvent};
#[cfg(test)]
pub(crate) use loss::cross_entropy_for_tests;
pub use optimizer::Stepper;
pub use qat_config::QatConfig;
pub use run::{TrainOutcome, Training, train};
pub use state::{Best, OptimizerState, TrainState};

use crate::{exec::ExecError, quant::QuantError};

/// One batch of images with their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledBatch {
    /// `[images, channels, height, width]`, normalized.
    pub images: Vec<f32>,
    /// One an image.
    pub labels: Vec<usize>,
}

/// Where labelled images come from.
pub trait BatchSource {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `0..len` in a random order, the same for the same seed.
    fn shuffled(&self, seed: u64) -> Vec<usize>;

    /// The images at `order`, `batch` at a time; augmented by this seed, or as they are.
    fn batches(
        &self,
        order: Vec<usize>,
        batch: usize,
        augment: Option<u64>,
    ) -> Box<dyn Iterator<Item = LabelledBatch> + '_>;
}

/// Why training ended without weights.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum TrainError {
    /// The graph could not be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// What was trained with fake quantization could not be evaluated.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A state that is not of this training.
    #[error("training cannot go on from this state: {detail}; start again from the weights")]
    Resume { detail: String },
    /// Candle refused an optimizer's step.
    #[error("the optimizer's step failed: {0}")]
    Candle(#[from] candle_core::Error),
    /// A loss that is no number.
    #[error("the loss is {loss} in epoch {epoch}, step {step}, at a learning rate of {lr}: try a smaller one")]
    Diverged { loss: f32, epoch: usize, step: usize, lr: f64 },
    /// A label that the model has no logit for.
    #[error("found label {label}, but the model has {classes} classes: build it with as many as the data has")]
    Label { label: usize, classes: usize },
    /// Nothing to train on.
    #[error(
        "found {found} labelled images to train on that can be read, expected two or more: batch norm needs a variance"
    )]
    Empty { found: usize },
    /// A setting that cannot be used.
    #[error("{name} is {found}: expected {expected}")]
    Config { name: &'static str, found: String, expected: &'static str },
}
