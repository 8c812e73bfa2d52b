use serde::{Deserialize, Serialize};

use super::super::EPS;
use crate::graph::{ActivationSpec, QParams, Scheme};

/// From the smallest to the largest value, both finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

impl Range {
    /// The range that holds both.
    pub fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// Both ends moved by `step` of the way to `other`'s.
    pub fn toward(self, other: Self, step: f32) -> Self {
        Self { min: self.min + step * (other.min - self.min), max: self.max + step * (other.max - self.max) }
    }

    /// Scale and zero point that spread the levels 0..=`quant_max` over this range and 0, in float32 as PyTorch's
    /// `_calculate_qparams`:
    ///
    /// ```text
    /// scale      = max((max(max, 0) - min(min, 0)) / quant_max, eps)
    /// zero_point = clamp(-round_ties_even(min(min, 0) / scale), 0, quant_max)
    /// ```
    pub fn affine(self, quant_max: u8) -> QParams {
        let (low, high) = (self.min.min(0.0), self.max.max(0.0));
        let levels = f32::from(quant_max);
        let scale = ((high - low) / levels).max(EPS);
        QParams::new(scale, (-(low / scale).round_ties_even()).clamp(0.0, levels) as u8)
    }

    /// Scale and zero point that spread the levels 0..=`quant_max` evenly around 0, in float32:
    ///
    /// ```text
    /// scale      = max(max(-min(min, 0), max(max, 0)) / (quant_max / 2), eps)
    /// zero_point = (quant_max + 1) / 2        128 at 0..255, 64 at 0..127
    /// ```
    ///
    /// 128 is PyTorch's zero point of symmetric uint8; at 0..127 the middle of those levels is Octet's own choice.
    pub fn symmetric(self, quant_max: u8) -> QParams {
        let largest = self.max.max(0.0).max(-self.min);
        let scale = (largest / (f32::from(quant_max) / 2.0)).max(EPS);
        QParams::new(scale, quant_max / 2 + 1)
    }

    /// What `spec` makes of this range.
    pub fn qparams(self, spec: &ActivationSpec) -> QParams {
        let q = match spec.scheme {
            Scheme::Affine => self.affine(spec.quant_max),
            Scheme::Symmetric => self.symmetric(spec.quant_max),
        };
        QParams { qmax: spec.qmax(), ..q }
    }
}
