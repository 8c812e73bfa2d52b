use super::{Isa, Kernels, Levels, Map, scalar, shared::Shared};

/// Maximum over square windows; what lies outside the image does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Of the window.
    pub kernel: usize,
    /// Of the window's steps.
    pub stride: usize,
    /// Rows and columns outside the image that the first window covers.
    pub padding: usize,
}

impl MaxPool {
    /// Computes the layer.
    pub fn run(&self, kernels: &Kernels, input: (&[u8], Map), output: (&mut [u8], Map)) {
        let ((x, from), to) = (input, output.1);
        let out = Shared::new(output.0);
        to.assert_within(out.len());
        assert_eq!(from.c, to.c);
        let covered = |at: usize, size: usize| {
            let first = (at * self.stride).saturating_sub(self.padding);
            first..(at * self.stride + self.kernel).saturating_sub(self.padding).min(size)
        };
        kernels.for_ranges(to.h, 2 * self.kernel * self.kernel * to.len(), |rows| {
            for (y, column) in rows.flat_map(|y| (0..to.w).map(move |x| (y, x))) {
                let place = to.at(y, column);
                // SAFETY: one slice a pixel; pixels of a map do not overlap (`assert_within`).
                let out = unsafe { out.slice(place..place + to.c) };
                let (rows, columns) = (covered(y, from.h), covered(column, from.w));
                let places = rows.flat_map(|row| columns.clone().map(move |column| from.at(row, column)));
                max(kernels.isa(), x, places, out);
            }
        });
    }
}

fn max(isa: Isa, x: &[u8], places: impl Iterator<Item = usize> + Clone, out: &mut [u8]) {
    let channels = out.len();
    match isa {
        Isa::Scalar => {
            out.fill(0);
            places.for_each(|at| scalar::max(&x[at..][..channels], out));
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: comes from a `Kernels`, which exists only where the CPU has it.
        Isa::Avx2 => unsafe { super::avx2::max(x, places, out) },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => {
            out.fill(0);
            // SAFETY: comes from a `Kernels`, which exists only where the CPU has it.
            places.for_each(|at| unsafe { super::avx512::max(&x[at..][..channels], out) });
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            out.fill(0);
            places.for_each(|at| scalar::max(&x[at..][..channels], out));
        }
    }
}

/// Average over all pixels, scale and zero point kept: `rne(f32(sum(q - zp)) / n) + zp`, PyTorch's
/// `adaptive_avg_pool2d` to 1 x 1.
pub fn average_pool(kernels: &Kernels, input: (&[u8], Map), levels: Levels, output: (&mut [u8], Map)) {
    let ((x, from), (out, to)) = (input, output);
    let pixels = from.h * from.w;
    let mut sums = vec![0; from.c];
    for (y, column) in (0..from.h).flat_map(|y| (0..from.w).map(move |x| (y, x))) {
        let x = &x[from.at(y, column)..][..from.c];
        match kernels.isa() {
            Isa::Scalar => scalar::add_to_sums(x, &mut sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx2 => unsafe { super::avx2::add_to_sums(x, &mut sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx512Vnni => unsafe { super::avx512::add_to_sums(x, &mut sums) },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => scalar::add_to_sums(x, &mut sums),
        }
    }
    let zeros = pixels as i32 * i32::from(levels.zero_point);
    for (out, sum) in out[to.start..][..to.c].iter_mut().zip(sums) {
        *out = levels.round((sum - zeros) as f32 / pixels as f32);
    }
}

/// `x.mean([2, 3])`, scale and zero point kept: the float32 sum of the values in row-major order, divided by their
/// number, quantized. PyTorch rounds so, and its average pool otherwise.
pub fn mean(kernels: &Kernels, input: (&[u8], Map), scale: f32, levels: Levels, output: (&mut [u8], Map)) {
    let ((x, from), (out, to)) = (input, output);
    let mut sums = vec![0.0; from.c];
    for (y, column) in (0..from.h).flat_map(|y| (0..from.w).map(move |x| (y, x))) {
        let x = &x[from.at(y, column)..][..from.c];
        match kernels.isa() {
            Isa::Scalar => scalar::add_values_to_sums(x, levels.zero_point, scale, &mut sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx2 => unsafe { super::avx2::add_values_to_sums(x, levels.zero_point, scale, &mut sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx512Vnni => unsafe { super::avx512::add_values_to_sums(x, levels.zero_point, scale, &mut sums) },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => scalar::add_values_to_sums(x, levels.zero_point, scale, &mut sums),
        }
    }
    let pixels = (from.h * from.w) as f32;
    for (out, sum) in out[to.start..][..to.c].iter_mut().zip(sums) {
        *out = levels.round(sum / pixels * (1.0 / scale));
    }
}

/// To a vector in PyTorch's order, channels outermost.
pub fn flatten(input: (&[u8], Map), output: (&mut [u8], Map)) {
    let ((x, from), (out, to)) = (input, output);
    let out = &mut out[to.start..][..to.c];
    for (y, column) in (0..from.h).flat_map(|y| (0..from.w).map(move |x| (y, x))) {
        for c in 0..from.c {
            out[(c * from.h + y) * from.w + column] = x[from.at(y, column) + c];
        }
    }
}
