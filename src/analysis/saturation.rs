use super::{
    count::{Suspects, Tally},
    pairs::{Filters, Neighbours},
};
use crate::{
    exec::{ExecError, int8::Plan},
    graph::{Graph, NodeId},
};

/// Which layers would overflow 16 bits on engines that multiply with `vpmaddubsw`, counted on real images. Octet's own
/// kernels never do.
///
/// Intel's description of `PMADDUBSW` (Software Developer's Manual, volume 2): each unsigned byte of one operand is
/// multiplied with the signed byte of the other, and each adjacent pair of the 16-bit products is added *with signed
/// saturation*: a sum above 32767 becomes 32767, one below -32768 becomes -32768, and nothing says so. Levels are the
/// unsigned bytes, 0..=255, weights the signed ones, so a pair can reach 255 * 127 * 2 = 64770. CPUs with VNNI have
/// `vpdpbusd` instead, which adds in 32 bits.
///
/// Which products are adjacent is the engine's layout:
///
/// - dense layers: neighbours in a window read row by row with the channels innermost (NHWC), so input channels 2i and
///   2i + 1 of a tap, as in the AVX2 kernels of fbgemm, oneDNN and ONNX Runtime (which pack four such bytes a lane);
/// - depthwise convolutions: taps 2i and 2i + 1 of a channel, row by row, as in fbgemm, which has these kernels on CPUs
///   with VNNI too. oneDNN's and ONNX Runtime's widen to 16 or 32 bits first and do not saturate there.
///
/// Where a window has an odd number of channels, fbgemm and ONNX Runtime go on with the next tap (counted so here), and
/// oneDNN pads each tap. The sums are of raw levels: these engines subtract the zero point's share afterwards, and pad
/// with the zero point. A test holds this to what PyTorch's fbgemm computes on a CPU without VNNI: with these sums
/// clamped to 16 bits, its outputs come out integer for integer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saturation {
    /// How many images were counted.
    pub images: usize,
    /// Every int8 convolution and linear layer, in the order of the graph.
    pub layers: Vec<LayerSaturation>,
}

/// What one layer did on all images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSaturation {
    /// Which, and what its weights alone allow.
    pub layer: LayerBound,
    /// Pair sums in all.
    pub pairs: u64,
    /// Those that leave 16 bits.
    pub saturated: u64,
    /// Output values in all.
    pub outputs: u64,
    /// Those with at least one pair sum outside.
    pub saturated_outputs: u64,
    /// The pair sum that is farthest outside; `None` where none is.
    pub worst: Option<i32>,
}

/// What a layer's weights alone say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBound {
    /// The layer.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// [`crate::graph::Op::name`].
    pub op: &'static str,
    /// Which products are added.
    pub neighbours: Neighbours,
    /// The extreme sums.
    pub bound: PairBound,
}

/// The smallest and the largest sum of two products that any levels of the input can give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairBound {
    /// 0 or less.
    pub low: i32,
    /// 0 or more.
    pub high: i32,
}

impl PairBound {
    /// Of two weights under levels 0..=`qmax`.
    pub(super) fn of(weights: [i32; 2], qmax: u8) -> Self {
        let sum = |keep: fn(i32) -> i32| i32::from(qmax) * weights.map(keep).iter().sum::<i32>();
        Self { low: sum(|w| w.min(0)), high: sum(|w| w.max(0)) }
    }

