//! Before calibration: whether the images come in as those did that the model was trained on.

use std::ops::ControlFlow;

use super::measure::Inputs;
use super::state::Reporter;
use super::{Session, SessionError, Weighted};
use crate::data::shuffled;
use crate::exec::float::{Activation, Model};
use crate::graph::{Graph, NodeId, Op};
use crate::quant::{Warning, normalization_warning};

/// Images whose statistics are compared.
const IMAGES: usize = 32;

impl Session {
    /// Compares what the first batch norm reads with what it read in training, on a few images drawn by the recipe's seed.
    pub(super) fn check_normalization(
        &self,
        before: &Weighted,
        to: &mut Reporter<'_>,
    ) -> Result<Option<Warning>, SessionError> {
        let Some(id) = first_norm(&before.graph) else { return Ok(None) };
        let node = before.graph.node(id);
        let (Op::BatchNorm2d(norm), [input]) = (&node.op, node.inputs.as_slice()) else { return Ok(None) };
        to.progress("Checking the images", 0, 1);
        let opened = &before.opened;
        let split = &opened.dataset.train;
        let order = shuffled(split.len(), self.recipe.seed);
        let images = Inputs::of(order, split, IMAGES, &opened.preprocess, &opened.source)?;
        let model = Model::new(&before.graph, &self.device)?;
        let mut seen = None;
        model.run_traced(&images.images, images.count, &|node| node == *input, &mut |_, values| {
            seen = Some(moments(values));
            ControlFlow::Break(())
        })?;
        Ok(seen.and_then(|(mean, variance)| normalization_warning(&node.name, norm, &mean, &variance)))
    }
}

fn first_norm(graph: &Graph) -> Option<NodeId> {
    graph.iter().find(|(_, n)| matches!(n.op, Op::BatchNorm2d(_))).map(|(id, _)| id)
}

/// Mean and variance of each channel, over all images and pixels.
fn moments(values: &Activation<'_>) -> (Vec<f32>, Vec<f32>) {
    let channels = values.shape().c;
    let (mut sums, mut squares) = (vec![0.0_f64; channels], vec![0.0_f64; channels]);
    for pixel in values.as_slice().chunks_exact(channels) {
        for ((sum, square), x) in sums.iter_mut().zip(&mut squares).zip(pixel) {
            let x = f64::from(*x);
            *sum += x;
            *square += x * x;
        }
    }
    let count = (values.as_slice().len() / channels).max(1) as f64;
    let mean = |sum: &f64| (sum / count) as f32;
    let variance = |(sum, square): (&f64, &f64)| (square / count - (sum / count).powi(2)) as f32;
    (sums.iter().map(mean).collect(), sums.iter().zip(&squares).map(variance).collect())
}
