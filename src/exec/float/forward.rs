use candle_core::{Result as Candle, Tensor};

use super::{
    ops::{map1, map2, map3},
    parameters::Parameters,
};
use crate::{
    exec::ExecError,
    graph::{self, Conv2d, Graph, MaxPool2d, Node, NodeId, Op, Shape},
    kernels::{
        cuda,
        float::{self as kernel, Function, Geometry},
    },
};

/// A node's output in evaluation, from its inputs.
pub(super) fn evaluate(
    graph: &Graph,
    id: NodeId,
    inputs: &[&Tensor],
    params: &Parameters,
) -> Result<Tensor, ExecError> {
    let node = graph.node(id);
    let batch = inputs[0].dim(0)?;
    let from = graph.node(node.inputs[0]).shape;
    let dims = dims(batch, node.shape);
    let (rows, len, all) = (batch * node.shape.pixels(), batch * node.shape.len(), batch * from.len());
    Ok(match &node.op {
        Op::Input | Op::QuantStub | Op::DeQuantStub | Op::Dropout { .. } | Op::StochasticDepth { .. } => {
            inputs[0].clone()
        }
        Op::Conv2d(c) => {
            let g = conv_geometry(c, node, from, batch)?;
            convolve(&g, c.is_depthwise(), c.relu, inputs[0], id, params)?
        }
        Op::Linear(l) => convolve(&linear_geometry(batch, from, node.shape), false, l.relu, inputs[0], id, params)?,
        Op::BatchNorm2d(b) => {
            let scale_shift = evaluation_norm(id, b.eps, params)?;
            scale_and_shift(inputs[0], &scale_shift, Function::Identity)?
        }
        Op::Activation(a) => {
            let f = function(*a);
            map1("activation", inputs[0], dims, |x, y| kernel::apply(x, f, y), || cuda::apply(len, f))?
        }
        Op::MaxPool2d(p) => {
            let g = pool_geometry(p, batch, from, node.shape);
            map1("max pool", inputs[0], dims, |x, y| kernel::max_pool(&g, x, y), || cuda::max_pool(&g))?
        }
        Op::AdaptiveAvgPool2d | Op::MeanHw => {
            let (c, pixels) = (from.c, from.pixels());
            let program = || cuda::mean_pixels(batch, c, pixels);
            map1("mean", inputs[0], dims, |x, y| kernel::mean_pixels(x, c, pixels, y), program)?
        }
        Op::Add { relu } => {
            let program = || cuda::add(len, *relu);
            map2("add", [inputs[0], inputs[1]], dims, |a, b, y| kernel::add(a, b, *relu, y), program)?
        }
        Op::Mul => {
            // Equal shapes are the broadcast over a single pixel of as many channels.
            let broadcast = graph.node(node.inputs[1]).shape != from;
            let (c, pixels) = if broadcast { (from.c, from.pixels()) } else { (from.len(), 1) };
            let program = || cuda::mul_channels(len, c, pixels);
            map2("mul", [inputs[0], inputs[1]], dims, |x, f, y| kernel::mul_channels(x, f, c, pixels, y), program)?
        }
        Op::Cat => concatenate(graph, node, inputs, dims)?,
        Op::Chunk { index, .. } => {
            let (c, first) = (node.shape.c, index * node.shape.c);
            let program = || cuda::chunk(rows, (from.c, first), c);
            map1("chunk", inputs[0], dims, |x, y| kernel::copy_channels((x, from.c, first), (y, c, 0), c), program)?
        }
        Op::ChannelShuffle { groups } => {
            let program = || cuda::shuffle(len, from.c, *groups);
            map1("channel shuffle", inputs[0], dims, |x, y| kernel::shuffle(x, from.c, *groups, y), program)?
        }
        Op::Flatten if from.pixels() == 1 => inputs[0].clone(),
        Op::Flatten => {
            let (c, pixels) = (from.c, from.pixels());
            let program = || cuda::to_nchw(all, c, pixels);
            map1("flatten", inputs[0], dims, |x, y| kernel::to_nchw(x, c, pixels, y), program)?
        }
    })
}

/// Shape of a node's tensor.
pub(super) fn dims(batch: usize, shape: Shape) -> (usize, usize, usize, usize) {
    (batch, shape.h, shape.w, shape.c)
}

/// A dense or depthwise convolution with what bias the node has.
fn convolve(g: &Geometry, depthwise: bool, relu: bool, x: &Tensor, id: NodeId, params: &Parameters) -> Candle<Tensor> {
    convolve_with(g, depthwise, relu, x, params.get(id, "weight"), params.find(id, "bias"))
}

