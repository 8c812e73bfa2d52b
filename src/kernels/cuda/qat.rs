//! Training with fake quantization: what `exec::float`'s `learned` and `conv_bn` do on the device.

use super::{
    program::{
        Arg, Buffer,
        Buffer::{Input, Output},
        Place, Program,
    },
    reduce::{finish_sums, moments_into, rows_per_part},
};

/// [`float::to_grid`](crate::kernels::float::to_grid) of `x` by levels.
pub fn to_grid(len: usize) -> Program {
    Program::of("to_grid", len, [Input(0).into(), Input(1).into(), Output.into()])
}

/// [`float::to_grid_grad`](crate::kernels::float::to_grid_grad) of `x`, `dy` and levels.
pub fn to_grid_grad(len: usize, relu: bool) -> Program {
    Program::of("to_grid_grad", len, [Input(0).into(), Input(1).into(), Input(2).into(), Output.into(), relu.into()])
}

/// [`float::step_grad`](crate::kernels::float::step_grad) of `x`, `dy` and levels, over `sqrt(count * most)`.
pub fn step_grad(len: usize, count: f32) -> Program {
    let mut program = Program::default();
    let per = rows_per_part(len, 1);
    let parts = len.div_ceil(per);
    let (sums, sum) = (program.temporary(parts), program.temporary(1));
    program.launch(
        "step_grad_rows",
        parts,
        [Input(0).into(), Input(1).into(), Input(2).into(), sums.into(), len.into(), per.into()],
    );
    finish_sums(&mut program, sums, [1, parts, 1], 1.0, sum);
    program.launch("step_grad_scale", 1, [sum.into(), Input(2).at(3).into(), Output.into(), count.into()]);
    program
}

/// Adds the stages that find the extremes of each column of `[rows, columns]`, perhaps times a factor a column, NaN passed
/// over, and put them at `to`, `[2, columns]`.
fn extremes_into(program: &mut Program, factors: Option<Buffer>, [rows, columns]: [usize; 2], to: Place) {
    let (mut from, mut rows, mut pairs) = (Input(0), rows, false);
    loop {
        let per = rows_per_part(rows, columns);
        let parts = rows.div_ceil(per).max(1);
        let out: Arg = if parts == 1 { to.into() } else { program.temporary(2 * parts * columns).into() };
        let with_factors = factors.is_some() && !pairs;
        program.launch(
            "extremes_rows",
            parts * columns,
            [
                from.into(),
                factors.unwrap_or(from).into(),
                out,
                with_factors.into(),
                pairs.into(),
                rows.into(),
                columns.into(),
                per.into(),
            ],
        );
        let Arg::At(Place { buffer, .. }) = out else { return };
        if parts == 1 {
            return;
        }
        (from, rows, pairs) = (buffer, parts, true);
    }
}

/// Adds the stages that find the extremes of `rows` pairs.
fn extremes_of_pairs(program: &mut Program, from: Buffer, rows: usize) {
    let (mut from, mut rows) = (from, rows);
    loop {
        let per = rows_per_part(rows, 1);
        let parts = rows.div_ceil(per);
        let out = if parts == 1 { Output } else { program.temporary(2 * parts) };
        program.launch(
            "extremes_rows",
            parts,
            [from.into(), from.into(), out.into(), false.into(), true.into(), rows.into(), 1_usize.into(), per.into()],
        );
        if parts == 1 {
            return;
        }
        (from, rows) = (out, parts);
    }
}

/// [`float::extremes`](crate::kernels::float::extremes) of `len` values, `[2]`.
pub fn extremes(len: usize) -> Program {
    let mut program = Program::default();
    extremes_into(&mut program, None, [len, 1], Output.at(0));
    program
}

/// [`float::moments_and_extremes`](crate::kernels::float::moments_and_extremes), `[4, channels]`.
pub fn moments_and_extremes(rows: usize, channels: usize) -> Program {
    let mut program = Program::default();
    moments_into(&mut program, rows, channels);
    extremes_into(&mut program, None, [rows, channels], Output.at(2 * channels));
    program
}

/// [`float::weight_extremes`](crate::kernels::float::weight_extremes) of a weight and its factors, `[2, groups]`: one group,
/// or one a channel.
pub fn weight_extremes(len: usize, channels: usize, groups: usize) -> Program {
    let mut program = Program::default();
    let sizes = [len / channels, channels];
    if groups == channels {
        extremes_into(&mut program, Some(Input(1)), sizes, Output.at(0));
        return program;
    }
    let (each, pairs) = (program.temporary(2 * channels), program.temporary(2 * channels));
    extremes_into(&mut program, Some(Input(1)), sizes, each.at(0));
    program.launch("pair_up", channels, [each.into(), pairs.into()]);
    extremes_of_pairs(&mut program, pairs, channels);
    program
}

