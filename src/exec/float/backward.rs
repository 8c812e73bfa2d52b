use candle_core::{DType, Result as Candle, Shape, Tensor};

use super::{
    forward::{conv_geometry, dims, function, linear_geometry, pool_geometry},
    learned::OUTPUT_STEP,
    ops::{change, in_pool_of, map1, map2, map3},
    trainable::{Pass, Trainable},
    update::Loss,
    walk::live,
};
use crate::{
    exec::{Checkpoint, ExecError},
    graph::{Node, NodeId, Op},
    kernels::{
        cuda,
        float::{self as kernel, Function, Geometry},
    },
};

/// The gradient of one value, as far as its readers have been visited.
struct Gradient {
    tensor: Tensor,
    /// Whether another value's gradient is the same tensor, which then must not be added to.
    shared: bool,
}

/// Gradients of every value and parameter.
pub(super) struct Gradients {
    values: Vec<Option<Gradient>>,
    params: Vec<Option<Tensor>>,
    /// Whether they are wanted as far as the image.
    pub to_image: bool,
    image: Option<Tensor>,
}

impl Gradients {
    pub fn give(&mut self, id: NodeId, tensor: Tensor, shared: bool) -> Candle<()> {
        let slot = &mut self.values[id.index()];
        *slot = Some(match slot.take() {
            None => Gradient { tensor, shared },
            Some(sum) if !sum.shared => {
                let program = || cuda::accumulate(tensor.elem_count());
                change("gradient sum", &sum.tensor, &tensor, kernel::accumulate, program)?;
                sum
            }
            Some(sum) => {
                let shape = tensor.shape().clone();
                let program = || cuda::add(tensor.elem_count(), false);
                let run = |a: &[f32], b: &[f32], y: &mut [f32]| kernel::add(a, b, false, y);
                let both = map2("gradient sum", [&sum.tensor, &tensor], shape, run, program)?;
                Gradient { tensor: both, shared: false }
            }
        });
        Ok(())
    }
}

impl Trainable {
    /// Gradients of all parameters, from the loss' gradient by the logits, `[batch, classes]`; `None` for those that are
    /// not trained.
    ///
    /// # Errors
    /// [`ExecError::Candle`] where `logits_grad` has another length than the logits, or the device fails.
    pub fn backward(
        &self,
        pass: Pass,
        logits_grad: &[f32],
        checkpoint: Checkpoint<'_>,
    ) -> Result<Vec<Option<Tensor>>, ExecError> {
        let seed = self.upload_gradient(&pass, logits_grad)?;
        Ok(self.walk_back(pass, seed, false, checkpoint)?.params)
    }

    /// The same from a loss on the device.
    ///
    /// # Errors
    /// As [`Trainable::backward`].
    pub fn backward_from(
        &self,
        pass: Pass,
        loss: &Loss,
        checkpoint: Checkpoint<'_>,
    ) -> Result<Vec<Option<Tensor>>, ExecError> {
        let shape = dims(pass.batch, self.graph.node(self.graph.output()).shape);
        let seed = loss.gradient()?.reshape(shape)?;
        Ok(self.walk_back(pass, seed, false, checkpoint)?.params)
    }

    fn upload_gradient(&self, pass: &Pass, logits_grad: &[f32]) -> Candle<Tensor> {
        let last = self.graph.output();
        let shape = dims(pass.batch, self.graph.node(last).shape);
        Tensor::from_slice(logits_grad, shape, live(&pass.values, last).device())
    }

    /// The same, and the gradient by the images, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// As [`Trainable::backward`].
    pub fn backward_to_images(
        &self,
        pass: Pass,
        logits_grad: &[f32],
        checkpoint: Checkpoint<'_>,
    ) -> Result<(Vec<Option<Tensor>>, Vec<f32>), ExecError> {
        let seed = self.upload_gradient(&pass, logits_grad)?;
        let gradients = self.walk_back(pass, seed, true, checkpoint)?;
        let images = match gradients.image {
            Some(image) => image.permute((0, 3, 1, 2))?.flatten_all()?.to_vec1()?,
            None => Vec::new(),
        };
        Ok((gradients.params, images))
    }

    fn walk_back(
        &self,
        pass: Pass,
        seed: Tensor,
        to_image: bool,
        checkpoint: Checkpoint<'_>,
    ) -> Result<Gradients, ExecError> {
        let last = self.graph.output();
        in_pool_of(&self.device, || {
            let mut pass = pass;
            let mut gradients = Gradients {
                values: self.graph.nodes.iter().map(|_| None).collect(),
                params: vec![None; self.params.list.len()],
                to_image,
                image: None,
            };
            gradients.give(last, seed, false)?;
            for (id, node) in self.graph.iter().rev() {
                let Some(gradient) = gradients.values[id.index()].take() else { continue };
                if checkpoint().is_break() {
                    return Err(ExecError::Stopped);
                }
                if self.wants(id, &gradients) {
                    self.node_backward(id, node, gradient, &pass, &mut gradients)?;
                }
                // Every reader has been visited, and now its own operation.
                pass.values[id.index()] = None;
                pass.fake[id.index()] = None;
                pass.weights[id.index()] = None;
                pass.conv_bn[id.index()] = None;
            }
            Ok(gradients)
        })
    }

