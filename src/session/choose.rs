//! What is chosen for the steps before they are run: *Run all* runs what is picked, not what was picked before.

use std::sync::Arc;

use super::state::Reporter;
use super::{Calibration, Event, Method, QatTraining, Recipe, Session, SessionError, Step};
use crate::train::TrainConfig;

impl Session {
    /// Takes over what `chosen` says of the steps; model, data and weights that are loaded stay. A step that was done
    /// otherwise is undone, and those after it.
    pub(super) fn choose(&mut self, chosen: Recipe, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let done = self.stage()?.done();
        if self.recipe.method.is_ptq() != chosen.method.is_ptq() {
            self.choose_method(chosen.method, to)?;
        } else if let Some(before) = self.last_alike(&chosen)
            && done > Some(before)
        {
            self.back_to(before, to)?;
        }
        let Recipe { unfused, qconfig, calibration, train, method, weights, .. } = chosen;
        if done < Some(Step::Weights) {
            self.recipe.weights = weights;
        }
        self.recipe = Recipe { unfused, qconfig, calibration, train, method, ..self.recipe.clone() };
        (to.emit)(Event::Recipe(Arc::new(self.recipe.clone())));
        Ok(())
    }

    /// The last step whose result is as `chosen` wants it, where a later one's is not.
    fn last_alike(&self, chosen: &Recipe) -> Option<Step> {
        let now = &self.recipe;
        // Looking ahead changes no result.
        let images = |c: Calibration| Calibration { foresee: false, ..c };
        let training = |method: Method| match method {
            Method::Ptq => None,
            Method::Qat(qat) => Some(QatTraining { train: TrainConfig { seed: now.seed, ..qat.train }, ..qat }),
        };
        let calibrated = match chosen.method {
            Method::Ptq => images(now.calibration) == images(chosen.calibration),
            Method::Qat(_) => training(now.method) == training(chosen.method),
        };
        let steps = [
            (Step::Weights, now.unfused == chosen.unfused),
            (Step::Fuse, now.qconfig == chosen.qconfig),
            (Step::Prepare, calibrated),
        ];
        steps.into_iter().find(|(_, alike)| !alike).map(|(before, _)| before)
    }
}
