//! Repairs, each one command: the steps that it changes run again with it, and what was before can be brought back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::measure::{Inputs, int8_accuracy};
use super::state::Reporter;
use super::{Event, Opened, Recipe, Session, SessionError, Stage, Step};
use crate::analysis::{LARGEST_WINDOW, MomentMeter, bias_corrections};
use crate::data::shuffled;
use crate::exec::float::Model;
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::Graph;
use crate::quant::{self, AdaRound, FUSION_TOLERANCE, FuseOptions, QConfig, QuantError};

/// Calibration images that bias correction and AdaRound see, and the bytes that they may take.
const IMAGES: usize = 256;
const BYTES: usize = 64 << 20;
/// Images between two looks at whether to go on.
const BATCH: usize = 32;
/// Images on which equalization is proved to change nothing.
const PROOF_IMAGES: usize = 8;

/// What is repaired on the way to int8, beside the choices of [`QConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repairs {
    /// Cross-layer equalization of the fused model.
    pub equalize: bool,
    /// Empirical bias correction of the converted one.
    pub correct_bias: bool,
    /// Layers whose rounding is learnt.
    pub adaround: BTreeSet<String>,
}

impl Repairs {
    /// Nothing is repaired.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One click: what the repairs and the qconfig are to be from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Repair {
    /// As its button names it: "Equalize".
    pub title: String,
    /// All repairs, those of before included.
    pub repairs: Repairs,
    /// All choices, those of before included.
    pub qconfig: QConfig,
}

impl Repair {
    /// Equalization beside what a recipe has.
    pub fn equalize(recipe: &Recipe) -> Self {
        Self::of(recipe, "Equalize", |r| r.equalize = true)
    }

    /// Bias correction beside what a recipe has.
    pub fn correct_bias(recipe: &Recipe) -> Self {
        Self::of(recipe, "Correct biases", |r| r.correct_bias = true)
    }

    /// AdaRound on layers, beside what a recipe has.
    pub fn adaround(recipe: &Recipe, layers: impl IntoIterator<Item = String>) -> Self {
        Self::of(recipe, "AdaRound", |r| r.adaround.extend(layers))
    }

    /// Layers given back to float, beside what a recipe has.
    pub fn leave_float(recipe: &Recipe, layers: &[String]) -> Self {
        let mut repair = Self::of(recipe, "Leave in float", |_| {});
        for layer in layers {
            repair.repairs.adaround.remove(layer);
            repair.qconfig = repair.qconfig.with_override(layer, quant::Override::Float);
        }
        repair
    }

    fn of(recipe: &Recipe, title: &str, change: impl FnOnce(&mut Repairs)) -> Self {
        let mut repairs = recipe.repairs.clone();
        change(&mut repairs);
        Self { title: title.to_owned(), repairs, qconfig: recipe.qconfig.clone() }
    }
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq)]
pub struct Repaired {
    /// Which.
    pub title: String,
    /// Accuracy of int8 on the held-out images before it, where labels allow.
    pub before: Option<f64>,
    /// And after.
    pub after: Option<f64>,
    /// Held-out images.
    pub images: usize,
    /// How long it took.
    pub seconds: f64,
}

impl Recipe {
    /// The float model as it goes into observers: fused, and equalized where that was chosen.
    ///
    /// # Errors
    /// Those of both passes.
    pub fn fused(&self, weighted: &Graph) -> Result<Graph, QuantError> {
        let (fused, _) = quant::fuse(weighted, &FuseOptions { disabled: self.unfused.clone() })?;
        match self.repairs.equalize && self.method.is_ptq() {
            true => Ok(quant::equalize(&fused)?.0),
            false => Ok(fused),
        }
    }
}

impl Session {
    /// The fused model with its weights equalized, where the recipe says so: proved on a few images, and said.
    pub(super) fn equalized(
        &self,
        fused: Graph,
        opened: &Opened,
        to: &mut Reporter<'_>,
    ) -> Result<Graph, SessionError> {
        if !self.recipe.repairs.equalize {
            return Ok(fused);
        }
        let (graph, report) = quant::equalize(&fused)?;
        let images = Inputs::first(&opened.dataset.train, PROOF_IMAGES, &opened.preprocess, &opened.source)?;
        let run = |graph: &Graph| -> Result<Vec<f32>, SessionError> {
            Ok(Model::new(graph, &self.device)?.run(&images.images, images.count)?)
        };
        let (old, new) = (run(&fused)?, run(&graph)?);
        let moved = old.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = old.iter().map(|a| a.abs()).fold(f32::MIN_POSITIVE, f32::max);
        to.info(format!(
            "{} layers equalized, {} cannot be; the output of {} images moved by {:.1e} of the largest logit.",
            report.pairs.len(),
            report.refusals.len(),
            images.count,
            moved / largest
        ));
        // A not-a-number is no proof.
        if new.iter().any(|v| v.is_nan()) || moved / largest > FUSION_TOLERANCE {
            let why = if report.relu6.is_empty() { "" } else { ": ReLU6 became ReLU, and clipped before" };
            to.warn(format!(
                "Equalization moved the model's output by {:.1e} of the largest logit{why}.",
                moved / largest
            ));
        }
        Ok(graph)
    }

    /// The converted model with its roundings learnt and its biases corrected, where the recipe says so.
    pub(super) fn repaired(
        &self,
        converted: Graph,
        opened: &Opened,
        to: &mut Reporter<'_>,
    ) -> Result<Graph, SessionError> {
        let repairs = &self.recipe.repairs;
        if repairs.adaround.is_empty() && !repairs.correct_bias {
            return Ok(converted);
        }
        let fused = self.base(Step::Prepare)?.graph();
        repaired(converted, fused, repairs, &calibration_images(opened, self.recipe.seed)?, to)
    }