    fn node_backward(
        &self,
        id: NodeId,
        node: &Node,
        gradient: Gradient,
        pass: &Pass,
        out: &mut Gradients,
    ) -> Result<(), ExecError> {
        let Gradient { tensor: dy, shared } = gradient;
        let Some(&input) = node.inputs.first() else {
            out.image = Some(dy);
            return Ok(());
        };
        let (dy, shared, past_relu) = match &pass.fake[id.index()] {
            None => (dy, shared, false),
            Some(fake) => {
                let relu = ends_in_relu(&node.op);
                let (dy, step) = self.fake_quantize_output_grad(id, fake, &dy, relu, pass.batch)?;
                if let Some(step) = step {
                    self.give_param(id, OUTPUT_STEP, step, out);
                }
                (dy, false, relu)
            }
        };
        let from = self.graph.node(input).shape;
        let (batch, c) = (pass.batch, node.shape.c);
        let shape = dims(batch, from);
        let x = || live(&pass.values, input);
        let dx = match &node.op {
            Op::Input => return Ok(()),
            Op::QuantStub | Op::DeQuantStub => return Ok(out.give(input, dy, shared)?),
            Op::Conv2d(conv) => {
                if conv.bn.is_some() {
                    return self.conv_bn_backward(id, conv, pass, &dy, out);
                }
                let dy = if conv.relu && !past_relu { relu_grad(live(&pass.values, id), &dy)? } else { dy };
                if conv.fake.is_some() {
                    return self.fake_layer_backward(id, pass, &dy, out);
                }
                let g = conv_geometry(conv, node, from, batch)?;
                return Ok(self.conv_backward(id, input, &g, conv.is_depthwise(), x(), &dy, out)?);
            }
            Op::Linear(l) => {
                let dy = if l.relu && !past_relu { relu_grad(live(&pass.values, id), &dy)? } else { dy };
                if l.fake.is_some() {
                    return self.fake_layer_backward(id, pass, &dy, out);
                }
                let g = linear_geometry(batch, from, node.shape);
                return Ok(self.conv_backward(id, input, &g, false, x(), &dy, out)?);
            }
            Op::BatchNorm2d(_) => return Ok(self.norm_backward(id, Function::Identity, pass, &dy, out)?),
            Op::Activation(a) => match self.norm_of[id.index()] {
                Some(norm) => return Ok(self.norm_backward(norm, function(*a), pass, &dy, out)?),
                None => {
                    let f = function(*a);
                    let run = |x: &[f32], dy: &[f32], dx: &mut [f32]| kernel::apply_grad(x, dy, f, dx);
                    map2("activation gradient", [x(), &dy], shape, run, || cuda::apply_grad(dy.elem_count(), f))?
                }
            },
            Op::MaxPool2d(p) => {
                let g = pool_geometry(p, batch, from, node.shape);
                let y = live(&pass.values, id);
                let run = |x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]| kernel::max_pool_grad(&g, x, y, dy, dx);
                map3("max pool gradient", [x(), y, &dy], shape, run, || cuda::max_pool_grad(&g))?
            }
            Op::AdaptiveAvgPool2d | Op::MeanHw => {
                let (c, pixels) = (from.c, from.pixels());
                let program = || cuda::mean_pixels_grad(batch, c, pixels);
                map1("mean gradient", &dy, shape, |dy, dx| kernel::mean_pixels_grad(dy, c, pixels, dx), program)?
            }
            Op::Add { relu } => {
                let dy = if *relu && !past_relu { relu_grad(live(&pass.values, id), &dy)? } else { dy };
                out.give(node.inputs[0], dy.clone(), true)?;
                return Ok(out.give(node.inputs[1], dy, true)?);
            }
            Op::Mul => return Ok(self.mul_backward(node, pass, &dy, out)?),
            Op::Cat => return Ok(self.cat_backward(node, batch, &dy, out)?),
            Op::Chunk { index, .. } => {
                if out.values[input.index()].as_ref().is_none_or(|g| g.shared) {
                    out.give(input, Tensor::zeros(shape, DType::F32, dy.device())?, false)?;
                }
                if let Some(sum) = &out.values[input.index()] {
                    let run = |dx: &mut [f32], dy: &[f32]| kernel::add_channels(dy, c, (dx, from.c, index * c));
                    let program = || cuda::add_channels(batch * from.pixels(), c, (from.c, index * c));
                    change("chunk gradient", &sum.tensor, &dy, run, program)?;
                }
                return Ok(());
            }
            Op::ChannelShuffle { groups } => {
                let program = || cuda::unshuffle(dy.elem_count(), c, *groups);
                map1("channel shuffle gradient", &dy, shape, |dy, dx| kernel::unshuffle(dy, c, *groups, dx), program)?
            }
            Op::Flatten if from.pixels() == 1 => return Ok(out.give(input, dy, shared)?),
            Op::Flatten => {
                let (c, pixels) = (from.c, from.pixels());
                let program = || cuda::to_nhwc(dy.elem_count(), c, pixels);
                map1("flatten gradient", &dy, shape, |dy, dx| kernel::to_nhwc(dy, c, pixels, dx), program)?
            }
            Op::Dropout { .. } | Op::StochasticDepth { .. } => match &pass.factors[id.index()] {
                Some(factors) => {
                    let program = || cuda::scale_samples(dy.elem_count(), factors.elem_count());
                    map2("dropout gradient", [&dy, factors], shape, kernel::scale_samples, program)?
                }
                None => return Ok(out.give(input, dy, shared)?),
            },
        };
        Ok(out.give(input, dx, false)?)
    }

    #[expect(clippy::too_many_arguments, reason = "one operation's operands")]
    fn conv_backward(
        &self,
        id: NodeId,
        input: NodeId,
        g: &Geometry,
        depthwise: bool,
        x: &Tensor,
        dy: &Tensor,
        out: &mut Gradients,
    ) -> Candle<()> {
        let weight = self.params.get(id, "weight");
        let dw = weight_grad(g, depthwise, x, dy, weight.shape())?;
        self.give_param(id, "weight", dw, out);
        if self.params.find(id, "bias").is_some() {
            let db = bias_grad(dy, g.out_channels)?;
            self.give_param(id, "bias", db, out);
        }
        if !self.wants(input, out) {
            return Ok(());
        }
        out.give(input, input_grad(g, depthwise, dy, weight, x.shape())?, false)
    }

    pub(super) fn give_param(&self, id: NodeId, part: &'static str, gradient: Tensor, out: &mut Gradients) {
        let at = self.params.position(id, part).expect("only present parameters get gradients");
        out.params[at] = Some(gradient);
    }

    fn norm_backward(&self, norm: NodeId, f: Function, pass: &Pass, dy: &Tensor, out: &mut Gradients) -> Candle<()> {
        let node = self.graph.node(norm);
        let input = node.inputs[0];
        let x = live(&pass.values, input);
        let coefficients = pass.coefficients[norm.index()].as_ref().expect("the forward pass left them");
        let (c, rows) = (node.shape.c, (pass.batch * node.shape.pixels()) as f32);
        let run = |x: &[f32], dy: &[f32], k: &[f32], sums: &mut [f32]| {
            kernel::norm_grad_sums(x, dy, [&k[..c], &k[c..2 * c], &k[2 * c..3 * c]], f, sums);
        };
        let program = || cuda::norm_grad_sums(rows as usize, c, f);
        let sums = map3("batch norm gradient", [x, dy, coefficients], (2, c), run, program)?;
        let run = |sums: &[f32], k: &[f32], dw: &mut [f32]| {
            dw.iter_mut().zip(&sums[c..]).zip(&k[3 * c..]).for_each(|((w, dot), inverse)| *w = dot * inverse);
        };
        let dw = map2("batch norm gradient", [&sums, coefficients], c, run, || cuda::norm_weight_grad(c))?;
        self.give_param(norm, "weight", dw, out);
        self.give_param(norm, "bias", sums.get(0)?.contiguous()?, out);
        if !self.wants(input, out) {
            return Ok(());
        }
        // dx = scale * (g - mean(g) - (x - mean) * inverse^2 * mean(g * (x - mean))), constants gathered per channel.
        let run = |sums: &[f32], k: &[f32], out: &mut [f32]| {
            for i in 0..c {
                let (scale, mean, inverse) = (k[i], k[2 * c + i], k[3 * c + i]);
                let slope = scale * inverse * inverse * sums[c + i] / rows;
                out[i] = scale;
                out[c + i] = k[c + i];
                out[2 * c + i] = scale * sums[i] / rows - slope * mean;
                out[3 * c + i] = slope;
            }
        };
        let program = || cuda::norm_constants(c, rows);
        let constants = map2("batch norm gradient", [&sums, coefficients], (4, c), run, program)?;
        let run = |x: &[f32], dy: &[f32], k: &[f32], dx: &mut [f32]| {
            kernel::norm_input_grad(x, dy, [&k[..c], &k[c..2 * c], &k[2 * c..3 * c], &k[3 * c..]], f, dx);
        };
        let program = || cuda::norm_input_grad(x.elem_count(), c, f);
        let dx = map3("batch norm gradient", [x, dy, &constants], x.shape(), run, program)?;
        out.give(input, dx, false)
    }

    fn mul_backward(&self, node: &Node, pass: &Pass, dy: &Tensor, out: &mut Gradients) -> Candle<()> {
        let [first, second] = [node.inputs[0], node.inputs[1]];
        let (x, factor) = (live(&pass.values, first), live(&pass.values, second));
        let broadcast = self.graph.node(second).shape != node.shape;
        let (c, pixels) = if broadcast { (node.shape.c, node.shape.pixels()) } else { (node.shape.len(), 1) };
        let len = x.elem_count();
        let run = |dy: &[f32], f: &[f32], dx: &mut [f32]| kernel::mul_channels(dy, f, c, pixels, dx);
        let dx = map2("mul gradient", [dy, factor], x.shape(), run, || cuda::mul_channels(len, c, pixels))?;
        out.give(first, dx, false)?;
        let run = |x: &[f32], dy: &[f32], df: &mut [f32]| kernel::mul_channels_grad(x, dy, c, pixels, df);
        let df = map2("mul gradient", [x, dy], factor.shape(), run, || cuda::mul_channels_grad(len, c, pixels))?;
        out.give(second, df, false)
    }

    fn cat_backward(&self, node: &Node, batch: usize, dy: &Tensor, out: &mut Gradients) -> Candle<()> {
        let (all, mut first) = (node.shape.c, 0);
        for input in &node.inputs {
            let part = self.graph.node(*input).shape;
            let run = |dy: &[f32], dx: &mut [f32]| kernel::copy_channels((dy, all, first), (dx, part.c, 0), part.c);
            let program = || cuda::chunk(batch * part.pixels(), (all, first), part.c);
            let dx = map1("cat gradient", dy, dims(batch, part), run, program)?;
            out.give(*input, dx, false)?;
            first += part.c;
        }
        Ok(())
    }
}

