use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ActivationSpec, QParams, Scheme, WeightSpec};

/// What fake quantization learns in training, by the names of the nodes: the state beside a graph in the QAT form. A
/// node that has seen no batch yet is not in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FakeQuants {
    /// Of outputs, one value each: nodes that are [`super::Numeric::Learned`].
    pub activations: BTreeMap<String, LearnedRange>,
    /// Of weights, one value, or one an output channel: layers whose [`super::Op::fake`] says so.
    pub weights: BTreeMap<String, LearnedRange>,
}

/// The range of one fake quantization: moving averages of each batch's extremes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LearnedRange {
    /// The smallest value; one, or one a channel.
    pub min: Vec<f32>,
    /// The largest.
    pub max: Vec<f32>,
    /// Step sizes that are learnt by gradient ([`StepSize::Learned`]); empty where they follow from the range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<f32>,
}

/// On which levels QAT trains, and what conversion makes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QatLevels {
    /// What is fake-quantized is what is converted: weights on int8's own grid around zero, whatever their signs, and
    /// activations clamped where they were trained to (0..127 under `reduce_range`).
    #[default]
    Int8,
    /// PyTorch's eager mode: weights of one sign are trained on an affine grid that int8 has not, int8 scales are
    /// `max|w| / 127.5`, and int8 activations go to 255 though they were trained to 127.
    PyTorch,
}

/// Where the width of a level comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSize {
    /// From the moving average of the extremes: PyTorch's.
    #[default]
    MovingAverage,
    /// Learnt by gradient, from the first batch's range on (LSQ, Esser et al. 2020).
    Learned,
}

/// Below it PyTorch's kernels lift a scale (`SMALL_SCALE_THRESHOLD` of `QuantUtils.h`).
const LEAST_SCALE: f32 = 6.1e-5;
/// The scale of a range that is zero.
const EMPTY_SCALE: f32 = 0.1;

/// The levels of a fake-quantized activation, `0..=quant_max`, as PyTorch's fused kernel derives them from the range:
///
/// ```text
/// lo = min(min, 0), hi = max(max, 0)
/// scale = f32((f64(hi) - f64(lo)) / quant_max)        0.1 where that is 0, 6.1e-5 where it is less
/// zero_point = clamp(round_ties_even(-lo / scale), 0, quant_max)        in f64
/// ```
pub fn activation_levels(min: f32, max: f32, spec: &ActivationSpec) -> QParams {
    let (lo, hi) = (min.min(0.0), max.max(0.0));
    let levels = f64::from(spec.quant_max);
    let (scale, zero_point) = match spec.scheme {
        Scheme::Affine => {
            let scale = ((f64::from(hi) - f64::from(lo)) / levels) as f32;
            let zero_point = if scale == 0.0 { 0.0 } else { (-f64::from(lo) / f64::from(scale)).round_ties_even() };
            (scale, zero_point.clamp(0.0, levels) as u8)
        }
        Scheme::Symmetric => ((f64::from(hi.max(-lo)) / (levels / 2.0)) as f32, spec.quant_max / 2 + 1),
    };
    QParams { scale: lifted(scale), zero_point, qmax: spec.quant_max }
}

/// Scale and zero point of a fake-quantized weight, or of one channel of it, levels `-2^(bits - 1)..=2^(bits - 1) - 1`
/// (-128..=127 at 8 bits), as PyTorch's fused kernel derives them:
///
/// ```text
/// both signs    scale = max(-min / 128, max / 127)                       zero_point = 0
/// one sign      scale = max|w| / 255, zero_point = -128 or 127           QatLevels::Int8: as both signs
/// ```
pub fn weight_levels(min: f32, max: f32, spec: &WeightSpec, levels: QatLevels) -> (f32, f32) {
    let half = f32::from(1_u16 << (spec.bits - 1));
    let (least, most) = (-half, half - 1.0);
    let around_zero = match (spec.scheme, levels) {
        (Scheme::Affine, _) => false,
        (Scheme::Symmetric, QatLevels::Int8) => true,
        (Scheme::Symmetric, QatLevels::PyTorch) => min < 0.0 && max > 0.0,
    };
    if around_zero {
        return (lifted((min / least).max(max / most).max(0.0)), 0.0);
    }
    let (lo, hi) = (min.min(0.0), max.max(0.0));
    let scale = ((f64::from(hi) - f64::from(lo)) / f64::from(most - least)) as f32;
    let zero_point =
        if scale == 0.0 { least } else { least - (f64::from(lo) / f64::from(scale)).round_ties_even() as f32 };
    (lifted(scale), zero_point.clamp(least, most))
}

fn lifted(scale: f32) -> f32 {
    if scale == 0.0 || (1.0 / scale).is_infinite() { EMPTY_SCALE } else { scale.max(LEAST_SCALE) }
}

impl LearnedRange {
    /// The levels of an activation.
    pub fn activation_levels(&self, spec: &ActivationSpec) -> QParams {
        let levels = activation_levels(self.min[0], self.max[0], spec);
        self.step.first().map_or(levels, |step| QParams { scale: *step, ..levels })
    }

    /// Scale and zero point of a weight's groups: one, or one an output channel.
    pub fn weight_levels(&self, spec: &WeightSpec, levels: QatLevels) -> Vec<(f32, f32)> {
        let ranges = self.min.iter().zip(&self.max).enumerate();
        let of = |(group, (min, max)): (usize, (&f32, &f32))| {
            let (scale, zero_point) = weight_levels(*min, *max, spec, levels);
            (self.step.get(group).copied().unwrap_or(scale), zero_point)
        };
        ranges.map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ObserverKind;

    #[test]
    fn an_activations_levels_are_pytorchs() {
        let spec = ActivationSpec::new(ObserverKind::MovingAverageMinMax, 127);
        let of = |min, max| activation_levels(min, max, &spec);
        assert_eq!(of(-1.0, 1.54), QParams { scale: 0.02, zero_point: 50, qmax: 127 });
        assert_eq!(of(0.5, 1.27), QParams { scale: 0.01, zero_point: 0, qmax: 127 }, "zero is a level");
        assert_eq!(of(-1.27, -0.5).zero_point, 127);
        assert_eq!(of(0.0, 0.0), QParams { scale: EMPTY_SCALE, zero_point: 0, qmax: 127 });
        assert_eq!(of(-1e-5, 3e-5), QParams { scale: LEAST_SCALE, zero_point: 32, qmax: 127 });
    }

    #[test]
    fn a_weights_levels_are_pytorchs_or_int8s() {
        let spec = WeightSpec::new(ObserverKind::PerChannelMinMax);
        for (min, max, torch, int8) in [
            (-1.28, 0.5, (0.01, 0.0), (0.01, 0.0)),
            (-0.5, 1.27, (0.01, 0.0), (0.01, 0.0)),
            (0.2, 2.55, (0.01, -128.0), (2.55 / 127.0, 0.0)),
            (-2.55, -0.1, (0.01, 127.0), (2.55 / 128.0, 0.0)),
            (0.0, 0.0, (EMPTY_SCALE, -128.0), (EMPTY_SCALE, 0.0)),
        ] {
            assert_eq!(weight_levels(min, max, &spec, QatLevels::PyTorch), torch, "{min} to {max}");
            assert_eq!(weight_levels(min, max, &spec, QatLevels::Int8), int8, "{min} to {max}");
        }
    }
}
