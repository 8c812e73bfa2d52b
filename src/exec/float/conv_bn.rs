use candle_core::{DType, Tensor};

use super::{
    backward::{Gradients, bias_grad, input_grad, weight_grad},
    forward::{conv_geometry, convolve_with, linear_geometry, scale_and_shift},
    learned::{LEVELS, WEIGHT_STEP},
    ops::{map1, map2, map3},
    trainable::{FakeWeight, Pass, Trainable},
    walk::live,
};
use crate::{
    exec::ExecError,
    graph::{BatchNorm2d, Conv2d, NodeId, Op, StepSize},
    kernels::{
        cuda::qat as gpu,
        float::{
            self as kernel, Function, Geometry,
            conv_bn::{self as site, Statistics},
            moments_and_extremes,
        },
    },
};

/// What the forward pass of a convolution with batch norm leaves for the backward one.
#[derive(Debug)]
pub(super) struct ConvBn {
    /// The convolution's output, before it is divided by the factors.
    z: Tensor,
    /// Numbers per channel ([`site::coefficients`]), then the levels of the output.
    coefficients: Tensor,
    /// By what the weight was multiplied, `[channels]`.
    factors: Tensor,
    weight: FakeWeight,
    /// Whether the output was moved to levels in one pass with batch norm.
    on_grid: bool,
    statistics: Statistics,
}

fn function(relu: bool) -> Function {
    if relu { Function::Relu } else { Function::Identity }
}

impl Trainable {
    /// Convolution, batch norm and perhaps ReLU as PyTorch's `ConvBn2d` and `ConvBnReLU2d` train them, with what fake
    /// quantization they have, on the weight scaled by batch norm's running factor and on the output:
    ///
    /// ```text
    /// f = gamma / sqrt(running_var + eps)        before this batch moves running_var
    /// z = conv(x, fake_quantize(w * f))
    /// out = fake_quantize(relu(batch_norm(z / f + bias)))
    /// ```
    ///
    /// Dividing by `f` and batch norm are one scale and one shift a channel, so that the output is written once.
    pub(super) fn conv_bn_forward(
        &self,
        id: NodeId,
        conv: &Conv2d,
        bn: &BatchNorm2d,
        pass: &mut Pass,
    ) -> Result<Tensor, ExecError> {
        let node = self.graph.node(id);
        let g = conv_geometry(conv, node, self.graph.node(node.inputs[0]).shape, pass.batch)?;
        let (c, phase) = (node.shape.c, self.learned.phase);
        let (eps, scaled) = (bn.eps, conv.fake.is_some());
        let of = |part| self.params.get(id, part);
        let run = |gamma: &[f32], var: &[f32], f: &mut [f32]| site::factors(gamma, var, eps, scaled, f);
        let operands = [of("bn.weight"), of("bn.running_var")];
        let factors = map2("batch norm factor", operands, c, run, || gpu::norm_factors(c, eps, scaled))?;
        let weight = self.fake_quantize_weight(id, &factors)?;
        let x = live(&pass.values, node.inputs[0]);
        let z = convolve_with(&g, conv.is_depthwise(), false, x, &weight.tensor, None)?;

        let statistics_of = if phase.batch_statistics { Statistics::Batch } else { Statistics::Running };
        let statistics = if phase.batch_statistics || phase.observe {
            let program = || gpu::moments_and_extremes(z.elem_count() / c, c);
            map1("batch statistics", &z, 4 * c, |z, out| moments_and_extremes(z, c, out), program)?
        } else {
            Tensor::zeros(4 * c, DType::F32, z.device())?
        };
        let bias = match self.params.find(id, "bias") {
            Some(bias) => bias.clone(),
            None => Tensor::zeros(c, DType::F32, z.device())?,
        };
        let running = [of("bn.running_mean"), of("bn.running_var")];
        let own = Tensor::cat(&[of("bn.weight"), of("bn.bias"), running[0], running[1], &bias], 0)?;
        let run = |s: &[f32], own: &[f32], f: &[f32], out: &mut [f32]| {
            site::coefficients([s, own, f], eps, statistics_of, scaled, out);
        };
        let program = || gpu::conv_bn_coefficients(c, eps, phase.batch_statistics, scaled);
        let affine = map3("batch norm", [&statistics, &own, &factors], site::ROWS * c, run, program)?;
        if phase.batch_statistics {
            let run = |s: &[f32], bias: &[f32], f: &[f32], out: &mut [f32]| site::output_moments([s, bias, f], out);
            let operands = [&statistics, &bias, &factors];
            let batch = map3("batch statistics", operands, 2 * c, run, || gpu::output_moments(c))?;
            self.move_running(running, &batch, bn.momentum, pass.batch * node.shape.pixels())?;
        }

        let fused = self.learned.step == StepSize::MovingAverage;
        let levels = if fused {
            self.output_levels(id, || {
                let run = |s: &[f32], k: &[f32], out: &mut [f32]| site::output_extremes(s, k, conv.relu, out);
                map2("extremes", [&statistics, &affine], 2, run, || gpu::output_extremes(c, conv.relu))
            })?
        } else {
            None
        };
        let on_grid = levels.is_some();
        let levels = match levels {
            Some(levels) => levels,
            None => Tensor::zeros(LEVELS, DType::F32, z.device())?,
        };
        let coefficients = Tensor::cat(&[&affine, &levels], 0)?;
        let y = if on_grid {
            let run = |z: &[f32], k: &[f32], y: &mut [f32]| site::norm_to_grid(k, conv.relu).run(z, y);
            let program = || gpu::norm_to_grid(z.elem_count(), c, conv.relu);
            map2("batch norm, fake quantize", [&z, &coefficients], z.shape(), run, program)?
        } else {
            scale_and_shift(&z, &affine.reshape((site::ROWS, c))?, function(conv.relu))?
        };
        pass.conv_bn[id.index()] =
            Some(ConvBn { z, coefficients, factors, weight, on_grid, statistics: statistics_of });
        if fused { Ok(y) } else { Ok(self.fake_quantize_output(id, y, pass)?) }
    }

