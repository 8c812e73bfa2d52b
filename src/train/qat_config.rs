use serde::{Deserialize, Serialize};

use super::{TrainConfig, TrainError};
use crate::{
    exec::float::Phase,
    graph::{QatLevels, StepSize},
};

/// How fake quantization goes along with training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QatConfig {
    /// Epochs in which ranges follow what is seen; after them they stand still.
    pub freeze_observers: usize,
    /// Epochs in which batch norm uses and moves the batch's statistics; after them it keeps its running ones.
    pub freeze_bn: usize,
    /// On which levels is trained.
    #[serde(default)]
    pub levels: QatLevels,
    /// Where the width of a level comes from.
    #[serde(default)]
    pub step: StepSize,
    /// Steps between two reports of all ranges.
    #[serde(default = "every")]
    pub ranges_every: usize,
}

fn every() -> usize {
    10
}

impl QatConfig {
    /// Observers freeze after 4 of 10 epochs and batch norm after 3, as in torchvision's recipe; at least one of each.
    pub fn for_epochs(epochs: usize) -> Self {
        let share = |tenths: usize| ((epochs * tenths + 5) / 10).max(1);
        Self {
            freeze_observers: share(4),
            freeze_bn: share(3),
            levels: QatLevels::default(),
            step: StepSize::default(),
            ranges_every: every(),
        }
    }

    /// What is on in an epoch, counted from 0.
    pub fn phase(&self, epoch: usize) -> Phase {
        Phase { observe: epoch < self.freeze_observers, fake_quantize: true, batch_statistics: epoch < self.freeze_bn }
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let refuse = |name, expected| Err(TrainError::Config { name, found: "0".to_owned(), expected });
        if self.freeze_observers == 0 {
            return refuse("epochs before observers freeze", "1 or more: levels come from what is seen");
        }
        if self.ranges_every == 0 {
            return refuse("steps between reports of the ranges", "1 or more");
        }
        Ok(())
    }
}

impl TrainConfig {
    /// For training a trained model with fake quantization: a tenth of the rate of training from nothing.
    pub fn for_qat(epochs: usize) -> Self {
        let default = Self::default();
        Self { epochs, learning_rate: default.learning_rate / 10.0, ..default }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freezing_scales_with_the_epochs() {
        let of = |epochs| {
            let config = QatConfig::for_epochs(epochs);
            (config.freeze_observers, config.freeze_bn)
        };
        assert_eq!([1, 2, 5, 10, 20].map(of), [(1, 1), (1, 1), (2, 2), (4, 3), (8, 6)]);
    }

    #[test]
    fn a_frozen_epoch_is_after_those_that_learn() {
        let config = QatConfig::for_epochs(10);
        let observing: Vec<bool> = (0..10).map(|e| config.phase(e).observe).collect();
        assert_eq!(observing.iter().filter(|o| **o).count(), 4);
        assert!(config.phase(2).batch_statistics && !config.phase(3).batch_statistics && config.phase(3).observe);
    }
}
