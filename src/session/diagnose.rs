//! What a converted model does on the user's images, beyond its accuracy: read-only, for [`super::Probe`]s.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Opened, Recipe, SessionError};
use crate::analysis::{ErrorMeter, Guess, LayerError, Runner, Sums, Verdicts};
use crate::exec::float::{Device, Model};
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::{Graph, Numeric};
use crate::quant;

/// Images between two answers.
const BATCH: usize = 32;
/// Of a layer's float and int8 weights, where both are of the same training: even 4 bits a tensor leave more.
const LEAST_COSINE: f64 = 0.9;

/// A converted model beside the float one it came from.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The data.
    pub opened: Arc<Opened>,
    /// Fused, float.
    pub float: Arc<Graph>,
    /// int8, or fake-quantized.
    pub converted: Arc<Graph>,
}

/// What is known after some of the images.
#[derive(Clone, Debug, PartialEq)]
pub struct SoFar<T> {
    /// Images that were looked at.
    pub seen: usize,
    /// Images that will be.
    pub of: usize,
    /// What they say.
    pub found: T,
}

impl Pair {
    /// Fuses the float model for the comparison, and equalizes it where the recipe does. The graph of step 3 is another one where training with fake
    /// quantization keeps batch norms.
    ///
    /// # Errors
    /// Those of fusing.
    pub fn fusing(
        opened: Arc<Opened>,
        weighted: &Graph,
        recipe: &Recipe,
        converted: Arc<Graph>,
    ) -> Result<Self, SessionError> {
        Ok(Self { opened, float: Arc::new(recipe.fused(weighted)?), converted })
    }

    /// That every layer of the converted model is a rounding of the float one's: that they are of the same training.
    ///
    /// # Errors
    /// [`SessionError::OtherWeights`] naming the layer of `file` that is farthest off.
    pub fn require_same_weights(&self, file: &std::path::Path) -> Result<(), SessionError> {
        let (float, fake) = quant::twins(&self.float, &self.converted)?;
        let layers = float.nodes.iter().zip(&fake.nodes).filter_map(|(a, b)| {
            let (a_weight, b_weight) = (a.op.weight()?.float()?, b.op.weight()?.float()?);
            Some((Sums::of(&a_weight.data, &b_weight.data).cosine(), &a.name))
        });
        match layers.min_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((cosine, layer)) if cosine < LEAST_COSINE => {
                Err(SessionError::OtherWeights { path: file.display().to_string(), layer: layer.clone(), cosine })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The same beside the float model that training with fake quantization ended with, batch norm folded: what differs is
    /// rounding alone.
    ///
    /// # Errors
    /// Those of folding.
    pub fn of_training(opened: Arc<Opened>, trained: &Graph, converted: Arc<Graph>) -> Result<Self, SessionError> {
        Ok(Self { opened, float: Arc::new(quant::float_of_qat(trained)?), converted })
    }

    fn runner(&self) -> Result<Runner, SessionError> {
        let fake = self.converted.nodes.iter().any(|n| matches!(n.numeric, Numeric::FakeQuantized(_)));
        Ok(match fake {
            true => Runner::Fake(Box::new(Model::new(&self.converted, &Device::Cpu)?)),
            // One thread each: the window and perhaps the session want theirs.
            false => Runner::Int8(Box::new(Plan::new(&self.converted, &PlanOptions::default())?)),
        })
    }

    /// What float and int8 name the held-out images, `most` of them at most, spread evenly; all so far, again and again.
    /// Says nothing where the images have no labels.
    ///
    /// # Errors
    /// Those of running both models.
    pub fn verdicts(
        &self,
        most: usize,
        emit: &mut dyn FnMut(SoFar<Verdicts>) -> ControlFlow<()>,
    ) -> Result<(), SessionError> {
        if self.opened.why_no_accuracy().is_some() {
            return Ok(());
        }
        let (float, mut converted) = (Model::new(&self.float, &Device::Cpu)?, self.runner()?);
        let classes = self.opened.classes;
        let mut verdicts = Verdicts::new(classes);
        let split = &self.opened.dataset.valid;
        let order = spread(split.len(), most);
        let (of, mut seen) = (order.len(), 0);
        for batch in split.batches(order, BATCH, &self.opened.preprocess, None) {
            let count = batch.indices.len();
            seen += count + batch.skipped.len();
            if count > 0 {
                let a = float.run(&batch.images, count)?;
                let b = match &mut converted {
                    Runner::Int8(plan) => plan.run(&batch.images, count),
                    Runner::Fake(model) => model.run(&batch.images, count)?,
                };
                let both = a.chunks_exact(classes).zip(b.chunks_exact(classes));
                for ((image, label), rows) in batch.indices.iter().zip(&batch.labels).zip(both) {
                    let (Some(a), Some(b)) = (Guess::of(rows.0), Guess::of(rows.1)) else {
                        return Err(SessionError::NotANumber);
                    };
                    verdicts.add(*image, *label, a, b);
                    verdicts.add_ranks(*label, rows);
                }
            }
            if emit(SoFar { seen, of, found: verdicts.clone() }).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How far every layer is from float on up to `most` images (held out, or those of training where none are); all so
    /// far, again and again.
    ///
    /// # Errors
    /// Those of running both models.
    pub fn layer_errors(
        &self,
        most: usize,
        emit: &mut dyn FnMut(SoFar<Vec<LayerError>>) -> ControlFlow<()>,
    ) -> Result<(), SessionError> {
        let (float, mut converted) = (Model::new(&self.float, &Device::Cpu)?, self.runner()?);
        let mut meter = ErrorMeter::new(&self.float, &self.converted);
        let dataset = &self.opened.dataset;
        let split = if dataset.valid.is_empty() { &dataset.train } else { &dataset.valid };
        let order = spread(split.len(), most);
        let (of, mut seen) = (order.len(), 0);
        for batch in split.batches(order, BATCH, &self.opened.preprocess, None) {
            if !batch.is_empty() {
                for image in batch.images.chunks_exact(batch.images.len() / batch.indices.len()) {
                    meter.add(&float, &mut converted, image)?;
                }
            }
            seen += batch.indices.len() + batch.skipped.len();
            if emit(SoFar { seen, of, found: meter.errors() }).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// `most` of `len` numbers at most, evenly.
pub(super) fn spread(len: usize, most: usize) -> Vec<usize> {
    let count = len.min(most);
    (0..count).map(|i| i * len / count).collect()
}
