use super::forward::{function, linear_geometry, pool_geometry};
use crate::{
    exec::ExecError,
    graph::{BatchNorm2d, Conv2d, Graph, Linear, Node, NodeId, Op, Shape, Tensor},
    kernels::float::{self as kernel, Float, Function, Geometry, PackedConv, PackedDepthwise, SumOrder},
};

/// A layer in float32 between dense NHWC buffers, its weights as the float kernels read them.
#[derive(Debug)]
pub(in crate::exec) enum Layer {
    Conv(Conv),
    /// `[channels]` each: batch norm by its running statistics.
    ScaleShift {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    Apply(Function),
    MaxPool(Geometry),
    Mean(Shape),
    Add {
        relu: bool,
    },
    /// The second factor is one a channel.
    Mul {
        channels: usize,
        pixels: usize,
    },
    /// `width` channels from channel `from` of rows of `from_channels` to channel `to` of rows of `to_channels`.
    Copy {
        from_channels: usize,
        from: usize,
        to_channels: usize,
        to: usize,
        width: usize,
    },
    Shuffle {
        channels: usize,
        groups: usize,
    },
    Flatten(Shape),
    /// Its values move on as they are.
    Identity,
}

/// A convolution or linear layer.
#[derive(Debug)]
pub(in crate::exec) struct Conv {
    /// Of the whole layer, or of one group.
    geometry: Geometry,
    kernel: Kernel,
}

#[derive(Debug)]
enum Kernel {
    Dense(PackedConv),
    Depthwise(PackedDepthwise),
    /// Groups of more than a channel, one after the other.
    Grouped(Vec<PackedConv>),
}

impl Layer {
    /// What computes a float node; a concatenation's inputs are each a [`Layer::Copy`] of their own, see
    /// [`Layer::cat`].
    pub(in crate::exec) fn new(graph: &Graph, id: NodeId) -> Result<Self, ExecError> {
        let node = graph.node(id);
        let from = node.inputs.first().map_or(node.shape, |i| graph.node(*i).shape);
        Ok(match &node.op {
            Op::Conv2d(conv) => Self::Conv(Conv::new(node, conv, from)?),
            Op::Linear(linear) => Self::Conv(Conv::linear(node, linear, from)?),
            Op::BatchNorm2d(norm) => Self::norm(norm),
            Op::Activation(a) => Self::Apply(function(*a)),
            Op::MaxPool2d(p) => Self::MaxPool(pool_geometry(p, 1, from, node.shape)),
            Op::AdaptiveAvgPool2d | Op::MeanHw => Self::Mean(from),
            Op::Add { relu } => Self::Add { relu: *relu },
            // Equal shapes are the broadcast over a single pixel of as many channels.
            Op::Mul if graph.node(node.inputs[1]).shape == from => Self::Mul { channels: from.len(), pixels: 1 },
            Op::Mul => Self::Mul { channels: from.c, pixels: from.pixels() },
            Op::Chunk { index, .. } => {
                let width = node.shape.c;
                Self::Copy { from_channels: from.c, from: index * width, to_channels: width, to: 0, width }
            }
            Op::ChannelShuffle { groups } => Self::Shuffle { channels: from.c, groups: *groups },
            Op::Flatten => Self::Flatten(from),
            Op::Input | Op::QuantStub | Op::DeQuantStub | Op::Cat | Op::Dropout { .. } | Op::StochasticDepth { .. } => {
                Self::Identity
            }
        })
    }

