use std::time::Instant;

use super::{
    BatchSource, LabelledBatch, Score, TrainConfig, TrainError, evaluate, loss::cross_entropy, optimizer::Stepper,
    schedule::learning_rate,
};
use crate::{
    exec::{
        Checkpoint, ExecError,
        float::{Device, Model, Trainable},
    },
    graph::Graph,
};

/// What training reports as it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainEvent {
    /// One optimizer step.
    Step {
        /// From 0.
        epoch: usize,
        /// Within the epoch, from 0.
        step: usize,
        /// Steps in an epoch.
        steps: usize,
        /// Of this batch.
        loss: f32,
        /// Of this step.
        learning_rate: f64,
        /// Since the last step, waiting for images included.
        images_per_second: f64,
    },
    /// The end of an epoch.
    Epoch(EpochReport),
}

/// One time through the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochReport {
    /// From 0.
    pub epoch: usize,
    /// Over the epoch's batches, as they were seen, augmented.
    pub train: Score,
    /// On the held-out images with the epoch's last weights.
    pub valid: Option<Score>,
    /// Whether these are the best weights so far.
    pub best: bool,
    /// Training and scoring.
    pub seconds: f64,
}

/// What training leaves.
#[derive(Clone, Debug)]
pub struct TrainOutcome {
    /// The best weights: by held-out accuracy, then held-out loss; without held-out images the last ones.
    pub graph: Graph,
    /// Their score on the held-out images.
    pub valid: Option<Score>,
    /// Epochs that were finished.
    pub epochs: usize,
    /// Whether `checkpoint` ended it.
    pub stopped: bool,
}

/// Trains `graph` on `source`, scoring each epoch on `valid`.
///
/// `checkpoint` is asked before every batch and every layer, and may block; when it breaks off, the best weights so far come back (those
/// of the moment, where no epoch was finished).
///
/// # Errors
/// [`TrainError::Diverged`] for a loss that is no number, [`TrainError::Label`] for a label without a logit,
/// [`TrainError::Empty`], [`TrainError::Config`], and [`TrainError::Exec`] where the graph does not run.
pub fn train(
    graph: &Graph,
    source: &dyn BatchSource,
    valid: Option<&dyn BatchSource>,
    config: &TrainConfig,
    device: &Device,
    report: &mut dyn FnMut(TrainEvent),
    checkpoint: Checkpoint<'_>,
) -> Result<TrainOutcome, TrainError> {
    config.check()?;
    if source.is_empty() {
        return Err(TrainError::Empty);
    }
    let mut run = Run::new(graph, source, config, device)?;
    let mut best: Option<TrainOutcome> = None;
    for epoch in 0..config.epochs {
        let start = Instant::now();
        let Some(train) = run.epoch(epoch, report, checkpoint)? else {
            return stopped(best, &run, epoch);
        };
        let now = run.trainable.graph()?;
        let score = match valid {
            Some(valid) => match evaluate(&Model::new(&now, device)?, &now, valid, checkpoint)? {
                Some(score) => Some(score),
                None => return stopped(best, &run, epoch),
            },
            None => None,
        };
        let is_best = best.as_ref().is_none_or(|b| better(score, b.valid));
        if is_best {
            best = Some(TrainOutcome { graph: now, valid: score, epochs: epoch + 1, stopped: false });
        } else if let Some(best) = &mut best {
            best.epochs = epoch + 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        report(TrainEvent::Epoch(EpochReport { epoch, train, valid: score, best: is_best, seconds }));
    }
    best.ok_or(TrainError::Empty)
}

fn stopped(best: Option<TrainOutcome>, run: &Run<'_>, epochs: usize) -> Result<TrainOutcome, TrainError> {
    Ok(match best {
        Some(best) => TrainOutcome { stopped: true, ..best },
        None => TrainOutcome { graph: run.trainable.graph()?, valid: None, epochs, stopped: true },
    })
}

/// Whether `new` replaces `old`; later weights win a tie.
fn better(new: Option<Score>, old: Option<Score>) -> bool {
    match (new, old) {
        (Some(new), Some(old)) => new.correct > old.correct || new.correct == old.correct && new.loss <= old.loss,
        (None, _) | (_, None) => true,
    }
}

/// The state of a training.
struct Run<'a> {
    trainable: Trainable,
    stepper: Stepper,
    source: &'a dyn BatchSource,
    config: &'a TrainConfig,
    classes: usize,
    /// Steps in an epoch.
    steps: usize,
    batch: usize,
}

impl<'a> Run<'a> {
    fn new(
        graph: &Graph,
        source: &'a dyn BatchSource,
        config: &'a TrainConfig,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let trainable = Trainable::new(graph, device)?;
        let stepper = Stepper::new(config.optimizer, trainable.parameters());
        let batch = config.batch.min(source.len());
        let steps = source.len() / batch;
        Ok(Self { trainable, stepper, source, config, classes: graph.classes(), steps, batch })
    }

    /// One time through the data; `None` where `checkpoint` broke off.
    fn epoch(
        &mut self,
        epoch: usize,
        report: &mut dyn FnMut(TrainEvent),
        checkpoint: Checkpoint<'_>,
    ) -> Result<Option<Score>, TrainError> {
        let seed = self.config.seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(epoch as u64);
        let mut order = self.source.shuffled(seed);
        order.truncate(self.steps * self.batch);
        let augment = self.config.augment.then_some(seed);
        let (mut score, mut last) = (Score::default(), Instant::now());
        for (step, images) in self.source.batches(order, self.batch, augment).enumerate() {
            if checkpoint().is_break() {
                return Ok(None);
            }
            // Unreadable images shorten a batch; one image alone has no variance to normalize by.
            if images.labels.len() < 2 {
                continue;
            }
            let number = epoch * self.steps + step;
            let warmup = self.config.warmup * self.steps as f64;
            let total = self.config.epochs * self.steps;
            let lr = learning_rate(self.config.learning_rate, number, warmup, total);
            let step_seed = seed.wrapping_add((number as u64) << 20);
            let (loss, correct) = match self.step(&images, lr, step_seed, checkpoint) {
                Err(TrainError::Exec(ExecError::Stopped)) => return Ok(None),
                result => result?,
            };
            if !loss.is_finite() {
                return Err(TrainError::Diverged { loss, epoch, step, lr });
            }
            score.add(correct, images.labels.len(), loss);
            let seconds = last.elapsed().as_secs_f64();
            last = Instant::now();
            report(TrainEvent::Step {
                epoch,
                step,
                steps: self.steps,
                loss,
                learning_rate: lr,
                images_per_second: images.labels.len() as f64 / seconds.max(1e-9),
            });
        }
        Ok(Some(score))
    }

    /// Forward, backward, optimizer; the batch's loss and how many it got right. Weights stay where the loss is no number.
    fn step(
        &mut self,
        images: &LabelledBatch,
        lr: f64,
        seed: u64,
        checkpoint: Checkpoint<'_>,
    ) -> Result<(f32, usize), TrainError> {
        let pass = self.trainable.forward(&images.images, images.labels.len(), seed, checkpoint)?;
        let loss = cross_entropy(&pass.logits()?, &images.labels, self.classes, self.config.label_smoothing)?;
        if loss.mean.is_finite() {
            let gradients = self.trainable.backward(pass, &loss.gradient, checkpoint)?;
            self.stepper.step(self.trainable.parameters(), &gradients, lr)?;
        }
        Ok((loss.mean, loss.correct))
    }
}
