//! Which layer a converted model loses by: read-only, for [`super::Probe`]s and the command line.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::diagnose::spread;
use super::{Pair, SessionError};
use crate::analysis::{Labelled, Sensitivity, SensitivityMeter, Sweeps};
use crate::exec::ExecError;
use crate::quant;

/// Images a batch, and the bytes that their values may take.
const BATCH: usize = 64;
const BYTES: usize = 256 << 20;

/// What the sweeps have found so far.
#[derive(Clone, Debug)]
pub struct Sweeping {
    /// It; layers that the present batch came to already have more images than the rest.
    pub found: Arc<Sensitivity>,
    /// Part of the work that is done, 0 to 1.
    pub done: f64,
    /// Images that will be looked at.
    pub images: usize,
    /// Seconds so far.
    pub seconds: f64,
}

impl Sweeping {
    /// Seconds that are left, by how long the part that is done took.
    pub fn seconds_left(&self) -> Option<f64> {
        (self.done > 0.0).then(|| self.seconds * (1.0 - self.done) / self.done)
    }

    /// Whether all is done.
    pub fn is_whole(&self) -> bool {
        self.done >= 1.0
    }
}

impl Pair {
    /// Sweeps over the layers on up to `most` images (held out, or those of training where none are), spread evenly; all so
    /// far, again and again, until `emit` breaks off.
    ///
    /// # Errors
    /// Those of making both forms of the model and of running them.
    pub fn sensitivity(
        &self,
        most: usize,
        sweeps: Sweeps,
        emit: &mut dyn FnMut(Sweeping) -> ControlFlow<()>,
    ) -> Result<(), SessionError> {
        let begin = Instant::now();
        let (float, fake) = quant::twins(&self.float, &self.converted)?;
        let mut meter = SensitivityMeter::new((&float, &fake), sweeps)?;
        let dataset = &self.opened.dataset;
        let split = if dataset.valid.is_empty() { &dataset.train } else { &dataset.valid };
        let labelled = self.opened.require_labels("accuracy").is_ok();
        let order = spread(split.len(), most);
        let images = order.len();
        let batch = BATCH.min(BYTES / meter.bytes_per_image().max(1)).max(1);
        let mut seen = 0;
        for b in split.batches(order, batch, &self.opened.preprocess, None) {
            let part = (b.indices.len() + b.skipped.len()) as f64 / images as f64;
            let before = seen as f64 / images as f64;
            seen += b.indices.len() + b.skipped.len();
            if b.is_empty() {
                continue;
            }
            let labels = if labelled { &b.labels[..] } else { &[] };
            let batch = Labelled { images: &b.images, labels, indices: &b.indices };
            let swept = meter.add(&batch, &mut |found, layers, of| {
                // The last word is said below, once.
                let done = (before + part * layers as f64 / of as f64).min(0.999_999);
                let found = Arc::new(found.clone());
                emit(Sweeping { found, done, images, seconds: begin.elapsed().as_secs_f64() })
            });
            match swept {
                Ok(()) => {}
                Err(ExecError::Stopped) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        if meter.found().float.images == 0 {
            return Err(SessionError::NothingToSee { path: self.opened.source.clone() });
        }
        let found = Arc::new(meter.found().clone());
        // Nothing is left to break off.
        let _ = emit(Sweeping { found, done: 1.0, images, seconds: begin.elapsed().as_secs_f64() });
        Ok(())
    }
}
