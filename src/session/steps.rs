//! The steps that are pure passes: stubs, fuse, prepare, convert.

use std::sync::Arc;
use std::time::Instant;

use super::measure::fake_accuracy;
use super::state::Reporter;
use super::{Method, Session, SessionError, Stage, Step, StudyResult, Weighted};
use crate::quant::{self, FuseOptions, QConfig, Range, Study, Warning};

impl Session {
    pub(super) fn insert_stubs(&mut self, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let base = self.base(Step::Stubs)?;
        let (graph, report) = quant::insert_stubs(base.graph())?;
        let stage = Stage::Stubbed { opened: base.opened().clone(), graph: graph.into(), report: report.into() };
        self.enter(stage, start, to);
        Ok(())
    }

    pub(super) fn fuse_options(&self) -> FuseOptions {
        FuseOptions { disabled: self.recipe.unfused.clone() }
    }

    pub(super) fn fuse(&mut self, options: &FuseOptions, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let before = self.weighted()?;
        let (folded, folded_report) = quant::fuse(&before.graph, options)?;
        let proof = self.prove(&before, (&folded, &folded_report), to)?;
        to.info(format!(
            "{} sites fused; the output of {} images moved by {:.1e} at most ({:.1e} of the largest logit).",
            folded_report.sites.len(),
            proof.images,
            proof.max_abs,
            proof.relative
        ));
        let warnings: Vec<Warning> = proof.warning(&folded).into_iter().collect();
        to.warn_of(&warnings);
        self.recipe.unfused = options.disabled.clone();
        // Training keeps the batch norms beside their convolutions; what was proved is how they fold afterwards.
        let (graph, report) = match self.recipe.method {
            Method::Ptq => (self.equalized(folded, &before.opened, to)?, folded_report),
            Method::Qat(_) => quant::fuse_qat(&before.graph, options)?,
        };
        let stage = Stage::Fused { before, graph: graph.into(), report: report.into(), proof, warnings };
        self.enter(stage, start, to);
        Ok(())
    }

    pub(super) fn prepare(&mut self, qconfig: QConfig, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let before = self.weighted()?;
        let fused = self.base(Step::Prepare)?.graph();
        let (graph, report) = match self.recipe.method {
            Method::Ptq => quant::prepare(fused, &qconfig)?,
            Method::Qat(_) => quant::prepare_qat(fused, &qconfig)?,
        };
        let mut warnings = report.warnings();
        let (folded, _) = quant::fuse(&before.graph, &self.fuse_options())?;
        warnings.extend(quant::weight_warnings(&folded, &qconfig));
        warnings.extend(self.check_normalization(&before, to)?);
        to.warn_of(&warnings);
        self.recipe.qconfig = qconfig;
        self.enter(Stage::Prepared { before, graph: graph.into(), report: report.into(), warnings }, start, to);
        Ok(())
    }

    /// Sets the range of a node by hand, or lets what was seen decide again; calibration stays.
    pub(super) fn set_range(
        &mut self,
        node: &str,
        range: Option<Range>,
        to: &mut Reporter<'_>,
    ) -> Result<(), SessionError> {
        let start = Instant::now();
        let before = self.weighted()?;
        let Stage::Calibrated { observers, images, warnings, .. } = self.stage()?.as_ref() else {
            return Err(SessionError::NothingOpen);
        };
        let (observers, images, warnings) = (observers.clone(), *images, warnings.clone());
        let qconfig = self.recipe.qconfig.clone().with_fixed(node, range.map(|r| [r.min, r.max]));
        // The same graph again, but for this node's range.
        let (graph, _) = quant::prepare(self.base(Step::Prepare)?.graph(), &qconfig)?;
        let id = graph.require(node).map_err(quant::QuantError::from)?;
        let observers = Arc::new(observers.with_fixed(id, range));
        self.recipe.qconfig = qconfig;
        self.enter(Stage::Calibrated { before, graph: graph.into(), observers, images, warnings }, start, to);
        Ok(())
    }

    pub(super) fn convert(&mut self, to: &mut Reporter<'_>) -> Result<(), SessionError> {
        let start = Instant::now();
        let before = self.weighted()?;
        let (graph, observers) = match self.base(Step::Convert)?.as_ref() {
            Stage::Calibrated { graph, observers, .. } => (graph.clone(), observers.clone()),
            Stage::Trained { graph, fake_quants, epochs, .. } => {
                let (int8, report, qat) = self.convert_trained((graph, fake_quants), *epochs, to)?;
                let (graph, report) = (self.recipe.qconfig.with_biases(int8).into(), report.into());
                self.enter(Stage::Converted { before, graph, report, study: None, qat: Some(qat) }, start, to);
                return Ok(());
            }
            Stage::Opened { .. }
            | Stage::Stubbed { .. }
            | Stage::Weighted { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Converted { .. }
            | Stage::Saved { .. } => return Err(SessionError::NothingOpen),
        };
        let (qparams, qconfig) = (observers.qparams()?, &self.recipe.qconfig);
        let Some(study) = qconfig.study() else {
            let (graph, report) = quant::convert(&graph, &qparams, qconfig)?;
            let graph = qconfig.with_biases(self.repaired(graph, &before.opened, to)?);
            let (graph, report) = (graph.into(), report.into());
            let stage = Stage::Converted { before, graph, report, study: None, qat: None };
            self.enter(stage, start, to);
            return Ok(());
        };
        let (fake, fake_report) = quant::fake_quantize(&graph, &qparams, qconfig)?;
        let accuracy = fake_accuracy(&before.opened, &fake, &self.device, to)?;
        let (graph, report) = match study {
            Study::AffineWeights => (fake, fake_report),
            Study::FewerBits { .. } => {
                let (graph, report) = quant::convert(&graph, &qparams, qconfig)?;
                (qconfig.with_biases(graph), report)
            }
        };
        to.info(study.to_string());
        let study = Some(StudyResult { study, accuracy });
        let (graph, report) = (graph.into(), report.into());
        self.enter(Stage::Converted { before, graph, report, study, qat: None }, start, to);
        Ok(())
    }

    /// The float model as it was after step 2.
    pub(super) fn weighted(&self) -> Result<Arc<Weighted>, SessionError> {
        match self.base(Step::Fuse)?.as_ref() {
            Stage::Weighted { opened, graph, accuracy, .. } => {
                Ok(Arc::new(Weighted { opened: opened.clone(), graph: graph.clone(), accuracy: *accuracy }))
            }
            Stage::Opened { .. }
            | Stage::Stubbed { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Calibrated { .. }
            | Stage::Trained { .. }
            | Stage::Converted { .. }
            | Stage::Saved { .. } => Err(SessionError::NothingOpen),
        }
    }
}
