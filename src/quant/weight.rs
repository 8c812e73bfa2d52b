use super::{EPS, QuantError};
use crate::graph::{ObserverKind, QTensor, Scheme, Tensor, WeightSpec};

/// The levels of a group of weights: a channel, or the whole tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    scale: f32,
    zero_point: f32,
    least: f32,
    most: f32,
}

impl Grid {
    /// The levels that a group of finite weights gets, all in float32 as PyTorch's `_calculate_qparams`:
    ///
    /// ```text
    /// symmetric   scale = max(max|w| / ((2^bits - 1) / 2), eps)                    zero_point = 0
    /// affine      scale = max((max(max, 0) - min(min, 0)) / (2^bits - 1), eps)
    ///             zero_point = clamp(least - round_ties_even(min(min, 0) / scale), least, most)
    /// ```
    fn of(weights: &[f32], spec: WeightSpec) -> Self {
        let half = f32::from(1_u16 << (spec.bits - 1));
        let (least, most, steps) = (-half, half - 1.0, 2.0 * half - 1.0);
        match spec.scheme {
            Scheme::Symmetric => {
                let largest = weights.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
                Self { scale: (largest / (steps / 2.0)).max(EPS), zero_point: 0.0, least, most }
            }
            Scheme::Affine => {
                let (low, high) = weights.iter().fold((0.0_f32, 0.0_f32), |(l, h), w| (l.min(*w), h.max(*w)));
                let scale = ((high - low) / steps).max(EPS);
                let zero_point = (least - (low / scale).round_ties_even()).clamp(least, most);
                Self { scale, zero_point, least, most }
            }
        }
    }

    /// `clamp(round_ties_even(w * (1 / scale)) + zero_point)`. Dividing by the scale instead changes hundreds of weights,
    /// since a channel's largest one sits on the tie.
    fn level(&self, w: f32) -> f32 {
        ((w * (1.0 / self.scale)).round_ties_even() + self.zero_point).clamp(self.least, self.most)
    }
}

/// A float weight as symmetric int8, output channels first, levels `-2^(bits - 1)..=2^(bits - 1) - 1`:
///
/// ```text
/// scale = max(max|w| / 127.5, eps)            127.5 at 8 bits, 7.5 at 4
/// q     = clamp(round_ties_even(w * (1 / scale)))
/// ```
///
/// # Errors
/// [`QuantError::NotFinite`] and [`QuantError::AffineWeight`] naming `node`; [`QuantError::WeightObserver`] for an
/// observer that weights cannot have.
pub fn quantize_weight(node: &str, weight: &Tensor, spec: WeightSpec) -> Result<QTensor, QuantError> {
    if spec.scheme == Scheme::Affine {
        return Err(QuantError::AffineWeight { node: node.to_owned() });
    }
    let mut scales = Vec::new();
    let mut data = Vec::with_capacity(weight.len());
    each_group(node, weight, spec, |group, grid| {
        data.extend(group.iter().map(|w| grid.level(*w) as i8));
        scales.push(grid.scale);
    })?;
    Ok(QTensor { shape: weight.shape.clone(), data: data.into(), scales: scales.into() })
}

/// A float weight, each value moved to the nearest of its levels: `(q - zero_point) * scale`. For a symmetric one these
/// are the values of [`quantize_weight`]. With the scale of each channel, or the one of the whole tensor.
///
/// # Errors
/// [`QuantError::NotFinite`] naming `node`; [`QuantError::WeightObserver`] for an observer that weights cannot have.
pub fn fake_quantize_weight(node: &str, weight: &Tensor, spec: WeightSpec) -> Result<(Tensor, Vec<f32>), QuantError> {
    let mut data = Vec::with_capacity(weight.len());
    let mut scales = Vec::new();
    each_group(node, weight, spec, |group, grid| {
        data.extend(group.iter().map(|w| (grid.level(*w) - grid.zero_point) * grid.scale));
        scales.push(grid.scale);
    })?;
    Ok((Tensor::new(weight.shape.clone(), data), scales))
}