    /// What puts input `index` of a concatenation in its place.
    pub(in crate::exec) fn cat(graph: &Graph, node: &Node, index: usize) -> Self {
        let channels = |i: &NodeId| graph.node(*i).shape.c;
        let width = channels(&node.inputs[index]);
        let to = node.inputs[..index].iter().map(channels).sum();
        Self::Copy { from_channels: width, from: 0, to_channels: node.shape.c, to, width }
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias`, rounded as in PyTorch.
    fn norm(norm: &BatchNorm2d) -> Self {
        let of = |(w, v): (&f32, &f32)| (1.0 / (v + norm.eps).sqrt()) * w;
        let scale: Vec<f32> = norm.weight.data.iter().zip(norm.running_var.data.iter()).map(of).collect();
        let shift = norm.bias.data.iter().zip(norm.running_mean.data.iter()).zip(&scale);
        let shift = shift.map(|((b, m), s)| (-m).mul_add(*s, *b)).collect();
        Self::ScaleShift { scale, shift }
    }

    /// Computes it from its one or two inputs, of `batch` images each.
    pub(in crate::exec) fn run(&self, batch: usize, inputs: &[&[f32]], y: &mut [f32]) {
        let x = inputs[0];
        match self {
            Self::Conv(conv) => conv.run_then(batch, x, y, &|_, _| {}),
            Self::ScaleShift { scale, shift } => kernel::scale_shift(x, scale, shift, Function::Identity, y),
            Self::Apply(f) => kernel::apply(x, *f, y),
            Self::MaxPool(g) => kernel::max_pool(&Geometry { batch, ..*g }, x, y),
            Self::Mean(from) => kernel::mean_pixels(x, from.c, from.pixels(), y),
            Self::Add { relu } => kernel::add(x, inputs[1], *relu, y),
            Self::Mul { channels, pixels } => kernel::mul_channels(x, inputs[1], *channels, *pixels, y),
            Self::Copy { from_channels, from, to_channels, to, width } => {
                kernel::copy_channels((x, *from_channels, *from), (y, *to_channels, *to), *width);
            }
            Self::Shuffle { channels, groups } => kernel::shuffle(x, *channels, *groups, y),
            Self::Flatten(from) => kernel::to_nchw(x, from.c, from.pixels(), y),
            Self::Identity => y.copy_from_slice(x),
        }
    }
}

impl Conv {
    fn new(node: &Node, conv: &Conv2d, from: Shape) -> Result<Self, ExecError> {
        let weight = float_weight(node, conv.weight.float())?;
        let bias = conv.bias.as_ref().map(|b| &b.data[..]);
        let groups = if conv.is_depthwise() { 1 } else { conv.groups };
        let geometry = Geometry {
            batch: 1,
            input: [from.h, from.w],
            output: [node.shape.h, node.shape.w],
            channels: from.c / groups,
            out_channels: node.shape.c / groups,
            kernel: conv.kernel(),
            stride: conv.stride,
            padding: [conv.padding; 2],
        };
        // The order in which float calibration sums.
        let packed = |weight: &[f32], bias: Option<&[f32]>| {
            PackedConv::new(&geometry, SumOrder::conv(&geometry), weight, bias, conv.relu)
        };
        let kernel = if conv.is_depthwise() {
            // One group of all channels.
            let whole = Geometry { channels: from.c, out_channels: from.c, ..geometry };
            Kernel::Depthwise(PackedDepthwise::new(&whole, &weight.data, bias, conv.relu))
        } else if groups == 1 {
            Kernel::Dense(packed(&weight.data, bias))
        } else {
            let weights = weight.data.chunks_exact(weight.len() / groups).enumerate();
            let n = geometry.out_channels;
            Kernel::Grouped(weights.map(|(i, w)| packed(w, bias.map(|b| &b[i * n..(i + 1) * n]))).collect())
        };
        Ok(Self { geometry, kernel })
    }

    fn linear(node: &Node, linear: &Linear, from: Shape) -> Result<Self, ExecError> {
        let weight = float_weight(node, linear.weight.float())?;
        let geometry = linear_geometry(1, from, node.shape);
        let bias = linear.bias.as_ref().map(|b| &b.data[..]);
        let packed = PackedConv::new(&geometry, SumOrder::linear(), &weight.data, bias, linear.relu);
        Ok(Self { geometry, kernel: Kernel::Dense(packed) })
    }

    /// Each part of the output goes through `then` while it is in the cache: its first value's position, and its values,
    /// which are whole pixels.
    pub(in crate::exec) fn run_then(
        &self,
        batch: usize,
        x: &[f32],
        y: &mut [f32],
        then: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        match &self.kernel {
            Kernel::Dense(packed) => packed.run_then(batch, x, y, then),
            Kernel::Depthwise(packed) => packed.run_then(batch, x, y, then),
            Kernel::Grouped(groups) => {
                self.run_groups(groups, batch, x, y);
                then(0, y);
            }
        }
    }

    /// Group after group, each copied together. No model of the zoo has such a layer: this is for graphs from elsewhere,
    /// and not tuned.
    fn run_groups(&self, groups: &[PackedConv], batch: usize, x: &[f32], y: &mut [f32]) {
        let (c, n) = (self.geometry.channels, self.geometry.out_channels);
        let (from, to) = (x.len() / groups.len(), y.len() / groups.len());
        f32::with_scratch(from + to, |scratch| {
            let (part, out) = scratch.split_at_mut(from);
            for (i, group) in groups.iter().enumerate() {
                kernel::copy_channels((x, groups.len() * c, i * c), (part, c, 0), c);
                group.run(batch, part, out);
                kernel::copy_channels((out, n, 0), (y, groups.len() * n, i * n), n);
            }
        });
    }
}

fn float_weight<'a>(node: &Node, weight: Option<&'a Tensor>) -> Result<&'a Tensor, ExecError> {
    weight.ok_or_else(|| {
        let detail = "its output is float and its weight is int8: convert the graph again".to_owned();
        ExecError::Unsupported { node: node.name.clone(), op: node.op.name(), detail }
    })
}
