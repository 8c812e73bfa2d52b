//! A run as one HTML page: what was done, charts, tables, the error of every layer, the machine.

mod charts;
mod tables;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Measured, Method, Pair, Recipe, Session, SessionError, Stage, Step, View, recipe_file};
use crate::analysis::LayerError;
use crate::export::html::{Page, Part, Section, html};
use crate::kernels::{Kernels, cpu_name};
use crate::weights;

/// Images on which the error of each layer is measured.
const ERROR_IMAGES: usize = 256;

/// What a report is made of: the stages of a finished run.
#[derive(Clone, Debug)]
pub struct ReportJob {
    recipe: Recipe,
    stages: Vec<Arc<Stage>>,
    /// How long each step took, where that is known.
    seconds: [Option<f64>; 6],
    /// The error of every layer, where it was measured already.
    errors: Option<Vec<LayerError>>,
}

impl ReportJob {
    /// Of a session; `None` where nothing is saved yet.
    pub fn of_session(session: &Session) -> Option<Self> {
        let stages = session.history().to_vec();
        Self { recipe: session.recipe().clone(), stages, seconds: session.seconds, errors: None }.finished()
    }

    /// Of what the window shows; `None` where nothing is saved yet.
    pub fn of_view(view: &View, errors: Option<&[LayerError]>) -> Option<Self> {
        let stages = view.stages.iter().flatten().cloned().collect();
        let recipe = view.recipe.as_deref()?.clone();
        Self { recipe, stages, seconds: view.seconds, errors: errors.map(<[LayerError]>::to_vec) }.finished()
    }

    fn finished(self) -> Option<Self> {
        self.measured().is_some().then_some(self)
    }

    fn measured(&self) -> Option<&Measured> {
        match self.stages.last().map(AsRef::as_ref) {
            Some(Stage::Saved { measured, .. }) => Some(measured),
            Some(_) | None => None,
        }
    }

    fn stage_of(&self, step: Step) -> Option<&Arc<Stage>> {
        self.stages.iter().rev().find(|s| s.done() == Some(step))
    }

    /// Writes the page; its size in bytes. `now` stands on it.
    ///
    /// # Errors
    /// Those of running both models layer by layer, and of writing the file.
    pub fn write(mut self, path: &Path, now: SystemTime) -> Result<u64, SessionError> {
        if self.errors.is_none() {
            self.errors = Some(self.layer_errors()?);
        }
        let page = html(&self.page(now)?);
        Ok(weights::write_file(path, page.as_bytes())?)
    }

    fn layer_errors(&self) -> Result<Vec<LayerError>, SessionError> {
        let (Some(weighted), Some(saved)) = (self.stage_of(Step::Weights), self.stages.last()) else {
            return Ok(Vec::new());
        };
        let pair = Pair::fusing(saved.opened().clone(), weighted.graph(), &self.recipe, saved.graph().clone())?;
        let mut found = Vec::new();
        pair.layer_errors(ERROR_IMAGES, &mut |so_far| {
            found = so_far.found;
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn page(&self, now: SystemTime) -> Result<Page, SessionError> {
        let Some(measured) = self.measured() else { return Err(SessionError::NothingOpen) };
        let title = self.recipe.model.title();
        let method = match self.recipe.method {
            Method::Ptq => "post-training quantization",
            Method::Qat(_) => "quantization-aware training",
        };
        let mut sections = vec![self.result(measured), self.steps()];
        sections.extend(self.warnings());
        sections.push(self.layers());
        sections.push(saturation(measured));
        sections.push(self.environment());
        sections.push(self.recipe_section()?);
        Ok(Page {
            title: format!("{title}: float32 to int8"),
            lead: format!(
                "By {method}, qconfig {}. Octet {}, {}.",
                self.recipe.qconfig.name,
                version(),
                tables::day(now)
            ),
            sections,
        })
    }

    fn result(&self, measured: &Measured) -> Section {
        let mut parts = vec![tables::sides(measured)];
        if let Some(text) = tables::intervals(measured) {
            parts.push(Part::Text(text));
        }
        parts.extend(charts::sides(measured).into_iter().map(Part::Chart));
        parts.push(Part::Text(format!("The int8 file: {}", measured.file.display())));
        section("Result", parts)
    }

    fn steps(&self) -> Section {
        let rows = Step::ALL.iter().filter_map(|step| {
            let stage = self.stage_of(*step)?;
            let took = self.seconds[step.index()].map_or(String::new(), |s| format!("{s:.1} s"));
            let title = step.title_in(&self.recipe.method);
            Some(vec![format!("{}. {title}", step.index() + 1), tables::told(stage, &self.recipe), took])
        });
        section("What was done", vec![tables::table(2, ["Step", "What was done", "Time"], rows.collect())])
    }

    fn warnings(&self) -> Option<Section> {
        let warnings = self.stages.iter().flat_map(|s| s.warnings());
        let parts: Vec<Part> = warnings.map(|w| Part::Caution(w.to_string())).collect();
        (!parts.is_empty()).then(|| section("Warnings", parts))
    }

    fn layers(&self) -> Section {
        let errors = self.errors.as_deref().unwrap_or_default();
        let mut parts = vec![Part::Text(format!(
            "Each layer's int8 output beside float's, on up to {ERROR_IMAGES} images: the signal-to-noise ratio of its values \
             (SQNR, higher is better) and their cosine; then that of its weights, and what they take."
        ))];
        parts.extend(charts::errors(errors).map(Part::Chart));
        if let Some(Stage::Saved { report, .. }) = self.stages.last().map(AsRef::as_ref) {
            parts.push(tables::layers(errors, report));
        }
        section("Layer by layer", parts)
    }

    fn environment(&self) -> Section {
        let threads = match self.recipe.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let rows = [
            ("Octet", version().to_owned()),
            ("Processor", cpu_name()),
            ("Instruction set", Kernels::new(None, 1).map_or(String::new(), |k| k.isa().to_string())),
            ("Threads", threads.to_string()),
            ("System", format!("{}, {}", std::env::consts::OS, std::env::consts::ARCH)),
        ];
        let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        section("Environment", vec![tables::table(2, ["", ""], rows)])
    }

    fn recipe_section(&self) -> Result<Section, SessionError> {
        let text = recipe_file::recipe_text(&self.recipe).unwrap_or_else(|e| format!("# {e}"));
        let how = "Saved as a file, `octet run` makes the same int8 file of it, byte for byte.".to_owned();
        Ok(section("Recipe", vec![Part::Text(how), Part::Code(text)]))
    }
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn section(heading: &str, parts: Vec<Part>) -> Section {
    Section { heading: heading.to_owned(), parts }
}

fn saturation(measured: &Measured) -> Section {
    let found = &measured.saturation;
    let overflowing: Vec<Vec<String>> = found
        .overflowing()
        .map(|l| {
            vec![
                l.layer.name.clone(),
                format!("{} of {}", l.saturated, l.pairs),
                l.worst.map_or(String::new(), |w| w.to_string()),
            ]
        })
        .collect();
    let (layers, safe) = (found.layers.len(), found.safe());
    let text = format!(
        "Engines on CPUs without VNNI add two products in 16 bits; Octet does not. On {} images {} of {layers} layers would \
         overflow there, {safe} cannot on any image.",
        found.images,
        overflowing.len()
    );
    let mut parts = vec![Part::Text(text)];
    if !overflowing.is_empty() {
        parts.push(tables::table(1, ["Layer", "Sums beyond 16 bits", "Worst sum"], overflowing));
    }
    section("On other engines", parts)
}
