use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    bench::BenchArgs, code::CodeArgs, export::ExportArgs, outputs::OutputArgs, qat_args::QatArgs,
    quant_args::QuantArgs, run::RunArgs, train_args::TrainArgs,
};
use crate::session::{
    Calibration, ClassifierOptions, Device, Fit, ModelId, Preprocess, PreprocessChoice, Recipe, ReopenOptions, Repairs,
    Source, Study, WeightsChoice,
};

/// Takes a vision model from float32 to int8, one visible step at a time. Without a command it opens the window.
#[derive(Debug, Parser)]
#[command(name = "octet", version, about)]
pub struct Cli {
    /// What to do without a window.
    #[command(subcommand)]
    pub command: Option<CommandLine>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CommandLine {
    /// Post-training quantization, all six steps: saves the int8 file, reloads it, measures it
    Ptq(PtqArgs),
    /// Quantization-aware training, all six steps: trains with fake quantization, then as ptq
    Qat(QatArgs),
    /// Fetches the weights that torchvision publishes for a model into the cache folder; prints the file, for --weights
    Download(DownloadArgs),
    /// Float training; saves a safetensors state dict
    Train(TrainArgs),
    /// Accuracy of a file on held-out images
    Eval(EvalArgs),
    /// The five likeliest classes of each image
    Classify(ClassifyArgs),
    /// Writes a file that other tools open, reads it back and says how both agree
    Export(ExportArgs),
    /// Carries out a saved recipe: the same int8 file, byte for byte
    Run(RunArgs),
    /// Print a recipe as a script of PyTorch's that does the same
    Code(CodeArgs),
    /// What is inside an int8 file or a state dict
    Inspect(InspectArgs),
    /// The zoo, with parameters, multiply-accumulates and file sizes
    Models(ModelsArgs),
    /// Float and int8 files of the zoo, really written, beside published sizes
    Sizes(ModelsArgs),
    /// Milliseconds from float image to float logits, float and int8 in turns
    Bench(BenchArgs),
    /// Which layers an int8 file loses by, and how sure that is
    Analyze(AnalyzeArgs),
}

/// How images become numbers.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Height and width of an image [default: 32 for the sample, 224 for folders]
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// How a rectangle becomes a square [default: as it is for the sample, crop for folders]
    #[arg(long, value_enum)]
    preprocess: Option<FitArg>,
    /// Subtracted from each channel's 0..1 [default: ImageNet's]
    #[arg(long, value_name = "R,G,B", value_parser = triple)]
    mean: Option<[f32; 3]>,
    /// Divides each channel [default: ImageNet's]
    #[arg(long, value_name = "R,G,B", value_parser = positive_triple)]
    std: Option<[f32; 3]>,
}

impl ImageArgs {
    /// What was said.
    pub fn choice(&self) -> PreprocessChoice {
        let fit = self.preprocess.map(FitArg::fit);
        PreprocessChoice { size: self.size, fit, resize: None, mean: self.mean, std: self.std }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FitArg {
    /// Shorter side to size*256/224, then the centre
    Crop,
    /// To a black square, then resized
    Pad,
    /// Resized without regard to proportions
    Squash,
}

impl FitArg {
    fn fit(self) -> Fit {
        match self {
            Self::Crop => Fit::Crop,
            Self::Pad => Fit::Pad,
            Self::Squash => Fit::Squash,
        }
    }
}

/// What to work on.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// A folder of class folders, a CIFAR-10 binary file or folder [default: the embedded sample]
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// Of every random choice
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

impl DataArgs {
    /// The images.
    pub fn source(&self) -> Source {
        self.data.clone().map_or(Source::Sample, Source::Path)
    }
}

/// Where to compute.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// Where float runs
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub device: DeviceArg,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// CPU or GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceArg {
    /// This machine's processor
    Cpu,
    /// The first NVIDIA GPU, in a build with the feature `cuda`
    Cuda,
}

impl MachineArgs {
    /// As `exec` names it.
    pub fn device(&self) -> Device {
        match self.device {
            DeviceArg::Cpu => Device::Cpu,
            DeviceArg::Cuda => Device::Cuda(0),
        }
    }

    /// As JSON names it.
    pub fn device_name(&self) -> &'static str {
        match self.device {
            DeviceArg::Cpu => "cpu",
            DeviceArg::Cuda => "cuda",
        }
    }

    /// 0 for one a core.
    pub fn threads(&self) -> usize {
        self.threads.map_or(0, usize::from)
    }
}

/// What becomes of a head of another class count.
#[derive(Debug, Args)]
pub struct HeadArgs {
    /// Leave out the weights' head where its class count is not the one asked for (--classes, else the data's), and
    /// train a new one
    #[arg(long, requires = "weights")]
    pub reinit_head: bool,
}

/// `octet ptq`
#[derive(Debug, Args)]
pub struct PtqArgs {
    /// Which architecture
    #[arg(long, default_value_t = ModelId::ShuffleNetV2X05)]
    pub model: ModelId,
    /// A state dict (.pth, .pt, .safetensors) [default: those that come with Octet, else it trains first]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    head: HeadArgs,
    /// Length of the logits [default: the weights' head, else the data's classes]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    repair: RepairArgs,
    /// Batches that the observers see
    #[arg(long, default_value_t = Calibration::default().batches as u32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    calibration_batches: u32,
    /// Images a batch
    #[arg(long, default_value_t = Calibration::default().batch as u32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    #[command(flatten)]
    pub machine: MachineArgs,
    #[command(flatten)]
    pub outputs: OutputArgs,
}