    /// Runs the steps that a repair changes again, and measures what it did. Where it fails or is cancelled, all is as before.
    pub(super) fn repair(&mut self, repair: Repair, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let kept = (self.recipe.clone(), self.stages().to_vec());
        let opened = self.weighted()?.opened.clone();
        self.repairing = true;
        let result = self.carry_out(&repair, &opened, to);
        self.repairing = false;
        match result {
            Ok((before, after)) => {
                self.before_repairs.push(kept);
                let images = if after.is_some() { opened.dataset.valid.len() } else { 0 };
                let seconds = start.elapsed().as_secs_f64();
                (to.emit)(Event::Repaired(Arc::new(Repaired { title: repair.title, before, after, images, seconds })));
                Ok(())
            }
            Err(e) => {
                self.restore(kept, to);
                Err(e)
            }
        }
    }

    /// Accuracy before and after.
    fn carry_out(
        &mut self,
        repair: &Repair,
        opened: &Opened,
        to: &mut Reporter<'_>,
    ) -> Result<(Option<f64>, Option<f64>), SessionError> {
        let before = match self.stage()?.as_ref() {
            Stage::Saved { measured, .. } => measured.int8.accuracy,
            _ => self.converted_accuracy(opened, to)?,
        };
        let old = self.recipe.clone();
        self.recipe.repairs = repair.repairs.clone();
        let refuse = repair.qconfig != old.qconfig;
        if old.repairs.equalize != repair.repairs.equalize {
            self.fuse(&self.fuse_options(), to)?;
        }
        if old.repairs.equalize != repair.repairs.equalize || refuse {
            self.prepare(repair.qconfig.clone(), to)?;
            self.calibrate(self.recipe.calibration, to)?;
        }
        self.convert(to)?;
        Ok((before, self.converted_accuracy(opened, to)?))
    }

    fn converted_accuracy(&self, opened: &Opened, to: &mut Reporter<'_>) -> Result<Option<f64>, SessionError> {
        if self.stage()?.is_study_alone() {
            return Ok(None);
        }
        let options = PlanOptions { isa: None, threads: self.recipe.threads };
        int8_accuracy(opened, &mut Plan::new(self.stage()?.graph(), &options)?, to)
    }

    /// Brings back what was before the last repair.
    pub(super) fn undo_repair(&mut self, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let kept = self.before_repairs.pop().ok_or(SessionError::NothingUndone)?;
        self.restore(kept, to);
        (to.emit)(Event::RepairUndone);
        Ok(())
    }

    pub(super) fn restore(&mut self, (recipe, stages): (Recipe, Vec<Arc<Stage>>), to: &mut Reporter<'_>) {
        self.recipe = recipe;
        (to.emit)(Event::Recipe(Arc::new(self.recipe.clone())));
        (to.emit)(Event::Restored(Arc::new(stages.clone())));
        self.set_stages(stages);
    }
}

/// The first calibration images, as many as memory allows.
pub(super) fn calibration_images(opened: &Opened, seed: u64) -> Result<Inputs, SessionError> {
    let image = 3 * opened.preprocess.size * opened.preprocess.size * size_of::<f32>();
    let count = IMAGES.min((BYTES / image).max(1));
    let split = &opened.dataset.train;
    Inputs::of(shuffled(split.len(), seed), split, count, &opened.preprocess, &opened.source)
}

/// Both repairs of a converted graph, made from `fused`.
pub(super) fn repaired(
    mut converted: Graph,
    fused: &Graph,
    repairs: &Repairs,
    images: &Inputs,
    to: &mut Reporter<'_>,
) -> Result<Graph, SessionError> {
    let layers: Vec<String> = repairs.adaround.iter().cloned().collect();
    if !layers.is_empty() {
        let mut meter = MomentMeter::new(fused, &converted, &layers)?;
        let image = images.images.len() / images.count;
        for batch in images.images.chunks(BATCH * image) {
            to.checkpoint()?;
            meter.add(batch, batch.len() / image)?;
        }
        for (i, (layer, moments)) in layers.iter().zip(meter.moments()).enumerate() {
            to.progress("Learning roundings", i, layers.len());
            to.checkpoint()?;
            let (next, report) = quant::round_weights(&converted, fused, layer, moments, &AdaRound::default())?;
            to.info(format!(
                "AdaRound moved {} of {} weights of {}: its output's squared error is {:.2} of what it was.",
                report.changed,
                report.of,
                report.layer,
                if report.nearest_mse > 0.0 { report.mse / report.nearest_mse } else { 1.0 }
            ));
            converted = next;
        }
    }
    if repairs.correct_bias {
        to.progress("Correcting biases", 0, 1);
        to.checkpoint()?;
        let corrections = bias_corrections(fused, &converted, &images.images, images.count)?;
        let (next, report) = quant::correct_bias(&converted, &corrections)?;
        let most = report.layers.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((layer, by)) = most {
            to.info(format!("Biases of {} layers corrected, most in {layer}: by {by:.3}.", report.layers.len()));
        }
        converted = next;
    }
    Ok(converted)
}

/// Layers that AdaRound takes: those with weights, and not too many a filter.
pub fn roundable(graph: &Graph) -> Vec<String> {
    let fits = |shape: &[usize]| shape[1..].iter().product::<usize>() <= LARGEST_WINDOW;
    let layers = graph.nodes.iter().filter(|n| n.op.weight().is_some_and(|w| fits(w.shape()) && w.int8().is_some()));
    layers.map(|n| n.name.clone()).collect()
}
