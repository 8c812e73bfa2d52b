//! Step 2: weights from a file, from Octet itself, or by training.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::error::TRAINING;
use super::images::Images;
use super::measure::float_accuracy;
use super::state::Reporter;
use super::{
    Control, Download, Event, Opened, PreprocessChoice, PublishedWeights, Session, SessionError, Stage, Step,
    WeightsChoice, WeightsOrigin, catalog,
};
use crate::data::{Preprocess, Source};
use crate::download::{Place, Transfer, fetch};
use crate::graph::Graph;
use crate::train::{BatchSource, TrainConfig, TrainEvent, TrainState, Training};
use crate::weights::{self, StateDict};
use crate::{quant, zoo::ModelId};

/// Weights that come with Octet, trained on all of Fashion-MNIST's training images.
pub(super) fn shipped(model: ModelId) -> Option<&'static [u8]> {
    match model {
        ModelId::ShuffleNetV2X05 => Some(include_bytes!("../../assets/weights/shufflenet_v2_x0_5.safetensors")),
        ModelId::MobileNetV3Small => Some(include_bytes!("../../assets/weights/mobilenet_v3_small.safetensors")),
        ModelId::ResNet18 => Some(include_bytes!("../../assets/weights/resnet18.safetensors")),
        ModelId::ShuffleNetV2X10
        | ModelId::ShuffleNetV2X15
        | ModelId::ShuffleNetV2X20
        | ModelId::MobileNetV3Large
        | ModelId::EfficientNetV2S
        | ModelId::ResNet34
        | ModelId::ResNet50 => None,
    }
}

/// Whether trained weights for this model on this data come with Octet.
pub fn ships_weights(model: ModelId, data: &Source) -> bool {
    *data == Source::Sample && shipped(model).is_some()
}

/// Fetches published weights unless the cache folder has them; their path there.
///
/// # Errors
/// [`SessionError::Download`]; [`SessionError::Cancelled`], which keeps what has arrived.
pub fn download(
    weights: &PublishedWeights,
    place: &Place,
    on: &mut dyn FnMut(Transfer),
    control: &Control,
) -> Result<PathBuf, SessionError> {
    Ok(fetch(&weights.remote(), place, on, &|| control.checkpoint())?)
}

impl Session {
    /// Whether trained weights for this model on this data come with Octet.
    pub fn has_shipped_weights(&self) -> bool {
        let fits = |o: &Opened| o.classes == o.dataset.labels.len();
        ships_weights(self.recipe.model, &self.recipe.data)
            && self.base(Step::Stubs).is_ok_and(|stage| fits(stage.opened()))
    }

    pub(super) fn load_weights(&mut self, path: &Path, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let fetched =
            self.fetched.as_ref().filter(|(file, weights)| file == path && weights.model == self.recipe.model);
        let published = match fetched {
            Some((_, weights)) => Some(weights.clone()),
            None => catalog()?.recognize(self.recipe.model, path).cloned(),
        };
        self.load_file(path, published.as_ref(), start, to)
    }

    /// Loads a file, of `published` weights where it is that.
    fn load_file(
        &mut self,
        path: &Path,
        published: Option<&PublishedWeights>,
        start: Instant,
        to: &mut Reporter<'_>,
    ) -> Result<(), SessionError> {
        let choice = WeightsChoice::File(path.to_owned());
        let dict = weights::read(path)?;
        // A new head was asked for with one file; another keeps its own unless it is asked for again.
        self.recipe.reinit_head &= self.recipe.weights == choice;
        self.fill(&dict, WeightsOrigin::File(path.to_owned()), published, start, to)?;
        self.choose_weights(choice, to);
        Ok(())
    }

    pub(super) fn download_weights(&mut self, what: &Download, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let Download { weights: published, place } = what;
        if published.model != self.recipe.model {
            let title = |model: ModelId| model.title().to_owned();
            let (found, expected) = (title(published.model), title(self.recipe.model));
            return Err(SessionError::OtherModel { found, expected });
        }
        let control = to.control;
        let path = download(published, place, &mut |transfer| (to.emit)(Event::Transfer(transfer)), control)?;
        to.info(format!("{} is here as {}, its SHA-256 checked.", published.address, path.display()));
        self.fetched = Some((path.clone(), published.clone()));
        self.load_file(&path, Some(published), start, to)
    }