/// Calls `f` with the weights of each group that has its own levels.
fn each_group(
    node: &str,
    weight: &Tensor,
    spec: WeightSpec,
    mut f: impl FnMut(&[f32], Grid),
) -> Result<(), QuantError> {
    super::qconfig::check_weight(&spec)?;
    let channels = weight.shape[0];
    let groups = if spec.observer == ObserverKind::MinMax { 1 } else { channels };
    let per_group = (weight.len() / groups).max(1);
    for (index, group) in weight.data.chunks_exact(per_group).enumerate() {
        if let Some(at) = group.iter().position(|w| !w.is_finite()) {
            let channel = (index * per_group + at) / (weight.len() / channels);
            return Err(QuantError::NotFinite { node: node.to_owned(), what: "weight", channel });
        }
        f(group, Grid::of(group, spec));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(data: &[f32], observer: ObserverKind) -> QTensor {
        let weight = Tensor::new([2, data.len() / 2], data.to_vec());
        quantize_weight("conv", &weight, WeightSpec::new(observer)).expect("finite weights")
    }

    #[test]
    fn each_channel_has_its_scale() {
        let q = quantized(&[0.5, -1.275, 0.0, 0.0], ObserverKind::PerChannelMinMax);
        assert_eq!(&q.scales[..], [1.275 / 127.5, EPS]);
        assert_eq!(&q.data[..], [50, -128, 0, 0], "the extreme of a channel is a tie, to even");
    }

    #[test]
    fn per_tensor_has_one_scale() {
        let q = quantized(&[0.5, -1.275, 0.1, 0.0], ObserverKind::MinMax);
        assert_eq!((q.scales.len(), &q.data[..]), (1, &[50, -128, 10, 0][..]));
    }

    #[test]
    fn nan_is_refused_by_name_and_channel() {
        for observer in [ObserverKind::MinMax, ObserverKind::PerChannelMinMax] {
            let weight = Tensor::new([2, 2], vec![0.0, 1.0, f32::NAN, 0.0]);
            let error = quantize_weight("layer1.0.conv1", &weight, WeightSpec::new(observer)).expect_err("NaN");
            assert_eq!(
                error,
                QuantError::NotFinite { node: "layer1.0.conv1".to_owned(), what: "weight", channel: 1 },
                "{observer:?}"
            );
        }
    }

    #[test]
    fn weights_have_no_histogram() {
        let spec = WeightSpec::new(ObserverKind::Histogram);
        let error = quantize_weight("fc", &Tensor::zeros([1, 1]), spec).expect_err("not for weights");
        assert_eq!(error, QuantError::WeightObserver { found: ObserverKind::Histogram });
    }

    fn spec(scheme: Scheme, bits: u8) -> WeightSpec {
        WeightSpec { scheme, bits, ..WeightSpec::new(ObserverKind::PerChannelMinMax) }
    }

    #[test]
    fn fewer_bits_have_fewer_levels() {
        let weight = Tensor::new([1, 4], vec![-0.75, 0.75, 0.05, 0.2]);
        let q = quantize_weight("conv", &weight, spec(Scheme::Symmetric, 4)).expect("finite weights");
        assert_eq!((q.scales[0], &q.data[..]), (0.75 / 7.5, &[-8, 7, 0, 2][..]));
    }

    #[test]
    fn affine_levels_span_what_is_there() {
        // -1 to 2 in 15 steps of 0.2: zero is the level -8 + 5.
        let weight = Tensor::new([1, 4], vec![-1.0, 2.0, 0.0, 0.31]);
        let (fake, _) = fake_quantize_weight("conv", &weight, spec(Scheme::Affine, 4)).expect("finite weights");
        let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(fake.data.iter().zip([-1.0, 2.0, 0.0, 0.4]).all(|(a, b)| close(*a, b)), "{:?}", fake.data);
        let error = quantize_weight("conv", &weight, spec(Scheme::Affine, 8));
        assert_eq!(error, Err(QuantError::AffineWeight { node: "conv".to_owned() }));
    }

    #[test]
    fn a_fake_quantized_weight_is_what_its_int8_stands_for() {
        let data: Vec<f32> = (0..600).map(|i| ((i * 7919 % 1013) as f32 - 506.0) / (1.0 + (i / 100) as f32)).collect();
        let weight = Tensor::new([6, 100], data);
        for bits in 4..=8 {
            for observer in [ObserverKind::PerChannelMinMax, ObserverKind::MinMax] {
                let spec = WeightSpec { observer, ..spec(Scheme::Symmetric, bits) };
                let int8 = quantize_weight("conv", &weight, spec).expect("finite weights");
                let (fake, _) = fake_quantize_weight("conv", &weight, spec).expect("finite weights");
                let half = 1_i16 << (bits - 1);
                for (i, (q, w)) in int8.data.iter().zip(fake.data.iter()).enumerate() {
                    assert_eq!(f32::from(*q) * int8.scale(i / 100), *w, "{bits} bits, {observer:?}, value {i}");
                    assert!((-half..half).contains(&i16::from(*q)), "{bits} bits: {q}");
                }
            }
        }
    }

    #[test]
    fn an_affine_weight_is_within_half_a_level() {
        let data: Vec<f32> = (0..300).map(|i| (i * 7919 % 1013) as f32 / 100.0 - 2.0).collect();
        for bits in 4..=8 {
            let weight = Tensor::new([3, 100], data.clone());
            let (fake, _) = fake_quantize_weight("conv", &weight, spec(Scheme::Affine, bits)).expect("finite weights");
            for (real, fake) in data.chunks_exact(100).zip(fake.data.chunks_exact(100)) {
                let low = real.iter().copied().fold(0.0, f32::min);
                let high = real.iter().copied().fold(0.0, f32::max);
                let half = (high - low) / f32::from((1_u16 << bits) - 1) * 0.5;
                // The two ends may lose half a level more where zero had to fall on a level.
                assert!(real.iter().zip(fake).all(|(a, b)| (a - b).abs() <= 2.0 * half + 1e-5), "{bits} bits");
                assert!(
                    real.iter().zip(fake).filter(|(a, b)| (*a - *b).abs() > half + 1e-5).count() <= (1 + 100) >> bits,
                    "{bits} bits"
                );
            }
        }
    }
}
