//! Models tried on the way to a choice: one calibration serves them all.

use std::time::Instant;

use super::measure::{Inputs, argmax};
use super::repair::{calibration_images, repaired};
use super::state::Reporter;
use super::{Control, Opened, Recipe, Repairs, SessionError};
use crate::analysis::SweepScore;
use crate::data::{Split, shuffled};
use crate::exec::float::{Device, Model};
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::{Graph, Numeric, Op};
use crate::quant::{self, Observers, QConfig};

/// Runs of one image whose median is a trial's time.
const RUNS: usize = 15;
const BATCH: usize = 32;

/// Labelled images, ready for a model, with what float says of them.
pub(super) struct Judged {
    pub images: Vec<f32>,
    pub labels: Vec<usize>,
    pub indices: Vec<usize>,
    /// `[images, classes]`.
    pub logits: Vec<f32>,
}

impl Judged {
    /// Those of a split in this order.
    pub fn new(opened: &Opened, split: &Split, order: Vec<usize>, float: &Model) -> Result<Self, SessionError> {
        let mut judged = Self { images: Vec::new(), labels: Vec::new(), indices: Vec::new(), logits: Vec::new() };
        for batch in split.batches(order, BATCH, &opened.preprocess, None).filter(|b| !b.is_empty()) {
            judged.logits.extend(float.run(&batch.images, batch.indices.len())?);
            judged.images.extend(batch.images);
            judged.labels.extend(batch.labels);
            judged.indices.extend(batch.indices);
        }
        match judged.labels.is_empty() {
            true => Err(SessionError::NothingToSee { path: opened.source.clone() }),
            false => Ok(judged),
        }
    }

    /// The same where right is what float says.
    pub fn unlabelled(opened: &Opened, split: &Split, order: Vec<usize>, float: &Model) -> Result<Self, SessionError> {
        let mut judged = Self { images: Vec::new(), labels: Vec::new(), indices: Vec::new(), logits: Vec::new() };
        for batch in split.batches(order, BATCH, &opened.preprocess, None).filter(|b| !b.is_empty()) {
            let logits = float.run(&batch.images, batch.indices.len())?;
            for row in logits.chunks_exact(logits.len() / batch.indices.len()) {
                judged.labels.push(argmax(row)?);
            }
            judged.logits.extend(logits);
            judged.images.extend(batch.images);
            judged.indices.extend(batch.indices);
        }
        match judged.labels.is_empty() {
            true => Err(SessionError::NothingToSee { path: opened.source.clone() }),
            false => Ok(judged),
        }
    }

    /// What an int8 plan makes of them: its score, and how many it loses and gains against float.
    pub fn judge(&self, plan: &mut Plan) -> Result<(SweepScore, usize, usize), SessionError> {
        let logits = plan.run(&self.images, self.labels.len());
        let classes = logits.len() / self.labels.len();
        let mut score = SweepScore::default();
        score.add(&self.logits, &logits, &self.labels);
        let (mut lost, mut gained) = (0, 0);
        let rows = self.logits.chunks_exact(classes).zip(logits.chunks_exact(classes));
        for ((a, b), label) in rows.zip(&self.labels) {
            match (argmax(a)? == *label, argmax(b)? == *label) {
                (true, false) => lost += 1,
                (false, true) => gained += 1,
                (true, true) | (false, false) => {}
            }
        }
        Ok((score, lost, gained))
    }
}

/// What can be chosen of a trial.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub repairs: Repairs,
    pub qconfig: QConfig,
}

/// A float model, fused and calibrated once, and once more equalized where a trial wants that.
pub(super) struct Trials<'a> {
    recipe: &'a Recipe,
    opened: &'a Opened,
    plain: Calibrated,
    equalized: Option<Calibrated>,
    weighted: &'a Graph,
    images: Inputs,
}

/// A fused graph and what observers of its every node saw.
struct Calibrated {
    fused: Graph,
    observers: Observers,
}

/// An int8 model that was tried.
pub(super) struct Tried {
    pub graph: Graph,
    pub plan: Plan,
    /// Bytes of weights, scales and biases.
    pub bytes: usize,
    /// Median milliseconds of one image.
    pub ms: f64,
}

impl<'a> Trials<'a> {
    pub fn new(recipe: &'a Recipe, opened: &'a Opened, weighted: &'a Graph) -> Result<Self, SessionError> {
        let (fused, _) = quant::fuse(weighted, &quant::FuseOptions { disabled: recipe.unfused.clone() })?;
        let plain = Calibrated::new(fused, recipe, opened)?;
        let images = calibration_images(opened, recipe.seed)?;
        Ok(Self { recipe, opened, plain, equalized: None, weighted, images })
    }

    /// The float graph that a choice starts from.
    pub fn fused(&mut self, choice: &Choice) -> Result<&Graph, SessionError> {
        Ok(&self.calibrated(choice)?.fused)
    }

