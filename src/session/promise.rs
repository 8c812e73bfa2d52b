//! "Lose at most half a point, smallest and fastest": a search over repairs and layers left in float, and a proof on images
//! that the search never saw.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::trial::{Choice, Judged, Trials};
use super::{Opened, Recipe, Repair, SessionError};
use crate::analysis::{Labelled, SensitivityMeter, Sweeps, paired_interval};
use crate::data::shuffled;
use crate::exec::float::{Device, Model};
use crate::exec::int8::Plan;
use crate::graph::{ActivationSpec, Graph, ObserverKind};
use crate::quant::{self, Override};

/// Images that the search sees at most; the rest of the held-out ones verify.
const SEARCHED: usize = 1_024;
/// Of these the layer sweep sees so many.
const SWEPT: usize = 128;
/// Layers whose cost in float is measured, and that are left in float at most.
const CANDIDATES: usize = 16;
const MOST_FLOAT: usize = 12;
/// A choice is kept where the logit MSE falls by this part at least.
const WORTH: f64 = 0.02;

/// What is to be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The most that may be lost, as a fraction: 0.005 is half a point.
    pub loss: f64,
    /// Which held-out images are searched on and which verify.
    pub seed: u64,
}

/// A model that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What was chosen, as one would say it.
    pub what: String,
    /// Accuracy on the images that are searched on.
    pub accuracy: f64,
    /// Float's accuracy minus it.
    pub loss: f64,
    /// Images that it loses and gains against float.
    pub lost: usize,
    /// See `lost`.
    pub gained: usize,
    /// Mean squared difference of the logits from float's.
    pub logit_mse: f64,
    /// Bytes of weights, scales and biases.
    pub bytes: usize,
    /// Median milliseconds of one image.
    pub ms: f64,
    /// Whether no other trial is as good in all of accuracy, bytes and milliseconds and better in one.
    pub pareto: bool,
    /// The click that makes it.
    pub repair: Repair,
}

/// What the images that the search never saw say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verified {
    /// So many.
    pub images: usize,
    /// Of float on them.
    pub float: f64,
    /// Of int8 on them.
    pub int8: f64,
    /// The loss, as a fraction.
    pub loss: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Still under way.
    Searching,
    /// A trial that loses no more than was allowed, also on the images that verify.
    Kept(usize, Verified),
    /// A trial that lost no more where it was searched and did where it was verified.
    NotVerified(usize, Verified),
    /// No trial lost as little as was allowed.
    NotFound,
}

/// A search, so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    /// What is to be kept.
    pub goal: Goal,
    /// Images that are searched on.
    pub searched: usize,
    /// Float's accuracy on them.
    pub float: f64,
    /// Float's bytes of weights and biases.
    pub float_bytes: usize,
    /// In the order in which they were tried.
    pub trials: Vec<Trial>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Promise {
    /// The result in a sentence.
    pub fn in_words(&self) -> String {
        let points = |v: f64| format!("{:.2}", v * 100.0);
        let limit = points(self.goal.loss);
        let measured = |v: &Verified| {
            format!(
                "{} points lost on {} images that the search never saw; the true loss lies between {} and {} (95 %)",
                points(v.loss),
                v.images,
                points(v.interval.0),
                points(v.interval.1)
            )
        };
        match &self.outcome {
            Outcome::Searching => format!("Searching for a model that loses at most {limit} points."),
            Outcome::Kept(i, v) => {
                let sure = match v.interval.1 <= self.goal.loss {
                    true => "",
                    false => ", so more images would be needed to be sure",
                };
                format!("Kept, by {}: {}{sure}.", self.trials[*i].what, measured(v))
            }
            Outcome::NotVerified(i, v) => format!(
                "Not kept: {} lost at most {limit} points where it was searched, but {}. No promise is made.",
                self.trials[*i].what,
                measured(v)
            ),
            Outcome::NotFound => {
                let least = self.trials.iter().map(|t| t.loss).fold(f64::INFINITY, f64::min);
                format!(
                    "Not kept: of {} models none loses at most {limit} points; the least is {}.",
                    self.trials.len(),
                    points(least)
                )
            }
        }
    }
}