impl PtqArgs {
    /// Every choice, the rest at its default.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            weights: self.weights.clone().map_or(WeightsChoice::Automatic, WeightsChoice::File),
            reinit_head: self.head.reinit_head,
            classes: self.classes,
            data: self.data.source(),
            preprocess: self.images.choice(),
            qconfig: self.quant.qconfig(),
            repairs: self.repair.repairs(),
            calibration: Calibration {
                batches: self.calibration_batches as usize,
                batch: self.batch as usize,
                foresee: false,
            },
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
        match (&self.outputs.out, self.quant.qconfig().study()) {
            (Some(out), Some(study @ Study::AffineWeights)) => Err(format!("--out {}: {study}", out.display())),
            (Some(_), Some(Study::FewerBits { .. }) | None) | (None, _) => Ok(()),
        }
    }
}

/// What is repaired on the way to int8.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Cross-layer equalization: channels scaled so that neighbouring layers have equal ranges
    #[arg(long)]
    equalize: bool,
    /// Empirical bias correction: what rounding moved the mean by is taken back
    #[arg(long)]
    correct_bias: bool,
    /// Layers whose rounding is learnt (AdaRound): names, separated by commas
    #[arg(long, value_name = "LAYERS", value_delimiter = ',')]
    adaround: Vec<String>,
}

impl RepairArgs {
    /// As the recipe has them.
    pub fn repairs(&self) -> Repairs {
        Repairs {
            equalize: self.equalize,
            correct_bias: self.correct_bias,
            adaround: self.adaround.iter().cloned().collect(),
        }
    }
}

/// `octet download`
#[derive(Debug, Args)]
pub struct DownloadArgs {
    /// Which architecture
    pub model: ModelId,
    /// torchvision's name of the weights, as IMAGENET1K_V1 [default: torchvision's own default]
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

/// A file to run: int8, or float with its architecture.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// An int8 file; with --model, a float state dict
    pub file: PathBuf,
    /// The architecture of a float state dict
    #[arg(long)]
    model: Option<ModelId>,
    /// Length of the logits; must agree with the file
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

impl FileArgs {
    /// How to open it; `default` is for a float model, which remembers no preprocessing.
    pub fn options(&self, default: Preprocess) -> ClassifierOptions {
        ClassifierOptions {
            model: self.model,
            classes: self.classes,
            preprocess: self.images.choice(),
            default,
            device: self.machine.device(),
            threads: self.machine.threads(),
        }
    }
}

/// `octet eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub file: FileArgs,
    #[command(flatten)]
    pub data: DataArgs,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

/// `octet classify`
#[derive(Debug, Args)]
pub struct ClassifyArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Pictures
    #[arg(required = true)]
    pub image: Vec<PathBuf>,
    /// Add the logits
    #[arg(long)]
    pub logits: bool,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

/// `octet inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// An int8 file or a state dict
    pub file: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

/// `octet analyze`
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// An int8 file
    pub file: PathBuf,
    /// The float weights that it was made from [default: those that its recipe names]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// A folder of class folders, a CIFAR-10 binary file or folder [default: the recipe's]
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// Held-out images that the sweeps over the layers see
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Search for the smallest and fastest int8 model that loses at most so many points against float, verified on images
    /// that the search never saw
    #[arg(long, value_name = "POINTS", value_parser = points)]
    pub promise: Option<f64>,
    /// Where the int8 file that keeps the promise goes; nothing is written where none does
    #[arg(long, value_name = "FILE", requires = "promise")]
    pub out: Option<PathBuf>,
    /// Which held-out images a promise is searched on and which verify it
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Accuracy against the number of calibration images, for three choices of them
    #[arg(long)]
    pub calibration: bool,
    /// Threads of the int8 engine [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

impl AnalyzeArgs {
    /// How to open the file again.
    pub fn options(&self) -> ReopenOptions {
        ReopenOptions {
            weights: self.weights.clone(),
            data: self.data.clone().map(Source::Path),
            threads: self.threads.map_or(0, usize::from),
        }
    }
}

/// `octet models` and `octet sizes`
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Length of the logits
    #[arg(long, default_value_t = 33, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub classes: u32,
    /// Height and width of an image
    #[arg(long, default_value_t = 224, value_name = "N", value_parser = clap::value_parser!(u32).range(32..))]
    pub size: u32,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

fn triple(text: &str) -> Result<[f32; 3], String> {
    let wrong = || format!("`{text}`: expected three numbers, as 0.5,0.5,0.5");
    let values: Vec<f32> = text.split(',').map(|v| v.trim().parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let values: [f32; 3] = values.try_into().map_err(|_| wrong())?;
    if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(wrong()) }
}

fn positive_triple(text: &str) -> Result<[f32; 3], String> {
    let values = triple(text)?;
    if values.iter().all(|v| *v > 0.0) { Ok(values) } else { Err(format!("`{text}`: each must be above zero")) }
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() && v > 0.0 => Ok(v),
        Ok(_) | Err(_) => Err(format!("`{text}`: expected a number above zero")),
    }
}

/// Points of accuracy, as a fraction.
fn points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if (0.0..=100.0).contains(&v) => Ok(v / 100.0),
        Ok(_) | Err(_) => Err(format!("`{text}`: expected points of accuracy, 0 to 100")),
    }
}
