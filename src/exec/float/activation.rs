use crate::{
    graph::Shape,
    kernels::float::{histogram, min_max},
};

/// The output of a node for one batch.
#[derive(Debug)]
pub struct Activation<'a> {
    values: &'a [f32],
    shape: Shape,
}

impl<'a> Activation<'a> {
    /// Values `[batch, height, width, channels]`, `shape` each image's.
    pub(super) fn new(values: &'a [f32], shape: Shape) -> Self {
        Self { values, shape }
    }

    /// All values, `[batch, height, width, channels]`.
    pub fn as_slice(&self) -> &[f32] {
        self.values
    }

    /// Shape of one image's part.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The smallest and the largest value.
    pub fn min_max(&self) -> (f32, f32) {
        min_max(self.values)
    }

    /// Counts in `bins` bins over `lo..=hi`, as `torch.histc`.
    pub fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32> {
        histogram(self.values, bins, lo, hi)
    }
}
