use super::{CommandKind, ProjectError, Step};
use crate::int8_model::Int8ModelError;
use crate::{
    data::DataError, download::DownloadError, exec::ExecError, graph::GraphError, quant::QuantError, train::TrainError,
};
use crate::{weights::WeightsError, zoo::ZooError};

/// Why a command did nothing. What existed before it still does.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SessionError {
    #[error("cancelled")]
    Cancelled,
    #[error("cannot {} yet: {}", .kind.verb(), remedy(.done))]
    NotAllowed { kind: CommandKind, done: Option<Step> },
    #[error(
        "affine weights have no int8 file, for no int8 kernel computes them: they are measured in fake quantization; make the \
         weights symmetric to save one"
    )]
    StudyAlone,
    #[error("no model is open: open one first")]
    NothingOpen,
    #[error("nothing is undone that could be brought back: it is gone once another step was run")]
    NothingUndone,
    #[error("no trained weights for {model} on this data come with Octet: load a state dict, or train")]
    NothingShipped { model: String },
    #[error("the weights have {found} classes, but --classes says {expected}: leave it out, or load other weights")]
    Classes { found: usize, expected: usize },
    #[error(
        "the weights' head has {found} classes, {expected} are asked for: leave --classes out to take the weights' own, or \
         leave their head out and train a new one (--reinit-head)"
    )]
    Head { found: usize, expected: usize },
    #[error("the weights' head cannot be changed: they were not read from a file, or the images have no classes")]
    NoHead,
    #[error("{path}: training cannot go on from this checkpoint: {detail}; start again, or name another one")]
    Checkpoint { path: String, detail: String },
    #[error("{path}: no table of published weights: {detail}")]
    WeightsTable { path: String, detail: String },
    #[error("the weights are of {found}, but {expected} is open: open that model, or fetch the weights of {expected}")]
    OtherModel { found: String, expected: String },
    #[error(
        "the model has {model} classes, but the data has {data} ({labels}): {what} needs both to agree; pick other data or \
         other weights{}", if *.what == TRAINING { ", or train a new head for this data (--reinit-head)" } else { "" }
    )]
    ClassesOfData { model: usize, data: usize, labels: String, what: &'static str },
    #[error("{path}: its images have no labels, and {what} needs them: put them in one folder a class")]
    NoLabels { path: String, what: &'static str },
    #[error("{path}: no image is held out to measure on: add a valid/ folder, or more images a class")]
    NothingHeldOut { path: String },
    #[error(
        "{path}: its images are no longer there: was the folder moved, or the disk unplugged? Bring it back and run this step \
         again; what was done before stays, and a training that kept checkpoints goes on from the last one"
    )]
    DataGone { path: String },
    #[error("the recipe's `{key}` is {found}, expected {expected}")]
    Choice { key: &'static str, found: usize, expected: &'static str },
    #[error("{path}: none of its images could be read")]
    NothingToSee { path: String },
    #[error("the network's output is not a number: check the weights and the preprocessing (mean, std)")]
    NotANumber,
    #[error(
        "{path}: was made from weights that were trained in the same run and that no file holds: analyze it in the window \
         before it is closed, or name the weights it was made from (--weights)"
    )]
    WeightsNotKept { path: String },
    #[error(
        "{path}: the int8 weights of layer `{layer}` are not those of the float weights that were loaded (cosine {cosine:.2}, \
         expected 0.9 or more): load the weights that the file was made from (--weights)"
    )]
    OtherWeights { path: String, layer: String, cosine: f64 },
    #[error("repairs are for post-training quantization: training with fake quantization makes up for rounding itself")]
    RepairsArePtq,
    #[error(transparent)]
    Recipe(Box<super::RecipeError>),
    #[error("the file takes images of {found} px, but --size says {expected}: leave it out, or convert at that size")]
    Size { found: usize, expected: usize },
    #[error("{path}: {detail}")]
    ExportKind { path: String, detail: String },
    #[error(
        "{path}: the self-check failed: read back, its logits differ by up to {worst:e} from those of what was exported; do not \
         use it, and report this"
    )]
    SelfCheck { path: String, worst: f64 },
    #[error("{path}: {source}")]
    Export { path: String, source: Box<crate::export::ExportError> },
    #[error(transparent)]
    Project(Box<ProjectError>),
    #[error(transparent)]
    Download(DownloadError),
    #[error(transparent)]
    Memory(#[from] crate::buffers::OutOfMemory),
    #[error(transparent)]
    Zoo(#[from] ZooError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Quant(#[from] QuantError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Repair(#[from] crate::analysis::RepairError),
    #[error(transparent)]
    Int8Model(Box<Int8ModelError>),
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<DownloadError> for SessionError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Cancelled => Self::Cancelled,
            other => Self::Download(other),
        }
    }
}

impl From<Int8ModelError> for SessionError {
    fn from(error: Int8ModelError) -> Self {
        Self::Int8Model(Box::new(error))
    }
}

/// What needs labels, where a new head can be the remedy.
pub(super) const TRAINING: &str = "training";

fn remedy(done: &Option<Step>) -> String {
    let next = done.map_or(Some(Step::Stubs), |s| Step::ALL.get(s.index() + 1).copied());
    match (done, next) {
        (_, Some(next)) => format!("the next step is {} ({})", next.index() + 1, next.title()),
        (Some(done), None) => format!("go back to an earlier step than {} first", done.title()),
        (None, None) => "open a model first".to_owned(),
    }
}