    /// The gradients of [`Trainable::conv_bn_forward`]. Gamma has three paths: batch norm's own, the scaled weight's, and
    /// the division by the factor; the last two cancel but for rounding and clipping.
    pub(super) fn conv_bn_backward(
        &self,
        id: NodeId,
        conv: &Conv2d,
        pass: &Pass,
        dy: &Tensor,
        out: &mut Gradients,
    ) -> Result<(), ExecError> {
        let node = self.graph.node(id);
        let input = node.inputs[0];
        let x = live(&pass.values, input);
        let g = conv_geometry(conv, node, self.graph.node(input).shape, pass.batch)?;
        let left = pass.conv_bn[id.index()].as_ref().expect("the forward pass left it");
        let ConvBn { z, coefficients, factors, weight, on_grid, statistics } = left;
        let (c, relu, on_grid, statistics) = (node.shape.c, conv.relu, *on_grid, *statistics);
        let count = (pass.batch * node.shape.pixels()) as f32;

        let run = |z: &[f32], dy: &[f32], k: &[f32], sums: &mut [f32]| {
            if on_grid {
                site::norm_to_grid(k, relu).grad_sums(z, dy, site::mean(k), sums);
            } else {
                let [scale, shift] = site::scale_and_shift(k);
                kernel::norm_grad_sums(z, dy, [scale, shift, site::mean(k)], function(relu), sums);
            }
        };
        let program = || gpu::conv_bn_grad_sums(count as usize, c, relu, on_grid);
        let sums = map3("batch norm gradient", [z, dy, coefficients], 2 * c, run, program)?;
        let of_batch = statistics == Statistics::Batch;
        let run = |sums: &[f32], k: &[f32], out: &mut [f32]| site::input_constants(sums, k, statistics, count, out);
        let program = || gpu::conv_bn_constants(c, count, of_batch);
        let constants = map2("batch norm gradient", [&sums, coefficients], 2 * c, run, program)?;
        let all = Tensor::cat(&[&constants, coefficients], 0)?;
        let run = |z: &[f32], dy: &[f32], all: &[f32], dz: &mut [f32]| {
            let (constants, k) = all.split_at(2 * c);
            let (a, b) = constants.split_at(c);
            if on_grid {
                site::norm_to_grid(k, relu).input_grad(z, dy, [a, b], dz);
            } else {
                let [scale, shift] = site::scale_and_shift(k);
                kernel::norm_input_grad(z, dy, [scale, shift, a, b], function(relu), dz);
            }
        };
        let program = || gpu::conv_bn_input_grad(z.elem_count(), c, relu, on_grid);
        let dz = map3("batch norm gradient", [z, dy, &all], z.shape(), run, program)?;

        let dq = weight_grad(&g, conv.is_depthwise(), x, &dz, weight.tensor.shape())?;
        let (dw, by_factor) = self.fake_quantize_weight_grad(id, weight, factors, &dq)?;
        self.give_param(id, "weight", dw, out);
        if let Some(step) = self.weight_step_grad(id, weight, &dq)? {
            self.give_param(id, WEIGHT_STEP, step, out);
        }
        let run = |sums: &[f32], k: &[f32], by_factor: &[f32], out: &mut [f32]| {
            site::gamma_grad([sums, k, by_factor], statistics, out);
        };
        let operands = [&sums, coefficients, &by_factor];
        let gamma = map3("batch norm gradient", operands, c, run, || gpu::conv_bn_gamma_grad(c, of_batch))?;
        self.give_param(id, "bn.weight", gamma, out);
        self.give_param(id, "bn.bias", sums.narrow(0, 0, c)?, out);
        if self.params.find(id, "bias").is_some() {
            let run = |sums: &[f32], k: &[f32], out: &mut [f32]| site::bias_grad(sums, k, statistics, out);
            let program = || gpu::conv_bn_bias_grad(c, of_batch);
            let bias = map2("bias gradient", [&sums, coefficients], c, run, program)?;
            self.give_param(id, "bias", bias, out);
        }
        if self.wants(input, out) {
            out.give(input, input_grad(&g, conv.is_depthwise(), &dz, &weight.tensor, x.shape())?, false)?;
        }
        Ok(())
    }

