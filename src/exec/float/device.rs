use std::{fmt, str::FromStr};

use crate::exec::ExecError;

/// Where a float graph runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// All cores.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
}

/// A GPU that float graphs can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// To run on it.
    pub device: Device,
    /// `NVIDIA H100 80GB HBM3`
    pub name: String,
    /// In bytes.
    pub memory: usize,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = ExecError;

    /// `cpu`, `cuda` (the first GPU) or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, ExecError> {
        let number = match text {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => text.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        number.map(Self::Cuda).ok_or_else(|| ExecError::Device {
            device: format!("device `{text}`"),
            detail: "expected cpu, cuda or cuda:N".to_owned(),
        })
    }
}

/// An error about a GPU.
fn refuse(number: usize, detail: impl fmt::Display) -> ExecError {
    ExecError::Device { device: format!("CUDA device {number}"), detail: detail.to_string() }
}

impl Device {
    /// Every GPU of this machine that this build can use; none is no error.
    ///
    /// # Errors
    /// [`ExecError::Device`] where this build has no CUDA, or the driver does not work.
    #[cfg(feature = "cuda")]
    pub fn gpus() -> Result<Vec<Gpu>, ExecError> {
        let found = crate::kernels::cuda::devices().map_err(|e| refuse(0, e))?;
        Ok(found.into_iter().map(|g| Gpu { device: Self::Cuda(g.number), name: g.name, memory: g.memory }).collect())
    }

    /// Every GPU of this machine that this build can use; none is no error.
    ///
    /// # Errors
    /// [`ExecError::Device`] where this build has no CUDA, or the driver does not work.
    #[cfg(not(feature = "cuda"))]
    pub fn gpus() -> Result<Vec<Gpu>, ExecError> {
        Err(refuse(0, NO_CUDA))
    }

    /// Candle's device.
    ///
    /// # Errors
    /// [`ExecError::Device`] where this build or machine lacks it.
    pub(super) fn open(self) -> Result<candle_core::Device, ExecError> {
        match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda(number) => open_gpu(number),
        }
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// [`ExecError::Device`] where this build or machine lacks it.
    pub fn check(self) -> Result<(), ExecError> {
        self.open().map(drop)
    }

    /// Waits until the device has done all that it was given.
    ///
    /// # Errors
    /// [`ExecError::Device`] where it is not there, [`ExecError::Candle`] where something of it failed.
    pub fn synchronize(self) -> Result<(), ExecError> {
        Ok(self.open()?.synchronize()?)
    }

    /// The most memory that tensors on a GPU have taken at one time, in bytes; `None` of the CPU, and where it does not
    /// count. With `forget` the count begins anew.
    ///
    /// # Errors
    /// [`ExecError::Device`] where it is not there.
    pub fn peak_memory(self, forget: bool) -> Result<Option<u64>, ExecError> {
        match self.open()? {
            #[cfg(feature = "cuda")]
            candle_core::Device::Cuda(device) => {
                let gpu = crate::kernels::cuda::Gpu::of(&device.cuda_stream()).map_err(candle_core::Error::wrap)?;
                let peak = gpu.peak_memory();
                if forget {
                    gpu.forget_peak();
                }
                Ok(peak)
            }
            _ => {
                let _ = forget;
                Ok(None)
            }
        }
    }
}

#[cfg(not(feature = "cuda"))]
const NO_CUDA: &str = "this build has no CUDA, which `cargo build --features cuda` adds";

#[cfg(not(feature = "cuda"))]
fn open_gpu(number: usize) -> Result<candle_core::Device, ExecError> {
    Err(refuse(number, NO_CUDA))
}

/// The one handle of each GPU: all of this process' work on it goes through one stream, in order.
#[cfg(feature = "cuda")]
fn open_gpu(number: usize) -> Result<candle_core::Device, ExecError> {
    use std::sync::{Mutex, PoisonError};

    static OPEN: Mutex<Vec<(usize, candle_core::Device)>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = open.iter().find(|(n, _)| *n == number) {
        return Ok(device.clone());
    }
    let found = Device::gpus()?;
    if found.is_empty() {
        return Err(refuse(number, "the NVIDIA driver finds no GPU on this machine"));
    }
    if number >= found.len() {
        return Err(refuse(number, format_args!("found {} GPUs, numbered from 0", found.len())));
    }
    // A stream of its own: the default is one a thread, and work of two threads would not be in order.
    let device = candle_core::Device::new_cuda_with_stream(number).map_err(|e| refuse(number, e))?;
    if let candle_core::Device::Cuda(device) = &device {
        crate::kernels::cuda::Gpu::of(&device.cuda_stream()).map_err(|e| refuse(number, e))?;
    }
    open.push((number, device.clone()));
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written_alike() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse::<Device>().expect("its own name"), device);
        }
        assert_eq!("cuda:0".parse::<Device>().expect("a number"), Device::Cuda(0));
        for wrong in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            let error = wrong.parse::<Device>().expect_err(wrong).to_string();
            assert!(error.contains(wrong) && error.contains("expected cpu, cuda or cuda:N"), "{error}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_says_so() {
        let error = Device::Cuda(0).open().expect_err("no CUDA here").to_string();
        assert_eq!(
            error,
            "CUDA device 0 cannot be used: this build has no CUDA, which `cargo build --features cuda` adds; run on the \
             CPU instead"
        );
        assert!(Device::gpus().is_err());
    }
}