/// Searches for the smallest and fastest int8 model that loses no more than `goal` allows. Free repairs come first (bias
/// correction, equalization, observers), then finer levels, then layers left in float in the order of what each gains per
/// byte and millisecond. Half of the held-out images are searched on; the other half verifies what was chosen, once. `emit`
/// hears after each trial and may end it.
///
/// # Errors
/// Those of the passes and of running; [`SessionError::NothingHeldOut`] and the like where accuracy cannot be measured.
pub fn promise(
    (opened, weighted, recipe): (&Opened, &Graph, &Recipe),
    goal: Goal,
    emit: &mut dyn FnMut(Promise) -> ControlFlow<()>,
) -> Result<Promise, SessionError> {
    opened.require_labels("a promise")?;
    opened.require_held_out()?;
    if !recipe.method.is_ptq() {
        return Err(SessionError::RepairsArePtq);
    }
    let mut trials = Trials::new(recipe, opened, weighted)?;
    let start = Choice { repairs: recipe.repairs.clone(), qconfig: recipe.qconfig.clone() };
    let float = Model::new(trials.fused(&start)?, &Device::Cpu)?;
    let split = &opened.dataset.valid;
    let mut order = shuffled(split.len(), goal.seed);
    let verify = order.split_off((order.len() / 2).min(SEARCHED));
    let judged = Judged::new(opened, split, order, &float)?;
    let right = judged.labels.len() as f64;
    let mut own = crate::analysis::SweepScore::default();
    own.add(&judged.logits, &judged.logits, &judged.labels);
    let found = Promise {
        goal,
        searched: judged.labels.len(),
        float: own.right as f64 / right,
        float_bytes: weighted.param_count() * size_of::<f32>(),
        trials: Vec::new(),
        outcome: Outcome::Searching,
    };
    let mut search = Search { trials, judged, found, emit };
    let best = search.run(start)?;
    let (outcome, float_model) = (search.outcome(best), float);
    search.found.outcome = match outcome {
        Some(i) => {
            let verify = Judged::new(opened, split, verify, &float_model)?;
            let repair = search.found.trials[i].repair.clone();
            let mut tried = search.trials.convert(&Choice { repairs: repair.repairs, qconfig: repair.qconfig })?;
            let verified = verified(&verify, &mut tried.plan)?;
            match verified.loss <= goal.loss {
                true => Outcome::Kept(i, verified),
                false => Outcome::NotVerified(i, verified),
            }
        }
        None => Outcome::NotFound,
    };
    // The last word; nothing is left to end.
    let _ = (search.emit)(search.found.clone());
    Ok(search.found)
}

fn verified(images: &Judged, plan: &mut Plan) -> Result<Verified, SessionError> {
    let (score, lost, gained) = images.judge(plan)?;
    let n = images.labels.len();
    let int8 = score.top1();
    let loss = (lost as f64 - gained as f64) / n as f64;
    let (low, high) = paired_interval(lost, gained, n);
    Ok(Verified { images: n, float: int8 + loss, int8, loss, interval: (-high, -low) })
}

struct Search<'a, 'b> {
    trials: Trials<'a>,
    judged: Judged,
    found: Promise,
    emit: &'b mut dyn FnMut(Promise) -> ControlFlow<()>,
}

impl Search<'_, '_> {
    /// Tries on until one is good enough with room to spare, and gives the last choice.
    fn run(&mut self, start: Choice) -> Result<Choice, SessionError> {
        let mut best = start.clone();
        self.attempt("as it is", &best)?;
        if self.is_enough() {
            return Ok(best);
        }
        for (what, next) in free(&start) {
            let candidate = next(&best);
            if candidate != best && self.better(&describe(&best, &start, what), &candidate)? {
                best = candidate;
            }
            if self.is_enough() {
                return Ok(best);
            }
        }
        let layers = self.layers(&best)?;
        let mut left = Vec::new();
        for layer in layers {
            left.push(layer.clone());
            best.repairs.adaround.remove(&layer);
            best.qconfig = best.qconfig.clone().with_override(&layer, Override::Float);
            let what = describe(&best, &start, &format!("{} in float", left.join(", ")));
            self.attempt(&what, &best)?;
            if self.is_enough() {
                break;
            }
        }
        Ok(best)
    }