    /// Loads the file again: with a new head for the data's classes, or with its own.
    pub(super) fn change_head(&mut self, new: bool, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let labelled = self.base(Step::Stubs)?.opened().dataset.labelled;
        let WeightsChoice::File(path) = self.recipe.weights.clone() else { return Err(SessionError::NoHead) };
        if !labelled {
            return Err(SessionError::NoHead);
        }
        let before = std::mem::replace(&mut self.recipe.reinit_head, new);
        let result = self.load_weights(&path, to);
        if result.is_err() {
            self.recipe.reinit_head = before;
        }
        result
    }

    pub(super) fn use_shipped_weights(&mut self, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let bytes = shipped(self.recipe.model).filter(|_| self.has_shipped_weights());
        let Some(bytes) = bytes else {
            return Err(SessionError::NothingShipped { model: self.recipe.model.title().to_owned() });
        };
        let name = format!("assets/weights/{}.safetensors", self.recipe.model.name());
        let dict = weights::from_safetensors(&name, bytes)?;
        self.fill(&dict, WeightsOrigin::Shipped, None, start, to)?;
        self.choose_weights(WeightsChoice::Automatic, to);
        Ok(())
    }

    /// Loads a state dict, first giving the model as many classes as its head has and preparing images as these weights
    /// expect them.
    fn fill(
        &mut self,
        dict: &StateDict,
        origin: WeightsOrigin,
        published: Option<&PublishedWeights>,
        start: Instant,
        to: &mut Reporter<'_>,
    ) -> Result<(), SessionError> {
        let mut opened = self.base(Step::Stubs)?.opened().clone();
        let mut graph = self.base(Step::Weights)?.graph().clone();
        let of_file = weights::classes(dict);
        let wanted = self.recipe.classes.or(opened.dataset.labelled.then_some(opened.dataset.labels.len()));
        // The file's head and the one in its place, of another class count.
        let replaced = of_file.zip(wanted).filter(|(found, wanted)| found != wanted && self.recipe.reinit_head);
        if let (Some(found), Some(expected), None) = (of_file, self.recipe.classes, replaced)
            && found != expected
        {
            return Err(SessionError::Head { found, expected });
        }
        let classes = replaced.map(|(_, wanted)| wanted).or(of_file).unwrap_or(opened.classes);
        let default = opened.dataset.preprocess();
        let preprocess = self.asked.resolve(published.map_or(default, |weights| weights.preprocess(default)));
        preprocess.check()?;
        if (classes, preprocess) != (opened.classes, opened.preprocess) {
            if replaced.is_none() && classes != opened.classes {
                to.info(format!("The weights have {classes} classes: the model is built with as many."));
            }
            (opened, graph) = self.restart_with(classes, preprocess, &opened, to)?;
        }
        self.note_preprocessing(&opened, published, to);
        if let Some(caution) = weights::caution(&graph, dict) {
            to.warn(caution);
        }
        let Some((found, wanted)) = replaced else {
            return self.weigh(opened, Arc::new(weights::load(&graph, dict)?), origin, start, to);
        };
        to.warn(format!(
            "The weights' head of {found} classes is left out: the new one, of {wanted}, is random until it is trained."
        ));
        let graph = Arc::new(weights::load_without_head(&graph, dict)?);
        // Chance is what it would name rightly: not worth the time.
        let origin = match origin {
            WeightsOrigin::File(path) => WeightsOrigin::WithoutHead(path),
            other @ (WeightsOrigin::Shipped | WeightsOrigin::WithoutHead(_) | WeightsOrigin::Trained { .. }) => other,
        };
        self.enter(Stage::Weighted { opened, graph, origin, accuracy: None }, start, to);
        Ok(())
    }

    /// Writes what published weights filled in of the preprocessing into the recipe, and says it.
    pub(super) fn note_preprocessing(
        &mut self,
        opened: &Opened,
        published: Option<&PublishedWeights>,
        to: &mut Reporter<'_>,
    ) {
        let choice = match published {
            Some(_) => PreprocessChoice::exactly(opened.preprocess),
            None => self.asked.clone(),
        };
        if let Some(weights) = published
            && self.recipe.preprocess != choice
        {
            let size = opened.preprocess.size;
            let how = match opened.preprocess.resize {
                Some(side) => format!("the shorter side to {side} px, then the centre, {size} px"),
                None => format!("{size} px"),
            };
            to.info(format!(
                "torchvision's {} for {}: images are prepared for them, {how}.",
                weights.entry, weights.model
            ));
        }
        self.recipe.preprocess = choice;
    }

