use std::{sync::Arc, time::Instant};

use super::{
    BatchSource, Best, EpochReport, FakeQuantRange, Frozen, LabelledBatch, QatConfig, RangeReport, Score, TrainConfig,
    TrainError, TrainEvent, TrainState, evaluate,
    loss::{check_labels, cross_entropy},
    optimizer::Stepper,
    schedule::learning_rate,
};
use crate::{
    exec::{
        Checkpoint, ExecError,
        float::{Device, Model, Trainable},
    },
    graph::{ActivationSpec, FakeQuants, Graph, Numeric, QParams},
    quant::{QuantError, fake_quantize_qat},
};

/// What training leaves.
#[derive(Clone, Debug)]
pub struct TrainOutcome {
    /// The best weights: by held-out accuracy, then held-out loss; without held-out images the last ones.
    pub graph: Graph,
    /// What fake quantization had learnt with them; `None` in float training.
    pub fake_quants: Option<FakeQuants>,
    /// Their score on the held-out images, fake-quantized where they were trained so.
    pub valid: Option<Score>,
    /// Epochs that were finished.
    pub epochs: usize,
    /// Whether `checkpoint` ended it.
    pub stopped: bool,
}

/// All that says how a graph is trained.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// Float, or in the QAT form.
    pub graph: &'a Graph,
    /// What it is trained on.
    pub source: &'a dyn BatchSource,
    /// What each epoch is scored on.
    pub valid: Option<&'a dyn BatchSource>,
    /// Rates, epochs, seed.
    pub config: &'a TrainConfig,
    /// How fake quantization goes along: for a graph in the QAT form, and for no other.
    pub qat: Option<&'a QatConfig>,
    /// Where.
    pub device: &'a Device,
    /// Where an earlier training of the same graph, source and configurations had come; the result is then the same, bit
    /// for bit, as if it had not been interrupted.
    pub resume: Option<&'a TrainState>,
}

/// Trains the float `graph` on `source`, scoring each epoch on `valid`: [`Training::run`] from the beginning.
///
/// # Errors
/// Those of [`Training::run`].
pub fn train(
    graph: &Graph,
    source: &dyn BatchSource,
    valid: Option<&dyn BatchSource>,
    config: &TrainConfig,
    device: &Device,
    report: &mut dyn FnMut(TrainEvent),
    checkpoint: Checkpoint<'_>,
) -> Result<TrainOutcome, TrainError> {
    let training = Training { graph, source, valid, config, qat: None, device, resume: None };
    training.run(report, None, checkpoint)
}

impl Training<'_> {
    /// Trains and scores epoch after epoch. `save` gets the state after each of them.
    ///
    /// `checkpoint` is asked before every batch and every layer, and may block; when it breaks off, the best weights so far
    /// come back (those of the moment, where no epoch was finished).
    ///
    /// # Errors
    /// [`TrainError::Diverged`] for a loss that is no number, [`TrainError::Label`] for a label without a logit,
    /// [`TrainError::Empty`] for fewer than two, [`TrainError::Config`], [`TrainError::Resume`], and [`TrainError::Exec`] where the graph does
    /// not run.
    pub fn run(
        &self,
        report: &mut dyn FnMut(TrainEvent),
        mut save: Option<&mut dyn FnMut(&TrainState)>,
        checkpoint: Checkpoint<'_>,
    ) -> Result<TrainOutcome, TrainError> {
        self.check()?;
        let mut run = Run::new(self)?;
        let first = self.resume.map_or(0, |state| state.epochs);
        let mut best = self.resume.and_then(|state| state.best.clone());
        for epoch in first..self.config.epochs {
            let start = Instant::now();
            run.begin(epoch, report);
            let Some(train) = run.epoch(epoch, report, checkpoint)? else {
                return run.outcome(best, epoch, true);
            };
            if train.total == 0 {
                return Err(TrainError::Empty { found: 0 });
            }
            let (now, fake_quants) = run.snapshot()?;
            let score = match self.valid {
                Some(valid) => match self.score(&now, fake_quants.as_ref(), valid, checkpoint)? {
                    Some(score) => Some(score),
                    None => return run.outcome(best, epoch, true),
                },
                None => None,
            };
            let is_best = best.as_ref().is_none_or(|b| better(score, b.valid));
            if is_best {
                best = Some(Best { epoch, graph: now.clone(), fake_quants: fake_quants.clone(), valid: score });
            }
            if let Some(save) = &mut save {
                let optimizer = run.stepper.export(run.trainable.parameters())?;
                save(&TrainState { epochs: epoch + 1, graph: now, fake_quants, optimizer, best: best.clone() });
            }
            let seconds = start.elapsed().as_secs_f64();
            report(TrainEvent::Epoch(EpochReport { epoch, train, valid: score, best: is_best, seconds }));
        }
        run.outcome(best, self.config.epochs, false)
    }

    fn check(&self) -> Result<(), TrainError> {
        self.config.check()?;
        if self.source.len() < 2 {
            return Err(TrainError::Empty { found: self.source.len() });
        }
        if let Some(qat) = self.qat {
            qat.check()?;
            if !self.graph.nodes.iter().any(|n| matches!(n.numeric, Numeric::Learned(_))) {
                return Err(QuantError::NotQat { graph: self.graph.name.clone() }.into());
            }
        }
        Ok(())
    }

    /// On held-out images; fake-quantized where it is trained so. `None` where `checkpoint` broke off.
    fn score(
        &self,
        now: &Graph,
        fake_quants: Option<&FakeQuants>,
        valid: &dyn BatchSource,
        checkpoint: Checkpoint<'_>,
    ) -> Result<Option<Score>, TrainError> {
        let fake = match (self.qat, fake_quants) {
            (Some(qat), Some(state)) => Some(fake_quantize_qat(now, state, qat.levels)?.0),
            _ => None,
        };
        let graph = fake.as_ref().unwrap_or(now);
        evaluate(&Model::new(graph, self.device)?, graph, valid, checkpoint)
    }
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
    qat: Option<&'a QatConfig>,
    /// The nodes whose levels are learnt.
    learned: Vec<(Arc<str>, ActivationSpec)>,
}

