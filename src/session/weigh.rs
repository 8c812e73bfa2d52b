//! Step 2: weights from a file, from Octet itself, or by training.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::error::TRAINING;
use super::images::Images;
use super::measure::float_accuracy;
use super::state::Reporter;
use super::{Event, Opened, Session, SessionError, Stage, Step, WeightsChoice, WeightsOrigin};
use crate::data::Source;
use crate::graph::Graph;
use crate::train::{self, BatchSource, TrainConfig, TrainEvent};
use crate::weights::{self, StateDict};
use crate::{quant, zoo::ModelId};

/// Weights that come with Octet, trained on all of Fashion-MNIST's training images.
fn shipped(model: ModelId) -> Option<&'static [u8]> {
    match model {
        ModelId::ShuffleNetV2X05 => Some(include_bytes!("../../assets/weights/shufflenet_v2_x0_5.safetensors")),
        ModelId::ShuffleNetV2X10
        | ModelId::ShuffleNetV2X15
        | ModelId::ShuffleNetV2X20
        | ModelId::MobileNetV3Small
        | ModelId::MobileNetV3Large
        | ModelId::EfficientNetV2S
        | ModelId::ResNet18
        | ModelId::ResNet34
        | ModelId::ResNet50 => None,
    }
}

/// Whether trained weights for this model on this data come with Octet.
pub fn ships_weights(model: ModelId, data: &Source) -> bool {
    *data == Source::Sample && shipped(model).is_some()
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
        let dict = weights::read(path)?;
        self.fill(&dict, WeightsOrigin::File(path.to_owned()), start, to)?;
        self.choose_weights(WeightsChoice::File(path.to_owned()));
        Ok(())
    }

    pub(super) fn use_shipped_weights(&mut self, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let bytes = shipped(self.recipe.model).filter(|_| self.has_shipped_weights());
        let Some(bytes) = bytes else {
            return Err(SessionError::NothingShipped { model: self.recipe.model.title().to_owned() });
        };
        let name = format!("assets/weights/{}.safetensors", self.recipe.model.name());
        let dict = weights::from_safetensors(&name, bytes)?;
        self.fill(&dict, WeightsOrigin::Shipped, start, to)?;
        self.choose_weights(WeightsChoice::Automatic);
        Ok(())
    }

    /// Loads a state dict, first giving the model as many classes as its head has.
    fn fill(
        &mut self,
        dict: &StateDict,
        origin: WeightsOrigin,
        start: Instant,
        to: &mut Reporter<'_>,
    ) -> Result<(), SessionError> {
        let mut opened = self.base(Step::Stubs)?.opened().clone();
        let mut graph = self.base(Step::Weights)?.graph().clone();
        let other = weights::classes(dict).filter(|found| *found != opened.classes);
        let new_head = other.is_some() && self.recipe.reinit_head;
        if let (Some(found), false) = (other, new_head) {
            if let Some(expected) = self.recipe.classes {
                return Err(SessionError::Head { found, expected });
            }
            to.info(format!("The weights have {found} classes: the model is built with as many."));
            (opened, graph) = self.restart_with(found, &opened, to)?;
        }
        if let Some(caution) = weights::caution(&graph, dict) {
            to.warn(caution);
        }
        let graph = if let (Some(found), true) = (other, new_head) {
            to.warn(format!(
                "The weights' head of {found} classes is left out: the new one, of {}, is random until it is trained.",
                opened.classes
            ));
            weights::load_without_head(&graph, dict)?
        } else {
            weights::load(&graph, dict)?
        };
        self.weigh(opened, Arc::new(graph), origin, start, to)?;
        self.untrained_head = new_head;
        Ok(())
    }

    /// Opens and stubs the model again with another class count.
    fn restart_with(
        &mut self,
        classes: usize,
        opened: &Opened,
        to: &mut Reporter<'_>,
    ) -> Result<(Arc<Opened>, Arc<Graph>), SessionError> {
        let start = Instant::now();
        let (opened, plain) = opened.with_classes(classes, &self.recipe)?;
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
        let images = Images::new(&opened.dataset.train, opened.preprocess);
        let held_out = Images::new(&opened.dataset.valid, opened.preprocess);
        let valid = (!held_out.is_empty()).then_some(&held_out as &dyn BatchSource);
        let config = TrainConfig { seed: self.recipe.seed, ..config };
        let control = to.control;
        let outcome = train::train(
            &graph,
            &images,
            valid,
            &config,
            &self.device,
            &mut |event| {
                if let TrainEvent::Step { epoch, step, steps, .. } = event {
                    to.progress("Training", epoch * steps + step + 1, config.epochs * steps);
                }
                (to.emit)(Event::Training(event));
            },
            &|| control.checkpoint(),
        )?;
        for skipped in [&images.skipped, &held_out.skipped] {
            to.unreadable(&opened, &skipped.borrow());
        }
        if outcome.epochs == 0 && outcome.stopped {
            return Err(SessionError::Cancelled);
        }
        let origin = WeightsOrigin::Trained { epochs: outcome.epochs, stopped: outcome.stopped };
        // Measured by the trainer at the end of the best epoch: a cancel must not wait for it again.
        let accuracy = outcome.valid.map(|score| score.accuracy());
        self.recipe.train = config;
        // A new head is trained on top of its file each time that the recipe runs.
        if !self.untrained_head {
            self.choose_weights(WeightsChoice::Train);
        }
        self.untrained_head = false;
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
