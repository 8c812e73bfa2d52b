//! One output of one int8 layer, product by product: what a kernel does, slowly enough to be watched.

use super::{Opened, SessionError};
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::{Graph, Node, Op, QParams, QTensor, Tensor, Weight, WeightSpec};
use crate::kernels::{Levels, Requant};
use crate::quant::{QuantError, quantize_weight};

/// One output value of a convolution or linear layer, with everything that goes into it.
#[derive(Clone, Debug, PartialEq)]
pub struct DotProduct {
    /// The layer.
    pub layer: String,
    /// The output channel.
    pub channel: usize,
    /// Row and column of the output.
    pub pixel: [usize; 2],
    /// What it reads, as the engine had it; the zero point in the border.
    pub levels: Vec<u8>,
    /// The filter, in the same order.
    pub weights: Vec<i8>,
    /// How the input's levels become values.
    pub input: QParams,
    /// Of this channel's weights.
    pub weight_scale: f32,
    /// Of this channel, float32.
    pub bias: f32,
    /// How the output's levels become values.
    pub output: QParams,
    /// What the engine computed.
    pub level: u8,
    requant: Requant,
}

impl DotProduct {
    /// The int32 accumulator after each product.
    pub fn sums(&self) -> Vec<i32> {
        let mut acc = 0;
        let products = self.levels.iter().zip(&self.weights);
        let products = products.map(|(q, w)| (i32::from(*q) - i32::from(self.input.zero_point)) * i32::from(*w));
        products
            .map(|p| {
                acc += p;
                acc
            })
            .collect()
    }

    /// The output level that an accumulator gives: the kernels' own last step.
    pub fn requantize(&self, acc: i32) -> u8 {
        self.requant.level(0, acc)
    }

    /// `sx * sw / sy`.
    pub fn multiplier(&self) -> f32 {
        self.requant.multiplier[0]
    }

    /// The bias in units of the accumulator, `b / (sx * sw)`.
    pub fn bias_in_sums(&self) -> f32 {
        self.requant.bias[0]
    }
}

/// A layer's numbers without an image: how its sums become levels. `None` where it is no int8 layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requantization {
    /// The input's scale.
    pub input: f32,
    /// The channel's.
    pub weight: f32,
    /// The output's.
    pub output: f32,
    /// `input * weight / output`.
    pub multiplier: f32,
}

/// How sums of `channel` of the int8 layer `name` become levels; `None` where it is no int8 layer.
pub fn requantization(graph: &Graph, name: &str, channel: usize) -> Option<Requantization> {
    let layer = Layer::of(graph, name)?;
    let requant = layer.requant(channel)?;
    let (input, weight, output) = (layer.input.scale, layer.weight.scale(channel), layer.output.scale);
    Some(Requantization { input, weight, output, multiplier: requant.multiplier[0] })
}

/// An int8 layer of a converted graph.
struct Layer<'g> {
    node: &'g Node,
    weight: &'g QTensor,
    bias: Option<&'g Tensor>,
    relu: bool,
    /// Kernel, stride, padding, groups; of a linear layer a single pixel.
    window: ([usize; 2], usize, usize, usize),
    input: QParams,
    output: QParams,
}

impl<'g> Layer<'g> {
    fn of(graph: &'g Graph, name: &str) -> Option<Self> {
        let node = graph.node(graph.find(name)?);
        let (weight, bias, relu, window) = match &node.op {
            Op::Conv2d(c) => (&c.weight, c.bias.as_ref(), c.relu, (c.kernel(), c.stride, c.padding, c.groups)),
            Op::Linear(l) => (&l.weight, l.bias.as_ref(), l.relu, ([1, 1], 1, 0, 1)),
            _ => return None,
        };
        let Weight::Int8(weight) = weight else { return None };
        let input = graph.node(*node.inputs.first()?).numeric.qparams()?;
        Some(Self { node, weight, bias, relu, window, input, output: node.numeric.qparams()? })
    }

    fn bias(&self, channel: usize) -> f32 {
        self.bias.and_then(|b| b.data.get(channel).copied()).unwrap_or(0.0)
    }

    /// Of one channel alone.
    fn requant(&self, channel: usize) -> Option<Requant> {
        if channel >= self.weight.shape[0] {
            return None;
        }
        let levels = Levels::new(self.output.zero_point, self.output.qmax, self.relu);
        let (input, weight) = ((self.input.scale, self.input.zero_point), [self.weight.scale(channel)]);
        Some(Requant::of(input, &weight, Some(&[self.bias(channel)]), self.output.scale, levels))
    }
}

