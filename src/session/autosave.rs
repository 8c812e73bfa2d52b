//! What a project folder keeps of the session in hand: after each step the recipe and how far it is, after each training
//! what was learnt, after each epoch the state of one that runs. A window that is closed, or dies, loses nothing: what was
//! not trained is run again, by the same recipe to the same result.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::project::{self, ProjectError};
use super::state::Reporter;
use super::{
    CheckpointFile, Command, Event, Method, Project, Recipe, Session, SessionError, Stage, Step, WeightsOrigin,
    checkpoint::require_finite,
};
use crate::graph::{FakeQuants, Graph};
use crate::train::TrainState;
use crate::weights::{Checkpoint, legible, octet, read_checkpoint, write_checkpoint};

const FORMAT: &str = "octet-session";
const VERSION: u32 = 1;

/// A session that can be gone on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    format: String,
    version: u32,
    /// Everything that was chosen.
    pub recipe: Recipe,
    /// The last step that was done; `None` where a model was opened and no more.
    pub done: Option<Step>,
    /// The int8 file, where it was saved and measured.
    pub saved: Option<PathBuf>,
    /// Epochs that a training had behind it when it was cut short, if one was.
    pub training: Option<usize>,
    /// Whether the weights of step 2 were trained, and stand in a file of their own.
    trained: bool,
    /// When that was written; not part of it.
    #[serde(skip)]
    pub when: Option<SystemTime>,
}

/// What a training left, beside its tensors.
#[derive(Serialize, Deserialize)]
struct Learnt {
    version: u32,
    epochs: usize,
    stopped: bool,
    /// The bits of it: a decimal might come back as another number.
    accuracy: Option<u64>,
    fake_quants: Option<FakeQuants>,
}

impl Project {
    fn session_folder(&self) -> PathBuf {
        self.folder().join("session")
    }

    fn note(&self) -> PathBuf {
        self.session_folder().join("session.json")
    }

    fn weights_file(&self) -> PathBuf {
        self.session_folder().join("weights.safetensors")
    }

    fn trained_file(&self) -> PathBuf {
        self.session_folder().join("trained.safetensors")
    }

    fn checkpoint_file(&self) -> PathBuf {
        self.session_folder().join("training.checkpoint")
    }

    /// The session that was last worked on here, if there is one.
    ///
    /// # Errors
    /// [`ProjectError`], where there is something else.
    pub fn unfinished(&self) -> Result<Option<Unfinished>, ProjectError> {
        let path = self.note();
        if !path.exists() {
            return Ok(None);
        }
        let kept: Unfinished = project::read_json(&path)?;
        if kept.format != FORMAT || kept.version != VERSION {
            let found = legible(&kept.format);
            let detail = format!("it says {found} {}, expected {FORMAT} {VERSION}", kept.version);
            return Err(ProjectError::Format { path, detail });
        }
        let when = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
        Ok(Some(Unfinished { when, ..kept }))
    }
}

impl Session {
    /// The same, keeping in its project how far it is.
    pub fn autosaving(mut self) -> Self {
        self.autosaves = true;
        self
    }

    fn autosaved(&self) -> Option<&Project> {
        self.project.as_ref().filter(|_| self.autosaves)
    }

    /// Keeps everything in another folder from now on.
    pub(super) fn use_project(&mut self, folder: PathBuf, to: &mut Reporter<'_>) {
        self.project = Some(Project::new(folder));
        (self.learnt_kept, self.autosave_fails) = (Default::default(), false);
        self.autosave(to);
    }

    /// Notes how far the session is. That it cannot be noted costs no result: it is said, once.
    pub(super) fn autosave(&mut self, to: &mut Reporter<'_>) {
        let Some(project) = self.autosaved().cloned() else { return };
        match self.keep_learnt(&project).and_then(|()| self.note(&project, None)) {
            // What was cut short is behind us, now that the note says so: the one before goes on from the checkpoint.
            Ok(()) => drop(std::fs::remove_file(project.checkpoint_file())),
            Err(e) if !std::mem::replace(&mut self.autosave_fails, true) => {
                to.warn(format!("The session is not kept as it goes: {e}."));
            }
            Err(_) => {}
        }
    }

