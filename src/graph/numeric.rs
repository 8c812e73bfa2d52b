use serde::{Deserialize, Serialize};

/// Scale and zero point of a uint8 activation: `value = (q - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QParams {
    /// Width of one level, in the units of the activation.
    pub scale: f32,
    /// The level that stands for 0.
    pub zero_point: u8,
    /// The largest level that is used. PyTorch's kernels clamp at 255 even where the observer used 0..127; a model
    /// trained with fake quantization may be clamped where it was trained to.
    pub qmax: u8,
}

impl QParams {
    /// With the whole range 0..255, as PyTorch's kernels clamp.
    pub fn new(scale: f32, zero_point: u8) -> Self {
        Self { scale, zero_point, qmax: 255 }
    }

    /// `(q - zero_point) * scale`, one rounding.
    pub fn dequantize(self, q: u8) -> f32 {
        (i32::from(q) - i32::from(self.zero_point)) as f32 * self.scale
    }

    /// `round_ties_even(x * (1 / scale)) + zero_point`, clamped: PyTorch's `quantize_per_tensor`.
    pub fn quantize(self, x: f32) -> u8 {
        let level = (x * (1.0 / self.scale)).round_ties_even() + f32::from(self.zero_point);
        level.clamp(0.0, f32::from(self.qmax)) as u8
    }
}

/// How an observer turns what it saw into a range. The names are PyTorch's where PyTorch has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObserverKind {
    /// `MinMaxObserver`: the smallest and largest value seen.
    MinMax,
    /// `MovingAverageMinMaxObserver`: an exponential average of each batch's extremes.
    MovingAverageMinMax,
    /// `HistogramObserver`: the clip that loses least (L2) in a histogram of 2,048 bins.
    Histogram,
    /// The range that holds [`ActivationSpec::percentile`] percent of the values seen.
    Percentile,
    /// The range whose levels have the smallest mean squared error over the values seen, clipped ones included.
    Mse,
    /// The range whose levels say most about the distribution seen: the smallest Kullback-Leibler divergence.
    Entropy,
    /// `PerChannelMinMaxObserver`: for weights, one range per output channel.
    PerChannelMinMax,
}

impl ObserverKind {
    /// Those that can watch an activation, PyTorch's default first.
    pub const OF_ACTIVATIONS: [Self; 6] =
        [Self::Histogram, Self::MinMax, Self::MovingAverageMinMax, Self::Percentile, Self::Mse, Self::Entropy];

    /// As a sentence names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::MinMax => "min and max",
            Self::MovingAverageMinMax => "moving average",
            Self::Histogram => "histogram",
            Self::Percentile => "percentile",
            Self::Mse => "MSE",
            Self::Entropy => "entropy",
            Self::PerChannelMinMax => "per channel",
        }
    }
}

/// Where the levels lie around zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// As many levels on each side of zero: `torch.per_tensor_symmetric`, `torch.per_channel_symmetric`.
    Symmetric,
    /// The levels span what was seen, with zero among them: `torch.per_tensor_affine`.
    #[default]
    Affine,
}

/// Bits of int8, what the engine and the files are made for. Fewer are for study: stored as int8, with fewer levels.
pub const BITS: u8 = 8;
/// The fewest bits that can be studied.
pub const FEWEST_BITS: u8 = 4;
/// What [`ObserverKind::Percentile`] keeps where nothing else is said, in percent.
pub const PERCENTILE: f32 = 99.99;

/// What watches a node's output while calibrating.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationSpec {
    /// Which observer.
    pub observer: ObserverKind,
    /// The largest level its scale is laid out for: 127 under PyTorch's `reduce_range`, else `2^bits - 1`.
    pub quant_max: u8,
    /// Where the levels lie around zero.
    #[serde(default, skip_serializing_if = "is_affine")]
    pub scheme: Scheme,
    /// 8, or 4 to 7 for study. At 8 all of 0..=255 is used, whatever `quant_max` says, as PyTorch's kernels do; with
    /// fewer bits nothing above `quant_max`.
    #[serde(default = "eight", skip_serializing_if = "is_eight")]
    pub bits: u8,
    /// Percent of the values that [`ObserverKind::Percentile`] keeps; no other observer reads it.
    #[serde(default = "percentile", skip_serializing_if = "is_percentile")]
    pub percentile: f32,
    /// The range that the user set by hand, least and greatest value: then what was seen decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<[f32; 2]>,
}