/// The extremes of a convolution's output after batch norm, from its statistics and coefficients, `[2]`.
pub fn output_extremes(channels: usize, relu: bool) -> Program {
    let mut program = Program::default();
    let pairs = program.temporary(2 * channels);
    program.launch("output_extremes", channels, [Input(0).into(), Input(1).into(), pairs.into(), relu.into()]);
    extremes_of_pairs(&mut program, pairs, channels);
    program
}

/// Moves a range, `[2, groups]`, towards what was seen, in place; without `averages` only the first time.
pub fn observe(groups: usize, averages: bool, averaging: f32) -> Program {
    Program::of("observe", groups, [Output.into(), Input(0).into(), averages.into(), averaging.into()])
}

/// An output's levels, `[4]`, from its range and perhaps its learnt step size.
pub fn activation_levels(step: bool, affine: bool, quant_max: u8) -> Program {
    let operand = if step { Input(1) } else { Input(0) };
    Program::of(
        "activation_levels",
        1,
        [Input(0).into(), operand.into(), Output.into(), step.into(), affine.into(), usize::from(quant_max).into()],
    )
}

/// Changes `len` values to those of the operand from `first` on.
pub fn copy(len: usize, first: usize) -> Program {
    Program::of("copy", len, [Output.into(), Input(0).at(first).into()])
}

/// Every row times the factors.
pub fn scale_columns(len: usize, columns: usize) -> Program {
    Program::of("scale_columns", len, [Input(0).into(), Input(1).into(), Output.into(), columns.into()])
}

/// Which levels a weight has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightKind {
    /// Around zero.
    Symmetric,
    /// With a zero point.
    Affine,
    /// Around zero where there are both signs, else with a zero point.
    BySign,
}

/// A weight's levels, `[3 * channels + 2]`, from its range, factors and perhaps its learnt step sizes.
pub fn weight_levels(channels: usize, groups: usize, step: bool, kind: WeightKind, half: f32) -> Program {
    let operand = if step { Input(2) } else { Input(1) };
    let kind: usize = match kind {
        WeightKind::Symmetric => 0,
        WeightKind::Affine => 1,
        WeightKind::BySign => 2,
    };
    Program::of(
        "weight_levels",
        channels,
        [
            Input(0).into(),
            Input(1).into(),
            operand.into(),
            Output.into(),
            step.into(),
            groups.into(),
            kind.into(),
            half.into(),
        ],
    )
}

/// [`float::weight_to_grid`](crate::kernels::float::weight_to_grid) of a weight by its levels.
pub fn weight_to_grid(len: usize, channels: usize) -> Program {
    Program::of("weight_to_grid", len, [Input(0).into(), Input(1).into(), Output.into(), channels.into()])
}

/// [`float::weight_to_grid_grad`](crate::kernels::float::weight_to_grid_grad) of `dq`, the weight and its levels: `dw`, then
/// each channel's gradient by its factor. Without `graded` the third operand is the factors, and nothing was rounded.
pub fn weight_to_grid_grad(len: usize, channels: usize, graded: bool) -> Program {
    let mut program = Program::default();
    if graded {
        program.launch(
            "weight_to_grid_grad",
            len,
            [Input(0).into(), Input(1).into(), Input(2).into(), Output.into(), channels.into()],
        );
    } else {
        program.launch("scale_columns", len, [Input(0).into(), Input(2).into(), Output.into(), channels.into()]);
    }
    let rows = len / channels;
    let per = rows_per_part(rows, channels);
    let parts = rows.div_ceil(per);
    let sums = program.temporary(parts * channels);
    program.launch(
        "weight_factor_rows",
        parts * channels,
        [
            Input(0).into(),
            Input(1).into(),
            Input(2).into(),
            sums.into(),
            graded.into(),
            rows.into(),
            channels.into(),
            per.into(),
        ],
    );
    finish_sums(&mut program, sums, [1, parts, channels], 1.0, Output.at(len));
    program
}