    fn calibrated(&mut self, choice: &Choice) -> Result<&Calibrated, SessionError> {
        if !choice.repairs.equalize {
            return Ok(&self.plain);
        }
        if self.equalized.is_none() {
            let recipe = Recipe { repairs: choice.repairs.clone(), ..self.recipe.clone() };
            self.equalized = Some(Calibrated::new(recipe.fused(self.weighted)?, self.recipe, self.opened)?);
        }
        Ok(self.equalized.as_ref().unwrap_or(&self.plain))
    }

    /// The int8 model of a choice, not timed.
    pub fn convert_untimed(&mut self, choice: &Choice) -> Result<Plan, SessionError> {
        let (graph, _) = self.graph(choice)?;
        Ok(Plan::new(&graph, &PlanOptions { isa: None, threads: self.recipe.threads })?)
    }

    /// The int8 graph of a choice, and its bytes of weights, scales and biases.
    fn graph(&mut self, choice: &Choice) -> Result<(Graph, usize), SessionError> {
        let calibrated = self.calibrated(choice)?;
        let (prepared, _) = quant::prepare(&calibrated.fused, &choice.qconfig)?;
        let qparams = calibrated.observers.respecified(&prepared).qparams()?;
        let (graph, report) = quant::convert(&prepared, &qparams, &choice.qconfig)?;
        let bytes = report.layers.iter().map(|l| l.int8_bytes).sum::<usize>()
            + report.float.iter().map(|l| l.bytes).sum::<usize>();
        let fused = calibrated.fused.clone();
        let mut to = Reporter { emit: &mut |_| {}, control: &Control::default() };
        let repaired = repaired(graph, &fused, &choice.repairs, &self.images, &mut to)?;
        Ok((choice.qconfig.with_biases(repaired), bytes))
    }

    /// The int8 model of a choice, timed.
    pub fn convert(&mut self, choice: &Choice) -> Result<Tried, SessionError> {
        let (graph, bytes) = self.graph(choice)?;
        let mut plan = Plan::new(&graph, &PlanOptions { isa: None, threads: self.recipe.threads })?;
        let image = &self.images.images[..graph.input_shape().len()];
        let mut times: Vec<f64> = (0..=RUNS)
            .map(|_| {
                let start = Instant::now();
                plan.run(image, 1);
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        Ok(Tried { graph, plan, bytes, ms: times[times.len() / 2] })
    }
}

impl Calibrated {
    /// Watches every node with a histogram, from which all observers but moving averages can be told: also those that need
    /// no observer of their own, for behind one that is left in float there is a stub that does.
    fn new(fused: Graph, recipe: &Recipe, opened: &Opened) -> Result<Self, SessionError> {
        let watch = QConfig { overrides: Default::default(), ..QConfig::new(recipe.qconfig.name) };
        let (mut prepared, _) = quant::prepare(&fused, &watch)?;
        for node in prepared.nodes.iter_mut().filter(|n| !matches!(n.op, Op::Input | Op::DeQuantStub)) {
            node.numeric = Numeric::Observed(watch.activation);
        }
        let model = Model::new(&prepared, &Device::Cpu)?;
        let mut observers = Observers::new(&prepared)?;
        let split = &opened.dataset.train;
        let (batch, batches) = (recipe.calibration.batch, recipe.calibration.batches);
        let mut order = shuffled(split.len(), recipe.seed);
        order.truncate(batches.saturating_mul(batch));
        let mut seen = Ok(());
        for batch in split.batches(order, batch, &opened.preprocess, None).filter(|b| !b.is_empty()) {
            model.run_observed(&batch.images, batch.indices.len(), &mut |node, values| {
                seen = observers.observe(node, values);
                if seen.is_ok() { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
            })?;
            seen.clone()?;
        }
        Ok(Self { fused, observers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Override;
    use crate::session::{Calibration, Command, ModelId, Session};

    /// A layer in float takes the pool that reads it along, and the stub behind the pool wants a range.
    #[test]
    fn each_layer_can_be_left_in_float() {
        let calibration = Calibration { batches: 1, batch: 8, foresee: false };
        let mut session = Session::new(Device::Cpu);
        let recipe = Recipe { calibration, ..Recipe::new(ModelId::MobileNetV3Small) };
        for command in [Command::Open(Box::new(recipe)), Command::InsertStubs, Command::UseShippedWeights] {
            session.apply(command, &mut |_| {}, &Control::default()).expect("a step of a sound model");
        }
        let weighted = session.weighted().expect("weights").clone();
        let mut trials = Trials::new(session.recipe(), &weighted.opened, &weighted.graph).expect("it fuses");
        let plain = Choice { repairs: Repairs::default(), qconfig: QConfig::default() };
        let fused = trials.fused(&plain).expect("it is there").clone();
        let layers = quant::choosable(&fused).into_iter().filter(|(_, can)| can.float);
        let mut behind_pools = 0;
        for (layer, _) in layers {
            let choice =
                Choice { qconfig: plain.qconfig.clone().with_override(&layer, Override::Float), ..plain.clone() };
            let (graph, _) = trials.graph(&choice).unwrap_or_else(|e| panic!("{layer}: {e}"));
            behind_pools += usize::from(graph.nodes.iter().any(|n| n.name.ends_with("avgpool.quant")));
        }
        assert!(behind_pools > 0, "no pool went along");
    }
}
