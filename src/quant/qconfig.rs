use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::QuantError;
use crate::graph::{ActivationSpec, ObserverKind, WeightSpec};

/// Whose defaults a [`QConfig`] started from: the argument of `torch.ao.quantization.get_default_qconfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Activations laid out for 0..127 (`reduce_range`), for CPUs without VNNI; weights per channel.
    X86,
    /// The same under its older name.
    Fbgemm,
    /// Activations at 0..255, weights per channel.
    Onednn,
    /// Activations at 0..255, weights per tensor.
    Qnnpack,
}

impl Backend {
    /// Every backend.
    pub const ALL: [Self; 4] = [Self::X86, Self::Fbgemm, Self::Onednn, Self::Qnnpack];

    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Fbgemm => "fbgemm",
            Self::Onednn => "onednn",
            Self::Qnnpack => "qnnpack",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = QuantError;

    fn from_str(s: &str) -> Result<Self, QuantError> {
        Self::ALL.into_iter().find(|b| b.name() == s).ok_or_else(|| QuantError::UnknownQConfig { found: s.to_owned() })
    }
}

/// How activations and weights become int8.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QConfig {
    /// Whose defaults these were.
    pub name: Backend,
    /// The observer of every activation.
    pub activation: ActivationSpec,
    /// The observer of every weight.
    pub weight: WeightSpec,
}

impl QConfig {
    /// PyTorch 2.9's defaults for post-training quantization.
    pub fn new(name: Backend) -> Self {
        let (quant_max, weight) = match name {
            Backend::X86 | Backend::Fbgemm => (127, ObserverKind::PerChannelMinMax),
            Backend::Onednn => (255, ObserverKind::PerChannelMinMax),
            Backend::Qnnpack => (255, ObserverKind::MinMax),
        };
        let activation = ActivationSpec { observer: ObserverKind::Histogram, quant_max };
        Self { name, activation, weight: WeightSpec { observer: weight } }
    }

    /// The same with another observer on activations.
    pub fn with_observer(self, observer: ObserverKind) -> Self {
        Self { activation: ActivationSpec { observer, ..self.activation }, ..self }
    }
}

impl Default for QConfig {
    /// PyTorch's own default: x86.
    fn default() -> Self {
        Self::new(Backend::X86)
    }
}

impl From<Backend> for QConfig {
    fn from(name: Backend) -> Self {
        Self::new(name)
    }
}

impl FromStr for QConfig {
    type Err = QuantError;

    /// The defaults of the backend of that name.
    fn from_str(s: &str) -> Result<Self, QuantError> {
        s.parse().map(Self::new)
    }
}

impl fmt::Display for QConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_pytorchs() {
        let seen: Vec<_> = Backend::ALL
            .map(QConfig::new)
            .map(|q| (q.to_string(), q.activation.observer, q.activation.quant_max, q.weight.observer))
            .to_vec();
        use ObserverKind::{Histogram, MinMax, PerChannelMinMax};
        assert_eq!(
            seen,
            [
                ("x86".to_owned(), Histogram, 127, PerChannelMinMax),
                ("fbgemm".to_owned(), Histogram, 127, PerChannelMinMax),
                ("onednn".to_owned(), Histogram, 255, PerChannelMinMax),
                ("qnnpack".to_owned(), Histogram, 255, MinMax),
            ]
        );
    }

    #[test]
    fn names_and_json_come_back() {
        for backend in Backend::ALL {
            let config = QConfig::new(backend).with_observer(ObserverKind::MinMax);
            assert_eq!(config.to_string().parse(), Ok(QConfig::new(backend)));
            let json = serde_json::to_string(&config).expect("plain data");
            assert_eq!(serde_json::from_str::<QConfig>(&json).expect("as written"), config);
        }
        let error = "x87".parse::<QConfig>().expect_err("no such qconfig").to_string();
        assert!(error.contains("x87") && error.contains("qnnpack"), "{error}");
    }
}