    /// Tries a choice; whether its logits are nearer to float's than those of the best so far.
    fn better(&mut self, what: &str, choice: &Choice) -> Result<bool, SessionError> {
        let least = self.found.trials.iter().map(|t| t.logit_mse).fold(f64::INFINITY, f64::min);
        self.attempt(what, choice)?;
        Ok(self.found.trials.last().is_some_and(|t| t.logit_mse < (1.0 - WORTH) * least))
    }

    fn attempt(&mut self, what: &str, choice: &Choice) -> Result<(), SessionError> {
        let mut tried = self.trials.convert(choice)?;
        let (score, lost, gained) = self.judged.judge(&mut tried.plan)?;
        let n = self.judged.labels.len() as f64;
        self.found.trials.push(Trial {
            what: what.to_owned(),
            accuracy: score.top1(),
            loss: (lost as f64 - gained as f64) / n,
            lost,
            gained,
            logit_mse: score.logit_mse(),
            bytes: tried.bytes,
            ms: tried.ms,
            pareto: false,
            repair: Repair {
                title: "Keep the promise".to_owned(),
                repairs: choice.repairs.clone(),
                qconfig: choice.qconfig.clone(),
            },
        });
        mark_pareto(&mut self.found.trials);
        match (self.emit)(self.found.clone()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SessionError::Cancelled),
        }
    }

    /// Whether the last trial's loss is below what is allowed by a standard error: what is chosen on some images does a
    /// little worse on others.
    fn is_enough(&self) -> bool {
        let n = self.judged.labels.len() as f64;
        let room = |t: &Trial| ((t.lost + t.gained).max(1) as f64).sqrt() / n;
        self.found.trials.last().is_some_and(|t| t.loss + room(t) <= self.found.goal.loss)
    }

    /// The smallest trial that is good enough with room to spare; else the one with the least loss that is just good enough.
    fn outcome(&self, _last: Choice) -> Option<usize> {
        let n = self.judged.labels.len() as f64;
        let room = |t: &Trial| ((t.lost + t.gained).max(1) as f64).sqrt() / n;
        let goal = self.found.goal.loss;
        let all = || self.found.trials.iter().enumerate();
        let spare = all()
            .filter(|(_, t)| t.loss + room(t) <= goal)
            .min_by(|a, b| (a.1.bytes, a.1.ms).partial_cmp(&(b.1.bytes, b.1.ms)).unwrap_or(std::cmp::Ordering::Equal));
        let just = || all().filter(|(_, t)| t.loss <= goal).min_by(|a, b| a.1.loss.total_cmp(&b.1.loss));
        spare.or_else(just).map(|(i, _)| i)
    }

    /// Layers to leave in float, those first that gain most (in logit MSE) for what they cost in bytes and milliseconds.
    fn layers(&mut self, best: &Choice) -> Result<Vec<String>, SessionError> {
        let base = self.trials.convert(best)?;
        let fused = self.trials.fused(best)?.clone();
        let choosable: Vec<String> = quant::choosable(&fused)
            .into_iter()
            .filter(|(_, can)| can.float)
            .filter(|(name, _)| !matches!(best.qconfig.overrides.get(name), Some(Override::Float)))
            .map(|(name, _)| name)
            .collect();
        let (first, second) = quant::twins(&fused, &base.graph)?;
        let mut meter = SensitivityMeter::new((&first, &second), Sweeps { one_quantized: false, one_float: true })?;
        let count = SWEPT.min(self.judged.labels.len());
        let image = self.judged.images.len() / self.judged.labels.len();
        for start in (0..count).step_by(32) {
            let end = (start + 32).min(count);
            let batch = Labelled {
                images: &self.judged.images[start * image..end * image],
                labels: &self.judged.labels[start..end],
                indices: &self.judged.indices[start..end],
            };
            meter.add(&batch, &mut |_, _, _| ControlFlow::Continue(()))?;
            if (self.emit)(self.found.clone()).is_break() {
                return Err(SessionError::Cancelled);
            }
        }
        let found = meter.found();
        let gains = found.layers.iter().map(|l| (l.name.clone(), found.int8.logit_mse() - l.left_float.logit_mse()));
        let mut gains: Vec<(String, f64)> =
            gains.filter(|(name, gain)| *gain > 0.0 && choosable.contains(name)).collect();
        gains.sort_by(|a, b| b.1.total_cmp(&a.1));
        gains.truncate(CANDIDATES);
        let mut worth = Vec::new();
        for (name, gain) in gains {
            let mut choice = best.clone();
            choice.repairs.adaround.remove(&name);
            choice.qconfig = choice.qconfig.with_override(&name, Override::Float);
            let tried = self.trials.convert(&choice)?;
            let bytes = (tried.bytes as f64 / base.bytes as f64 - 1.0).max(0.0);
            let ms = (tried.ms / base.ms - 1.0).max(0.0);
            // A layer that costs next to nothing is not infinitely good.
            worth.push((gain / (bytes + ms + 0.01), name));
        }
        worth.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(worth.into_iter().take(MOST_FLOAT).map(|(_, name)| name).collect())
    }
}

