use super::{BatchSource, TrainError, loss::cross_entropy};
use crate::{
    exec::{Checkpoint, float::Model},
    graph::Graph,
};

/// Multiply-accumulates between two checkpoints: a fraction of a second.
const BATCH_MACS: u64 = 10_000_000_000;
/// Images a batch at most.
const MAX_BATCH: u64 = 128;

/// Top-1 accuracy and loss over labelled images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Images whose largest logit is their label's.
    pub correct: usize,
    /// Images seen.
    pub total: usize,
    /// Mean cross-entropy.
    pub loss: f64,
}

impl Score {
    /// `correct / total`, 0 of none.
    pub fn accuracy(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.correct as f64 / self.total as f64 }
    }

    /// Adds a batch.
    pub(super) fn add(&mut self, correct: usize, images: usize, mean_loss: f32) {
        let total = self.total + images;
        self.loss += (f64::from(mean_loss) - self.loss) * images as f64 / total.max(1) as f64;
        (self.correct, self.total) = (self.correct + correct, total);
    }
}

/// Scores a float model on every image of `source`; `None` where `checkpoint` broke off.
///
/// # Errors
/// [`TrainError::Exec`] where the model does not run, [`TrainError::Label`] for a label without a logit.
pub fn evaluate(
    model: &Model,
    graph: &Graph,
    source: &dyn BatchSource,
    checkpoint: Checkpoint<'_>,
) -> Result<Option<Score>, TrainError> {
    let mut score = Score::default();
    let batch = (BATCH_MACS / graph.macs().max(1)).clamp(1, MAX_BATCH) as usize;
    for images in source.batches((0..source.len()).collect(), batch, None) {
        if checkpoint().is_break() {
            return Ok(None);
        }
        if images.labels.is_empty() {
            continue;
        }
        let logits = model.run(&images.images, images.labels.len())?;
        let loss = cross_entropy(&logits, &images.labels, graph.classes(), 0.0)?;
        score.add(loss.correct, images.labels.len(), loss.mean);
    }
    Ok(Some(score))
}
