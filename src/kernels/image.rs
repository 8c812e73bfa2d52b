use super::{Isa, Kernels, Levels, Map, scalar};

/// Quantizes one float image, channels outermost (CHW), to levels with channels innermost: `rne(x * (1 / scale)) + zp`.
///
/// # Panics
/// If the image is not as large as the map.
pub fn quantize_image(kernels: &Kernels, image: &[f32], scale: f32, levels: Levels, output: (&mut [u8], Map)) {
    let (out, to) = output;
    assert_eq!(image.len(), to.len(), "an image for {to:?}");
    let inverse = 1.0 / scale;
    let mut planes = vec![0; to.w * to.c];
    for y in 0..to.h {
        for (c, plane) in planes.chunks_exact_mut(to.w).enumerate() {
            let x = &image[(c * to.h + y) * to.w..][..to.w];
            match kernels.isa() {
                Isa::Scalar => scalar::quantize(x, inverse, levels, plane),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                Isa::Avx2 => unsafe { super::avx2::quantize(x, inverse, levels, plane) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                Isa::Avx512Vnni => unsafe { super::avx512::quantize(x, inverse, levels, plane) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                Isa::Neon => unsafe { super::neon::quantize(x, inverse, levels, plane) },
            }
        }
        let row = &mut out[to.row_range(y)];
        if let [red, green, blue] = planes.chunks_exact(to.w).collect::<Vec<_>>()[..]
            && to.pixel == 3
        {
            match kernels.isa() {
                Isa::Scalar => scalar::interleave_planes([red, green, blue], row),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Kernels` of these instruction sets exist only where the CPU has them; AVX-512 includes AVX2.
                Isa::Avx2 | Isa::Avx512Vnni => unsafe { super::avx2::interleave_planes([red, green, blue], row) },
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => scalar::interleave_planes([red, green, blue], row),
            }
        } else {
            for (i, q) in planes.iter().enumerate() {
                row[i % to.w * to.pixel + i / to.w] = *q;
            }
        }
    }
}

/// `(q - zero point) * scale`, channels outermost.
pub fn dequantize(input: (&[u8], Map), scale: f32, zero_point: u8, out: &mut Vec<f32>) {
    let (x, from) = input;
    for c in 0..from.c {
        for (y, column) in (0..from.h).flat_map(|y| (0..from.w).map(move |x| (y, x))) {
            let q = x[from.at(y, column) + c];
            out.push((i32::from(q) - i32::from(zero_point)) as f32 * scale);
        }
    }
}
