use super::{QuantError, spoil_ranges};
use crate::graph::{Activation, BatchNorm2d, Graph, NodeId, Op};

/// What [`plant_wide_channel`] changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    /// The convolution whose weights, once batch norm is folded, have one channel that is wider than all others.
    pub layer: String,
    /// That channel.
    pub channel: usize,
    /// How many times wider it was made.
    pub factor: f32,
}

/// Spoils a float model for one scale a tensor without changing what it computes, as trained models are found in the
/// wild: the quietest channel between a convolution with batch norm and ReLU and the depthwise convolution that reads it
/// is made `factor` times louder, and the weights that read it as much smaller. With a power of two not one output
/// changes, and where the channel says next to nothing activations keep their ranges: only the weights' do not.
///
/// `None` where no such pair of layers stands in the graph.
///
/// # Errors
/// Those of [`spoil_ranges`].
pub fn plant_wide_channel(graph: &Graph, factor: f32) -> Result<Option<(Graph, Planted)>, QuantError> {
    let quietest = pairs(graph).filter_map(|pair| {
        let Op::BatchNorm2d(bn) = &graph.node(pair.norm).op else { return None };
        let loud: Vec<f32> = (0..bn.weight.len()).map(|c| loudness(bn, c)).collect();
        let (channel, least) = loud.iter().copied().enumerate().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let most = loud.iter().copied().fold(0.0_f32, f32::max);
        Some((pair, channel, if most > 0.0 { least / most } else { 1.0 }))
    });
    let Some((pair, channel, _)) = quietest.min_by(|a, b| a.2.total_cmp(&b.2)) else { return Ok(None) };
    let layer = graph.node(pair.conv).name.clone();
    let next = spoil_ranges(graph, &[&layer], &|c| if c == channel { factor } else { 1.0 })?;
    Ok(Some((next, Planted { layer, channel, factor })))
}

/// A convolution and the batch norm behind it, whose ReLU a depthwise convolution alone reads.
#[derive(Clone, Copy)]
struct Pair {
    conv: NodeId,
    norm: NodeId,
}

fn pairs(graph: &Graph) -> impl Iterator<Item = Pair> {
    let users = graph.users();
    graph.iter().filter_map(move |(norm, node)| {
        let only = |id: NodeId| match users[id.index()][..] {
            [user] => Some(user),
            _ => None,
        };
        let Op::BatchNorm2d(_) = node.op else { return None };
        let conv = node.inputs[0];
        let relu = only(norm).filter(|id| matches!(graph.node(*id).op, Op::Activation(Activation::Relu)))?;
        let reader = only(relu)?;
        let fits = matches!(graph.node(conv).op, Op::Conv2d(_)) && only(conv) == Some(norm);
        let depthwise = matches!(&graph.node(reader).op, Op::Conv2d(c) if c.is_depthwise() && c.bn.is_none());
        (fits && depthwise).then_some(Pair { conv, norm })
    })
}

/// About the largest value that a channel has behind its ReLU: three deviations above its mean.
fn loudness(bn: &BatchNorm2d, channel: usize) -> f32 {
    (bn.bias.data[channel] + 3.0 * bn.weight.data[channel].abs()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::float::{Device, Model};
    use crate::graph::{ObserverKind, Weight, WeightSpec};
    use crate::quant::{FuseOptions, fuse, quantize_weight};
    use crate::zoo::{ModelConfig, ModelId, build, init};

    #[test]
    fn a_power_of_two_changes_no_output_and_one_scale_fits_no_longer() {
        let float = init(&build(ModelId::MobileNetV3Small, ModelConfig { classes: 10, size: 32 }).expect("a model"), 3);
        let (planted, what) = plant_wide_channel(&float, 1024.0).expect("sound").expect("MobileNets have such a pair");
        let images: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| ((i * 7919 % 1013) as f32 - 506.0) / 300.0).collect();
        let run = |graph: &Graph| Model::new(graph, &Device::Cpu).and_then(|m| m.run(&images, 2)).expect("it runs");
        assert_eq!(run(&float), run(&planted), "to the bit");
        let left = |graph: &Graph, observer| {
            let (fused, _) = fuse(graph, &FuseOptions::default()).expect("it fuses");
            let node = fused.node(fused.find(&what.layer).expect("the layer"));
            let weight = node.op.weight().and_then(Weight::float).expect("a float weight");
            let int8 = quantize_weight(&what.layer, weight, WeightSpec::new(observer)).expect("finite");
            int8.data.iter().filter(|q| **q != 0).count()
        };
        let per_tensor = ObserverKind::MinMax;
        assert!(left(&planted, per_tensor) * 10 < left(&float, per_tensor), "most weights round to zero");
        let per_channel = ObserverKind::PerChannelMinMax;
        assert_eq!(left(&planted, per_channel), left(&float, per_channel), "a scale a channel fits as before");
        let resnet = build(ModelId::ResNet18, ModelConfig { classes: 10, size: 32 }).expect("a model");
        assert_eq!(plant_wide_channel(&resnet, 2.0), Ok(None), "it has no depthwise convolutions");
    }
}
