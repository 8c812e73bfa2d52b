use super::QuantError;
use crate::graph::{BatchNorm2d, Tensor};

/// A convolution's parameters with batch norm folded in.
pub(super) struct Folded {
    pub weight: Tensor,
    pub bias: Tensor,
    /// What each output channel's weight was multiplied by.
    pub factors: Vec<f32>,
}

/// Folds batch norm with its running statistics into the convolution before it, every step rounded to float32:
///
/// ```text
/// r = 1 / sqrt(var + eps)        first the root, then the reciprocal
/// W' = W * (g * r)
/// b' = ((b - mean) * r) * g + beta
/// ```
///
/// Any other order changes int8 weights: a channel's largest weight lies on a rounding tie.
///
/// # Errors
/// [`QuantError::NotFinite`] naming the batch norm `name` where its statistics or the result are not finite.
pub(super) fn fold(weight: &Tensor, bias: Option<&Tensor>, bn: &BatchNorm2d, name: &str) -> Result<Folded, QuantError> {
    let channels = bn.weight.len();
    let (gamma, beta) = (&bn.weight.data, &bn.bias.data);
    let (mean, var) = (&bn.running_mean.data, &bn.running_var.data);
    let (mut factors, mut shifts) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
    for c in 0..channels {
        let r = 1.0 / (var[c] + bn.eps).sqrt();
        let b = bias.map_or(0.0, |b| b.data[c]);
        let (factor, shift) = (gamma[c] * r, ((b - mean[c]) * r) * gamma[c] + beta[c]);
        if !(factor.is_finite() && shift.is_finite()) {
            return Err(QuantError::NotFinite { node: name.to_owned(), what: "folded factor", channel: c });
        }
        factors.push(factor);
        shifts.push(shift);
    }
    let per_channel = weight.len() / channels;
    let scaled: Vec<f32> =
        weight.data.chunks_exact(per_channel).zip(&factors).flat_map(|(w, f)| w.iter().map(move |w| w * f)).collect();
    Ok(Folded { weight: Tensor::new(weight.shape.clone(), scaled), bias: Tensor::new([channels], shifts), factors })
}
