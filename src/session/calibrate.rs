//! Step 5: images through the float model, every observer watching.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::foresee::Foresight;
use super::state::Reporter;
use super::{Calibration, Event, IfConverted, ObserverView, Session, SessionError, Stage, Step};
use crate::data::shuffled;
use crate::exec::float::{Activation, Model};
use crate::graph::{Graph, NodeId};
use crate::quant::{self, Observers, Range, Values};

/// Bins of a histogram as the screen shows it.
const SCREEN_BINS: usize = 128;

impl Values for Activation<'_> {
    fn min_max(&self) -> (f32, f32) {
        Activation::min_max(self)
    }

    fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32> {
        Activation::histogram(self, bins, lo, hi)
    }
}

impl Session {
    pub(super) fn calibrate(&mut self, calibration: Calibration, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        calibration.check()?;
        let before = self.weighted()?;
        // As prepared, with the ranges that were set by hand since.
        self.base(Step::Calibrate)?;
        let (graph, _) = quant::prepare(self.base(Step::Prepare)?.graph(), &self.recipe.qconfig)?;
        let graph = Arc::new(graph);
        let (observers, images) = self.observe(&before.opened, &graph, calibration, to)?;
        let warnings = observers.warnings();
        to.warn_of(&warnings);
        self.recipe.calibration = calibration;
        self.enter(Stage::Calibrated { before, graph, observers: observers.into(), images, warnings }, start, to);
        Ok(())
    }

    fn observe(
        &self,
        opened: &super::Opened,
        graph: &Graph,
        calibration: Calibration,
        to: &mut Reporter<'_>,
    ) -> Result<(Observers, usize), SessionError> {
        let model = Model::new(graph, &self.device)?;
        let mut observers = Observers::new(graph)?;
        let split = &opened.dataset.train;
        let mut order = shuffled(split.len(), self.recipe.seed);
        order.truncate(calibration.batches.saturating_mul(calibration.batch));
        let total = order.len();
        let mut images = 0;
        let mut foresight = match calibration.foresee {
            true => Foresight::new(opened, total.div_ceil(calibration.batch.max(1))),
            false => None,
        };
        let mut clips = BTreeMap::new();
        to.progress("Calibrating", 0, total);
        for batch in split.batches(order, calibration.batch, &opened.preprocess, None) {
            to.checkpoint()?;
            opened.require_there(batch.len(), &batch.skipped)?;
            to.unreadable(opened, &batch.skipped);
            if batch.is_empty() {
                continue;
            }
            let control = to.control;
            let mut failure = None;
            let watched = model.run_observed(&batch.images, batch.indices.len(), &mut |node, values| {
                if let Err(e) = observers.observe(node, values) {
                    failure = Some(e);
                    return ControlFlow::Break(());
                }
                control.checkpoint()
            });
            if let Some(e) = failure {
                return Err(e.into());
            }
            to.checkpoint()?;
            watched?;
            images += batch.indices.len();
            to.progress("Calibrating", images, total);
            let mut look = None;
            if let Some(foresight) = &mut foresight {
                look = foresight.after_a_batch(graph, &observers, &self.recipe.qconfig, opened)?;
                to.checkpoint()?;
            }
            let sample = foresight.as_ref().map_or(0, Foresight::sample);
            let found = look.as_ref().map(|look| IfConverted { images, accuracy: look.accuracy, sample });
            clips = look.map_or(clips, |look| look.clips);
            (to.emit)(Event::Observed { images, observers: Arc::new(views(graph, &observers, &clips)) });
            if let Some(found) = found {
                (to.emit)(Event::IfConverted(found));
            }
        }
        if images == 0 {
            return Err(SessionError::NothingToSee { path: opened.source.clone() });
        }
        Ok((observers, images))
    }
}

/// What the screen shows of every observer that has seen something.
fn views(graph: &Graph, observers: &Observers, clips: &BTreeMap<NodeId, Range>) -> Vec<ObserverView> {
    let mut views = Vec::new();
    for node in observers.nodes() {
        let Some(range) = observers.range(node) else { continue };
        let (histogram, edges) = match observers.histogram(node) {
            Some(h) => (thinned(&h.counts), h.range),
            None => (Vec::new(), range),
        };
        views.push(ObserverView {
            node,
            name: graph.node(node).name.clone(),
            batches: observers.history(node).iter().map(|r| (r.min, r.max)).collect(),
            min: range.min,
            max: range.max,
            histogram,
            histogram_min: edges.min,
            histogram_max: edges.max,
            levels: clips.get(&node).and_then(|clip| {
                let qparams = clip.qparams(observers.spec(node)?);
                Some((clip.min, clip.max, qparams))
            }),
        });
    }
    views
}

/// Neighbouring bins summed until the screen can show them.
fn thinned(counts: &[f32]) -> Vec<f32> {
    counts.chunks(counts.len().div_ceil(SCREEN_BINS).max(1)).map(|c| c.iter().sum()).collect()
}
