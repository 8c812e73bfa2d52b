use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::{
    CheckpointFile, Command, CommandKind, Control, Event, LogLine, Opened, Progress, Recipe, SessionError, Stage, Step,
};
use super::{Method, PreprocessChoice, Project, PublishedWeights, WeightsChoice, catalog};
use crate::buffers::refusal;
use crate::data::Skipped;
use crate::exec::float::Device;
use crate::graph::Graph;
use crate::quant::{self, Warning};

/// One model on its way to int8, with every earlier stage kept.
#[derive(Debug)]
pub struct Session {
    pub(super) recipe: Recipe,
    /// The opened model, then one stage a finished step.
    history: Vec<Arc<Stage>>,
    /// How long each step took when it was last carried out.
    pub(super) seconds: [Option<f64>; 6],
    pub(super) device: Device,
    /// The preprocessing that was chosen, before weights of torchvision's filled in the rest of the recipe's.
    pub(super) asked: PreprocessChoice,
    /// What was undone, in the order of the steps, and the recipe that led there.
    undone: Vec<Arc<Stage>>,
    undone_recipe: Option<Recipe>,
    /// Where saved runs are kept, if anywhere.
    pub(super) project: Option<Project>,
    /// The file that was downloaded last, and what it is.
    pub(super) fetched: Option<(PathBuf, PublishedWeights)>,
    /// What was before each repair, the last one last.
    pub(super) before_repairs: Vec<(Recipe, Vec<Arc<Stage>>)>,
    /// Whether the steps that run are a repair's.
    pub(super) repairing: bool,
    /// Where training keeps its state.
    pub(super) checkpoint: Option<CheckpointFile>,
    /// Whether the project keeps how far the session is.
    pub(super) autosaves: bool,
    /// That this failed was said.
    pub(super) autosave_fails: bool,
    /// What trainings left that is kept already: of step 2, of step 5.
    pub(super) learnt_kept: [Option<Arc<Graph>>; 2],
}

/// Where a running step reports to and asks whether to go on.
pub(super) struct Reporter<'a> {
    pub emit: &'a mut dyn FnMut(Event),
    pub control: &'a Control,
}

impl Reporter<'_> {
    pub fn info(&mut self, text: impl Into<String>) {
        (self.emit)(Event::Log(LogLine::info(text)));
    }

    pub fn warn(&mut self, text: impl Into<String>) {
        (self.emit)(Event::Log(LogLine::warning(text)));
    }

    /// Says every warning in the log.
    pub fn warn_of(&mut self, warnings: &[Warning]) {
        warnings.iter().for_each(|warning| self.warn(format!("{warning}.")));
    }

    /// Names files that are no images, each once.
    pub fn unreadable(&mut self, opened: &Opened, skipped: &[Skipped]) {
        for line in opened.unreadable(skipped) {
            self.warn(line);
        }
    }

    pub fn progress(&mut self, what: &'static str, done: usize, total: usize) {
        (self.emit)(Event::Progress(Progress { what, done, total }));
    }

    pub fn checkpoint(&self) -> Result<(), SessionError> {
        if self.control.checkpoint().is_break() { Err(SessionError::Cancelled) } else { Ok(()) }
    }
}

impl Session {
    /// Nothing is open yet.
    pub fn new(device: Device) -> Self {
        let recipe = Recipe::new(crate::zoo::ModelId::ShuffleNetV2X05);
        Self {
            recipe,
            history: Vec::new(),
            seconds: [None; 6],
            device,
            asked: PreprocessChoice::default(),
            undone: Vec::new(),
            undone_recipe: None,
            project: None,
            fetched: None,
            before_repairs: Vec::new(),
            repairing: false,
            checkpoint: None,
            autosaves: false,
            autosave_fails: false,
            learnt_kept: [None, None],
        }
    }

    /// The same, keeping every run that is saved in this project.
    pub fn in_project(self, project: Project) -> Self {
        Self { project: Some(project), ..self }
    }

    /// The choices so far.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The float model after step 2, not fused; `None` before.
    pub fn weighted_graph(&self) -> Option<&Arc<crate::graph::Graph>> {
        self.stage_of(Step::Weights).map(|stage| stage.graph())
    }

    /// What the newest step left.
    ///
    /// # Errors
    /// [`SessionError::NothingOpen`].
    pub fn stage(&self) -> Result<&Arc<Stage>, SessionError> {
        self.history.last().ok_or(SessionError::NothingOpen)
    }

    /// What each step left, the oldest first.
    pub fn history(&self) -> &[Arc<Stage>] {
        &self.history
    }

