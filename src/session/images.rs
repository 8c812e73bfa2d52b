use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Opened;
use crate::data::{Augment, Skipped, Split, shuffled};
use crate::train::{BatchSource, LabelledBatch};

/// Pixels by which training moves an image at most, for each 32 of its side.
const SHIFT_PER_32: usize = 2;

/// A split as training takes it.
pub(super) struct Images<'a> {
    split: &'a Split,
    opened: &'a Opened,
    /// Files that could not be read, as often as they were met.
    pub skipped: RefCell<Vec<Skipped>>,
    /// Set where the data is no longer there: then training is to stop.
    gone: &'a AtomicBool,
}

impl<'a> Images<'a> {
    /// A split of `opened`.
    pub fn new(split: &'a Split, opened: &'a Opened, gone: &'a AtomicBool) -> Self {
        Self { split, opened, skipped: RefCell::default(), gone }
    }
}

impl BatchSource for Images<'_> {
    fn len(&self) -> usize {
        self.split.len()
    }

    fn shuffled(&self, seed: u64) -> Vec<usize> {
        shuffled(self.split.len(), seed)
    }

    fn batches(
        &self,
        order: Vec<usize>,
        batch: usize,
        augment: Option<u64>,
    ) -> Box<dyn Iterator<Item = LabelledBatch> + '_> {
        let preprocess = &self.opened.preprocess;
        let shift = SHIFT_PER_32 * preprocess.size / 32;
        let augment = augment.map(|seed| Augment { flip: true, shift, seed });
        let batches = self.split.batches(order, batch, preprocess, augment);
        Box::new(batches.map(|b| {
            if self.opened.require_there(b.len(), &b.skipped).is_err() {
                self.gone.store(true, Ordering::Relaxed);
            }
            self.skipped.borrow_mut().extend(b.skipped);
            LabelledBatch { images: b.images, labels: b.labels }
        }))
    }
}
