use std::collections::VecDeque;
use std::sync::Arc;

use super::stale::Stale;
use super::{
    CommandKind, Event, Gpus, IfConverted, LogLine, ObserverView, Progress, Recipe, Repaired, Stage, Step, StudyResult,
    WeightsOrigin,
};
use crate::download::Transfer;
use crate::exec::float::Device;
use crate::quant::{Study, Warning};
use crate::train::TrainEvent;

/// Everything that a screen may show: the sum of the [`Event`]s so far. Panels draw it and change nothing.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The choices; `None` before a model is open.
    pub recipe: Option<Arc<Recipe>>,
    /// What exists, one entry a step: `stages[0]` the opened model, `stages[1 + step]` the result of a step.
    pub stages: [Option<Arc<Stage>>; 7],
    /// How long each step took.
    pub seconds: [Option<f64>; 6],
    /// Where float runs.
    pub device: Device,
    /// What else it could run on.
    pub gpus: Gpus,
    /// What steps had left before an earlier one was changed.
    pub(super) stale: Stale,
    /// Steps that are undone and can be brought back.
    pub(super) undone: usize,
    /// The repairs that can be undone, the last one last.
    pub repairs: Vec<Arc<Repaired>>,
    /// The running command, or the one that is sent and begins in a moment.
    pub running: Option<CommandKind>,
    /// Commands that were sent and have not ended, in order.
    pub(super) sent: VecDeque<CommandKind>,
    /// The newest stage, where this view is of what was.
    pub(super) now: Option<Arc<Stage>>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// How far it is, while it downloads.
    pub transfer: Option<Transfer>,
    /// Images that the observers have seen.
    pub observed_images: usize,
    /// Every observer, in the order of the graph.
    pub observers: Arc<Vec<ObserverView>>,
    /// The accuracy that the model would have had, converted then: while calibrating, where that was asked for.
    pub if_converted: Vec<IfConverted>,
    /// The training curve.
    pub training: Vec<TrainEvent>,
    /// That of training with fake quantization.
    pub qat: Vec<TrainEvent>,
    /// The log, oldest first, the newest 1,000 lines.
    pub log: Vec<LogLine>,
    /// The last command that ended, however it ended.
    pub finished: Option<CommandKind>,
    /// How many commands have ended, well or not: whatever they left outside of the session may have changed since.
    pub ended: usize,
    /// The last failure, until the next command begins.
    pub failure: Option<(CommandKind, String)>,
}

/// State of a step on the rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// An earlier step is missing.
    Locked,
    /// Can be run now.
    Ready,
    /// Is running.
    Running,
    /// Has a result.
    Done,
    /// Had a result before an earlier step was changed; it shows until the step is run again.
    Stale,
}

/// A step as the rail shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct StepView {
    /// Which.
    pub step: Step,
    /// Its state.
    pub state: StepState,
    /// Its result in a word: "20 fused"; a stale one's too.
    pub result: Option<String>,
    /// How long it took.
    pub seconds: Option<f64>,
}

const LOG_LINES: usize = 1000;

