//! The flags of training: in float, and what training with fake quantization shares with it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{DataArgs, HeadArgs, ImageArgs, MachineArgs, positive};
use crate::session::{CheckpointFile, ModelId, Optimizer, Recipe, TrainConfig, WeightsChoice};

/// How long is trained, and how weights follow their gradients.
#[derive(Debug, Args)]
pub struct RuleArgs {
    /// Passes over the training images
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Images a batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    batch: Option<u32>,
    /// Largest learning rate
    #[arg(long, value_name = "X", value_parser = positive)]
    lr: Option<f64>,
    /// AdamW, or SGD with a momentum of 0.9 [default: adamw]
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerArg>,
    /// What each step takes from a weight: times the learning rate (AdamW), or added to the gradient (SGD)
    #[arg(long, value_name = "X", value_parser = share)]
    weight_decay: Option<f32>,
    /// Epochs of linear warm-up; fractions are fine
    #[arg(long, value_name = "X", value_parser = not_negative)]
    warmup: Option<f64>,
    /// Share of the target that is spread over all classes
    #[arg(long, value_name = "X", value_parser = share)]
    label_smoothing: Option<f32>,
    /// Leave images as they are: no flips, no shifts
    #[arg(long)]
    no_augment: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OptimizerArg {
    Adamw,
    Sgd,
}

impl RuleArgs {
    /// Writes what was said into `train`.
    pub fn apply(&self, train: &mut TrainConfig) {
        train.epochs = self.epochs.map_or(train.epochs, |n| n as usize);
        train.batch = self.batch.map_or(train.batch, |n| n as usize);
        train.learning_rate = self.lr.unwrap_or(train.learning_rate);
        let decay = |default| self.weight_decay.unwrap_or(default);
        train.optimizer = match (self.optimizer, train.optimizer) {
            (None, Optimizer::AdamW { weight_decay }) => Optimizer::AdamW { weight_decay: decay(weight_decay) },
            (None, Optimizer::Sgd { momentum, weight_decay, nesterov }) => {
                Optimizer::Sgd { momentum, weight_decay: decay(weight_decay), nesterov }
            }
            (Some(OptimizerArg::Adamw), _) => Optimizer::AdamW { weight_decay: decay(0.05) },
            (Some(OptimizerArg::Sgd), _) => {
                Optimizer::Sgd { momentum: 0.9, weight_decay: decay(1e-4), nesterov: false }
            }
        };
        train.warmup = self.warmup.unwrap_or(train.warmup);
        train.label_smoothing = self.label_smoothing.unwrap_or(train.label_smoothing);
        train.augment &= !self.no_augment;
    }
}

/// Whether training can be interrupted.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// Keep the state of training here after each epoch
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Go on from what --checkpoint holds, to the same result as without the interruption
    #[arg(long, requires = "checkpoint")]
    resume: bool,
}

impl CheckpointArgs {
    /// Where, if anywhere.
    pub fn file(&self) -> Option<CheckpointFile> {
        self.checkpoint.clone().map(|path| CheckpointFile { path, resume: self.resume })
    }
}

/// `octet train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Which architecture
    #[arg(long, default_value_t = ModelId::ShuffleNetV2X05)]
    pub model: ModelId,
    /// A state dict to go on from [default: random weights]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    head: HeadArgs,
    /// Length of the logits; must be the data's classes
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Save the weights of convolutions and linear layers as float16: half the file. Accuracy is then of what was saved
    #[arg(long)]
    pub half: bool,
    /// The state dict [default: MODEL.safetensors]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

impl TrainArgs {
    /// Every choice, the rest at its default.
    pub fn recipe(&self) -> Recipe {
        let mut recipe = Recipe {
            weights: self.weights.clone().map_or(WeightsChoice::Train, WeightsChoice::File),
            reinit_head: self.head.reinit_head,
            classes: self.classes,
            data: self.data.source(),
            preprocess: self.images.choice(),
            seed: self.data.seed,
            threads: self.machine.threads(),
            ..Recipe::new(self.model)
        };
        self.rule.apply(&mut recipe.train);
        recipe
    }

    /// Where the state dict goes.
    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.safetensors", self.model)))
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() && v >= 0.0 => Ok(v),
        Ok(_) | Err(_) => Err(format!("`{text}`: expected a number, 0 or more")),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (0.0..1.0).contains(&v) => Ok(v),
        Ok(_) | Err(_) => Err(format!("`{text}`: expected a number, 0 or more and below 1")),
    }
}
