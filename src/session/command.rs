use std::path::PathBuf;

use super::{
    Calibration, CheckpointFile, Method, PublishedWeights, QatTraining, Recipe, Repair, Stage, Step, Unfinished,
};
use crate::download::Place;
use crate::exec::float::Device;
use crate::quant::{FuseOptions, QConfig, Range};
use crate::train::TrainConfig;

/// What a user asks for. Each one that carries a choice writes it into the session's recipe.
#[derive(Clone, Debug)]
pub enum Command {
    /// Starts over with this model and data.
    Open(Box<Recipe>),
    /// The other method, or this one's choices. What the present method has fused is undone.
    ChooseMethod(Method),
    /// Where float, and training, run from now on.
    ChooseDevice(Device),
    /// What this recipe says of the steps, without running them: what was done otherwise is undone.
    Choose(Box<Recipe>),
    /// Where training keeps its state after each epoch, from now on; `None` for nowhere.
    KeepCheckpoints(Option<CheckpointFile>),
    /// Step 1.
    InsertStubs,
    /// Step 2, from a state dict.
    LoadWeights(PathBuf),
    /// Step 2, with the weights that come with Octet.
    UseShippedWeights,
    /// Step 2, from torchvision's published weights, fetched unless the cache folder has them. The only command that
    /// touches the network, and no other command leads to it.
    DownloadWeights(Box<Download>),
    /// Step 2 again, from the same file: with a new, random head for the data's classes, or (`false`) with the file's own.
    ReinitHead(bool),
    /// Step 2, by training from what the weights are now.
    Train(TrainConfig),
    /// Step 3.
    Fuse(FuseOptions),
    /// Step 4.
    Prepare(QConfig),
    /// Step 5.
    Calibrate(Calibration),
    /// Step 5 again, without an image: sets the range of a node by hand, or (`None`) by what was seen.
    SetRange(String, Option<Range>),
    /// Step 5 of the second method.
    TrainQat(QatTraining),
    /// Step 6, first half.
    Convert,
    /// Repairs a converted model: runs the steps that this changes again, up to conversion, and measures before and after.
    Repair(Box<Repair>),
    /// Brings back what was before the last repair.
    UndoRepair,
    /// Step 6, second half: writes the file, reads it back, measures it.
    Save(PathBuf),
    /// Undoes every step after this one.
    BackTo(Step),
    /// Brings the next undone step back, until something else is done.
    Redo,
    /// Goes on with what was last worked on in the project, at the same step.
    Continue(Box<Unfinished>),
    /// Keeps runs and the session itself in this folder from now on.
    UseProject(PathBuf),
    /// Every step that is left, with the recipe's choices, saving here.
    RunAll(PathBuf),
}

/// What to fetch, and where to keep it.
#[derive(Clone, Debug, PartialEq)]
pub struct Download {
    /// What.
    pub weights: PublishedWeights,
    /// Where.
    pub place: Place,
}

/// A [`Command`] without what it carries: what a button stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the commands of the same names")]
pub enum CommandKind {
    Open,
    ChooseMethod,
    ChooseDevice,
    Choose,
    KeepCheckpoints,
    InsertStubs,
    LoadWeights,
    UseShippedWeights,
    DownloadWeights,
    ReinitHead,
    Train,
    Fuse,
    Prepare,
    Calibrate,
    SetRange,
    TrainQat,
    Convert,
    Repair,
    UndoRepair,
    Save,
    BackTo(Step),
    Redo,
    Continue,
    UseProject,
    RunAll,
}

