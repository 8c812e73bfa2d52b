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
