//! Whether more calibration images, or others, would help: accuracy against their number, for a few choices of images.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::trial::Judged;
use super::{Opened, PromiseOf, SessionError};
use crate::data::shuffled;
use crate::exec::float::{Device, Model};
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::Graph;
use crate::quant::{self, Observers, QuantError};

/// Numbers of calibration images that are tried; beyond what there is, none.
const COUNTS: [usize; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];
/// Choices of images.
const SEEDS: u64 = 3;
/// Held-out images that accuracy is measured on.
const JUDGED: usize = 1_024;

/// What one number of images of one choice gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibrated {
    /// Images that the observers saw.
    pub images: usize,
    /// Which choice.
    pub seed: u64,
    /// Accuracy of int8.
    pub accuracy: f64,
    /// Mean squared difference of its logits from float's.
    pub logit_mse: f64,
}

/// Accuracy against the number of calibration images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enough {
    /// Held-out images that it was measured on.
    pub judged: usize,
    /// Float's accuracy on them.
    pub float: f64,
    /// In the order in which they were measured: all numbers of one choice after another.
    pub points: Vec<Calibrated>,
    /// How many there will be.
    pub of: usize,
}

impl Enough {
    /// Whether more or other images would help, as a sentence; `None` before all is measured.
    pub fn in_words(&self) -> Option<String> {
        let most = self.points.iter().map(|p| p.images).max()?;
        let before = self.points.iter().map(|p| p.images).filter(|n| *n < most).max();
        if self.points.len() < self.of {
            return None;
        }
        let of = |n: usize| self.points.iter().filter(|p| p.images == n).map(|p| p.accuracy).collect::<Vec<_>>();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
        let spread = |v: &[f64]| {
            let (low, high) = v.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
            (high - low) * 100.0
        };
        let last = of(most);
        let gain = before.map_or(0.0, |n| (mean(&last) - mean(&of(n))) * 100.0);
        // Two images in a thousand are what chance moves by itself.
        let more = if gain > 0.2 { "more would help" } else { "more would not help" };
        let other = if spread(&last) > 0.4 { "others might" } else { "which ones matters little" };
        Some(format!(
            "With {most} images int8 has {:.2} %; the last doubling brought {gain:+.2} points: {more}. Between choices of images \
             it varies by {:.2} points: {other}.",
            mean(&last) * 100.0,
            spread(&last)
        ))
    }
}

impl PromiseOf {
    /// Measures; all so far, again and again, until `emit` breaks off.
    ///
    /// # Errors
    /// Those of the passes and of running, and where accuracy cannot be measured.
    pub fn enough(&self, emit: &mut dyn FnMut(Enough) -> ControlFlow<()>) -> Result<(), SessionError> {
        let Self { opened, weighted, recipe } = self;
        opened.require_labels("accuracy")?;
        opened.require_held_out()?;
        let fused = recipe.fused(weighted)?;
        let float = Model::new(&fused, &Device::Cpu)?;
        let split = &opened.dataset.valid;
        let mut order = shuffled(split.len(), recipe.seed);
        order.truncate(JUDGED);
        let judged = Judged::new(opened, split, order, &float)?;
        let counts: Vec<usize> = COUNTS.into_iter().filter(|n| *n <= opened.dataset.train.len()).collect();
        let mut own = crate::analysis::SweepScore::default();
        own.add(&judged.logits, &judged.logits, &judged.labels);
        let mut found = Enough {
            judged: judged.labels.len(),
            float: own.top1(),
            points: Vec::new(),
            of: counts.len() * SEEDS as usize,
        };
        let (prepared, _) = quant::prepare(&fused, &recipe.qconfig)?;
        let model = Model::new(&prepared, &Device::Cpu)?;
        for seed in 0..SEEDS {
            let mut observers = Observers::new(&prepared)?;
            let mut order = shuffled(opened.dataset.train.len(), recipe.seed.wrapping_add(seed));
            let mut seen = 0;
            for count in &counts {
                let rest = order.split_off((count - seen).min(order.len()));
                observe(opened, &model, &mut observers, std::mem::replace(&mut order, rest), emit, &found)?;
                seen = *count;
                let qparams = observers.qparams()?;
                let (int8, _) = quant::convert(&prepared, &qparams, &recipe.qconfig)?;
                let mut plan = Plan::new(&int8, &PlanOptions { isa: None, threads: recipe.threads })?;
                let (score, _, _) = judged.judge(&mut plan)?;
                let point = Calibrated { images: *count, seed, accuracy: score.top1(), logit_mse: score.logit_mse() };
                found.points.push(point);
                if emit(found.clone()).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Of a session's model, from its weights on.
    pub fn new(opened: Arc<Opened>, weighted: Arc<Graph>, recipe: Arc<super::Recipe>) -> Self {
        Self { opened, weighted, recipe }
    }
}

/// Shows the observers these images.
fn observe(
    opened: &Opened,
    model: &Model,
    observers: &mut Observers,
    order: Vec<usize>,
    emit: &mut dyn FnMut(Enough) -> ControlFlow<()>,
    found: &Enough,
) -> Result<(), SessionError> {
    const BATCH: usize = 32;
    for batch in opened.dataset.train.batches(order, BATCH, &opened.preprocess, None).filter(|b| !b.is_empty()) {
        let mut seen: Result<(), QuantError> = Ok(());
        model.run_observed(&batch.images, batch.indices.len(), &mut |node, values| {
            seen = observers.observe(node, values);
            if seen.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        seen?;
        if emit(found.clone()).is_break() {
            return Err(SessionError::Cancelled);
        }
    }
    Ok(())
}
