use super::{
    program::{
        Buffer::{Input, Output},
        Program,
    },
    reduce::{finish_sums, rows_per_part},
};
use crate::kernels::float::Function;

/// [`float::scale_shift`](crate::kernels::float::scale_shift) of `len` values by the first two rows of `[.., channels]`.
pub fn scale_shift(len: usize, channels: usize, function: Function) -> Program {
    Program::of("scale_shift", len, [Input(0).into(), Input(1).into(), Output.into(), function.into(), channels.into()])
}

/// `[scale, shift, mean, 1 / deviation]` from `[mean, variance]`, weight and bias.
pub fn norm_coefficients(channels: usize, eps: f32) -> Program {
    Program::of(
        "norm_coefficients",
        channels,
        [Input(0).into(), Input(1).into(), Input(2).into(), Output.into(), eps.into()],
    )
}

/// `running = (1 - momentum) * running + momentum * factor * fresh`, in place; `fresh` is row `row` of the operand.
pub fn move_running(channels: usize, row: usize, momentum: f32, factor: f32) -> Program {
    Program::of(
        "move_running",
        channels,
        [Output.into(), Input(0).at(row * channels).into(), momentum.into(), factor.into()],
    )
}

/// `weight / sqrt(variance + eps)`.
pub fn evaluation_scale(channels: usize, eps: f32) -> Program {
    Program::of("evaluation_scale", channels, [Input(0).into(), Input(1).into(), Output.into(), eps.into()])
}

/// `bias - mean * scale`.
pub fn evaluation_shift(channels: usize) -> Program {
    Program::of("evaluation_shift", channels, [Input(0).into(), Input(1).into(), Input(2).into(), Output.into()])
}

/// [`float::norm_grad_sums`](crate::kernels::float::norm_grad_sums) of `rows` rows: `x`, `dy` and the coefficients.
pub fn norm_grad_sums(rows: usize, channels: usize, function: Function) -> Program {
    let mut program = Program::default();
    let per = rows_per_part(rows, channels);
    let parts = rows.div_ceil(per);
    let to = if parts == 1 { Output } else { program.temporary(parts * 2 * channels) };
    program.launch(
        "norm_grad_rows",
        parts * channels,
        [
            Input(0).into(),
            Input(1).into(),
            Input(2).into(),
            to.into(),
            function.into(),
            rows.into(),
            channels.into(),
            per.into(),
        ],
    );
    if parts > 1 {
        finish_sums(&mut program, to, [1, parts, 2 * channels], 1.0, Output);
    }
    program
}

/// The weight's gradient from the sums and the coefficients.
pub fn norm_weight_grad(channels: usize) -> Program {
    Program::of("norm_weight_grad", channels, [Input(0).into(), Input(1).into(), Output.into()])
}

/// The constants of [`norm_input_grad`] from the sums over `rows` rows and the coefficients, `[4, channels]`.
pub fn norm_constants(channels: usize, rows: f32) -> Program {
    Program::of("norm_constants", channels, [Input(0).into(), Input(1).into(), Output.into(), rows.into()])
}

/// [`float::norm_input_grad`](crate::kernels::float::norm_input_grad) of `len` values: `x`, `dy` and the constants.
pub fn norm_input_grad(len: usize, channels: usize, function: Function) -> Program {
    Program::of(
        "norm_input_grad",
        len,
        [Input(0).into(), Input(1).into(), Input(2).into(), Output.into(), function.into(), channels.into()],
    )
}
