use serde::{Deserialize, Serialize};

use crate::graph::{QatLevels, StepSize};
use crate::train::{QatConfig, TrainConfig};

/// Epochs of training with fake quantization where none are said.
const EPOCHS: usize = 10;

/// The two ways to int8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Post-training quantization: observers watch a trained model.
    #[default]
    Ptq,
    /// Quantization-aware training: the model is trained on with fake quantization in place.
    Qat(QatTraining),
}

impl Method {
    /// Whether it is post-training quantization.
    pub fn is_ptq(&self) -> bool {
        matches!(self, Self::Ptq)
    }

    /// As the window and messages name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ptq => "PTQ",
            Self::Qat(_) => "QAT",
        }
    }
}

/// How a model is trained with fake quantization.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QatTraining {
    /// Epochs, rates, batch.
    pub train: TrainConfig,
    /// Epochs after which ranges stand still; 4 of 10 where it is not said.
    #[serde(default)]
    pub freeze_observers: Option<usize>,
    /// Epochs after which batch norm keeps its running statistics; 3 of 10 where it is not said.
    #[serde(default)]
    pub freeze_bn: Option<usize>,
    /// On which levels is trained, and what conversion makes of them.
    #[serde(default)]
    pub levels: QatLevels,
    /// Where the width of a level comes from.
    #[serde(default)]
    pub step: StepSize,
}

impl Default for QatTraining {
    fn default() -> Self {
        Self {
            train: TrainConfig::for_qat(EPOCHS),
            freeze_observers: None,
            freeze_bn: None,
            levels: QatLevels::default(),
            step: StepSize::default(),
        }
    }
}

impl QatTraining {
    /// With every default filled in for its epochs.
    pub fn config(&self) -> QatConfig {
        let scaled = QatConfig::for_epochs(self.train.epochs);
        QatConfig {
            freeze_observers: self.freeze_observers.unwrap_or(scaled.freeze_observers),
            freeze_bn: self.freeze_bn.unwrap_or(scaled.freeze_bn),
            levels: self.levels,
            step: self.step,
            ..scaled
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freezing_follows_the_epochs_unless_it_is_said() {
        let mut training = QatTraining::default();
        training.train.epochs = 20;
        assert_eq!((training.config().freeze_observers, training.config().freeze_bn), (8, 6));
        training.freeze_bn = Some(0);
        assert_eq!((training.config().freeze_observers, training.config().freeze_bn), (8, 0));
    }
}
