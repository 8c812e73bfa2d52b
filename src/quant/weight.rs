use super::{EPS, QuantError};
use crate::graph::{ObserverKind, QTensor, Tensor, WeightSpec};

/// A float weight as symmetric int8, levels -128..=127, output channels first:
///
/// ```text
/// scale = max(max|w| / 127.5, eps)
/// q     = clamp(round_ties_even(w * (1 / scale)))
/// ```
///
/// every step in float32 and with the reciprocal: dividing by the scale instead changes hundreds of weights, since a
/// channel's largest one sits on the tie at 127.5.
///
/// # Errors
/// [`QuantError::NotFinite`] naming `node`; [`QuantError::WeightObserver`] for an observer that weights cannot have.
pub fn quantize_weight(node: &str, weight: &Tensor, spec: WeightSpec) -> Result<QTensor, QuantError> {
    let channels = weight.shape[0];
    let groups = match spec.observer {
        ObserverKind::PerChannelMinMax => channels,
        ObserverKind::MinMax => 1,
        ObserverKind::MovingAverageMinMax | ObserverKind::Histogram => {
            return Err(QuantError::WeightObserver { found: spec.observer });
        }
    };
    let mut scales = Vec::with_capacity(groups);
    let mut data = Vec::with_capacity(weight.len());
    for group in weight.data.chunks_exact((weight.len() / groups).max(1)) {
        if let Some(at) = group.iter().position(|w| !w.is_finite()) {
            let channel = data.len().saturating_add(at) / (weight.len() / channels);
            return Err(QuantError::NotFinite { node: node.to_owned(), what: "weight", channel });
        }
        let largest = group.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
        let scale = (largest / 127.5).max(EPS);
        let inverse = 1.0 / scale;
        data.extend(group.iter().map(|w| (w * inverse).round_ties_even().clamp(-128.0, 127.0) as i8));
        scales.push(scale);
    }
    Ok(QTensor { shape: weight.shape.clone(), data: data.into(), scales: scales.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(data: &[f32], observer: ObserverKind) -> QTensor {
        let weight = Tensor::new([2, data.len() / 2], data.to_vec());
        quantize_weight("conv", &weight, WeightSpec { observer }).expect("finite weights")
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
            let error = quantize_weight("layer1.0.conv1", &weight, WeightSpec { observer }).expect_err("NaN");
            assert_eq!(
                error,
                QuantError::NotFinite { node: "layer1.0.conv1".to_owned(), what: "weight", channel: 1 },
                "{observer:?}"
            );
        }
    }

    #[test]
    fn weights_have_no_histogram() {
        let spec = WeightSpec { observer: ObserverKind::Histogram };
        let error = quantize_weight("fc", &Tensor::zeros([1, 1]), spec).expect_err("not for weights");
        assert_eq!(error, QuantError::WeightObserver { found: ObserverKind::Histogram });
    }
}