    fn or(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Whether no image can saturate it.
    pub fn is_safe(self) -> bool {
        self.low >= i32::from(i16::MIN) && self.high <= i32::from(i16::MAX)
    }

    /// The one that is farther from zero.
    pub fn worst(self) -> i32 {
        if -self.low > self.high { self.low } else { self.high }
    }
}

/// What the weights of every int8 convolution and linear layer say, in the order of the graph, without an image.
pub fn bounds(graph: &Graph) -> Vec<LayerBound> {
    let layers = graph.iter().filter_map(|(id, node)| Some((id, node, Filters::of(graph, node)?)));
    layers
        .map(|(node, layer, filters)| {
            let qmax = graph.node(filters.input).numeric.qparams().map_or(u8::MAX, |q| q.qmax);
            let pairs = (0..filters.weight.shape[0]).flat_map(|o| (0..filters.pairs()).map(move |p| (o, p)));
            let bounds = pairs.map(|(output, pair)| PairBound::of(filters.weights(output, pair), qmax));
            LayerBound {
                node,
                name: layer.name.clone(),
                op: layer.op.name(),
                neighbours: filters.neighbours(),
                bound: bounds.fold(PairBound::default(), PairBound::or),
            }
        })
        .collect()
}

impl Saturation {
    /// The layers that saturated on these images.
    pub fn overflowing(&self) -> impl Iterator<Item = &LayerSaturation> {
        self.layers.iter().filter(|l| l.saturated > 0)
    }

    /// The layers that no image can saturate.
    pub fn safe(&self) -> usize {
        self.layers.iter().filter(|l| l.layer.bound.is_safe()).count()
    }
}

/// Counts as images come in.
#[derive(Debug)]
pub struct SaturationDetector {
    saturation: Saturation,
    /// Of one image: pairs and outputs of each layer.
    sizes: Vec<[u64; 2]>,
    /// For each node, the layers that read its levels and can saturate: their place in the list and their pairs.
    readers: Vec<Vec<(usize, Suspects)>>,
}

impl SaturationDetector {
    /// For a converted graph. Layers that are safe whatever the image cost nothing from here on.
    pub fn new(graph: &Graph) -> Self {
        let mut readers: Vec<Vec<(usize, Suspects)>> = graph.nodes.iter().map(|_| Vec::new()).collect();
        let (mut layers, mut sizes) = (Vec::new(), Vec::new());
        for layer in bounds(graph) {
            let node = graph.node(layer.node);
            let Some(filters) = Filters::of(graph, node) else { continue };
            if let (false, Some(input)) = (layer.bound.is_safe(), graph.node(filters.input).numeric.qparams()) {
                readers[filters.input.index()].push((layers.len(), Suspects::new(&filters, input)));
            }
            let outputs = node.shape.len() as u64;
            sizes.push([outputs * filters.pairs() as u64, outputs]);
            let none = Tally::default();
            layers.push(LayerSaturation {
                layer,
                pairs: 0,
                saturated: none.saturated,
                outputs: 0,
                saturated_outputs: none.outputs,
                worst: none.worst,
            });
        }
        Self { saturation: Saturation { images: 0, layers }, sizes, readers }
    }

    /// Counts `batch` more images, normalized float32, `[batch, c, h, w]`. `plan` is that of the same graph; it does not
    /// run where every layer is safe.
    ///
    /// # Errors
    /// As [`Plan::run_traced`].
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn count(&mut self, plan: &mut Plan, images: &[f32], batch: usize) -> Result<(), ExecError> {
        if self.readers.iter().any(|r| !r.is_empty()) {
            let (layers, readers) = (&mut self.saturation.layers, &self.readers);
            plan.run_traced(images, batch, &mut |node, levels| {
                for (place, suspects) in &readers[node.index()] {
                    let layer = &mut layers[*place];
                    let before =
                        Tally { saturated: layer.saturated, outputs: layer.saturated_outputs, worst: layer.worst };
                    let after = before.add(suspects.count(levels));
                    (layer.saturated, layer.saturated_outputs, layer.worst) =
                        (after.saturated, after.outputs, after.worst);
                }
            })?;
        }
        for (layer, [pairs, outputs]) in self.saturation.layers.iter_mut().zip(&self.sizes) {
            layer.pairs += pairs * batch as u64;
            layer.outputs += outputs * batch as u64;
        }
        self.saturation.images += batch;
        Ok(())
    }

    /// What was found.
    pub fn finish(self) -> Saturation {
        self.saturation
    }
}
