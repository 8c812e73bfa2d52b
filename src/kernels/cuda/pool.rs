use super::{
    conv::geometry,
    program::{
        Arg,
        Buffer::{Input, Output},
        Program, Step,
    },
    reduce::finish_sums,
};
use crate::kernels::float::Geometry;

/// [`float::max_pool`](crate::kernels::float::max_pool).
pub fn max_pool(g: &Geometry) -> Program {
    let threads = g.batch * g.output[0] * g.output[1] * g.channels;
    window("max_pool", threads, &[Input(0).into(), Output.into()], g)
}

/// [`float::max_pool_grad`](crate::kernels::float::max_pool_grad) of `x`, `y` and `dy`.
pub fn max_pool_grad(g: &Geometry) -> Program {
    let args = [Input(0).into(), Input(1).into(), Input(2).into(), Output.into()];
    window("max_pool_grad", g.batch * g.image(), &args, g)
}

fn window(kernel: &'static str, threads: usize, args: &[Arg], g: &Geometry) -> Program {
    let args = [args, &geometry(g)].concat();
    Program { temporaries: Vec::new(), steps: vec![Step::Launch { kernel, threads, args }] }
}

/// [`float::mean_pixels`](crate::kernels::float::mean_pixels) of `images` images.
pub fn mean_pixels(images: usize, channels: usize, pixels: usize) -> Program {
    let mut program = Program::default();
    finish_sums(&mut program, Input(0), [images, pixels, channels], 1.0 / pixels as f32, Output);
    program
}

/// [`float::mean_pixels_grad`](crate::kernels::float::mean_pixels_grad) of `images` images.
pub fn mean_pixels_grad(images: usize, channels: usize, pixels: usize) -> Program {
    let image = channels * pixels;
    let scale = 1.0 / pixels as f32;
    Program::of(
        "mean_pixels_grad",
        images * image,
        [Input(0).into(), Output.into(), scale.into(), channels.into(), image.into()],
    )
}
