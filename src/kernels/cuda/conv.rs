use super::{
    program::{
        Arg,
        Buffer::{Input, Output},
        Product, Program, Step,
    },
    reduce::{finish_sums, rows_per_part},
};
use crate::kernels::float::Geometry;

/// Values of patches at a time: a quarter of a gigabyte.
const PATCHES: usize = 64 << 20;

/// The numbers that kernels take as `GEOMETRY`.
pub(super) fn geometry(g: &Geometry) -> [Arg; 10] {
    [
        g.input[0],
        g.input[1],
        g.output[0],
        g.output[1],
        g.channels,
        g.kernel[0],
        g.kernel[1],
        g.stride,
        g.padding[0],
        g.padding[1],
    ]
    .map(Arg::from)
}

fn launch(program: &mut Program, kernel: &'static str, threads: usize, first: &[Arg], g: &Geometry, last: &[Arg]) {
    let args = [first, &geometry(g), last].concat();
    program.steps.push(Step::Launch { kernel, threads, args });
}

/// Images whose patches are made at a time.
fn images_at_a_time(g: &Geometry) -> usize {
    (PATCHES / (g.output[0] * g.output[1] * g.depth()).max(1)).clamp(1, g.batch.max(1))
}

/// [`float::conv`](crate::kernels::float::conv) of `x`, the weight and, where there is one, the bias.
pub fn conv(g: &Geometry, bias: bool, relu: bool) -> Program {
    let mut program = Program::default();
    let (pixels, depth, n) = (g.output[0] * g.output[1], g.depth(), g.out_channels);
    let product = |a, rows: usize, first: usize| {
        Step::Product(Product {
            sizes: [rows, depth, n],
            a,
            a_transposed: false,
            b: Input(1).at(0),
            b_transposed: false,
            c: Output.at(first * n),
            accumulate: false,
        })
    };
    if g.is_pointwise() {
        program.steps.push(product(Input(0).at(0), g.batch * pixels, 0));
    } else {
        let images = images_at_a_time(g);
        let patches = program.temporary(images * pixels * depth);
        for first in (0..g.batch).step_by(images) {
            let rows = images.min(g.batch - first) * pixels;
            let x = Input(0).at(first * g.image());
            launch(&mut program, "gather", rows * depth, &[x.into(), patches.into()], g, &[]);
            program.steps.push(product(patches.at(0), rows, first * pixels));
        }
    }
    let len = g.batch * pixels * n;
    if bias {
        program.launch("bias_relu", len, [Output.into(), Input(2).into(), relu.into(), n.into()]);
    } else if relu {
        program.launch("relu_in_place", len, [Output.into()]);
    }
    program
}

/// [`float::conv_input_grad`](crate::kernels::float::conv_input_grad) of `dy` and the weight.
pub fn conv_input_grad(g: &Geometry) -> Program {
    let mut program = Program::default();
    let (pixels, depth, n) = (g.output[0] * g.output[1], g.depth(), g.out_channels);
    let product = |rows: usize, first: usize, c| {
        Step::Product(Product {
            sizes: [rows, n, depth],
            a: Input(0).at(first * n),
            a_transposed: false,
            b: Input(1).at(0),
            b_transposed: true,
            c,
            accumulate: false,
        })
    };
    if g.is_pointwise() {
        program.steps.push(product(g.batch * pixels, 0, Output.at(0)));
        return program;
    }
    let images = images_at_a_time(g);
    let patches = program.temporary(images * pixels * depth);
    for first in (0..g.batch).step_by(images) {
        let count = images.min(g.batch - first);
        program.steps.push(product(count * pixels, first * pixels, patches.at(0)));
        let dx = Output.at(first * g.image());
        launch(&mut program, "scatter", count * g.image(), &[patches.into(), dx.into()], g, &[]);
    }
    program
}

/// [`float::conv_weight_grad`](crate::kernels::float::conv_weight_grad) of `x` and `dy`.
pub fn conv_weight_grad(g: &Geometry) -> Program {
    let mut program = Program::default();
    let (pixels, depth, n) = (g.output[0] * g.output[1], g.depth(), g.out_channels);
    let product = |a, rows: usize, first: usize| {
        Step::Product(Product {
            sizes: [depth, rows, n],
            a,
            a_transposed: true,
            b: Input(1).at(first * n),
            b_transposed: false,
            c: Output.at(0),
            accumulate: first > 0,
        })
    };
    if g.is_pointwise() {
        program.steps.push(product(Input(0).at(0), g.batch * pixels, 0));
        return program;
    }
    let images = images_at_a_time(g);
    let patches = program.temporary(images * pixels * depth);
    for first in (0..g.batch).step_by(images) {
        let rows = images.min(g.batch - first) * pixels;
        let x = Input(0).at(first * g.image());
        launch(&mut program, "gather", rows * depth, &[x.into(), patches.into()], g, &[]);
        program.steps.push(product(patches.at(0), rows, first * pixels));
    }
    program
}

/// [`float::depthwise`](crate::kernels::float::depthwise) of `x`, the weight and, where there is one, the bias.
pub fn depthwise(g: &Geometry, bias: bool, relu: bool) -> Program {
    let mut program = Program::default();
    // Without a bias its place is taken by the weight, which is not read as one.
    let operand = if bias { Input(2) } else { Input(1) };
    let len = g.batch * g.output[0] * g.output[1] * g.channels;
    let first = [Input(0).into(), Input(1).into(), operand.into(), Output.into(), bias.into(), relu.into()];
    launch(&mut program, "depthwise", len, &first, g, &[]);
    program
}

/// [`float::depthwise_input_grad`](crate::kernels::float::depthwise_input_grad) of `dy` and the weight.
pub fn depthwise_input_grad(g: &Geometry) -> Program {
    let mut program = Program::default();
    let first = [Input(0).into(), Input(1).into(), Output.into()];
    launch(&mut program, "depthwise_input_grad", g.batch * g.image(), &first, g, &[]);
    program
}

/// [`float::depthwise_weight_grad`](crate::kernels::float::depthwise_weight_grad) of `x` and `dy`.
pub fn depthwise_weight_grad(g: &Geometry) -> Program {
    let mut program = Program::default();
    let (pixels, taps) = (g.batch * g.output[0] * g.output[1], g.depth());
    let per = rows_per_part(pixels, taps);
    let parts = pixels.div_ceil(per);
    let to = if parts == 1 { Output } else { program.temporary(parts * taps) };
    let first = [Input(0).into(), Input(1).into(), to.into()];
    launch(&mut program, "depthwise_weight_grad", parts * taps, &first, g, &[pixels.into(), per.into()]);
    if parts > 1 {
        finish_sums(&mut program, to, [1, parts, taps], 1.0, Output);
    }
    program
}