impl View {
    /// Takes one event in.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Started(kind) => {
                self.running = Some(kind);
                self.finished = None;
                self.progress = None;
                self.transfer = None;
                self.failure = None;
                if kind == CommandKind::Train {
                    self.training.clear();
                }
                if kind == CommandKind::TrainQat {
                    self.qat.clear();
                }
                if kind == CommandKind::Calibrate {
                    self.observers = Arc::default();
                    self.observed_images = 0;
                    self.if_converted.clear();
                }
            }
            Event::Recipe(recipe) => {
                // What is undone is of the other method.
                if self.recipe.as_ref().is_some_and(|old| old.method.is_ptq() != recipe.method.is_ptq()) {
                    self.undone = 0;
                }
                self.recipe = Some(recipe);
            }
            Event::Gpus(gpus) => self.gpus = gpus,
            Event::Device(device) => self.device = device,
            Event::Entered { stage, seconds } => self.enter(stage, seconds),
            Event::WentBack { to, stage } => {
                let last = to.map_or(0, |s| s.index() + 1);
                self.undone += self.stages[last + 1..].iter().flatten().count();
                self.stages[last] = Some(stage);
                self.set_aside_after(last);
            }
            Event::Redone(stage) => self.bring_back(stage),
            Event::Restored(stages) => self.restore(&stages),
            Event::Repaired(repaired) => self.repairs.push(repaired),
            Event::RepairUndone => drop(self.repairs.pop()),
            Event::Progress(progress) => {
                self.progress = Some(progress);
                self.transfer = None;
            }
            Event::Transfer(transfer) => self.transfer = Some(transfer),
            Event::Observed { images, observers } => {
                self.observed_images = images;
                self.observers = observers;
            }
            Event::IfConverted(found) => self.if_converted.push(found),
            Event::Training(event) if self.running == Some(CommandKind::TrainQat) => self.qat.push(event),
            Event::Training(event) => self.training.push(event),
            Event::Log(line) => self.push_log(line),
            Event::Finished(kind) => self.stop(kind),
            Event::Cancelled(kind) => {
                self.push_log(LogLine::info(format!("Cancelled: {}.", kind.verb())));
                self.stop(kind);
            }
            Event::Failed { kind, message } => {
                self.push_log(LogLine::error(message.clone()));
                self.failure = Some((kind, message));
                self.stop(kind);
            }
        }
    }

    /// A command was sent: until it ends, something runs.
    pub fn expect(&mut self, kind: CommandKind) {
        self.sent.push_back(kind);
        self.running.get_or_insert(kind);
    }

    /// What the newest step left.
    pub fn stage(&self) -> Option<&Arc<Stage>> {
        self.stages.iter().rev().flatten().next()
    }

    /// What `step` left.
    pub fn stage_of(&self, step: Step) -> Option<&Arc<Stage>> {
        self.stages[step.index() + 1].as_ref()
    }

    /// What stood before `step`.
    pub fn stage_before(&self, step: Step) -> Option<&Arc<Stage>> {
        self.stages[step.index()].as_ref()
    }

    /// What a user should know, of all steps so far.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.stages.iter().flatten().flat_map(|stage| stage.warnings())
    }

    /// Whether a command can be given now.
    pub fn allows(&self, kind: CommandKind) -> bool {
        let undone = match kind {
            CommandKind::Redo => self.undone > 0,
            CommandKind::UndoRepair => !self.repairs.is_empty(),
            _ => true,
        };
        let newest = self.now.as_ref().or(self.stage());
        let allowed = newest.map_or(kind.needs_nothing(), |stage| stage.allows(kind));
        self.running.is_none() && undone && allowed
    }

    /// The rail.
    pub fn steps(&self) -> [StepView; 6] {
        Step::ALL.map(|step| {
            let (done, stale) = (self.stage_of(step), self.stale_stage_of(step));
            let state = if self.running.is_some_and(|kind| kind.step() == Some(step)) {
                StepState::Running
            } else if done.is_some() {
                StepState::Done
            } else if stale.is_some() {
                StepState::Stale
            } else if self.stage_before(step).is_some() {
                StepState::Ready
            } else {
                StepState::Locked
            };
            let seconds = self.seconds[step.index()];
            StepView { step, state, result: done.or(stale).map(|s| s.in_a_word()), seconds }
        })
    }

    /// Puts these in the place of all stages.
    fn restore(&mut self, stages: &[Arc<Stage>]) {
        self.undone = 0;
        self.stages = std::array::from_fn(|i| stages.get(i).cloned());
    }

    fn enter(&mut self, stage: Arc<Stage>, seconds: f64) {
        self.undone = 0;
        if self.running != Some(CommandKind::Repair) && !matches!(*stage, Stage::Saved { .. }) {
            self.repairs.clear();
        }
        match stage.done() {
            None => {
                let same = self.stages[0].as_ref().is_some_and(|old| old.graph().name == stage.graph().name);
                self.stages[0] = Some(stage);
                self.set_aside_after(0);
                if !same {
                    self.stale = Stale::default();
                }
            }
            Some(step) => {
                let place = step.index() + 1;
                let before = self.stages[place].replace(stage);
                // A range set by hand takes no time; calibration still took what it took.
                if self.running != Some(CommandKind::SetRange) {
                    self.seconds[step.index()] = Some(seconds);
                }
                self.set_aside_after(place);
                self.stale.replaced(place, before);
            }
        }
    }

    fn stop(&mut self, kind: CommandKind) {
        self.ended += 1;
        self.finished = Some(kind);
        self.sent.pop_front();
        self.running = self.sent.front().copied();
        self.progress = None;
        self.transfer = None;
    }

    fn push_log(&mut self, line: LogLine) {
        if self.log.len() == LOG_LINES {
            self.log.remove(0);
        }
        self.log.push(line);
    }
}

impl CommandKind {
    /// Whether it makes sense before a model is open.
    pub(super) fn needs_nothing(self) -> bool {
        matches!(self, Self::Open | Self::Continue | Self::UseProject | Self::ChooseDevice | Self::KeepCheckpoints)
    }

    /// The step that it runs, if it is one.
    pub fn step(self) -> Option<Step> {
        match self {
            Self::InsertStubs => Some(Step::Stubs),
            Self::LoadWeights | Self::UseShippedWeights | Self::DownloadWeights | Self::ReinitHead | Self::Train => {
                Some(Step::Weights)
            }
            Self::Fuse => Some(Step::Fuse),
            Self::Prepare => Some(Step::Prepare),
            Self::Calibrate | Self::SetRange | Self::TrainQat => Some(Step::Calibrate),
            Self::Convert | Self::Save | Self::Repair | Self::UndoRepair => Some(Step::Convert),
            Self::Open
            | Self::ChooseMethod
            | Self::Choose
            | Self::ChooseDevice
            | Self::KeepCheckpoints
            | Self::BackTo(_)
            | Self::Redo
            | Self::Continue
            | Self::UseProject
            | Self::RunAll => None,
        }
    }
}

impl Stage {
    /// Its result in a word, as the rail shows it.
    pub fn in_a_word(&self) -> String {
        let percent = |a: &Option<f64>| a.map_or("not measured".to_owned(), |a| format!("{:.1} %", a * 100.0));
        match self {
            Self::Opened { graph, .. } => graph.name.clone(),
            Self::Stubbed { .. } => "2 stubs".to_owned(),
            Self::Weighted { origin: WeightsOrigin::WithoutHead(_), .. } => "untrained head".to_owned(),
            Self::Weighted { accuracy, .. } => percent(accuracy),
            Self::Fused { report, .. } => format!("{} fused", report.sites.len()),
            Self::Prepared { report, .. } => format!("{} observers", report.observed.len()),
            Self::Calibrated { images, .. } => format!("{images} images"),
            Self::Trained { accuracy, .. } => percent(accuracy),
            Self::Converted { study: Some(StudyResult { study: Study::AffineWeights, accuracy }), .. } => {
                format!("study: {}", percent(accuracy))
            }
            Self::Converted { .. } => "not saved".to_owned(),
            Self::Saved { measured, .. } => format!("{:.1}× smaller", measured.shrink),
        }
    }
}
