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

#[derive(Debug)]
enum Values<'a> {
    Host(&'a [f32]),
    Device(OnDevice),
}

/// Values that stay on a device until somebody asks for them one by one.
#[derive(Debug)]
struct OnDevice {
    tensor: Tensor,
    copy: OnceCell<Vec<f32>>,
    /// The first failure, which [`Activation::of`] returns. Whoever asked got zeros until then.
    failed: OnceCell<candle_core::Error>,
}

impl OnDevice {
    /// What a tensor holds that was computed there, as many values as `len`.
    fn fetch(&self, found: candle_core::Result<Tensor>, len: usize) -> Vec<f32> {
        found.and_then(|tensor| tensor.to_vec1()).unwrap_or_else(|error| {
            let _ = self.failed.set(error);
            vec![0.0; len]
        })
    }
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
        let tensor = tensor.contiguous()?.flatten_all()?;
        let on_device = OnDevice { tensor, copy: OnceCell::new(), failed: OnceCell::new() };
        let activation = Activation { values: Values::Device(on_device), shape };
        let result = f(&activation);
        match activation.values {
            Values::Device(OnDevice { failed, .. }) => {
                failed.into_inner().map_or(Ok(result), |error| Err(error.into()))
            }
            Values::Host(_) => Ok(result),
        }
    }

    /// All values, `[batch, height, width, channels]`; copied from the device on the first call. Zeros where a device
    /// fails: the run then ends with its error.
    pub fn as_slice(&self) -> &[f32] {
        match &self.values {
            Values::Host(values) => values,
            Values::Device(there) => {
                there.copy.get_or_init(|| there.fetch(Ok(there.tensor.clone()), there.tensor.elem_count()))
            }
        }
    }

    /// Shape of one image's part.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The smallest and the largest value; a failing device as in [`Activation::as_slice`].
    pub fn min_max(&self) -> (f32, f32) {
        match &self.values {
            Values::Host(values) => min_max(values),
            Values::Device(there) => {
                let run = |x: &[f32], out: &mut [f32]| (out[0], out[1]) = min_max(x);
                let program = || cuda::min_max(there.tensor.elem_count());
                let both = there.fetch(map1("min and max", &there.tensor, 2, run, program), 2);
                (both[0], both[1])
            }
        }
    }

    /// Counts in `bins` bins over `lo..=hi`, as `torch.histc`; a failing device as in [`Activation::as_slice`].
    pub fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32> {
        let there = match &self.values {
            Values::Host(values) => return histogram(values, bins, lo, hi),
            Values::Device(there) => there,
        };
        let (lo, hi) = if lo == hi { self.min_max() } else { (lo, hi) };
        let (lo, hi) = if lo == hi { (lo - 1.0, hi + 1.0) } else { (lo, hi) };
        let run = |x: &[f32], out: &mut [f32]| out.copy_from_slice(&histogram(x, bins, lo, hi));
        let program = || cuda::histogram(there.tensor.elem_count(), bins, lo, hi);
        there.fetch(map1("histogram", &there.tensor, bins, run, program), bins)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn what_cannot_be_read_back_is_an_error_of_the_run() {
        let tensor = Tensor::zeros(12, DType::U8, &Device::Cpu).expect("a tensor");
        let shape = Shape { c: 3, h: 2, w: 2 };
        let found = Activation::of(&tensor, shape, |activation| activation.as_slice().to_vec());
        assert!(found.is_err(), "bytes are no float values: {found:?}");
        let tensor = tensor.to_dtype(DType::F32).expect("float");
        assert_eq!(Activation::of(&tensor, shape, |a| a.as_slice().to_vec()).expect("float values"), vec![0.0; 12]);
    }
}
