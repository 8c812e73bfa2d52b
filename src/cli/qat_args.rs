use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{
    args::{DataArgs, HeadArgs, ImageArgs, MachineArgs},
    outputs::OutputArgs,
    quant_args::QuantArgs,
    train_args::{CheckpointArgs, RuleArgs},
};
use crate::session::{CheckpointFile, Method, ModelId, QatLevels, QatTraining, Recipe, StepSize, WeightsChoice};

/// `octet qat`
#[derive(Debug, Args)]
pub struct QatArgs {
    /// Which architecture
    #[arg(long, default_value_t = ModelId::ShuffleNetV2X05)]
    pub model: ModelId,
    /// A state dict (.pth, .pt, .safetensors) [default: those that come with Octet, else it trains first]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
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
    quant: QuantArgs,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    #[command(flatten)]
    pub outputs: OutputArgs,
}

/// How fake quantization goes along with training.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training with fake quantization")]
struct TrainingArgs {
    /// Epochs after which ranges stand still [default: 4 of 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    freeze_observers: Option<u32>,
    /// Epochs after which batch norm keeps its running statistics [default: 3 of 10]
    #[arg(long, value_name = "N")]
    freeze_bn: Option<u32>,
    /// Where the width of a level comes from
    #[arg(long, value_enum, default_value_t = StepArg::Range)]
    step_size: StepArg,
    /// On which levels is trained and converted
    #[arg(long, value_enum, default_value_t = LevelsArg::Int8)]
    levels: LevelsArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StepArg {
    /// From the moving average of each batch's extremes, as PyTorch has it
    Range,
    /// Learnt by gradient (LSQ)
    Learned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LevelsArg {
    /// What is fake-quantized is what is converted: clamped where it was trained to
    Int8,
    /// As PyTorch converts: activations go to 255 though they were trained to 127, and weights have other grids
    Pytorch,
}

impl QatArgs {
    /// Every choice, the rest at its default.
    pub fn recipe(&self) -> Recipe {
        let said = &self.training;
        let mut train = QatTraining::default().train;
        self.rule.apply(&mut train);
        let training = QatTraining {
            train,
            freeze_observers: said.freeze_observers.map(|n| n as usize),
            freeze_bn: said.freeze_bn.map(|n| n as usize),
            levels: match said.levels {
                LevelsArg::Int8 => QatLevels::Int8,
                LevelsArg::Pytorch => QatLevels::PyTorch,
            },
            step: match said.step_size {
                StepArg::Range => StepSize::MovingAverage,
                StepArg::Learned => StepSize::Learned,
            },
        };
        Recipe {
            weights: self.weights.clone().map_or(WeightsChoice::Automatic, WeightsChoice::File),
            reinit_head: self.head.reinit_head,
            classes: self.classes,
            method: Method::Qat(training),
            data: self.data.source(),
            preprocess: self.images.choice(),
            qconfig: self.quant.for_qat(),
            seed: self.data.seed,
            threads: self.machine.threads(),
            ..Recipe::new(self.model)
        }
    }

    /// That the choices agree with each other.
    ///
    /// # Errors
    /// A sentence that says which do not.
    pub fn check(&self) -> Result<(), String> {
        self.quant.check()?;
        self.quant.check_qat()
    }

    /// Where training keeps its state.
    pub fn checkpoint(&self) -> Option<CheckpointFile> {
        self.checkpoint.file()
    }
}
