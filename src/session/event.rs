use std::sync::Arc;

use super::{Recipe, Repaired, Stage, Step};
use crate::download::Transfer;
use crate::exec::float::{Device, Gpu};
use crate::graph::{NodeId, QParams};
use crate::train::TrainEvent;

/// What happened, in the order it happened. A [`super::View`] is the sum of them.
#[derive(Clone, Debug)]
pub enum Event {
    /// A command began.
    Started(super::CommandKind),
    /// The GPUs of this machine, once the worker has asked for them.
    Gpus(Gpus),
    /// Where float runs now.
    Device(Device),
    /// The recipe as it is now.
    Recipe(Arc<Recipe>),
    /// A step is done: this exists now. `seconds` is how long it took.
    Entered {
        /// What exists.
        stage: Arc<Stage>,
        /// How long it took.
        seconds: f64,
    },
    /// Everything after this step was undone; `stage` is the newest now.
    WentBack {
        /// The step that is the last one done, `None` for none.
        to: Option<Step>,
        /// What exists.
        stage: Arc<Stage>,
    },
    /// A step that was undone is back as it was.
    Redone(Arc<Stage>),
    /// All stages are these again.
    Restored(Arc<Vec<Arc<Stage>>>),
    /// A repair is done, measured before and after.
    Repaired(Arc<Repaired>),
    /// The last repair was taken back.
    RepairUndone,
    /// How far the running command is.
    Progress(Progress),
    /// How far a download is.
    Transfer(Transfer),
    /// Every observer after one more batch.
    Observed {
        /// Images seen so far.
        images: usize,
        /// In the order of the graph.
        observers: Arc<Vec<ObserverView>>,
    },
    /// What the model would be worth now.
    IfConverted(IfConverted),
    /// Training went on.
    Training(TrainEvent),
    /// A line for the log.
    Log(LogLine),
    /// The command ended well.
    Finished(super::CommandKind),
    /// It was cancelled; what existed before still does.
    Cancelled(super::CommandKind),
    /// It failed; what existed before still does.
    Failed {
        /// Which command.
        kind: super::CommandKind,
        /// One sentence: file, key or node; found; expected; remedy.
        message: String,
    },
}

/// What float can run on beside the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Every GPU that this build can use.
    pub found: Vec<Gpu>,
    /// Why there is none.
    pub why_none: Option<String>,
}

impl Gpus {
    /// Asks the driver, which can take a moment.
    pub fn of_this_machine() -> Self {
        match Device::gpus() {
            Ok(found) => {
                let none = found.is_empty().then(|| "the NVIDIA driver finds no GPU on this machine".to_owned());
                Self { found, why_none: none }
            }
            Err(error) => Self { found: Vec::new(), why_none: Some(error.to_string()) },
        }
    }
}

/// How far the running command is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// "Calibrating", "Measuring float".
    pub what: &'static str,
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
}

/// One observer as a plot wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObserverView {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The range after each batch.
    pub batches: Vec<(f32, f32)>,
    /// The range so far.
    pub min: f32,
    /// The range so far.
    pub max: f32,
    /// Counts between `histogram_min` and `histogram_max`, thinned for the screen; empty if it keeps none.
    pub histogram: Vec<f32>,
    /// Left edge of the first bin.
    pub histogram_min: f32,
    /// Right edge of the last bin.
    pub histogram_max: f32,
    /// Where the levels would end, and what they would be, as of the last look ahead ([`Calibration::foresee`]).
    ///
    /// [`Calibration::foresee`]: super::Calibration::foresee
    pub levels: Option<(f32, f32, QParams)>,
}

/// The accuracy that the model would have if it were converted after so many images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IfConverted {
    /// Images that the observers have seen.
    pub images: usize,
    /// Fraction of the sample that it names rightly.
    pub accuracy: f64,
    /// Held-out images in the sample.
    pub sample: usize,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For the curious.
    Info,
    /// Something a user should know.
    Warning,
    /// Something went wrong.
    Error,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub severity: Severity,
    /// One sentence.
    pub text: String,
}

impl LogLine {
    /// A line for the curious.
    pub fn info(text: impl Into<String>) -> Self {
        Self { severity: Severity::Info, text: text.into() }
    }

    /// A line a user should read.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, text: text.into() }
    }

    /// What went wrong.
    pub fn error(text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, text: text.into() }
    }
}
