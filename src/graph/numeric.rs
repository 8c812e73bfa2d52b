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
    /// `PerChannelMinMaxObserver`: for weights, one range per output channel.
    PerChannelMinMax,
}

/// What watches a node's output while calibrating.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationSpec {
    /// Which observer.
    pub observer: ObserverKind,
    /// The largest level its scale is laid out for: 127 under PyTorch's `reduce_range`, else 255.
    pub quant_max: u8,
}

/// How a layer's weight becomes int8. Symmetric, levels -128..=127.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightSpec {
    /// [`ObserverKind::PerChannelMinMax`] or [`ObserverKind::MinMax`] (per tensor).
    pub observer: ObserverKind,
}

/// What a node's output is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numeric {
    /// float32.
    Float,
    /// float32 with an observer on it.
    Observed(ActivationSpec),
    /// uint8 with these parameters.
    Int8(QParams),
}

impl Numeric {
    /// The parameters, if the output is int8.
    pub fn qparams(&self) -> Option<QParams> {
        match self {
            Self::Int8(q) => Some(*q),
            Self::Float | Self::Observed(_) => None,
        }
    }
}
