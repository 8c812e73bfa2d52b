//! What later steps had found before an earlier one was changed: kept to be looked at, until each is run again.

use std::sync::Arc;

use super::{ObserverView, Stage, Step, View};
use crate::train::TrainEvent;

/// Results that nothing follows from any more. Stages share their parameters, so this costs what only they held.
#[derive(Clone, Debug, Default)]
pub(super) struct Stale {
    /// As in [`View::stages`]. One that was replaced by a new result stays while something made of it shows.
    stages: [Option<Arc<Stage>>; 7],
    seconds: [Option<f64>; 6],
    observed_images: usize,
    observers: Arc<Vec<ObserverView>>,
    training: Vec<TrainEvent>,
    qat: Vec<TrainEvent>,
}

impl Stale {
    /// A new result stands at `place`, where `before` was.
    pub fn replaced(&mut self, place: usize, before: Option<Arc<Stage>>) {
        let shows = self.stages.get(place + 1).is_some_and(Option::is_some);
        self.stages[place] = if shows { before.or(self.stages[place].take()) } else { None };
    }
}

impl View {
    /// What `step` had left before an earlier step was changed, until it is run again.
    pub fn stale_stage_of(&self, step: Step) -> Option<&Arc<Stage>> {
        let place = step.index() + 1;
        if self.stages[place].is_some() { None } else { self.stale.stages[place].as_ref() }
    }

    /// How many steps are undone and can be brought back.
    pub fn undone(&self) -> usize {
        self.undone
    }

    /// The view as it was when `step` had its result, where that is stale now: for a screen that shows it dimmed. What
    /// runs, and what can be asked for, is said as it is now; the log stays out.
    pub fn as_it_was(&self, step: Step) -> Option<View> {
        self.stale_stage_of(step)?;
        let place = step.index() + 1;
        let mut was = View {
            recipe: self.recipe.clone(),
            seconds: self.stale.seconds,
            running: self.running,
            ended: self.ended,
            now: self.stage().cloned(),
            observed_images: self.stale.observed_images,
            observers: self.stale.observers.clone(),
            qat: self.stale.qat.clone(),
            ..View::default()
        };
        for at in 0..=place {
            was.stages[at] = self.stale.stages[at].clone().or_else(|| self.stages[at].clone());
        }
        if step <= Step::Weights {
            was.training = self.stale.training.clone();
        }
        if step == Step::Calibrate {
            was.qat = self.stale.qat.clone();
        }
        Some(was)
    }

    /// Makes every stage after position `last` stale, and with it what was watched on the way there.
    pub(super) fn set_aside_after(&mut self, last: usize) {
        for place in last + 1..self.stages.len() {
            let seconds = self.seconds[place - 1].take();
            if let Some(stage) = self.stages[place].take() {
                self.stale.stages[place] = Some(stage);
                self.stale.seconds[place - 1] = seconds;
            }
        }
        if last <= Step::Calibrate.index() && !self.observers.is_empty() {
            self.stale.observers = std::mem::take(&mut self.observers);
            self.stale.observed_images = std::mem::take(&mut self.observed_images);
        }
        if last <= Step::Calibrate.index() {
            self.if_converted.clear();
            if !self.qat.is_empty() {
                self.stale.qat = std::mem::take(&mut self.qat);
            }
        }
        if last <= Step::Weights.index() && !self.training.is_empty() {
            self.stale.training = std::mem::take(&mut self.training);
        }
    }

    /// A step that was undone is back as it was, with what was watched on the way there.
    pub(super) fn bring_back(&mut self, stage: Arc<Stage>) {
        let Some(step) = stage.done() else { return };
        let place = step.index() + 1;
        self.undone = self.undone.saturating_sub(1);
        self.stages[place] = Some(stage);
        self.seconds[step.index()] = self.stale.seconds[step.index()];
        self.stale.stages[place] = None;
        match step {
            Step::Weights => self.training = std::mem::take(&mut self.stale.training),
            Step::Calibrate => {
                self.observers = std::mem::take(&mut self.stale.observers);
                self.observed_images = std::mem::take(&mut self.stale.observed_images);
                self.qat = std::mem::take(&mut self.stale.qat);
            }
            Step::Stubs | Step::Fuse | Step::Prepare | Step::Convert => {}
        }
    }
}
