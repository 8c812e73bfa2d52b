//! Images that a small network learns in a few epochs, for the tests of training.

use octet::train::{BatchSource, LabelledBatch};

/// Height and width of an image.
pub const SIZE: usize = 8;

/// Two classes: bright on the left, bright on the right.
pub struct Sides {
    /// Number of images.
    pub count: usize,
}

impl BatchSource for Sides {
    fn len(&self) -> usize {
        self.count
    }

    fn shuffled(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.count).collect();
        order.rotate_left(seed as usize % self.count);
        order
    }

    fn batches(
        &self,
        order: Vec<usize>,
        batch: usize,
        _augment: Option<u64>,
    ) -> Box<dyn Iterator<Item = LabelledBatch> + '_> {
        let batches: Vec<Vec<usize>> = order.chunks(batch).map(<[usize]>::to_vec).collect();
        Box::new(batches.into_iter().map(|indices| {
            let images = indices.iter().flat_map(|i| image(*i)).collect();
            LabelledBatch { images, labels: indices.iter().map(|i| i % 2).collect() }
        }))
    }
}

/// One image, `[3, SIZE, SIZE]`: odd ones are bright on the right.
pub fn image(index: usize) -> impl Iterator<Item = f32> {
    (0..3 * SIZE * SIZE).map(move |at| {
        let noise = ((index * 7919 + at * 104_729) % 1000) as f32 / 1000.0 - 0.5;
        let right = at % SIZE >= SIZE / 2;
        noise + if right == (index % 2 == 1) { 0.5 } else { -0.5 }
    })
}