impl ActivationSpec {
    /// Affine, 8 bits.
    pub fn new(observer: ObserverKind, quant_max: u8) -> Self {
        Self { observer, quant_max, scheme: Scheme::Affine, bits: BITS, percentile: PERCENTILE, fixed: None }
    }

    /// The same with `bits` bits. Below 8 the levels are 0..=`2^bits - 1`; at 8 they stay what they are, or become all of
    /// uint8's where they were fewer bits' before.
    pub fn with_bits(self, bits: u8) -> Self {
        let quant_max = match (bits < BITS, self.bits < BITS) {
            (true, _) => largest_level(bits),
            (false, true) => u8::MAX,
            (false, false) => self.quant_max,
        };
        Self { bits, quant_max, ..self }
    }

    /// The largest level that occurs: a node's [`QParams::qmax`].
    pub fn qmax(&self) -> u8 {
        if self.bits < BITS { self.quant_max } else { u8::MAX }
    }
}

/// How a layer's weight becomes int8: levels `-2^(bits - 1)..=2^(bits - 1) - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightSpec {
    /// [`ObserverKind::PerChannelMinMax`] or [`ObserverKind::MinMax`] (per tensor).
    pub observer: ObserverKind,
    /// Symmetric, or affine for study: the int8 engine has no zero points on weights.
    #[serde(default = "symmetric", skip_serializing_if = "is_symmetric")]
    pub scheme: Scheme,
    /// 8, or 4 to 7 for study.
    #[serde(default = "eight", skip_serializing_if = "is_eight")]
    pub bits: u8,
}

impl WeightSpec {
    /// Symmetric, 8 bits.
    pub fn new(observer: ObserverKind) -> Self {
        Self { observer, scheme: Scheme::Symmetric, bits: BITS }
    }
}

/// `2^bits - 1`.
fn largest_level(bits: u8) -> u8 {
    ((1_u16 << bits) - 1) as u8
}

// What files of before these choices leave out, and files of today where it is the default.
fn eight() -> u8 {
    BITS
}

fn is_eight(bits: &u8) -> bool {
    *bits == BITS
}

fn percentile() -> f32 {
    PERCENTILE
}

fn is_percentile(percent: &f32) -> bool {
    *percent == PERCENTILE
}

fn symmetric() -> Scheme {
    Scheme::Symmetric
}

fn is_symmetric(scheme: &Scheme) -> bool {
    *scheme == Scheme::Symmetric
}

fn is_affine(scheme: &Scheme) -> bool {
    *scheme == Scheme::Affine
}

/// What a node's output is made of.
///
/// A graph is mixed where layers are left in float between int8 ones. Its borders are nodes of their own, as in PyTorch:
/// a [`super::Op::QuantStub`] reads float and gives int8, a [`super::Op::DeQuantStub`] reads int8 and gives float, and
/// every other node is float or int8 with all of its inputs. [`super::check`] holds this.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numeric {
    /// float32.
    Float,
    /// float32 with an observer on it.
    Observed(ActivationSpec),
    /// float32, moved to the nearest of levels that are learnt: in training their range follows a moving average of each
    /// batch's extremes ([`super::FakeQuants`]). The QAT form.
    Learned(ActivationSpec),
    /// float32, each value moved to the nearest of these levels: `(quantize(x) - zero_point) * scale`.
    FakeQuantized(QParams),
    /// uint8 with these parameters.
    Int8(QParams),
}

impl Numeric {
    /// The parameters, if the output is int8.
    pub fn qparams(&self) -> Option<QParams> {
        match self {
            Self::Int8(q) => Some(*q),
            Self::Float | Self::Observed(_) | Self::Learned(_) | Self::FakeQuantized(_) => None,
        }
    }
}
