use super::program::{
    Buffer::{Input, Output},
    Program,
};

/// [`float::copy_channels`](crate::kernels::float::copy_channels) of `rows` rows, into rows of `width`.
pub fn chunk(rows: usize, (from_channels, first): (usize, usize), width: usize) -> Program {
    let mut program = Program::default();
    copy_part(&mut program, rows, (0, from_channels, first), (width, 0), width);
    program
}

/// All operands beside each other: `widths` are their channels.
pub fn concatenate(rows: usize, widths: &[usize]) -> Program {
    let (mut program, all, mut first) = (Program::default(), widths.iter().sum(), 0);
    for (input, width) in widths.iter().enumerate() {
        copy_part(&mut program, rows, (input, *width, 0), (all, first), *width);
        first += width;
    }
    program
}

/// Adds to a program the copy of `width` channels of operand `input`.
fn copy_part(
    program: &mut Program,
    rows: usize,
    (input, from_channels, from_first): (usize, usize, usize),
    (to_channels, to_first): (usize, usize),
    width: usize,
) {
    program.launch(
        "copy_channels",
        rows * width,
        [
            Input(input).into(),
            Output.into(),
            from_channels.into(),
            from_first.into(),
            to_channels.into(),
            to_first.into(),
            width.into(),
        ],
    );
}

/// [`float::add_channels`](crate::kernels::float::add_channels) of `rows` rows, in place.
pub fn add_channels(rows: usize, width: usize, (to_channels, first): (usize, usize)) -> Program {
    Program::of(
        "add_channels",
        rows * width,
        [Output.into(), Input(0).into(), width.into(), to_channels.into(), first.into()],
    )
}

/// [`float::shuffle`](crate::kernels::float::shuffle) of `len` values.
pub fn shuffle(len: usize, channels: usize, groups: usize) -> Program {
    Program::of("shuffle", len, [Input(0).into(), Output.into(), channels.into(), groups.into()])
}

/// [`float::unshuffle`](crate::kernels::float::unshuffle) of `len` values.
pub fn unshuffle(len: usize, channels: usize, groups: usize) -> Program {
    shuffle(len, channels, channels / groups)
}

/// [`float::to_nhwc`](crate::kernels::float::to_nhwc) of `len` values.
pub fn to_nhwc(len: usize, channels: usize, pixels: usize) -> Program {
    Program::of("to_nhwc", len, [Input(0).into(), Output.into(), channels.into(), pixels.into()])
}

/// [`float::to_nchw`](crate::kernels::float::to_nchw) of `len` values.
pub fn to_nchw(len: usize, channels: usize, pixels: usize) -> Program {
    to_nhwc(len, pixels, channels)
}
