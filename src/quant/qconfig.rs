use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Override, QuantError};
use crate::graph::{self, ActivationSpec, BITS, FEWEST_BITS, Graph, ObserverKind, Scheme, WeightSpec};

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

/// What the biases of int8 layers become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Biases {
    /// float32, as PyTorch's kernels take them.
    #[default]
    Float,
    /// On the levels of int32, scale `si * sw`, as ONNX and TFLite have them: other runtimes then compute what Octet does.
    Int32,
}

impl Biases {
    fn is_float(&self) -> bool {
        *self == Self::Float
    }
}

/// How activations and weights become int8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QConfig {
    /// Whose defaults these were.
    pub name: Backend,
    /// The observer of every activation.
    pub activation: ActivationSpec,
    /// The observer of every weight.
    pub weight: WeightSpec,
    /// What biases become.
    #[serde(default, skip_serializing_if = "Biases::is_float")]
    pub biases: Biases,
    /// Nodes that differ, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Override>,
}

impl QConfig {
    /// PyTorch 2.9's defaults for post-training quantization.
    pub fn new(name: Backend) -> Self {
        let (quant_max, weight) = match name {
            Backend::X86 | Backend::Fbgemm => (127, ObserverKind::PerChannelMinMax),
            Backend::Onednn => (255, ObserverKind::PerChannelMinMax),
            Backend::Qnnpack => (255, ObserverKind::MinMax),
        };
        Self {
            name,
            activation: ActivationSpec::new(ObserverKind::Histogram, quant_max),
            weight: WeightSpec::new(weight),
            biases: Biases::Float,
            overrides: BTreeMap::new(),
        }
    }

    /// PyTorch 2.9's defaults for training with fake quantization (`get_default_qat_qconfig`): moving averages.
    pub fn qat(name: Backend) -> Self {
        Self::new(name).with_observer(ObserverKind::MovingAverageMinMax)
    }

    /// The same with another observer on activations.
    pub fn with_observer(self, observer: ObserverKind) -> Self {
        Self { activation: ActivationSpec { observer, ..self.activation }, ..self }
    }

    /// The same with `bits` bits for activations and weights: 8, or 4 to 7 for study.
    pub fn with_bits(self, bits: u8) -> Self {
        Self { activation: self.activation.with_bits(bits), weight: WeightSpec { bits, ..self.weight }, ..self }
    }

    /// The same with one node differing.
    pub fn with_override(mut self, node: impl Into<String>, other: Override) -> Self {
        self.overrides.insert(node.into(), other);
        self
    }

    /// The same with the range of one node set by hand, or no longer so; a node that is left in float has none.
    pub fn with_fixed(mut self, node: &str, fixed: Option<[f32; 2]>) -> Self {
        let (activation, weight) = match self.overrides.get(node) {
            Some(Override::Float) => return self,
            Some(Override::Int8 { activation, weight }) => (*activation, *weight),
            None => (None, None),
        };
        let activation = ActivationSpec { fixed, ..activation.unwrap_or(self.activation) };
        let activation = (activation != self.activation).then_some(activation);
        if activation.is_none() && weight.is_none() {
            self.overrides.remove(node);
        } else {
            self.overrides.insert(node.to_owned(), Override::Int8 { activation, weight });
        }
        self
    }

    /// What watches the node of this name; `None` where it is left in float.
    pub fn activation_of(&self, node: &str) -> Option<ActivationSpec> {
        match self.overrides.get(node) {
            None => Some(self.activation),
            Some(Override::Float) => None,
            Some(Override::Int8 { activation, .. }) => Some(activation.unwrap_or(self.activation)),
        }
    }

    /// How the weight of the node of this name becomes int8; `None` where it is left in float.
    pub fn weight_of(&self, node: &str) -> Option<WeightSpec> {
        match self.overrides.get(node) {
            None => Some(self.weight),
            Some(Override::Float) => None,
            Some(Override::Int8 { weight, .. }) => Some(weight.unwrap_or(self.weight)),
        }
    }

    /// A converted graph with its biases as chosen.
    pub fn with_biases(&self, converted: Graph) -> Graph {
        match self.biases {
            Biases::Float => converted,
            Biases::Int32 => graph::round_biases(&converted),
        }
    }

    /// Every specification in use: of all nodes, then of those that differ.
    fn specs(&self) -> (Vec<ActivationSpec>, Vec<WeightSpec>) {
        let (mut activations, mut weights) = (vec![self.activation], vec![self.weight]);
        for other in self.overrides.values() {
            if let Override::Int8 { activation, weight } = other {
                activations.extend(*activation);
                weights.extend(*weight);
            }
        }
        (activations, weights)
    }

    /// What makes this a study: fewer than 8 bits, or affine weights. `None` where all is plain int8.
    pub fn study(&self) -> Option<Study> {
        let (activations, weights) = self.specs();
        if weights.iter().any(|w| w.scheme == Scheme::Affine) {
            return Some(Study::AffineWeights);
        }
        let bits = activations.iter().map(|a| a.bits).chain(weights.iter().map(|w| w.bits)).min();
        bits.filter(|bits| *bits < BITS).map(|bits| Study::FewerBits { bits })
    }