/// [`float::weight_step_grad`](crate::kernels::float::weight_step_grad) of `dq`, the weight and its levels, summed over the
/// channels of each group, over `sqrt(count * most)`.
pub fn weight_step_grad(len: usize, channels: usize, groups: usize, count: f32) -> Program {
    let mut program = Program::default();
    let rows = len / channels;
    let per = rows_per_part(rows, channels);
    let parts = rows.div_ceil(per);
    let (sums, each, grouped) =
        (program.temporary(parts * channels), program.temporary(channels), program.temporary(groups));
    program.launch(
        "weight_step_rows",
        parts * channels,
        [Input(0).into(), Input(1).into(), Input(2).into(), sums.into(), rows.into(), channels.into(), per.into()],
    );
    finish_sums(&mut program, sums, [1, parts, channels], 1.0, each);
    finish_sums(&mut program, each, [groups, channels / groups, 1], 1.0, grouped);
    let most = Input(2).at(3 * channels + 1);
    program.launch("step_grad_scale", groups, [grouped.into(), most.into(), Output.into(), count.into()]);
    program
}

/// By what the weight of a convolution with batch norm is multiplied, from gamma and the running variance.
pub fn norm_factors(channels: usize, eps: f32, scaled: bool) -> Program {
    Program::of("norm_factors", channels, [Input(0).into(), Input(1).into(), Output.into(), eps.into(), scaled.into()])
}

/// The seven rows of coefficients, from statistics, the layer's own parameters and the factors.
pub fn conv_bn_coefficients(channels: usize, eps: f32, of_batch: bool, scaled: bool) -> Program {
    Program::of(
        "conv_bn_coefficients",
        channels,
        [Input(0).into(), Input(1).into(), Input(2).into(), Output.into(), eps.into(), of_batch.into(), scaled.into()],
    )
}

/// What moves the running statistics, `[2, channels]`, from statistics, bias and factors.
pub fn output_moments(channels: usize) -> Program {
    Program::of("output_moments", channels, [Input(0).into(), Input(1).into(), Input(2).into(), Output.into()])
}

/// [`float::NormToGrid::run`](crate::kernels::float::NormToGrid::run) of `z` by the coefficients with levels.
pub fn norm_to_grid(len: usize, channels: usize, relu: bool) -> Program {
    Program::of("norm_to_grid", len, [Input(0).into(), Input(1).into(), Output.into(), relu.into(), channels.into()])
}

/// The sums of batch norm's gradient over `rows` rows, `[2, channels]`: `z`, `dy` and the coefficients with levels, which
/// count where `graded`.
pub fn conv_bn_grad_sums(rows: usize, channels: usize, relu: bool, graded: bool) -> Program {
    let mut program = Program::default();
    let per = rows_per_part(rows, channels);
    let parts = rows.div_ceil(per);
    let sums = program.temporary(parts * 2 * channels);
    program.launch(
        "conv_bn_grad_rows",
        parts * channels,
        [
            Input(0).into(),
            Input(1).into(),
            Input(2).into(),
            sums.into(),
            relu.into(),
            graded.into(),
            rows.into(),
            channels.into(),
            per.into(),
        ],
    );
    finish_sums(&mut program, sums, [1, parts, 2 * channels], 1.0, Output);
    program
}

/// `[a, b]` of `dz = scale * g - a - b * z`, from the sums and the coefficients.
pub fn conv_bn_constants(channels: usize, count: f32, of_batch: bool) -> Program {
    Program::of(
        "conv_bn_constants",
        channels,
        [Input(0).into(), Input(1).into(), Output.into(), count.into(), of_batch.into()],
    )
}

/// `dz` of `len` values: `z`, `dy`, and the constants with the coefficients and levels behind them.
pub fn conv_bn_input_grad(len: usize, channels: usize, relu: bool, graded: bool) -> Program {
    Program::of(
        "conv_bn_input_grad",
        len,
        [Input(0).into(), Input(1).into(), Input(2).into(), Output.into(), relu.into(), graded.into(), channels.into()],
    )
}

/// Gamma's gradient from the sums, the coefficients and the gradient by the factors.
pub fn conv_bn_gamma_grad(channels: usize, of_batch: bool) -> Program {
    Program::of(
        "conv_bn_gamma_grad",
        channels,
        [Input(0).into(), Input(1).into(), Input(2).into(), Output.into(), of_batch.into()],
    )
}

/// The bias' gradient from the sums and the coefficients.
pub fn conv_bn_bias_grad(channels: usize, of_batch: bool) -> Program {
    Program::of("conv_bn_bias_grad", channels, [Input(0).into(), Input(1).into(), Output.into(), of_batch.into()])
}
