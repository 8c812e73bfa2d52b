//! Step 5 of the second method: training with fake quantization in place.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::error::TRAINING;
use super::images::Images;
use super::measure::{fake_accuracy, int8_accuracy};
use super::state::Reporter;
use super::{Event, Method, Opened, QatResult, QatTraining, Session, SessionError, Stage, Step};
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::{FakeQuants, Graph, QatLevels};
use crate::quant;
use crate::train::{BatchSource, TrainConfig, TrainEvent, Training};

impl Session {
    /// Another method from here on; what was fused for the other one is undone.
    pub(super) fn choose_method(&mut self, method: Method, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let other = self.recipe.method.is_ptq() != method.is_ptq();
        if other && self.stage()?.done() > Some(Step::Weights) {
            self.back_to(Step::Weights, to)?;
        }
        if other {
            // What is undone is of the other method: not to be brought back into this one.
            self.forget_undone();
        }
        self.recipe.method = method;
        (to.emit)(Event::Recipe(Arc::new(self.recipe.clone())));
        self.autosave(to);
        Ok(())
    }

    pub(super) fn train_qat(&mut self, training: QatTraining, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let before = self.weighted()?;
        let opened = before.opened.clone();
        opened.require_labels(TRAINING)?;
        let graph = self.base(Step::Calibrate)?.graph().clone();
        let gone = AtomicBool::new(false);
        let images = Images::new(&opened.dataset.train, &opened, &gone);
        let held_out = Images::new(&opened.dataset.valid, &opened, &gone);
        let valid = (!held_out.is_empty()).then_some(&held_out as &dyn BatchSource);
        let training = QatTraining { train: TrainConfig { seed: self.recipe.seed, ..training.train }, ..training };
        self.recipe.method = Method::Qat(training);
        let (config, qat) = (training.train, training.config());
        let resumed = self.resumed(&graph, to)?;
        let control = to.control;
        let mut failed = None;
        let mut save = |state: &crate::train::TrainState| {
            // An epoch without all of its images is none to go on from.
            if !gone.load(Ordering::Relaxed) {
                failed = failed.take().or(self.keep(state).err());
            }
        };
        let run = Training {
            graph: &graph,
            source: &images,
            valid,
            config: &config,
            qat: Some(&qat),
            device: &self.device,
            resume: resumed.as_ref(),
        };
        let outcome = run.run(
            &mut |event| {
                if let TrainEvent::Step { epoch, step, steps, .. } = event {
                    to.progress("Training with fake quantization", epoch * steps + step + 1, config.epochs * steps);
                }
                (to.emit)(Event::Training(event));
            },
            Some(&mut save),
            &|| if gone.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { control.checkpoint() },
        )?;
        if gone.load(Ordering::Relaxed) {
            return Err(SessionError::DataGone { path: opened.source.clone() });
        }
        for skipped in [&images.skipped, &held_out.skipped] {
            to.unreadable(&opened, &skipped.borrow());
        }
        if let Some(error) = failed {
            to.warn(format!("No checkpoint was kept: {error}."));
        }
        if outcome.epochs == 0 && outcome.stopped {
            return Err(SessionError::Cancelled);
        }
        let Some(fake_quants) = outcome.fake_quants else { return Err(SessionError::NothingOpen) };
        let stage = Stage::Trained {
            before,
            graph: Arc::new(outcome.graph),
            fake_quants: Arc::new(fake_quants),
            accuracy: outcome.valid.map(|score| score.accuracy()),
            epochs: outcome.epochs,
            stopped: outcome.stopped,
        };
        self.enter(stage, start, to);
        Ok(())
    }

    /// The int8 graph of a trained one, and what fake quantization said of it.
    pub(super) fn convert_trained(
        &self,
        (graph, fake_quants): (&Graph, &FakeQuants),
        epochs: usize,
        to: &mut Reporter<'_>,
    ) -> Result<(Graph, quant::ConvertReport, QatResult), SessionError> {
        let levels = self.qat_training().levels;
        let (int8, report) = quant::convert_qat(graph, fake_quants, levels)?;
        let (fake, _) = quant::fake_quantize_qat(graph, fake_quants, levels)?;
        let accuracy = fake_accuracy(self.base(Step::Fuse)?.opened(), &fake, &self.device, to)?;
        Ok((int8, report, QatResult { accuracy, epochs, as_pytorch: None }))
    }

    /// Accuracy of what PyTorch's conversion would make of the same training; `None` where this session has not trained
    /// it, or was asked to convert as PyTorch does.
    pub(super) fn as_pytorch(&self, opened: &Opened, to: &mut Reporter<'_>) -> Result<Option<f64>, SessionError> {
        let Stage::Trained { graph, fake_quants, .. } = self.base(Step::Convert)?.as_ref() else { return Ok(None) };
        if self.qat_training().levels == QatLevels::PyTorch {
            return Ok(None);
        }
        let (graph, _) = quant::convert_qat(graph, fake_quants, QatLevels::PyTorch)?;
        let mut plan = Plan::new(&graph, &PlanOptions { isa: None, threads: self.recipe.threads })?;
        int8_accuracy(opened, &mut plan, to)
    }

    /// How this recipe trains with fake quantization.
    pub(super) fn qat_training(&self) -> QatTraining {
        match self.recipe.method {
            Method::Qat(training) => training,
            Method::Ptq => QatTraining::default(),
        }
    }
}
