use std::borrow::Cow;

use candle_core::{CpuStorage, Storage, Tensor};

use crate::{
    exec::ExecError,
    graph::Shape,
    kernels::float::{histogram, min_max},
};

/// The output of a node for one batch.
#[derive(Debug)]
pub struct Activation<'a> {
    values: Cow<'a, [f32]>,
    shape: Shape,
}

impl<'a> Activation<'a> {
    /// Calls `f` with what `tensor` holds; copied to host memory only where it lives on a device.
    pub(super) fn of<R>(tensor: &Tensor, shape: Shape, f: impl FnOnce(&Activation<'_>) -> R) -> Result<R, ExecError> {
        let (storage, layout) = tensor.storage_and_layout();
        if let Storage::Cpu(CpuStorage::F32(values)) = &*storage
            && let Some((first, last)) = layout.contiguous_offsets()
        {
            return Ok(f(&Activation { values: Cow::Borrowed(&values[first..last]), shape }));
        }
        drop(storage);
        let values = tensor.flatten_all()?.to_vec1()?;
        Ok(f(&Activation { values: Cow::Owned(values), shape }))
    }

    /// All values, `[batch, height, width, channels]`.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// Shape of one image's part.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The smallest and the largest value.
    pub fn min_max(&self) -> (f32, f32) {
        min_max(&self.values)
    }

    /// Counts in `bins` bins over `lo..=hi`, as `torch.histc`.
    pub fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32> {
        histogram(&self.values, bins, lo, hi)
    }
}