    /// Keeps the state of a training that runs.
    pub(super) fn autosave_training(&self, state: &TrainState) -> Result<(), SessionError> {
        let Some(project) = self.autosaved() else { return Ok(()) };
        super::checkpoint::write(&project.checkpoint_file(), state, &self.recipe)?;
        self.note(project, Some(state.epochs))
    }

    fn note(&self, project: &Project, training: Option<usize>) -> Result<(), SessionError> {
        let Ok(stage) = self.stage() else { return Ok(()) };
        let trained = self.stage_of(Step::Weights).is_some_and(|s| learnt(s).is_some());
        let saved = match stage.as_ref() {
            Stage::Saved { measured, .. } => std::path::absolute(&measured.file).ok(),
            Stage::Opened { .. }
            | Stage::Stubbed { .. }
            | Stage::Weighted { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Calibrated { .. }
            | Stage::Trained { .. }
            | Stage::Converted { .. } => None,
        };
        let (recipe, done) = (self.recipe.clone(), stage.done());
        let format = FORMAT.to_owned();
        let kept = Unfinished { format, version: VERSION, recipe, done, saved, training, trained, when: None };
        let path = project.note();
        let wrote = std::fs::create_dir_all(project.session_folder()).and_then(|()| project::write_json(&path, &kept));
        wrote.map_err(|source| SessionError::Project(Box::new(ProjectError::Write { path, source })))
    }

    /// Writes what trainings left, each once.
    fn keep_learnt(&mut self, project: &Project) -> Result<(), SessionError> {
        let places = [(Step::Weights, project.weights_file()), (Step::Calibrate, project.trained_file())];
        for (i, (step, path)) in places.into_iter().enumerate() {
            let Some((graph, learnt)) = self.stage_of(step).and_then(|stage| learnt(stage)) else { continue };
            if !self.learnt_kept[i].as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &graph)) {
                write_learnt(&path, &graph, &learnt)?;
                self.learnt_kept[i] = Some(graph);
            }
        }
        Ok(())
    }

    /// Opens what was worked on, and brings it to where it was: what was trained is read, the rest is run again. A training
    /// that was cut short goes on after its last whole epoch.
    pub(super) fn go_on(&mut self, kept: Unfinished, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let Some(project) = self.project.clone() else { return Err(SessionError::NothingOpen) };
        // Until all is as it was, the note of where that is must stand; and a run that was kept is not kept again.
        let autosaves = std::mem::replace(&mut self.autosaves, false);
        self.project = None;
        let caught_up = self.catch_up(&kept, &project, to);
        self.project = Some(project.clone());
        self.autosaves = autosaves;
        caught_up?;
        if kept.training.is_none() {
            self.autosave(to);
            return Ok(());
        }
        let training = match (kept.done, kept.recipe.method) {
            (Some(Step::Prepare), Method::Qat(training)) => Command::TrainQat(training),
            (_, _) => Command::Train(kept.recipe.train),
        };
        (to.emit)(Event::Started(training.kind()));
        let named = self.checkpoint.replace(CheckpointFile { path: project.checkpoint_file(), resume: true });
        let trained = self.dispatch(training, to);
        self.checkpoint = named;
        trained
    }

    fn catch_up(&mut self, kept: &Unfinished, project: &Project, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        self.open(kept.recipe.clone(), to)?;
        while self.stage()?.done() < kept.done {
            let at = self.stage()?.done();
            let (started, read) = match at {
                Some(Step::Stubs) if kept.trained => (Step::Weights, Some(project.weights_file())),
                Some(Step::Prepare) if !kept.recipe.method.is_ptq() => (Step::Calibrate, Some(project.trained_file())),
                Some(_) | None => (Step::Stubs, None),
            };
            match read {
                Some(path) => self.read_back(started, &path, to)?,
                None => {
                    let Some(next) = self.next(to)? else { return Ok(()) };
                    (to.emit)(Event::Started(next.kind()));
                    self.dispatch(next, to)?;
                }
            }
        }
        if let Some(path) = &kept.saved {
            // The note names the file: one that is not the int8 file it speaks of is nobody's to write over.
            if !octet::is_octet(path) {
                to.warn(format!("{} is no longer the int8 file that was saved: save again.", path.display()));
                return Ok(());
            }
            let save = Command::Save(path.clone());
            (to.emit)(Event::Started(save.kind()));
            self.dispatch(save, to)?;
        }
        Ok(())
    }

    /// Puts what a training left where it was.
    fn read_back(&mut self, step: Step, path: &Path, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let base = self.base(step)?.clone();
        let (graph, learnt) = read_learnt(path, base.graph())?;
        let (graph, accuracy) = (Arc::new(graph), learnt.accuracy.map(f64::from_bits));
        let Learnt { epochs, stopped, .. } = learnt;
        let stage = match learnt.fake_quants {
            None => {
                let origin = WeightsOrigin::Trained { epochs, stopped };
                Stage::Weighted { opened: base.opened().clone(), graph: graph.clone(), origin, accuracy }
            }
            Some(fake_quants) => {
                let (before, fake_quants) = (self.weighted()?, Arc::new(fake_quants));
                Stage::Trained { before, graph: graph.clone(), fake_quants, accuracy, epochs, stopped }
            }
        };
        self.learnt_kept[usize::from(step != Step::Weights)] = Some(graph);
        self.enter(stage, start, to);
        Ok(())
    }
}

