use serde::{Deserialize, Serialize};

use super::TrainError;

/// How weights follow their gradients. Both are PyTorch's formulas, applied to every trained parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// `torch.optim.SGD`.
    Sgd {
        /// Share of the last step that goes on.
        momentum: f32,
        /// Added to the gradient, times the weight.
        weight_decay: f32,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// `torch.optim.AdamW` with betas 0.9 and 0.999, eps 1e-8.
    AdamW {
        /// Times the learning rate, how much of the weight is lost each step.
        weight_decay: f32,
    },
}

impl Optimizer {
    /// The same without weight decay.
    pub(super) fn without_decay(self) -> Self {
        match self {
            Self::Sgd { momentum, nesterov, .. } => Self::Sgd { momentum, weight_decay: 0.0, nesterov },
            Self::AdamW { .. } => Self::AdamW { weight_decay: 0.0 },
        }
    }
}

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Times through the data.
    pub epochs: usize,
    /// Images a step. A last, smaller batch is left out, unless it is the only one.
    pub batch: usize,
    /// SGD or AdamW.
    pub optimizer: Optimizer,
    /// The highest learning rate, reached after the warm-up; then a cosine to 0.
    pub learning_rate: f64,
    /// Epochs of linear warm-up; fractions are fine.
    pub warmup: f64,
    /// Share of the target that is spread over all classes, 0 for none.
    pub label_smoothing: f32,
    /// Whether images are flipped and shifted at random.
    pub augment: bool,
    /// Of order, augmentation and dropout.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 128,
            optimizer: Optimizer::AdamW { weight_decay: 0.05 },
            learning_rate: 3e-3,
            warmup: 0.5,
            label_smoothing: 0.0,
            augment: true,
            seed: 0,
        }
    }
}

/// More than anybody trains.
const MOST_EPOCHS: usize = 1_000_000;

impl TrainConfig {
    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let refuse = |name, found: String, expected| Err(TrainError::Config { name, found, expected });
        if self.epochs == 0 || self.epochs > MOST_EPOCHS {
            return refuse("epochs", self.epochs.to_string(), "1 to 1,000,000");
        }
        if self.batch < 2 {
            return refuse("batch size", self.batch.to_string(), "2 or more: batch norm needs a variance");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return refuse("learning rate", self.learning_rate.to_string(), "a number above 0");
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return refuse("label smoothing", self.label_smoothing.to_string(), "0 or more, less than 1");
        }
        if !(self.warmup.is_finite() && self.warmup >= 0.0) {
            return refuse("warm-up", self.warmup.to_string(), "0 epochs or more");
        }
        Ok(())
    }
}
