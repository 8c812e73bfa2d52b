//! Which observer suits which layer: tried one by one, the best kept.

use std::ops::ControlFlow;

use super::trial::{Choice, Judged, Trials};
use super::{PromiseOf, Repair, SessionError};
use crate::data::shuffled;
use crate::exec::float::{Device, Model};
use crate::graph::{ActivationSpec, BITS, Numeric, ObserverKind};
use crate::quant::{self, Override};

/// Training images whose logits are compared.
const IMAGES: usize = 192;
/// Layers that are tried, those first that are most suspect.
const LAYERS: usize = 16;
/// What can be told from one histogram.
const KINDS: [ObserverKind; 5] =
    [ObserverKind::Histogram, ObserverKind::MinMax, ObserverKind::Percentile, ObserverKind::Mse, ObserverKind::Entropy];
/// Another observer is kept where the logit MSE falls by this part at least.
const WORTH: f64 = 0.01;

/// What is known of the choice of observers so far.
#[derive(Clone, Debug, PartialEq)]
pub struct ObserverSweep {
    /// Layers that were tried.
    pub done: usize,
    /// Layers that will be.
    pub of: usize,
    /// Logit MSE against float with all as the recipe has it, and with what was chosen so far.
    pub logit_mse: (f64, f64),
    /// Which layer got which observer, and its largest level.
    pub chosen: Vec<(String, ObserverKind, u8)>,
    /// The click that takes it.
    pub repair: Repair,
}

impl PromiseOf {
    /// Tries every observer, at the qconfig's levels and at 0..255, on each of `layers` in this order (the most suspect
    /// first), keeping what brings the logits of a few training images nearest to float's; all so far, again and again.
    ///
    /// # Errors
    /// Those of the passes and of running; [`SessionError::RepairsArePtq`].
    pub fn observers(
        &self,
        layers: &[String],
        emit: &mut dyn FnMut(ObserverSweep) -> ControlFlow<()>,
    ) -> Result<(), SessionError> {
        if !self.recipe.method.is_ptq() {
            return Err(SessionError::RepairsArePtq);
        }
        let (opened, recipe) = (&self.opened, &self.recipe);
        let mut trials = Trials::new(recipe, opened, &self.weighted)?;
        let mut best = Choice { repairs: recipe.repairs.clone(), qconfig: recipe.qconfig.clone() };
        let float = Model::new(trials.fused(&best)?, &Device::Cpu)?;
        let split = &opened.dataset.train;
        let mut order = shuffled(split.len(), recipe.seed.wrapping_add(1));
        order.truncate(IMAGES);
        let judged = Judged::unlabelled(opened, split, order, &float)?;
        let (prepared, _) = quant::prepare(trials.fused(&best)?, &best.qconfig)?;
        let observed = |name: &String| {
            prepared.find(name).is_some_and(|id| matches!(prepared.node(id).numeric, Numeric::Observed(_)))
        };
        let layers: Vec<&String> = layers.iter().filter(|name| observed(name)).take(LAYERS).collect();
        let mut mse = |choice: &Choice| -> Result<f64, SessionError> {
            Ok(judged.judge(&mut trials.convert_untimed(choice)?)?.0.logit_mse())
        };
        let before = mse(&best)?;
        let mut sweep = ObserverSweep {
            done: 0,
            of: layers.len(),
            logit_mse: (before, before),
            chosen: Vec::new(),
            repair: Repair {
                title: "Choose observers".to_owned(),
                repairs: best.repairs.clone(),
                qconfig: best.qconfig.clone(),
            },
        };
        for layer in layers {
            let Some(own) = best.qconfig.activation_of(layer) else { continue };
            let mut found = None;
            for spec in specs(own) {
                let candidate = with(&best, layer, spec);
                let error = mse(&candidate)?;
                if error < (1.0 - WORTH) * sweep.logit_mse.1 {
                    sweep.logit_mse.1 = error;
                    found = Some((candidate, spec));
                }
                if emit(sweep.clone()).is_break() {
                    return Ok(());
                }
            }
            sweep.done += 1;
            if let Some((choice, spec)) = found {
                best = choice;
                sweep.chosen.push((layer.clone(), spec.observer, spec.quant_max));
                sweep.repair.qconfig = best.qconfig.clone();
            }
            if emit(sweep.clone()).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What else could watch a layer.
fn specs(own: ActivationSpec) -> Vec<ActivationSpec> {
    let levels = if own.bits == BITS { vec![own.quant_max, u8::MAX] } else { vec![own.quant_max] };
    let mut all: Vec<ActivationSpec> = Vec::new();
    for (kind, quant_max) in KINDS.into_iter().flat_map(|k| levels.iter().map(move |l| (k, *l))) {
        let spec = ActivationSpec { observer: kind, quant_max, fixed: None, ..own };
        if spec != own && !all.contains(&spec) {
            all.push(spec);
        }
    }
    all
}

fn with(choice: &Choice, layer: &str, spec: ActivationSpec) -> Choice {
    let weight = match choice.qconfig.overrides.get(layer) {
        Some(Override::Int8 { weight, .. }) => *weight,
        Some(Override::Float) | None => None,
    };
    let own = Override::Int8 { activation: Some(spec), weight };
    Choice { qconfig: choice.qconfig.clone().with_override(layer, own), repairs: choice.repairs.clone() }
}