/// One output of the int8 layer `name` on a held-out image (or one of training where none are): in the middle of its
/// map. `None` where it is no int8 layer, or has no such channel.
///
/// # Errors
/// Those of reading an image and running the model.
pub fn dot_product(
    opened: &Opened,
    graph: &Graph,
    name: &str,
    channel: usize,
) -> Result<Option<DotProduct>, SessionError> {
    let Some(layer) = Layer::of(graph, name) else { return Ok(None) };
    let Some(requant) = layer.requant(channel) else { return Ok(None) };
    let dataset = &opened.dataset;
    let split = if dataset.valid.is_empty() { &dataset.train } else { &dataset.valid };
    let images = super::measure::Inputs::first(split, 1, &opened.preprocess, &opened.source)?;
    let mut plan = Plan::new(graph, &PlanOptions::default())?;
    let (id, source) = (graph.require(name).map_err(crate::quant::QuantError::from)?, layer.node.inputs[0]);
    let (mut read, mut made) = (Vec::new(), Vec::new());
    plan.run_traced(&images.images, 1, &mut |node, levels| {
        if node == source {
            read = levels.to_vec();
        }
        if node == id {
            made = levels.to_vec();
        }
    })?;
    let (from, to) = (graph.node(source).shape, layer.node.shape);
    if read.len() != from.len() || made.len() != to.len() {
        return Ok(None);
    }
    let pixel = [to.h / 2, to.w / 2];
    let ([kh, kw], stride, padding, groups) = layer.window;
    let per_group = layer.weight.shape[1];
    let first = channel / (layer.weight.shape[0] / groups).max(1) * per_group;
    let (mut levels, mut weights) = (Vec::new(), Vec::new());
    for ky in 0..kh {
        for kx in 0..kw {
            let at = |p: usize, k: usize, most: usize| (p * stride + k).checked_sub(padding).filter(|v| *v < most);
            let place = at(pixel[0], ky, from.h).zip(at(pixel[1], kx, from.w));
            for c in 0..per_group {
                let level = place.map(|(y, x)| read[(y * from.w + x) * from.c + first + c]);
                levels.push(level.unwrap_or(layer.input.zero_point));
                weights.push(layer.weight.data[((channel * per_group + c) * kh + ky) * kw + kx]);
            }
        }
    }
    Ok(Some(DotProduct {
        layer: name.to_owned(),
        channel,
        pixel,
        levels,
        weights,
        input: layer.input,
        weight_scale: layer.weight.scale(channel),
        bias: layer.bias(channel),
        output: layer.output,
        level: made[(pixel[0] * to.w + pixel[1]) * to.c + channel],
        requant,
    }))
}

/// The values of one held-out image as the model reads them, `[3, size, size]`.
///
/// # Errors
/// Where no image can be read.
pub fn pixels(opened: &Opened) -> Result<Vec<f32>, SessionError> {
    let dataset = &opened.dataset;
    let split = if dataset.valid.is_empty() { &dataset.train } else { &dataset.valid };
    Ok(super::measure::Inputs::first(split, 1, &opened.preprocess, &opened.source)?.images)
}

/// What rounding to int8 does to one channel of a weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightLoss {
    /// How far levels are apart.
    pub scale: f32,
    /// The smallest and the largest level that is used.
    pub used: (i8, i8),
    /// `10 * log10(sum(w^2) / sum((w - q * scale)^2))`, infinite where nothing is lost.
    pub sqnr_db: f64,
}

/// Of output channel `channel` of the weight of `node`, rounded as `spec` says: with a scale of its own, or the weight's.
///
/// # Errors
/// Those of [`quantize_weight`].
pub fn weight_loss(node: &str, weight: &Tensor, channel: usize, spec: WeightSpec) -> Result<WeightLoss, QuantError> {
    let int8 = quantize_weight(node, weight, spec)?;
    let per = weight.len() / weight.shape[0].max(1);
    let (scale, range) = (int8.scale(channel), channel * per..(channel + 1) * per);
    let (mut signal, mut noise, mut used) = (0.0, 0.0, (0, 0));
    for (w, q) in weight.data[range.clone()].iter().zip(&int8.data[range]) {
        used = (used.0.min(*q), used.1.max(*q));
        signal += f64::from(*w).powi(2);
        noise += f64::from(*w - f32::from(*q) * scale).powi(2);
    }
    let sqnr_db = if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() };
    Ok(WeightLoss { scale, used, sqnr_db })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Calibration, Command, Control, Device, FuseOptions, QConfig, Recipe, Session, Stage};
    use crate::zoo::ModelId;

    /// What is shown product by product is what the engine computed, of every kind of layer.
    #[test]
    fn by_hand_is_what_the_engine_computes() {
        let mut session = Session::new(Device::Cpu);
        for command in [
            Command::Open(Box::new(Recipe::new(ModelId::ShuffleNetV2X05))),
            Command::InsertStubs,
            Command::UseShippedWeights,
            Command::Fuse(FuseOptions::default()),
            Command::Prepare(QConfig::default()),
            Command::Calibrate(Calibration { batches: 1, batch: 32, foresee: false }),
            Command::Convert,
        ] {
            session.apply(command, &mut |_| {}, &Control::default()).expect("it is carried out");
        }
        let stage = session.stage().expect("converted").clone();
        let Stage::Converted { before, graph, .. } = stage.as_ref() else { panic!("converted") };
        // A dense convolution with a border, a depthwise one, a pointwise one and a linear layer.
        for (name, channel) in [("conv1.0", 3), ("stage2.0.branch1.0", 5), ("stage2.0.branch1.2", 7), ("fc", 9)] {
            let found = dot_product(&before.opened, graph, name, channel).expect("it runs").expect("an int8 layer");
            let sums = found.sums();
            assert_eq!(sums.len(), found.weights.len(), "{name}");
            assert_eq!(found.requantize(*sums.last().expect("a sum")), found.level, "{name}");
            let numbers = requantization(graph, name, channel).expect("an int8 layer");
            assert_eq!(numbers.multiplier, found.multiplier(), "{name}");
        }
        let beyond = dot_product(&before.opened, graph, "fc", 1000).expect("nothing fails");
        assert_eq!(beyond, None, "there is no such channel");
    }
}
