use std::cell::OnceCell;

use candle_core::{CpuStorage, Storage, Tensor};

use super::ops::{map1, runs_programs};
use crate::{
    exec::ExecError,
    graph::Shape,
    kernels::{
        cuda,
        float::{histogram, min_max},
    },
};

/// The output of a node for one batch.
#[derive(Debug)]
pub struct Activation<'a> {
    values: Values<'a>,
    shape: Shape,
}

/// On a device they stay there until somebody asks for them one by one.
#[derive(Debug)]
enum Values<'a> {
    Host(&'a [f32]),
    Device { tensor: Tensor, copy: OnceCell<Vec<f32>> },
}

impl<'a> Activation<'a> {
    /// Values `[batch, height, width, channels]`, `shape` each image's.
    pub(super) fn new(values: &'a [f32], shape: Shape) -> Self {
        Self { values: Values::Host(values), shape }
    }

    /// Calls `f` with what `tensor` holds.
    pub(super) fn of<R>(tensor: &Tensor, shape: Shape, f: impl FnOnce(&Activation<'_>) -> R) -> Result<R, ExecError> {
        let (storage, layout) = tensor.storage_and_layout();
        if let Storage::Cpu(CpuStorage::F32(values)) = &*storage
            && let Some((first, last)) = layout.contiguous_offsets()
            && !runs_programs(tensor.device())
        {
            return Ok(f(&Activation::new(&values[first..last], shape)));
        }
        drop(storage);
        // Small results are downloaded by functions that cannot fail: what can is tried here.
        let tensor = tensor.contiguous()?.flatten_all()?;
        Ok(f(&Activation { values: Values::Device { tensor, copy: OnceCell::new() }, shape }))
    }

    /// All values, `[batch, height, width, channels]`; copied from the device on the first call.
    ///
    /// # Panics
    /// If the device fails.
    pub fn as_slice(&self) -> &[f32] {
        match &self.values {
            Values::Host(values) => values,
            Values::Device { tensor, copy } => copy.get_or_init(|| download(tensor)),
        }
    }

    /// Shape of one image's part.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The smallest and the largest value.
    ///
    /// # Panics
    /// If the device fails.
    pub fn min_max(&self) -> (f32, f32) {
        match &self.values {
            Values::Host(values) => min_max(values),
            Values::Device { tensor, .. } => {
                let run = |x: &[f32], out: &mut [f32]| (out[0], out[1]) = min_max(x);
                let both = map1("min and max", tensor, 2, run, || cuda::min_max(tensor.elem_count()));
                let both = download(&both.unwrap_or_else(|e| panic!("the device failed: {e}")));
                (both[0], both[1])
            }
        }
    }

    /// Counts in `bins` bins over `lo..=hi`, as `torch.histc`.
    ///
    /// # Panics
    /// If the device fails.
    pub fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32> {
        let tensor = match &self.values {
            Values::Host(values) => return histogram(values, bins, lo, hi),
            Values::Device { tensor, .. } => tensor,
        };
        let (lo, hi) = if lo == hi { self.min_max() } else { (lo, hi) };
        let (lo, hi) = if lo == hi { (lo - 1.0, hi + 1.0) } else { (lo, hi) };
        let run = |x: &[f32], out: &mut [f32]| out.copy_from_slice(&histogram(x, bins, lo, hi));
        let program = || cuda::histogram(tensor.elem_count(), bins, lo, hi);
        download(&map1("histogram", tensor, bins, run, program).unwrap_or_else(|e| panic!("the device failed: {e}")))
    }
}

fn download(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec1().unwrap_or_else(|e| panic!("the device failed: {e}"))
}
