//! Step 6, second half: the file is written, read back, and what was read is measured.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::measure::{Inputs, float_bytes, int8_accuracy_and_ties, latency_ms};
use super::saturation::saturation;
use super::state::Reporter;
use super::{Measured, Opened, QatResult, Recipe, Run, Session, SessionError, Side, Stage, Step, WeightsOrigin};
use crate::exec::float::Model;
use crate::exec::int8::{Plan, PlanOptions};
use crate::quant::{self, FuseOptions, Warning};
use crate::weights::octet::{self, Meta};

impl Session {
    pub(super) fn save(&mut self, path: &Path, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let (before, report, converted, study, qat) = match self.stage()?.as_ref() {
            Stage::Converted { before, graph, report, study, qat }
            | Stage::Saved { before, graph, report, study, qat, .. } => {
                (before.clone(), report.clone(), graph.clone(), *study, *qat)
            }
            Stage::Opened { .. }
            | Stage::Stubbed { .. }
            | Stage::Weighted { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Calibrated { .. }
            | Stage::Trained { .. } => return Err(SessionError::NothingOpen),
        };
        let opened = &before.opened;
        let bytes = octet::write(path, &converted, &meta(opened, &self.recipe))?;
        let (graph, _) = octet::read(path)?;
        let mut plan = Plan::new(&graph, &PlanOptions { isa: None, threads: self.recipe.threads })?;
        let (accuracy, tied) = int8_accuracy_and_ties(opened, &mut plan, to)?;
        let as_pytorch = match qat {
            Some(_) => self.as_pytorch(opened, to)?,
            None => None,
        };
        let qat = qat.map(|result| QatResult { as_pytorch, ..result });
        let inputs = Inputs::first(&opened.dataset.train, 1, &opened.preprocess, &opened.source)?;
        to.progress("Measuring latency", 0, 2);
        let int8_ms = latency_ms(
            &mut || {
                plan.run(&inputs.images, 1);
                Ok(())
            },
            to,
        )?;
        let saturation = saturation(opened, &graph, &mut plan, to)?;
        // Float is timed as fast as Octet runs it: fused.
        let (fused, _) = quant::fuse(&before.graph, &FuseOptions::default())?;
        let model = Model::new(&fused, &self.device)?;
        to.progress("Measuring latency", 1, 2);
        let float_ms = latency_ms(&mut || Ok(model.run(&inputs.images, 1).map(drop)?), to)?;
        let float = Side { accuracy: before.accuracy, bytes: float_bytes(&before.graph, path)?, latency_ms: float_ms };
        let int8 = Side { accuracy, bytes, latency_ms: int8_ms };
        let measured = Measured {
            file: path.to_owned(),
            images: if accuracy.is_some() { opened.dataset.valid.len() } else { 0 },
            float,
            int8,
            shrink: float.bytes as f64 / bytes as f64,
            saturation,
        };
        to.info(format!("Saved {} ({} KB), read it back and measured that.", path.display(), bytes / 1000));
        let warnings: Vec<Warning> = quant::tie_warning(&graph, tied, measured.images).into_iter().collect();
        to.warn_of(&warnings);
        let (graph, measured) = (Arc::new(graph), Arc::new(measured));
        let stage = Stage::Saved { before, graph, report, study, qat, measured, warnings };
        self.keep_run(&stage, to);
        self.enter(stage, start, to);
        Ok(())
    }

    /// Keeps the run in the project, if there is one. That it cannot be kept costs no result: it is said.
    fn keep_run(&self, stage: &Stage, to: &mut Reporter<'_>) {
        let (Some(project), Stage::Saved { measured, study, qat, .. }) = (&self.project, stage) else { return };
        let fake = study.and_then(|s| s.accuracy).or(qat.and_then(|q| q.accuracy));
        let run = Run::new(&self.recipe, self.weights_in_words(), measured, fake, stage);
        match project.keep(&run) {
            Ok((number, path)) => to.info(format!("Kept as run {number}: {}.", path.display())),
            Err(e) => to.warn(format!("{e}.")),
        }
    }

    fn weights_in_words(&self) -> String {
        let Some(Stage::Weighted { origin, .. }) = self.stage_of(Step::Weights).map(AsRef::as_ref) else {
            return String::new();
        };
        match origin {
            WeightsOrigin::Shipped => "shipped with Octet".to_owned(),
            WeightsOrigin::File(path) | WeightsOrigin::WithoutHead(path) => path.display().to_string(),
            WeightsOrigin::Trained { epochs, stopped: false } => format!("trained, {epochs} epochs"),
            WeightsOrigin::Trained { epochs, stopped: true } => format!("trained, stopped after {epochs} epochs"),
        }
    }
}

fn meta(opened: &Opened, recipe: &Recipe) -> Meta {
    Meta {
        labels: opened.labels(),
        preprocess: serde_json::to_value(opened.preprocess).expect("plain numbers and names become JSON"),
        // How many threads ran it is no part of the result: the file is the same on any number.
        recipe: serde_json::to_value(Recipe { threads: 0, ..recipe.clone() }).expect("a recipe becomes JSON"),
    }
}