/// The gradient by a dense or depthwise convolution's weight.
pub(super) fn weight_grad(g: &Geometry, depthwise: bool, x: &Tensor, dy: &Tensor, shape: &Shape) -> Candle<Tensor> {
    let run = |x: &[f32], dy: &[f32], dw: &mut [f32]| {
        if depthwise { kernel::depthwise_weight_grad(g, x, dy, dw) } else { kernel::conv_weight_grad(g, x, dy, dw) }
    };
    let program = || if depthwise { cuda::depthwise_weight_grad(g) } else { cuda::conv_weight_grad(g) };
    map2("weight gradient", [x, dy], shape, run, program)
}

/// The gradient by its input.
pub(super) fn input_grad(g: &Geometry, depthwise: bool, dy: &Tensor, weight: &Tensor, shape: &Shape) -> Candle<Tensor> {
    let run = |dy: &[f32], w: &[f32], dx: &mut [f32]| {
        if depthwise { kernel::depthwise_input_grad(g, dy, w, dx) } else { kernel::conv_input_grad(g, dy, w, dx) }
    };
    let program = || if depthwise { cuda::depthwise_input_grad(g) } else { cuda::conv_input_grad(g) };
    map2("input gradient", [dy, weight], shape, run, program)
}

/// The gradient by a bias: that of the output, summed over all pixels.
pub(super) fn bias_grad(dy: &Tensor, channels: usize) -> Candle<Tensor> {
    let program = || cuda::channel_sums(dy.elem_count() / channels, channels);
    map1("bias gradient", dy, channels, kernel::channel_sums, program)
}

/// Whether a ReLU is the last thing that an operation does, so that its gradient can be taken from the output.
fn ends_in_relu(op: &Op) -> bool {
    match op {
        Op::Conv2d(c) => c.relu && c.bn.is_none(),
        Op::Linear(l) => l.relu,
        Op::Add { relu } => *relu,
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::BatchNorm2d(_)
        | Op::Activation(_)
        | Op::MaxPool2d(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Mul
        | Op::Cat
        | Op::Chunk { .. }
        | Op::ChannelShuffle { .. }
        | Op::Flatten
        | Op::Dropout { .. }
        | Op::StochasticDepth { .. } => false,
    }
}

/// `dy` where the output is above 0.
fn relu_grad(y: &Tensor, dy: &Tensor) -> Candle<Tensor> {
    let program = || cuda::relu_grad_from_output(dy.elem_count());
    map2("relu gradient", [y, dy], dy.shape(), kernel::relu_grad_from_output, program)
}
