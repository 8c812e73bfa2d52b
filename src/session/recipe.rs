use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Method, PreprocessChoice, Repairs, SessionError};
use crate::data::Source;
use crate::quant::QConfig;
use crate::train::TrainConfig;
use crate::zoo::ModelId;

/// Everything a user chooses, and nothing that is measured: the same recipe and binary give the same file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Which architecture.
    pub model: ModelId,
    /// Where its weights come from.
    pub weights: WeightsChoice,
    /// Whether a head of another class count than is asked for (by `classes`, else the data) is left out and a new one
    /// trained. Never done unasked.
    #[serde(default)]
    pub reinit_head: bool,
    /// Length of the logits; from the weights' head, else the data, where it is not said.
    pub classes: Option<usize>,
    /// Post-training quantization, or quantization-aware training.
    #[serde(default, skip_serializing_if = "Method::is_ptq")]
    pub method: Method,
    /// Images to calibrate on and to measure with.
    pub data: Source,
    /// How an image becomes numbers.
    pub preprocess: PreprocessChoice,
    /// Sites where fusion is switched off, by the convolution's name.
    pub unfused: BTreeSet<String>,
    /// Observers of activations and weights.
    pub qconfig: QConfig,
    /// What is repaired on the way.
    #[serde(default, skip_serializing_if = "Repairs::is_none")]
    pub repairs: Repairs,
    /// How many images the observers see.
    pub calibration: Calibration,
    /// How to train, where there are no weights.
    pub train: TrainConfig,
    /// Of every random choice.
    pub seed: u64,
    /// Threads of float and int8 execution; 0 means one a core.
    pub threads: usize,
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightsChoice {
    /// Those shipped with Octet where the model has some and the data is the sample; else they are trained.
    Automatic,
    /// A state dict.
    File(PathBuf),
    /// Trained on the data first.
    Train,
}

/// How many images the observers see, drawn from the training images by the recipe's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// Batches.
    pub batches: usize,
    /// Images a batch.
    pub batch: usize,
    /// Whether the accuracy that the model would have is measured on a sample a few times on the way. It changes nothing
    /// of the result, takes time, and so is no part of a file's recipe.
    #[serde(skip)]
    pub foresee: bool,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { batches: 32, batch: 32, foresee: false }
    }
}

impl Calibration {
    /// That there is something to see.
    ///
    /// # Errors
    /// [`SessionError::Choice`].
    pub(super) fn check(&self) -> Result<(), SessionError> {
        for (key, found) in [("calibration.batches", self.batches), ("calibration.batch", self.batch)] {
            if found == 0 {
                return Err(SessionError::Choice { key, found, expected: "1 or more" });
            }
        }
        Ok(())
    }
}

impl Recipe {
    /// The default job: `model` on the embedded sample, qconfig x86.
    pub fn new(model: ModelId) -> Self {
        Self {
            model,
            weights: WeightsChoice::Automatic,
            reinit_head: false,
            classes: None,
            method: Method::Ptq,
            data: Source::Sample,
            preprocess: PreprocessChoice::default(),
            unfused: BTreeSet::new(),
            qconfig: QConfig::default(),
            repairs: Repairs::default(),
            calibration: Calibration::default(),
            train: TrainConfig::default(),
            seed: 0,
            threads: 0,
        }
    }
}