    /// Whether a gradient for a node's output is of use.
    pub(super) fn wants(&self, id: NodeId, out: &Gradients) -> bool {
        self.trained[id.index()] || out.to_image
    }

    /// Sizes of a layer with a weight, whether it is depthwise, and whether a ReLU is fused.
    fn layer(&self, id: NodeId, batch: usize) -> Result<(Geometry, bool, bool), ExecError> {
        let node = self.graph.node(id);
        let from = self.graph.node(node.inputs[0]).shape;
        match &node.op {
            Op::Conv2d(conv) => Ok((conv_geometry(conv, node, from, batch)?, conv.is_depthwise(), conv.relu)),
            op => Ok((linear_geometry(batch, from, node.shape), false, matches!(op, Op::Linear(l) if l.relu))),
        }
    }

    /// A convolution without batch norm or a linear layer whose weight is fake-quantized.
    pub(super) fn fake_layer_forward(&self, id: NodeId, pass: &mut Pass) -> Result<Tensor, ExecError> {
        let (g, depthwise, relu) = self.layer(id, pass.batch)?;
        let x = live(&pass.values, self.graph.node(id).inputs[0]);
        let ones = Tensor::ones(g.out_channels, DType::F32, x.device())?;
        let weight = self.fake_quantize_weight(id, &ones)?;
        let y = convolve_with(&g, depthwise, relu, x, &weight.tensor, self.params.find(id, "bias"))?;
        pass.weights[id.index()] = Some(weight);
        Ok(y)
    }

    /// Its gradients; `dy` is that of what stands before its ReLU.
    pub(super) fn fake_layer_backward(
        &self,
        id: NodeId,
        pass: &Pass,
        dy: &Tensor,
        out: &mut Gradients,
    ) -> Result<(), ExecError> {
        let (g, depthwise, _) = self.layer(id, pass.batch)?;
        let input = self.graph.node(id).inputs[0];
        let x = live(&pass.values, input);
        let weight = pass.weights[id.index()].as_ref().expect("the forward pass left it");
        let dq = weight_grad(&g, depthwise, x, dy, weight.tensor.shape())?;
        let ones = Tensor::ones(g.out_channels, DType::F32, x.device())?;
        let (dw, _) = self.fake_quantize_weight_grad(id, weight, &ones, &dq)?;
        self.give_param(id, "weight", dw, out);
        if let Some(step) = self.weight_step_grad(id, weight, &dq)? {
            self.give_param(id, WEIGHT_STEP, step, out);
        }
        if self.params.find(id, "bias").is_some() {
            let db = bias_grad(dy, g.out_channels)?;
            self.give_param(id, "bias", db, out);
        }
        if self.wants(input, out) {
            out.give(input, input_grad(&g, depthwise, dy, &weight.tensor, x.shape())?, false)?;
        }
        Ok(())
    }
}
