//! How a Rust program runs the file that Octet saved: [`Int8Model`]. It needs no float engine and no window.
//!
//! This room joins the int8 file, the int8 engine and the preprocessing that the file remembers; it knows nothing of
//! passes, training or the session.

use std::path::Path;

use crate::{
    data::{DataError, Image, Preprocess},
    exec::{
        ExecError,
        int8::{Plan, PlanOptions},
    },
    graph::{Graph, Shape},
    weights::{
        WeightsError,
        octet::{self, Meta},
    },
};

/// A quantized network, ready to run on this CPU's fastest instruction set.
///
/// ```
/// use octet::{Int8Model, data::Image};
///
/// # use octet::session::{Command, Control, Device, ModelId, Recipe, Session};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shufflenet.octet.safetensors");
/// # let mut session = Session::new(Device::Cpu);
/// # let recipe = Recipe::new(ModelId::ShuffleNetV2X05);
/// # session.apply(Command::Open(Box::new(recipe)), &mut |_| {}, &Control::default())?;
/// # session.apply(Command::RunAll(path.clone()), &mut |_| {}, &Control::default())?;
/// # let picture = Image::black(28, 28);
/// // What `octet ptq --out shufflenet.octet.safetensors` wrote.
/// let mut model = Int8Model::open(&path)?;
/// let logits = model.run(&picture)?;
/// assert_eq!(logits.len(), model.labels().len());
///
/// let best = model.top(&picture, 3)?;
/// println!("{}: {:.1} %", model.labels()[best[0].class], best[0].probability * 100.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Int8Model {
    graph: Graph,
    plan: Plan,
    labels: Vec<String>,
    preprocess: Preprocess,
}

/// One of the likeliest classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likely {
    /// Its index in [`Int8Model::labels`].
    pub class: usize,
    /// Softmax of the logits, 0 to 1.
    pub probability: f64,
}

/// Why a file cannot be run. Each message is one sentence that names it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Int8ModelError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("{file}: its preprocessing is not what Octet wrote ({detail}): convert the model again")]
    Preprocessing { file: String, detail: String },
    #[error("{file}: {source}: convert the model again")]
    Unusable { file: String, source: DataError },
    #[error("{found} values for {batch} images of {shape}, expected {expected}")]
    Input { found: usize, batch: usize, shape: Shape, expected: usize },
}

impl Int8Model {
    /// Reads an int8 file (`NAME.octet.safetensors`) and plans it for one thread, the caller's.
    ///
    /// # Errors
    /// A missing, damaged or newer file; a node that does not run on integers.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Int8ModelError> {
        Self::with_options(path, &PlanOptions::default())
    }

    /// The same with a number of threads and an instruction set.
    ///
    /// # Errors
    /// As [`Int8Model::open`]; [`ExecError::Isa`] where this CPU lacks the instruction set.
    pub fn with_options(path: impl AsRef<Path>, options: &PlanOptions) -> Result<Self, Int8ModelError> {
        let path = path.as_ref();
        let file = || path.display().to_string();
        let (graph, Meta { labels, preprocess, .. }) = octet::read(path)?;
        let remembered: Preprocess = serde_json::from_value(preprocess)
            .map_err(|e| Int8ModelError::Preprocessing { file: file(), detail: e.to_string() })?;
        // The graph knows the size; what the metadata says of it could only contradict.
        let preprocess = Preprocess { size: graph.input_shape().h, ..remembered };
        preprocess.check().map_err(|source| Int8ModelError::Unusable { file: file(), source })?;
        let plan = Plan::new(&graph, options)?;
        Ok(Self { graph, plan, labels, preprocess })
    }

    /// The logits of one image of any size, preprocessed as the file says.
    ///
    /// # Errors
    /// [`Int8ModelError::Input`] where the network does not take square images of three channels.
    pub fn run(&mut self, image: &Image) -> Result<Vec<f32>, Int8ModelError> {
        self.run_batch(&self.preprocess.apply(image), 1)
    }

    /// The logits, `[batch, classes]` row-major, of `batch` images that are normalized float32 already,
    /// `[batch, 3, size, size]` row-major.
    ///
    /// # Errors
    /// [`Int8ModelError::Input`] where there are more or fewer values.
    pub fn run_batch(&mut self, images: &[f32], batch: usize) -> Result<Vec<f32>, Int8ModelError> {
        let shape = self.graph.input_shape();
        let expected = batch.saturating_mul(shape.len());
        if images.len() != expected {
            return Err(Int8ModelError::Input { found: images.len(), batch, shape, expected });
        }
        Ok(self.plan.run(images, batch))
    }

    /// The `count` likeliest classes of one image, the likeliest first, of equals the lower index.
    ///
    /// # Errors
    /// As [`Int8Model::run`].
    pub fn top(&mut self, image: &Image, count: usize) -> Result<Vec<Likely>, Int8ModelError> {
        Ok(likeliest(&self.run(image)?, count))
    }

    /// A name for each class; empty where nobody told.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How an image becomes the network's input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The network and what runs it, for times by layer and levels by node.
    pub fn into_parts(self) -> (Graph, Plan) {
        (self.graph, self.plan)
    }
}

/// The `count` likeliest classes by softmax, the likeliest first, of equals the lower index.
pub fn likeliest(logits: &[f32], count: usize) -> Vec<Likely> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|v| f64::from(v - largest).exp()).collect();
    let sum: f64 = exp.iter().sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    order.into_iter().take(count).map(|class| Likely { class, probability: exp[class] / sum }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_are_sorted_and_sum_to_one() {
        let found = likeliest(&[1.0, 3.0, 2.0], 5);
        assert_eq!(found.iter().map(|l| l.class).collect::<Vec<_>>(), [1, 2, 0]);
        assert!((found.iter().map(|l| l.probability).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn at_most_so_many_and_equals_by_index() {
        assert_eq!(likeliest(&[0.0; 7], 5).iter().map(|l| l.class).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
