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

impl Device {
    /// Candle's device.
    ///
    /// # Errors
    /// [`ExecError::Device`] where this build or machine lacks it.
    pub(super) fn open(self) -> Result<candle_core::Device, ExecError> {
        match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda(number) => Err(ExecError::Device {
                device: format!("CUDA device {number}"),
                detail: "its kernels are not in this build".to_owned(),
            }),
        }
    }
}
