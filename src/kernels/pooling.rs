use std::ops::Range;

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
            if from.is_packed() {
                return self.run_rows(kernels.isa(), rows, (x, from), (&out, to));
            }
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

impl MaxPool {
    /// Some rows: the largest of each column first, then of the columns.
    fn run_rows(&self, isa: Isa, rows: Range<usize>, input: (&[u8], Map), output: (&Shared<'_>, Map)) {
        let ((x, from), (out, to)) = (input, output);
        // No level is below 0, which stands for what lies beside the image.
        let mut row = vec![0; (self.padding + from.w + self.kernel) * from.c];
        let mut most = row.clone();
        for y in rows {
            let first = (y * self.stride).saturating_sub(self.padding);
            let end = (y * self.stride + self.kernel).saturating_sub(self.padding).min(from.h);
            let within = &mut row[self.padding * from.c..][..from.w * from.c];
            within.copy_from_slice(&x[from.row_range(first)]);
            for other in first + 1..end {
                max_of_two(isa, &x[from.row_range(other)], within);
            }
            // Of every window, whether a step ends there or not: whole vectors, whatever the number of channels.
            let len = row.len();
            most.copy_from_slice(&row);
            for column in 1..self.kernel {
                max_of_two(isa, &row[column * from.c..], &mut most[..len - column * from.c]);
            }
            for column in 0..to.w {
                let place = to.at(y, column);
                // SAFETY: one slice a pixel; pixels of a map do not overlap (`assert_within`).
                let out = unsafe { out.slice(place..place + to.c) };
                out.copy_from_slice(&most[column * self.stride * from.c..][..to.c]);
            }
        }
    }
}

/// `out[i] = max(out[i], x[i])`.
fn max_of_two(isa: Isa, x: &[u8], out: &mut [u8]) {
    match isa {
        Isa::Scalar => scalar::max(x, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: comes from a `Kernels`, which exists only where the CPU has it.
        Isa::Avx2 => unsafe { super::avx2::max_of_two(x, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: comes from a `Kernels`, which exists only where the CPU has it.
        Isa::Avx512Vnni => unsafe { super::avx512::max(x, out) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => scalar::max(x, out),
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
    let at_once = match kernels.isa() {
        Isa::Scalar => false,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if from.c >= 16 => {
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            unsafe { super::avx2::channel_sums(x, from, &mut sums) };
            true
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => false,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => false,
    };
    let pixel_by_pixel = if at_once { 0..0 } else { 0..from.h };
    for (y, column) in pixel_by_pixel.flat_map(|y| (0..from.w).map(move |x| (y, x))) {
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
