use super::{Conv2d, Graph, Linear, Op, QTensor, Tensor, Weight};

/// Beyond this an int32 bias is close to overflowing.
const MOST_BIAS: f32 = (1 << 30) as f32;

/// A layer's integers where its bias is int32 too, on the scale of the sums, as ONNX's QDQ form, TFLite and integer-only
/// accelerators have it. PyTorch keeps the bias in float32.
#[derive(Clone, Debug, PartialEq)]
pub struct Int32Bias {
    /// The layer's weight: as it was, but for channels that were moved to a wider scale.
    pub weight: QTensor,
    /// One level an output channel, of `scales`; its zero point is 0.
    pub levels: Vec<i32>,
    /// `si * sw`, one an output channel.
    pub scales: Vec<f32>,
}

impl Int32Bias {
    /// `round_ties_even(b / (si * sw))` for the bias `[out]` of a layer of weight `[out, ...]` whose input has the scale `si`.
    /// A channel whose weights are next to nothing has so small a scale that its bias would overflow: its weights move to
    /// a wider scale, which costs them nothing that counts beside the bias.
    pub fn of(weight: &QTensor, bias: &Tensor, si: f32) -> Self {
        let least = |c: usize| bias.data[c].abs() / (si * MOST_BIAS);
        let channels = 0..bias.len();
        let weight = match channels.clone().any(|c| weight.scale(c) < least(c)) {
            false => weight.clone(),
            true => {
                let scales: Vec<f32> = channels.map(|c| weight.scale(c).max(least(c))).collect();
                let of_channel = (weight.data.len() / bias.len()).max(1);
                let moved = |(i, q): (usize, &i8)| {
                    let c = i / of_channel;
                    (f32::from(*q) * (weight.scale(c) / scales[c])).round_ties_even() as i8
                };
                let data: Vec<i8> = weight.data.iter().enumerate().map(moved).collect();
                QTensor { shape: weight.shape.clone(), data: data.into(), scales: scales.into() }
            }
        };
        let scales: Vec<f32> = (0..bias.len()).map(|c| si * weight.scale(c)).collect();
        let levels = bias.data.iter().zip(&scales).map(|(b, s)| (b / s).round_ties_even() as i32).collect();
        Self { weight, levels, scales }
    }

    /// The float32 bias that the levels stand for.
    pub fn bias(&self) -> Tensor {
        let values: Vec<f32> = self.levels.iter().zip(&self.scales).map(|(q, s)| *q as f32 * s).collect();
        Tensor::new([values.len()], values)
    }
}

/// The same graph with the bias of every int8 layer on the levels that int32 would give it ([`Int32Bias`]): what such an
/// export of it computes then is what the graph does.
pub fn round_biases(graph: &Graph) -> Graph {
    let mut next = graph.clone();
    for (node, old) in next.nodes.iter_mut().zip(&graph.nodes) {
        let si = old.inputs.first().and_then(|id| graph.node(*id).numeric.qparams()).map(|q| q.scale);
        if let Op::Conv2d(Conv2d { weight, bias: Some(bias), .. }) | Op::Linear(Linear { weight, bias: Some(bias), .. }) =
            &mut node.op
            && let (Weight::Int8(levels), Some(si)) = (&*weight, si)
        {
            let rounded = Int32Bias::of(levels, bias, si);
            *bias = rounded.bias();
            *weight = Weight::Int8(rounded.weight);
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(scales: Vec<f32>) -> QTensor {
        QTensor { shape: vec![2, 2], data: vec![100_i8, -50, 127, 1].into(), scales: scales.into() }
    }

    #[test]
    fn a_bias_moves_by_half_a_level_at_most_and_its_weight_stays() {
        for scales in [vec![0.5], vec![0.5, 0.25]] {
            let weight = weight(scales);
            let bias = Tensor::new([2], vec![1.3, -7.126]);
            let rounded = Int32Bias::of(&weight, &bias, 0.5);
            assert_eq!(rounded.weight, weight);
            for (c, (exact, given)) in bias.data.iter().zip(rounded.bias().data.iter()).enumerate() {
                assert!((exact - given).abs() <= 0.25 * weight.scale(c), "{exact} {given}");
            }
            let again = Int32Bias::of(&weight, &rounded.bias(), 0.5);
            assert_eq!(again.levels, rounded.levels, "rounded once is rounded");
        }
    }

    #[test]
    fn a_bias_beyond_32_bits_widens_its_channel_alone() {
        let weight = weight(vec![1.2e-12, 0.25]);
        let rounded = Int32Bias::of(&weight, &Tensor::new([2], vec![10.0, 1.0]), 0.01);
        assert_eq!(rounded.weight.data[2..], weight.data[2..]);
        assert!(rounded.weight.scales[0] > weight.scales[0] && rounded.weight.scales[1] == 0.25);
        assert!((rounded.bias().data[0] - 10.0).abs() < 1e-5, "{rounded:?}");
    }
}