impl Command {
    /// What it is, without what it carries.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Open(_) => CommandKind::Open,
            Self::ChooseMethod(_) => CommandKind::ChooseMethod,
            Self::ChooseDevice(_) => CommandKind::ChooseDevice,
            Self::Choose(_) => CommandKind::Choose,
            Self::KeepCheckpoints(_) => CommandKind::KeepCheckpoints,
            Self::InsertStubs => CommandKind::InsertStubs,
            Self::LoadWeights(_) => CommandKind::LoadWeights,
            Self::UseShippedWeights => CommandKind::UseShippedWeights,
            Self::DownloadWeights(_) => CommandKind::DownloadWeights,
            Self::ReinitHead(_) => CommandKind::ReinitHead,
            Self::Train(_) => CommandKind::Train,
            Self::Fuse(_) => CommandKind::Fuse,
            Self::Prepare(_) => CommandKind::Prepare,
            Self::Calibrate(_) => CommandKind::Calibrate,
            Self::SetRange(..) => CommandKind::SetRange,
            Self::TrainQat(_) => CommandKind::TrainQat,
            Self::Convert => CommandKind::Convert,
            Self::Repair(_) => CommandKind::Repair,
            Self::UndoRepair => CommandKind::UndoRepair,
            Self::Save(_) => CommandKind::Save,
            Self::BackTo(step) => CommandKind::BackTo(*step),
            Self::Redo => CommandKind::Redo,
            Self::Continue(_) => CommandKind::Continue,
            Self::UseProject(_) => CommandKind::UseProject,
            Self::RunAll(_) => CommandKind::RunAll,
        }
    }
}

impl CommandKind {
    /// As a sentence names it: "fuse".
    pub fn verb(self) -> &'static str {
        match self {
            Self::Open => "open a model",
            Self::ChooseMethod => "choose the method",
            Self::ChooseDevice => "choose the device",
            Self::Choose => "choose",
            Self::KeepCheckpoints => "keep checkpoints",
            Self::InsertStubs => "insert stubs",
            Self::LoadWeights => "load weights",
            Self::UseShippedWeights => "use the shipped weights",
            Self::DownloadWeights => "download weights",
            Self::ReinitHead => "change the head",
            Self::Train => "train",
            Self::Fuse => "fuse",
            Self::Prepare => "prepare",
            Self::Calibrate => "calibrate",
            Self::SetRange => "set a range",
            Self::TrainQat => "train with fake quantization",
            Self::Convert => "convert",
            Self::Repair => "repair",
            Self::UndoRepair => "undo a repair",
            Self::Save => "save",
            Self::BackTo(_) => "go back",
            Self::Redo => "redo",
            Self::Continue => "go on where you were",
            Self::UseProject => "use another project folder",
            Self::RunAll => "run all steps",
        }
    }
}

impl Stage {
    /// Whether a command makes sense here: what greys a button and what `Session::apply` refuses by.
    ///
    /// A step may be run again while its result is the newest one; its choices are then replaced.
    pub fn allows(&self, kind: CommandKind) -> bool {
        let done = self.done();
        let at = |step: Step| done == Some(step) || done == before(step);
        match kind {
            // Whether anything was undone is not the stage's to know.
            CommandKind::Open
            | CommandKind::ChooseMethod
            | CommandKind::ChooseDevice
            | CommandKind::Choose
            | CommandKind::KeepCheckpoints
            | CommandKind::RunAll
            | CommandKind::Continue
            | CommandKind::UseProject
            | CommandKind::Redo => true,
            CommandKind::InsertStubs => at(Step::Stubs),
            CommandKind::LoadWeights
            | CommandKind::UseShippedWeights
            | CommandKind::DownloadWeights
            | CommandKind::Train => at(Step::Weights),
            CommandKind::ReinitHead => done == Some(Step::Weights),
            CommandKind::Fuse => at(Step::Fuse),
            CommandKind::Prepare => at(Step::Prepare),
            CommandKind::Calibrate => at(Step::Calibrate) && !self.is_qat(),
            CommandKind::TrainQat => at(Step::Calibrate) && self.is_qat(),
            CommandKind::SetRange => done == Some(Step::Calibrate) && !self.is_qat(),
            CommandKind::Convert => at(Step::Convert),
            CommandKind::Repair => done == Some(Step::Convert) && !self.is_qat() && !self.is_study_alone(),
            CommandKind::UndoRepair => done == Some(Step::Convert),
            CommandKind::Save => done == Some(Step::Convert) && !self.is_study_alone(),
            CommandKind::BackTo(step) => done.is_some_and(|d| step < d),
        }
    }
}

fn before(step: Step) -> Option<Step> {
    step.index().checked_sub(1).map(|i| Step::ALL[i])
}