    /// That every choice is one that can be carried out.
    ///
    /// # Errors
    /// [`QuantError::ActivationObserver`], [`QuantError::WeightObserver`], [`QuantError::Bits`],
    /// [`QuantError::Percentile`].
    pub fn check(&self) -> Result<(), QuantError> {
        let (activations, weights) = self.specs();
        activations.iter().try_for_each(check_activation)?;
        weights.iter().try_for_each(check_weight)
    }
}

pub(super) fn check_activation(spec: &ActivationSpec) -> Result<(), QuantError> {
    if spec.observer == ObserverKind::PerChannelMinMax {
        return Err(QuantError::ActivationObserver { found: spec.observer });
    }
    // Below half, the two ends would meet.
    if !(50.0..=100.0).contains(&spec.percentile) || spec.percentile == 50.0 {
        return Err(QuantError::Percentile { found: spec.percentile });
    }
    if let Some([low, high]) = spec.fixed
        && !(low.is_finite() && high.is_finite() && low < high)
    {
        return Err(QuantError::FixedRange { low, high });
    }
    check_bits(spec.bits)
}

pub(super) fn check_weight(spec: &WeightSpec) -> Result<(), QuantError> {
    match spec.observer {
        ObserverKind::PerChannelMinMax | ObserverKind::MinMax => check_bits(spec.bits),
        ObserverKind::MovingAverageMinMax
        | ObserverKind::Histogram
        | ObserverKind::Percentile
        | ObserverKind::Mse
        | ObserverKind::Entropy => Err(QuantError::WeightObserver { found: spec.observer }),
    }
}

fn check_bits(bits: u8) -> Result<(), QuantError> {
    if (FEWEST_BITS..=BITS).contains(&bits) { Ok(()) } else { Err(QuantError::Bits { found: bits }) }
}

/// Why a [`QConfig`] is for study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Study {
    /// Fewer levels than int8 has. The int8 engine runs them, as fast and in as many bytes as 8 bits.
    FewerBits {
        /// The fewest in use.
        bits: u8,
    },
    /// Weights with zero points, which only fake quantization computes: there is no int8 file of them.
    AffineWeights,
}

impl fmt::Display for Study {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewerBits { bits } => write!(
                f,
                "{bits} bits are for study: the levels are stored as int8, so the file is no smaller and no faster than at 8."
            ),
            Self::AffineWeights => f.write_str(
                "Affine weights are for study: they run in fake quantization alone, and there is no int8 file of them.",
            ),
        }
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
            let config = QConfig::new(backend).with_observer(ObserverKind::MinMax).with_override("fc", Override::Float);
            assert_eq!(config.to_string().parse(), Ok(QConfig::new(backend)));
            let json = serde_json::to_string(&config).expect("plain data");
            assert_eq!(serde_json::from_str::<QConfig>(&json).expect("as written"), config);
        }
        let error = "x87".parse::<QConfig>().expect_err("no such qconfig").to_string();
        assert!(error.contains("x87") && error.contains("qnnpack"), "{error}");
    }

    #[test]
    fn what_was_written_before_there_were_more_choices_still_reads() {
        let old = r#"{"name":"x86","activation":{"observer":"histogram","quant_max":127},"weight":{"observer":"per_channel_min_max"}}"#;
        let config: QConfig = serde_json::from_str(old).expect("an older recipe");
        assert_eq!(config, QConfig::new(Backend::X86));
        assert_eq!(serde_json::to_string(&config).expect("plain data"), old, "defaults take no room in a file");
    }

    #[test]
    fn fewer_bits_are_fewer_levels() {
        let x86 = QConfig::new(Backend::X86);
        let four = x86.clone().with_bits(4);
        assert_eq!((four.activation.quant_max, four.activation.qmax(), four.weight.bits), (15, 15, 4));
        assert_eq!((x86.activation.quant_max, x86.activation.qmax()), (127, 255));
        assert_eq!(x86.clone().with_bits(8), x86, "8 bits are what it has");
        assert_eq!(four.with_bits(8).activation.quant_max, 255);
    }

    #[test]
    fn a_study_says_why() {
        let config = QConfig::default();
        assert_eq!(config.study(), None);
        assert_eq!(config.clone().with_bits(5).study(), Some(Study::FewerBits { bits: 5 }));
        let affine = WeightSpec { scheme: Scheme::Affine, ..config.weight };
        let other = Override::Int8 { activation: None, weight: Some(affine) };
        assert_eq!(config.with_override("fc", other).study(), Some(Study::AffineWeights));
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        let config = QConfig::default();
        for bits in [0, 3, 9, 255] {
            let error = QConfig { weight: WeightSpec { bits, ..config.weight }, ..config.clone() }.check();
            assert_eq!(error, Err(QuantError::Bits { found: bits }));
        }
        for percentile in [0.0, 49.0, 100.1, f32::NAN] {
            let activation = ActivationSpec { percentile, ..config.activation };
            let error = QConfig { activation, ..config.clone() }.check().expect_err("no such part").to_string();
            assert!(error.contains("100"), "{error}");
        }
        let found = ObserverKind::Entropy;
        let error = QConfig { weight: WeightSpec::new(found), ..config }.check();
        assert_eq!(error, Err(QuantError::WeightObserver { found }));
    }
}
