use std::path::Path;

use super::pick::PreprocessChoice;
use super::torch_model::{self, TorchModel};
use super::{Opened, SessionError, catalog};
use crate::data::{Dataset, Image, Preprocess, Source};
use crate::exec::float::{Device, Model};
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::Graph;
use crate::int8_model::Int8Model;
use crate::weights;
use crate::zoo::{self, ModelConfig, ModelId};

/// How to open a file as a classifier.
#[derive(Clone, Debug)]
pub struct ClassifierOptions {
    /// The architecture of a state dict; `None` for an int8 file, which knows its own.
    pub model: Option<ModelId>,
    /// Must agree with the file where it is said.
    pub classes: Option<usize>,
    /// Overrides what an int8 file remembers, or `default`.
    pub preprocess: PreprocessChoice,
    /// What a float model takes where nothing else is said; an int8 file remembers its own.
    pub default: Preprocess,
    /// Where float runs.
    pub device: Device,
    /// Threads of int8 execution; 0 means one a core.
    pub threads: usize,
}

/// A file that names images: an int8 file, or a state dict with its architecture, float or quantized by PyTorch.
#[derive(Debug)]
pub struct Classifier {
    engine: Engine,
    graph: Graph,
    /// A name for each class.
    pub labels: Vec<String>,
    /// How images become numbers.
    pub preprocess: Preprocess,
    /// What a user should know before trusting it, where there is something.
    pub caution: Option<String>,
}

#[derive(Debug)]
enum Engine {
    Int8(Box<Plan>),
    Float(Box<Model>),
}

impl Classifier {
    /// Reads `file` and makes it ready to run.
    ///
    /// # Errors
    /// Those of reading and planning; [`SessionError::Classes`] where `classes` contradicts the file.
    pub fn open(file: &Path, options: &ClassifierOptions) -> Result<Self, SessionError> {
        let this = match options.model {
            Some(model) => Self::open_state_dict(file, model, options)?,
            None => Self::open_int8(file, options)?,
        };
        match options.classes {
            Some(expected) if expected != this.classes() => {
                Err(SessionError::Classes { found: this.classes(), expected })
            }
            Some(_) | None => Ok(this),
        }
    }

    fn open_int8(file: &Path, options: &ClassifierOptions) -> Result<Self, SessionError> {
        let model = Int8Model::with_options(file, &PlanOptions { isa: None, threads: options.threads })?;
        let (choice, remembered) = (&options.preprocess, *model.preprocess());
        let preprocess = Preprocess {
            size: remembered.size,
            fit: choice.fit.unwrap_or(remembered.fit),
            resize: choice.resize.or(remembered.resize),
            mean: choice.mean.unwrap_or(remembered.mean),
            std: choice.std.unwrap_or(remembered.std),
        };
        if let Some(size) = choice.size
            && size != preprocess.size
        {
            return Err(SessionError::Size { found: preprocess.size, expected: size });
        }
        let labels = model.labels().to_vec();
        let (graph, plan) = model.into_parts();
        Ok(Self { engine: Engine::Int8(Box::new(plan)), graph, labels, preprocess, caution: None })
    }

    fn open_state_dict(file: &Path, model: ModelId, options: &ClassifierOptions) -> Result<Self, SessionError> {
        let published = catalog()?.recognize(model, file);
        let default = published.map_or(options.default, |weights| weights.preprocess(options.default));
        let preprocess = options.preprocess.resolve(default);
        preprocess.check()?;
        let dict = match torch_model::read(file, model, options.classes, preprocess.size)? {
            TorchModel::Float(dict) => dict,
            TorchModel::Int8(graph) => {
                let plan = Plan::new(&graph, &PlanOptions { isa: None, threads: options.threads })?;
                let labels = (0..graph.classes()).map(|i| i.to_string()).collect();
                return Ok(Self { engine: Engine::Int8(Box::new(plan)), graph, labels, preprocess, caution: None });
            }
        };
        let classes = weights::classes(&dict).or(options.classes).unwrap_or(1000);
        let graph = zoo::build(model, ModelConfig { classes, size: preprocess.size })?;
        let caution = weights::caution(&graph, &dict);
        let graph = weights::load(&graph, &dict)?;
        let (fused, _) = crate::quant::fuse(&graph, &crate::quant::FuseOptions::default())?;
        let engine = Engine::Float(Box::new(Model::new(&fused, &options.device)?));
        Ok(Self { engine, graph, labels: (0..classes).map(|i| i.to_string()).collect(), preprocess, caution })
    }

    /// The graph as it was read.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Length of the logits.
    pub fn classes(&self) -> usize {
        self.graph.classes()
    }

    /// Logits of preprocessed images: `[batch, 3, size, size]` in, `[batch, classes]` out.
    ///
    /// # Errors
    /// Those of float execution.
    pub fn run(&mut self, images: &[f32], batch: usize) -> Result<Vec<f32>, SessionError> {
        match &mut self.engine {
            Engine::Int8(plan) => Ok(plan.run(images, batch)),
            Engine::Float(model) => Ok(model.run(images, batch)?),
        }
    }

    /// Logits of one image.
    ///
    /// # Errors
    /// Those of float execution; [`SessionError::NotANumber`].
    pub fn classify(&mut self, image: &Image) -> Result<Vec<f32>, SessionError> {
        let pixels = self.preprocess.apply(image);
        let logits = self.run(&pixels, 1)?;
        if logits.iter().any(|v| !v.is_finite()) {
            return Err(SessionError::NotANumber);
        }
        Ok(logits)
    }

    /// Fraction of the held-out images of `dataset` that it names rightly, and how many there are; `source` is what
    /// messages call the data, and `warn` hears of files that are no images.
    ///
    /// # Errors
    /// Where the data has no labels, none held out, or other classes than the model.
    pub fn evaluate(
        &mut self,
        dataset: Dataset,
        source: &Source,
        warn: &mut dyn FnMut(&str),
    ) -> Result<(f64, usize), SessionError> {
        let opened = Opened::new(dataset, self.preprocess, self.classes(), source);
        opened.require_labels("evaluation")?;
        opened.require_held_out()?;
        super::measure::accuracy_of(&opened, &mut |images, batch| self.run(images, batch), &mut |_, skipped| {
            opened.unreadable(skipped).iter().for_each(|line| warn(line));
            Ok(())
        })
    }
}
