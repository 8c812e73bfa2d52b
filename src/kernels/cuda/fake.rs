use super::program::{
    Buffer::{Input, Output},
    Program,
};

/// [`fake_quantize`](crate::kernels::fake_quantize) of `len` values.
pub fn fake_quantize(len: usize, scale: f32, zero_point: u8, qmax: u8) -> Program {
    let (lowest, highest) = (-f32::from(zero_point), f32::from(qmax) - f32::from(zero_point));
    Program::of(
        "fake_quantize",
        len,
        [Input(0).into(), Output.into(), scale.into(), (1.0 / scale).into(), lowest.into(), highest.into()],
    )
}

/// [`fake_average`](crate::kernels::fake_average) of `images` images.
pub fn fake_average(images: usize, channels: usize, pixels: usize, scale: f32, values: bool) -> Program {
    Program::of(
        "fake_average",
        images * channels,
        [
            Input(0).into(),
            Output.into(),
            scale.into(),
            (1.0 / scale).into(),
            values.into(),
            pixels.into(),
            channels.into(),
        ],
    )
}
