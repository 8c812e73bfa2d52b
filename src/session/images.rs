use std::cell::RefCell;

use crate::data::{Augment, Preprocess, Skipped, Split, shuffled};
use crate::train::{BatchSource, LabelledBatch};

/// Pixels by which training moves an image at most, for each 32 of its side.
const SHIFT_PER_32: usize = 2;

/// A split as training takes it.
pub(super) struct Images<'a> {
    pub split: &'a Split,
    pub preprocess: Preprocess,
    /// Files that could not be read, as often as they were met.
    pub skipped: RefCell<Vec<Skipped>>,
}

impl<'a> Images<'a> {
    pub fn new(split: &'a Split, preprocess: Preprocess) -> Self {
        Self { split, preprocess, skipped: RefCell::default() }
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
        let shift = SHIFT_PER_32 * self.preprocess.size / 32;
        let augment = augment.map(|seed| Augment { flip: true, shift, seed });
        let batches = self.split.batches(order, batch, &self.preprocess, augment);
        Box::new(batches.map(|b| {
            self.skipped.borrow_mut().extend(b.skipped);
            LabelledBatch { images: b.images, labels: b.labels }
        }))
    }
}