    /// What a user should know, of all steps so far.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.history.iter().flat_map(|stage| stage.warnings())
    }

    /// Carries out one command. Whatever goes wrong, the stages before it stay.
    ///
    /// # Errors
    /// What the step ran into; it was also emitted as [`Event::Failed`] or [`Event::Cancelled`].
    pub fn apply(
        &mut self,
        command: Command,
        emit: &mut dyn FnMut(Event),
        control: &Control,
    ) -> Result<(), SessionError> {
        let kind = command.kind();
        emit(Event::Started(kind));
        let before = self.standing();
        let run = AssertUnwindSafe(|| self.dispatch(command, &mut Reporter { emit: &mut *emit, control }));
        let result = catch_unwind(run).unwrap_or_else(|panic| {
            self.recover(before, emit);
            // What has no room is an error as any other; a panic is told by whoever runs the session.
            Err(refusal(&*panic).unwrap_or_else(|| resume_unwind(panic)).into())
        });
        emit(match &result {
            Ok(()) => Event::Finished(kind),
            Err(SessionError::Cancelled) => Event::Cancelled(kind),
            Err(e) => Event::Failed { kind, message: e.to_string() },
        });
        result
    }

    pub(super) fn dispatch(&mut self, command: Command, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let kind = command.kind();
        let done = self.history.last().and_then(|s| s.done());
        let allowed = match self.history.last() {
            Some(stage) => stage.allows(kind),
            None => kind.needs_nothing(),
        };
        if !allowed {
            return match self.stage()?.is_study_alone() && kind == CommandKind::Save {
                true => Err(SessionError::StudyAlone),
                false => Err(SessionError::NotAllowed { kind, done }),
            };
        }
        match command {
            Command::Open(recipe) => {
                // A device that is not there is said before anything is read.
                self.device.check()?;
                self.open(*recipe, to)
            }
            Command::ChooseMethod(method) => self.choose_method(method, to),
            Command::ChooseDevice(device) => {
                device.check()?;
                self.device = device;
                (to.emit)(Event::Device(device));
                Ok(())
            }
            Command::Choose(recipe) => self.choose(*recipe, to),
            Command::KeepCheckpoints(file) => {
                self.checkpoint = file;
                Ok(())
            }
            Command::InsertStubs => self.insert_stubs(to),
            Command::LoadWeights(path) => self.load_weights(&path, to),
            Command::UseShippedWeights => self.use_shipped_weights(to),
            Command::DownloadWeights(download) => self.download_weights(&download, to),
            Command::ReinitHead(new) => self.change_head(new, to),
            Command::Train(config) => self.train(config, to),
            Command::Fuse(options) => self.fuse(&options, to),
            Command::Prepare(qconfig) => self.prepare(qconfig, to),
            Command::Calibrate(calibration) => self.calibrate(calibration, to),
            Command::SetRange(node, range) => self.set_range(&node, range, to),
            Command::TrainQat(training) => self.train_qat(training, to),
            Command::Convert => self.convert(to),
            Command::Repair(repair) => self.repair(*repair, to),
            Command::UndoRepair => self.undo_repair(to),
            Command::Save(path) => self.save(&path, to),
            Command::BackTo(step) => self.back_to(step, to),
            Command::Redo => self.redo(to),
            Command::Continue(kept) => self.go_on(*kept, to),
            Command::UseProject(folder) => {
                self.use_project(folder, to);
                Ok(())
            }
            Command::RunAll(path) => self.run_all(&path, to),
        }
    }

    pub(super) fn open(&mut self, recipe: Recipe, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        recipe.calibration.check()?;
        let published = match &recipe.weights {
            WeightsChoice::File(path) => catalog()?.recognize(recipe.model, path),
            WeightsChoice::Automatic | WeightsChoice::Train => None,
        };
        let (opened, graph) = Opened::open(&recipe, published)?;
        to.unreadable(&opened, &opened.dataset.skipped);
        to.info(format!(
            "{}: {} training and {} held-out images, {} classes, {} px.",
            opened.source,
            opened.dataset.train.len(),
            opened.dataset.valid.len(),
            opened.dataset.labels.len(),
            opened.preprocess.size,
        ));
        self.asked = recipe.preprocess.clone();
        self.recipe = recipe;
        self.note_preprocessing(&opened, published, to);
        self.history.clear();
        self.enter(Stage::Opened { opened: Arc::new(opened), graph: Arc::new(graph) }, start, to);
        Ok(())
    }

    pub(super) fn back_to(&mut self, step: Step, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let keep = (step.index() + 2).min(self.history.len());
        self.undone_recipe.get_or_insert_with(|| self.recipe.clone());
        self.undone.splice(0..0, self.history.split_off(keep));
        let stage = self.stage()?.clone();
        (to.emit)(Event::WentBack { to: Some(step), stage });
        self.autosave(to);
        Ok(())
    }

    /// Brings the next undone step back, with the choices that led there.
    fn redo(&mut self, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        if self.undone.is_empty() {
            return Err(SessionError::NothingUndone);
        }
        let stage = self.undone.remove(0);
        if let Some(recipe) = &self.undone_recipe {
            self.recipe = recipe.clone();
        }
        self.history.push(stage.clone());
        (to.emit)(Event::Recipe(Arc::new(self.recipe.clone())));
        (to.emit)(Event::Redone(stage));
        self.autosave(to);
        Ok(())
    }

    /// That the recipe's choices can be carried out on this model, before any work is done for them.
    fn check_choices(&self) -> Result<(), SessionError> {
        let qconfig = &self.recipe.qconfig;
        qconfig.check()?;
        if !qconfig.overrides.is_empty() {
            let (stubbed, _) = quant::insert_stubs(self.base(Step::Stubs)?.graph())?;
            let (fused, _) = quant::fuse(&stubbed, &self.fuse_options())?;
            quant::prepare(&fused, qconfig)?;
        }
        Ok(())
    }

    /// The steps that are left, with the recipe's choices.
    fn run_all(&mut self, out: &Path, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        self.check_choices()?;
        while let Some(next) = self.next(to)? {
            (to.emit)(Event::Started(next.kind()));
            self.dispatch(next, to)?;
        }
        if self.stage()?.is_study_alone() {
            return Ok(());
        }
        (to.emit)(Event::Started(CommandKind::Save));
        self.save(out, to)
    }

    /// What leads to the next step by the recipe; `None` after the last.
    pub(super) fn next(&self, to: &mut Reporter<'_>) -> Result<Option<Command>, SessionError> {
        Ok(Some(match self.stage()?.done() {
            None => Command::InsertStubs,
            Some(Step::Stubs) => self.weights_command(to),
            Some(Step::Weights) if self.stage()?.has_untrained_head() => Command::Train(self.recipe.train),
            Some(Step::Weights) => Command::Fuse(self.fuse_options()),
            Some(Step::Fuse) => Command::Prepare(self.recipe.qconfig.clone()),
            Some(Step::Prepare) => match self.recipe.method {
                Method::Ptq => Command::Calibrate(self.recipe.calibration),
                Method::Qat(training) => Command::TrainQat(training),
            },
            Some(Step::Calibrate) => Command::Convert,
            Some(Step::Convert) => return Ok(None),
        }))
    }

    fn weights_command(&self, to: &mut Reporter<'_>) -> Command {
        match &self.recipe.weights {
            WeightsChoice::File(path) => Command::LoadWeights(path.clone()),
            WeightsChoice::Automatic if self.has_shipped_weights() => Command::UseShippedWeights,
            WeightsChoice::Automatic => {
                to.warn(format!(
                    "No weights were given and none come with Octet for {} on this data: it is trained first.",
                    self.recipe.model.title()
                ));
                Command::Train(self.recipe.train)
            }
            WeightsChoice::Train => Command::Train(self.recipe.train),
        }
    }

    /// Every stage so far.
    pub(super) fn stages(&self) -> &[Arc<Stage>] {
        &self.history
    }

    /// These are the stages from now on.
    pub(super) fn set_stages(&mut self, stages: Vec<Arc<Stage>>) {
        self.history = stages;
        self.forget_undone();
    }

    /// Keeps the first `stages` stages.
    pub(super) fn rewind(&mut self, stages: usize) {
        self.history.truncate(stages);
    }

    /// What `step` left.
    pub(super) fn stage_of(&self, step: Step) -> Option<&Arc<Stage>> {
        self.history.get(step.index() + 1)
    }

    /// The stage that `step` starts from.
    pub(super) fn base(&self, step: Step) -> Result<&Arc<Stage>, SessionError> {
        self.history.get(step.index()).ok_or(SessionError::NothingOpen)
    }

    /// Notes which weights were chosen.
    pub(super) fn choose_weights(&mut self, choice: WeightsChoice, to: &mut Reporter<'_>) {
        self.recipe.weights = choice;
        (to.emit)(Event::Recipe(Arc::new(self.recipe.clone())));
    }

    /// What was undone can no longer be brought back.
    pub(super) fn forget_undone(&mut self) {
        (self.undone, self.undone_recipe) = (Vec::new(), None);
    }

    /// Puts a new stage in its place, dropping what was there and after it.
    pub(super) fn enter(&mut self, stage: Stage, start: Instant, to: &mut Reporter<'_>) {
        let place = stage.done().map_or(0, |s| s.index() + 1);
        // What is saved is what was repaired; any other step is another model's.
        if !self.repairing && !matches!(stage, Stage::Saved { .. }) {
            self.before_repairs.clear();
        }
        self.rewind(place);
        self.forget_undone();
        let stage = Arc::new(stage);
        self.history.push(stage.clone());
        (to.emit)(Event::Recipe(Arc::new(self.recipe.clone())));
        let seconds = start.elapsed().as_secs_f64();
        if place > 0 {
            self.seconds[place - 1] = Some(seconds);
        }
        (to.emit)(Event::Entered { stage, seconds });
        self.autosave(to);
    }
}