/// The same with this weight and bias.
pub(super) fn convolve_with(
    g: &Geometry,
    depthwise: bool,
    relu: bool,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Candle<Tensor> {
    let run = |x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]| {
        if depthwise { kernel::depthwise(g, x, w, bias, relu, y) } else { kernel::conv(g, x, w, bias, relu, y) }
    };
    let program = |bias| if depthwise { cuda::depthwise(g, bias, relu) } else { cuda::conv(g, bias, relu) };
    let shape = (g.batch, g.output[0], g.output[1], g.out_channels);
    match bias {
        Some(bias) => {
            map3("convolution", [x, weight, bias], shape, |x, w, b, y| run(x, w, Some(b), y), || program(true))
        }
        None => map2("convolution", [x, weight], shape, |x, w, y| run(x, w, None, y), || program(false)),
    }
}

/// Sizes of a convolution; grouped ones other than depthwise are refused.
pub(super) fn conv_geometry(c: &Conv2d, node: &Node, from: Shape, batch: usize) -> Result<Geometry, ExecError> {
    if c.groups != 1 && !c.is_depthwise() {
        return Err(ExecError::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            detail: format!("found {} groups, expected 1 or as many as channels", c.groups),
        });
    }
    Ok(Geometry {
        batch,
        input: [from.h, from.w],
        output: [node.shape.h, node.shape.w],
        channels: from.c,
        out_channels: node.shape.c,
        kernel: c.kernel(),
        stride: c.stride,
        padding: [c.padding; 2],
    })
}

/// A linear layer as a convolution over one pixel.
pub(in crate::exec) fn linear_geometry(batch: usize, from: Shape, to: Shape) -> Geometry {
    Geometry {
        batch,
        input: [1, 1],
        output: [1, 1],
        channels: from.c,
        out_channels: to.c,
        kernel: [1, 1],
        stride: 1,
        padding: [0, 0],
    }
}

/// Sizes of a pooling window.
pub(in crate::exec) fn pool_geometry(p: &MaxPool2d, batch: usize, from: Shape, to: Shape) -> Geometry {
    Geometry {
        batch,
        input: [from.h, from.w],
        output: [to.h, to.w],
        channels: from.c,
        out_channels: from.c,
        kernel: [p.kernel; 2],
        stride: p.stride,
        padding: [p.padding; 2],
    }
}

/// The kernels' name for an activation.
pub(in crate::exec) fn function(activation: graph::Activation) -> Function {
    match activation {
        graph::Activation::Relu => Function::Relu,
        graph::Activation::Relu6 => Function::Relu6,
        graph::Activation::Hardswish => Function::Hardswish,
        graph::Activation::Hardsigmoid => Function::Hardsigmoid,
        graph::Activation::Sigmoid => Function::Sigmoid,
        graph::Activation::Silu => Function::Silu,
    }
}

/// `f(x * scale + shift)`; the first two rows of `coefficients` are scale and shift.
pub(super) fn scale_and_shift(x: &Tensor, coefficients: &Tensor, f: Function) -> Candle<Tensor> {
    let c = coefficients.dim(1)?;
    let run = |x: &[f32], k: &[f32], y: &mut [f32]| kernel::scale_shift(x, &k[..c], &k[c..2 * c], f, y);
    map2("batch norm", [x, coefficients], x.shape(), run, || cuda::scale_shift(x.elem_count(), c, f))
}

/// Batch norm by its running statistics, as `[scale, shift]`, rounded as in PyTorch.
fn evaluation_norm(id: NodeId, eps: f32, params: &Parameters) -> Candle<Tensor> {
    let c = params.get(id, "weight").elem_count();
    let scale = map2(
        "batch norm",
        [params.get(id, "weight"), params.get(id, "running_var")],
        c,
        |w, var, scale| scale.iter_mut().zip(w).zip(var).for_each(|((s, w), v)| *s = (1.0 / (v + eps).sqrt()) * w),
        || cuda::evaluation_scale(c, eps),
    )?;
    let shift = map3(
        "batch norm",
        [params.get(id, "bias"), params.get(id, "running_mean"), &scale],
        c,
        |bias, mean, scale, shift| {
            for (((s, b), m), k) in shift.iter_mut().zip(bias).zip(mean).zip(scale) {
                *s = (-m).mul_add(*k, *b);
            }
        },
        || cuda::evaluation_shift(c),
    )?;
    Tensor::stack(&[scale, shift], 0)
}

fn concatenate(graph: &Graph, node: &Node, inputs: &[&Tensor], dims: (usize, usize, usize, usize)) -> Candle<Tensor> {
    let all = node.shape.c;
    let widths: Vec<usize> = node.inputs.iter().map(|i| graph.node(*i).shape.c).collect();
    if let ([a, b], [first, second]) = (inputs, widths.as_slice()) {
        let run = |a: &[f32], b: &[f32], y: &mut [f32]| {
            kernel::copy_channels((a, *first, 0), (y, all, 0), *first);
            kernel::copy_channels((b, *second, 0), (y, all, *first), *second);
        };
        return map2("cat", [a, b], dims, run, || cuda::concatenate(dims.0 * dims.1 * dims.2, &widths));
    }
    Tensor::cat(inputs, 3)
}
