//! Sums over rows in stages, so many that every one has enough threads and none sums for long.

use super::program::{
    Arg,
    Buffer::{self, Input, Output},
    Program, Step,
};

/// Threads that fill a large GPU.
const THREADS: usize = 1 << 17;
/// Rows that one thread sums at the end.
const LAST: usize = 128;

/// Rows a thread of the next stage over `rows` rows of `width` values altogether.
pub(super) fn rows_per_part(rows: usize, width: usize) -> usize {
    if rows <= LAST {
        return rows.max(1);
    }
    let fair = rows * width / THREADS;
    if fair >= 32 { fair.min(512) } else { (rows as f64).sqrt().ceil() as usize }
}

/// Adds the stages that sum what `from` holds, `[groups, rows, columns]`, to `to`, `[groups, columns]`, times `scale`.
pub(super) fn finish_sums(
    program: &mut Program,
    from: Buffer,
    [groups, rows, columns]: [usize; 3],
    scale: f32,
    to: impl Into<Arg>,
) {
    let (to, mut from, mut rows) = (to.into(), from, rows);
    loop {
        let per = rows_per_part(rows, groups * columns);
        let parts = rows.div_ceil(per);
        let next = (parts > 1).then(|| program.temporary(groups * parts * columns));
        let (out, factor) = next.map_or((to, scale), |next| (next.into(), 1.0));
        program.launch(
            "sum_rows",
            groups * parts * columns,
            [from.into(), out, factor.into(), rows.into(), columns.into(), per.into(), parts.into()],
        );
        let Some(next) = next else { return };
        (from, rows) = (next, parts);
    }
}

/// Sums of `x * y` over the rows of `[groups, rows, columns]`.
pub(super) fn dot_rows([groups, rows, columns]: [usize; 3]) -> Program {
    let mut program = Program::default();
    let per = rows_per_part(rows, groups * columns);
    let parts = rows.div_ceil(per);
    let len = groups * parts * columns;
    let to = if parts == 1 { Output } else { program.temporary(len) };
    program.launch(
        "dot_rows",
        len,
        [
            Input(0).into(),
            Input(1).into(),
            to.into(),
            1.0.into(),
            rows.into(),
            columns.into(),
            per.into(),
            parts.into(),
        ],
    );
    if parts > 1 {
        finish_sums(&mut program, to, [groups, parts, columns], 1.0, Output);
    }
    program
}

/// [`float::channel_sums`](crate::kernels::float::channel_sums) of `rows` rows.
pub fn channel_sums(rows: usize, channels: usize) -> Program {
    let mut program = Program::default();
    finish_sums(&mut program, Input(0), [1, rows, channels], 1.0, Output);
    program
}

/// [`float::moments`](crate::kernels::float::moments) of `rows` rows, as `[mean, variance]`, `[2, channels]`.
pub fn moments(rows: usize, channels: usize) -> Program {
    let mut program = Program::default();
    moments_into(&mut program, rows, channels);
    program
}

/// Adds the stages of [`moments`], into the first `[2, channels]` of the output.
pub(super) fn moments_into(program: &mut Program, rows: usize, channels: usize) {
    let per = rows_per_part(rows, channels);
    let mut parts = rows.div_ceil(per);
    let mut from = program.temporary(parts * 2 * channels);
    program.launch(
        "moments_rows",
        parts * channels,
        [Input(0).into(), from.into(), rows.into(), channels.into(), per.into(), parts.into()],
    );
    let mut size = per;
    loop {
        let per = rows_per_part(parts, channels);
        let (inputs, last) = (parts, parts <= per);
        parts = parts.div_ceil(per);
        let to = if last { Output } else { program.temporary(parts * 2 * channels) };
        program.launch(
            "join_moments",
            parts * channels,
            [
                from.into(),
                to.into(),
                rows.into(),
                size.into(),
                last.into(),
                inputs.into(),
                channels.into(),
                per.into(),
                parts.into(),
            ],
        );
        if last {
            return;
        }
        (from, size) = (to, size * per);
    }
}

/// [`float::min_max`](crate::kernels::float::min_max) of `len` values, as `[2]`.
pub fn min_max(len: usize) -> Program {
    let mut program = Program::default();
    let (mut from, mut rows, mut pairs) = (Input(0), len, false);
    loop {
        let per = rows_per_part(rows, 1);
        let parts = rows.div_ceil(per).max(1);
        let to = if parts == 1 { Output } else { program.temporary(2 * parts) };
        program.launch("min_max_rows", parts, [from.into(), to.into(), pairs.into(), rows.into(), per.into()]);
        if parts == 1 {
            return program;
        }
        (from, rows, pairs) = (to, parts, true);
    }
}

/// [`float::histogram`](crate::kernels::float::histogram) of `len` values in a range that is not empty, as `[bins]`.
pub fn histogram(len: usize, bins: usize, lo: f32, hi: f32) -> Program {
    let mut program = Program::default();
    program.steps.push(Step::Clear(Output));
    program.launch("histogram", len, [Input(0).into(), Output.into(), lo.into(), hi.into(), bins.into()]);
    program.launch("counts_to_float", bins, [Output.into()]);
    program
}