/// What a stage has of a training.
fn learnt(stage: &Stage) -> Option<(Arc<Graph>, Learnt)> {
    let (graph, epochs, stopped, accuracy, fake_quants) = match stage {
        Stage::Weighted { graph, origin: WeightsOrigin::Trained { epochs, stopped }, accuracy, .. } => {
            (graph, *epochs, *stopped, *accuracy, None)
        }
        Stage::Trained { graph, fake_quants, accuracy, epochs, stopped, .. } => {
            (graph, *epochs, *stopped, *accuracy, Some((**fake_quants).clone()))
        }
        Stage::Opened { .. }
        | Stage::Stubbed { .. }
        | Stage::Weighted { .. }
        | Stage::Fused { .. }
        | Stage::Prepared { .. }
        | Stage::Calibrated { .. }
        | Stage::Converted { .. }
        | Stage::Saved { .. } => return None,
    };
    let accuracy = accuracy.map(f64::to_bits);
    Some((graph.clone(), Learnt { version: VERSION, epochs, stopped, accuracy, fake_quants }))
}

fn write_learnt(path: &Path, graph: &Graph, learnt: &Learnt) -> Result<(), SessionError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| {
            let path = folder.to_owned();
            SessionError::Project(Box::new(ProjectError::Write { path, source }))
        })?;
    }
    let tensors = graph.params().iter().map(|p| (key(graph, p), p.tensor.clone())).collect::<BTreeMap<_, _>>();
    let document = serde_json::to_value(learnt).expect("plain numbers and names become JSON");
    Ok(write_checkpoint(path, &Checkpoint { document, tensors }).map(drop)?)
}

fn read_learnt(path: &Path, graph: &Graph) -> Result<(Graph, Learnt), SessionError> {
    let refuse = |detail: String| SessionError::Checkpoint { path: path.display().to_string(), detail };
    let Checkpoint { document, mut tensors } = read_checkpoint(path)?;
    let learnt: Learnt = serde_json::from_value(document).map_err(|e| refuse(e.to_string()))?;
    if learnt.version != VERSION {
        return Err(refuse(format!("its format is {}, expected {VERSION}", learnt.version)));
    }
    let mut values = HashMap::new();
    for param in graph.params() {
        let key = key(graph, &param);
        let Some(tensor) = tensors.remove(&key) else { return Err(refuse(format!("`{key}` is missing"))) };
        if tensor.shape != param.tensor.shape {
            let (found, expected) = (&tensor.shape, &param.tensor.shape);
            return Err(refuse(format!("`{key}` has the shape {found:?}, expected {expected:?}")));
        }
        require_finite(&key, &tensor).map_err(refuse)?;
        values.insert(key, tensor);
    }
    Ok((graph.with_params(&values), learnt))
}

fn key(graph: &Graph, param: &crate::graph::ParamRef<'_>) -> String {
    format!("{}.{}", graph.node(param.node).name, param.part)
}
