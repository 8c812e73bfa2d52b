use super::{
    program::{
        Arg,
        Buffer::{Input, Output},
        Program,
    },
    reduce::dot_rows,
};
use crate::kernels::float::Function;

impl From<Function> for Arg {
    /// The numbers in `pointwise.cu`.
    fn from(function: Function) -> Self {
        Self::Int(match function {
            Function::Identity => 0,
            Function::Relu => 1,
            Function::Relu6 => 2,
            Function::Hardswish => 3,
            Function::Hardsigmoid => 4,
            Function::Sigmoid => 5,
            Function::Silu => 6,
        })
    }
}

/// [`float::apply`](crate::kernels::float::apply) to `len` values.
pub fn apply(len: usize, function: Function) -> Program {
    Program::of("apply", len, [Input(0).into(), Output.into(), function.into()])
}

/// [`float::apply_grad`](crate::kernels::float::apply_grad) of `x` and `dy`.
pub fn apply_grad(len: usize, function: Function) -> Program {
    Program::of("apply_grad", len, [Input(0).into(), Input(1).into(), Output.into(), function.into()])
}

/// [`float::relu_grad_from_output`](crate::kernels::float::relu_grad_from_output) of `y` and `dy`.
pub fn relu_grad_from_output(len: usize) -> Program {
    apply_grad(len, Function::Relu)
}

/// [`float::add`](crate::kernels::float::add).
pub fn add(len: usize, relu: bool) -> Program {
    Program::of("add", len, [Input(0).into(), Input(1).into(), Output.into(), relu.into()])
}

/// [`float::accumulate`](crate::kernels::float::accumulate), in place.
pub fn accumulate(len: usize) -> Program {
    Program::of("accumulate", len, [Output.into(), Input(0).into()])
}

/// [`float::mul_channels`](crate::kernels::float::mul_channels) over `len` values.
pub fn mul_channels(len: usize, channels: usize, pixels: usize) -> Program {
    let image = channels * pixels;
    Program::of("mul_channels", len, [Input(0).into(), Input(1).into(), Output.into(), channels.into(), image.into()])
}

/// [`float::mul_channels_grad`](crate::kernels::float::mul_channels_grad) of `x` and `dy`, both of `len` values.
pub fn mul_channels_grad(len: usize, channels: usize, pixels: usize) -> Program {
    dot_rows([len / (channels * pixels), pixels, channels])
}

/// [`float::scale_samples`](crate::kernels::float::scale_samples) of `len` values by `factors` factors.
pub fn scale_samples(len: usize, factors: usize) -> Program {
    let stretch = len / factors.max(1);
    Program::of("scale_samples", len, [Input(0).into(), Input(1).into(), Output.into(), stretch.into()])
}