    /// Opens and stubs the model again with another class count, or for images that are prepared otherwise.
    fn restart_with(
        &mut self,
        classes: usize,
        preprocess: Preprocess,
        opened: &Opened,
        to: &mut Reporter<'_>,
    ) -> Result<(Arc<Opened>, Arc<Graph>), SessionError> {
        let start = Instant::now();
        let (opened, plain) = opened.with(classes, preprocess, &self.recipe)?;
        let (graph, report) = quant::insert_stubs(&plain)?;
        let (opened, graph) = (Arc::new(opened), Arc::new(graph));
        self.enter(Stage::Opened { opened: opened.clone(), graph: plain.into() }, start, to);
        let stubbed = Stage::Stubbed { opened: opened.clone(), graph: graph.clone(), report: report.into() };
        self.enter(stubbed, start, to);
        Ok((opened, graph))
    }

    pub(super) fn train(&mut self, config: TrainConfig, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let opened = self.base(Step::Stubs)?.opened().clone();
        opened.require_labels(TRAINING)?;
        // From here on, or from where the weights of an earlier step 2 stand.
        let graph = match self.stage()?.as_ref() {
            Stage::Weighted { graph, .. } => graph.clone(),
            _ => self.base(Step::Weights)?.graph().clone(),
        };
        let gone = AtomicBool::new(false);
        let images = Images::new(&opened.dataset.train, &opened, &gone);
        let held_out = Images::new(&opened.dataset.valid, &opened, &gone);
        let valid = (!held_out.is_empty()).then_some(&held_out as &dyn BatchSource);
        let config = TrainConfig { seed: self.recipe.seed, ..config };
        self.recipe.train = config;
        let resumed = self.resumed(&graph, to)?;
        let mut failed = None;
        let mut save = |state: &TrainState| {
            // An epoch without all of its images is none to go on from.
            if !gone.load(Ordering::Relaxed) {
                failed = failed.take().or(self.keep(state).err());
            }
        };
        let control = to.control;
        let run = Training {
            graph: &graph,
            source: &images,
            valid,
            config: &config,
            qat: None,
            device: &self.device,
            resume: resumed.as_ref(),
        };
        let outcome = run.run(
            &mut |event| {
                if let TrainEvent::Step { epoch, step, steps, .. } = &event {
                    to.progress("Training", epoch * steps + step + 1, config.epochs * steps);
                }
                (to.emit)(Event::Training(event));
            },
            Some(&mut save),
            &|| if gone.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { control.checkpoint() },
        )?;
        if gone.load(Ordering::Relaxed) {
            return Err(SessionError::DataGone { path: opened.source.clone() });
        }
        if let Some(error) = failed {
            to.warn(format!("No checkpoint was kept: {error}."));
        }
        for skipped in [&images.skipped, &held_out.skipped] {
            to.unreadable(&opened, &skipped.borrow());
        }
        if outcome.epochs == 0 && outcome.stopped {
            return Err(SessionError::Cancelled);
        }
        let origin = WeightsOrigin::Trained { epochs: outcome.epochs, stopped: outcome.stopped };
        // Measured by the trainer at the end of the best epoch: a cancel must not wait for it again.
        let accuracy = outcome.valid.map(|score| score.accuracy());
        // A new head is trained on top of its file each time that the recipe runs.
        if !self.stage()?.has_untrained_head() {
            self.choose_weights(WeightsChoice::Train, to);
        }
        self.enter(Stage::Weighted { opened, graph: Arc::new(outcome.graph), origin, accuracy }, start, to);
        Ok(())
    }

    fn weigh(
        &mut self,
        opened: Arc<Opened>,
        graph: Arc<Graph>,
        origin: WeightsOrigin,
        start: Instant,
        to: &mut Reporter<'_>,
    ) -> Result<(), SessionError> {
        if let Some(why) = opened.why_no_accuracy() {
            to.warn(format!("No accuracy: {why}."));
        }
        let accuracy = float_accuracy(&opened, &graph, &self.device, to)?;
        self.enter(Stage::Weighted { opened, graph, origin, accuracy }, start, to);
        Ok(())
    }
}