impl<'a> Run<'a> {
    fn new(training: &Training<'a>) -> Result<Self, TrainError> {
        let Training { source, config, qat, device, resume, .. } = *training;
        let graph = resume.map_or(training.graph, |state| &state.graph);
        let trainable = match qat {
            Some(qat) => {
                let state = resume.and_then(|state| state.fake_quants.clone()).unwrap_or_default();
                Trainable::qat(graph, qat.levels, qat.step, &state, device)?
            }
            None => Trainable::new(graph, device)?,
        };
        let mut stepper = Stepper::new(config.optimizer, trainable.parameters())?;
        if let Some(state) = resume {
            stepper.import(trainable.parameters(), &state.optimizer)?;
        }
        let batch = config.batch.min(source.len());
        let steps = source.len() / batch;
        let learned = graph.nodes.iter().filter_map(|node| match node.numeric {
            Numeric::Learned(spec) => Some((Arc::from(node.name.as_str()), spec)),
            Numeric::Float | Numeric::Observed(_) | Numeric::FakeQuantized(_) | Numeric::Int8(_) => None,
        });
        let learned = learned.collect();
        Ok(Self { trainable, stepper, source, config, classes: graph.classes(), steps, batch, qat, learned })
    }

    /// Freezes what is to be frozen from this epoch on.
    fn begin(&mut self, epoch: usize, report: &mut dyn FnMut(TrainEvent)) {
        let Some(qat) = self.qat else { return };
        self.trainable.set_phase(qat.phase(epoch));
        for (at, what) in [(qat.freeze_bn, Frozen::BatchNorm), (qat.freeze_observers, Frozen::Observers)] {
            if at == epoch {
                report(TrainEvent::Frozen { epoch, what });
            }
        }
    }

    /// The weights of the moment, and what fake quantization has learnt.
    fn snapshot(&self) -> Result<(Graph, Option<FakeQuants>), TrainError> {
        let state = self.qat.map(|_| self.trainable.fake_quants()).transpose()?;
        Ok((self.trainable.graph()?, state))
    }

    /// The best weights, or those of the moment.
    fn outcome(&self, best: Option<Best>, epochs: usize, stopped: bool) -> Result<TrainOutcome, TrainError> {
        Ok(match best {
            Some(Best { graph, fake_quants, valid, .. }) => TrainOutcome { graph, fake_quants, valid, epochs, stopped },
            None => {
                let (graph, fake_quants) = self.snapshot()?;
                TrainOutcome { graph, fake_quants, valid: None, epochs, stopped }
            }
        })
    }

    /// Tells the ranges after a step, where it is time.
    fn tell_ranges(&self, epoch: usize, step: usize, report: &mut dyn FnMut(TrainEvent)) -> Result<(), TrainError> {
        let Some(qat) = self.qat else { return Ok(()) };
        if !step.is_multiple_of(qat.ranges_every) && step + 1 != self.steps {
            return Ok(());
        }
        let state = self.trainable.fake_quants()?;
        let range = |(node, spec): &(Arc<str>, ActivationSpec)| {
            let range = state.activations.get(&**node)?;
            let QParams { scale, zero_point, .. } = range.activation_levels(spec);
            Some(FakeQuantRange { node: node.clone(), min: range.min[0], max: range.max[0], scale, zero_point })
        };
        let ranges = self.learned.iter().filter_map(range).collect();
        report(TrainEvent::Ranges(RangeReport { epoch, step, ranges }));
        Ok(())
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
            self.tell_ranges(epoch, step, report)?;
        }
        Ok(Some(score))
    }

    /// Forward, backward, optimizer; the batch's loss and how many it got right. On the CPU weights stay where the loss is
    /// no number.
    fn step(
        &mut self,
        images: &LabelledBatch,
        lr: f64,
        seed: u64,
        checkpoint: Checkpoint<'_>,
    ) -> Result<(f32, usize), TrainError> {
        let pass = self.trainable.forward(&images.images, images.labels.len(), seed, checkpoint)?;
        check_labels(&images.labels, self.classes)?;
        if let Some(loss) = pass.cross_entropy(&images.labels, self.config.label_smoothing)? {
            let gradients = self.trainable.backward_from(pass, &loss, checkpoint)?;
            self.stepper.step(self.trainable.parameters(), &gradients, lr)?;
            // Read last: until then nothing waits for the device.
            return Ok(loss.read()?);
        }
        let loss = cross_entropy(&pass.logits()?, &images.labels, self.classes, self.config.label_smoothing)?;
        if loss.mean.is_finite() {
            let gradients = self.trainable.backward(pass, &loss.gradient, checkpoint)?;
            self.stepper.step(self.trainable.parameters(), &gradients, lr)?;
        }
        Ok((loss.mean, loss.correct))
    }
}