type Change = Box<dyn Fn(&Choice) -> Choice>;

/// What costs no byte, then what costs no byte and perhaps time: each is kept where it helps.
fn free(start: &Choice) -> Vec<(&'static str, Change)> {
    let with = |f: fn(&mut Choice)| -> Change {
        Box::new(move |choice| {
            let mut next = choice.clone();
            f(&mut next);
            next
        })
    };
    let observer = |kind: ObserverKind| -> Change {
        Box::new(move |choice| Choice {
            qconfig: choice.qconfig.clone().with_observer(kind),
            repairs: choice.repairs.clone(),
        })
    };
    let mut all: Vec<(&'static str, Change)> = vec![("equalized", with(|c| c.repairs.equalize = true))];
    for (kind, what) in [
        (ObserverKind::Mse, "MSE observers"),
        (ObserverKind::Percentile, "percentile observers"),
        (ObserverKind::MinMax, "min and max observers"),
        (ObserverKind::Histogram, "histogram observers"),
    ] {
        if start.qconfig.activation.observer != kind {
            all.push((what, observer(kind)));
        }
    }
    all.push(("biases corrected", with(|c| c.repairs.correct_bias = true)));
    if start.qconfig.activation.quant_max < u8::MAX && start.qconfig.activation.bits == crate::graph::BITS {
        all.push((
            "levels 0..255",
            with(|c| c.qconfig.activation = ActivationSpec { quant_max: u8::MAX, ..c.qconfig.activation }),
        ));
    }
    all
}

/// What differs from the start, and what is new.
fn describe(best: &Choice, start: &Choice, new: &str) -> String {
    let mut parts = Vec::new();
    if best.repairs.equalize && !start.repairs.equalize {
        parts.push("equalized".to_owned());
    }
    if best.repairs.correct_bias && !start.repairs.correct_bias {
        parts.push("biases corrected".to_owned());
    }
    let (a, b) = (best.qconfig.activation, start.qconfig.activation);
    if a.observer != b.observer {
        parts.push(format!("{} observers", a.observer.title()));
    }
    if a.quant_max != b.quant_max {
        parts.push(format!("levels 0..{}", a.quant_max));
    }
    parts.push(new.to_owned());
    parts.join(", ")
}

/// Marks the trials that no other beats.
fn mark_pareto(trials: &mut [Trial]) {
    let keys: Vec<(f64, usize, f64)> = trials.iter().map(|t| (t.loss, t.bytes, t.ms)).collect();
    for (i, trial) in trials.iter_mut().enumerate() {
        let beats = |b: &(f64, usize, f64)| {
            let a = &keys[i];
            b.0 <= a.0 && b.1 <= a.1 && b.2 <= a.2 && (b.0 < a.0 || b.1 < a.1 || b.2 < a.2)
        };
        trial.pareto = !keys.iter().any(beats);
    }
}

/// What a promise is searched for, to be handed to a [`super::Probe`].
#[derive(Clone, Debug)]
pub struct PromiseOf {
    /// The data.
    pub opened: Arc<Opened>,
    /// After step 2.
    pub weighted: Arc<Graph>,
    /// What it starts from.
    pub recipe: Arc<Recipe>,
}

impl PromiseOf {
    /// As [`promise`].
    ///
    /// # Errors
    /// As [`promise`].
    pub fn run(&self, goal: Goal, emit: &mut dyn FnMut(Promise) -> ControlFlow<()>) -> Result<Promise, SessionError> {
        promise((&self.opened, &self.weighted, &self.recipe), goal, emit)
    }
}
