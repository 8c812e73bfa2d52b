use super::{Isa, Kernels, Levels, Map, scalar, shared::Shared};

/// A function of one level, as all its 256 values.
#[derive(Clone, PartialEq)]
pub struct Table(Box<[u8; 256]>);

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table(0 -> {}, 255 -> {})", self.0[0], self.0[255])
    }
}

impl Table {
    /// Tabulates `f`.
    pub fn new(f: impl Fn(u8) -> u8) -> Self {
        let mut table = Box::new([0; 256]);
        for (q, level) in (0..=255).zip(table.iter_mut()) {
            *level = f(q);
        }
        Self(table)
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        (0..=255).zip(self.0.iter()).all(|(q, level)| q == *level)
    }

    /// `output = table(input)`, level by level; the maps' shapes must be equal.
    pub fn run(&self, kernels: &Kernels, input: (&[u8], Map), output: (&mut [u8], Map)) {
        let (x, from) = input;
        by_runs(kernels, [from, from], output, |[at, _], out| match kernels.isa() {
            Isa::Scalar => scalar::table(&x[at..][..out.len()], &self.0, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx2 => unsafe { super::avx2::table(&x[at..][..out.len()], &self.0, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx512Vnni => unsafe { super::avx512::table(&x[at..][..out.len()], &self.0, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Neon => unsafe { super::neon::table(&x[at..][..out.len()], &self.0, out) },
        });
    }

    /// The same in place.
    pub fn run_in_place(&self, kernels: &Kernels, data: &mut [u8], map: Map) {
        by_runs(kernels, [map, map], (data, map), |_, out| match kernels.isa() {
            Isa::Scalar => out.iter_mut().for_each(|q| *q = self.0[usize::from(*q)]),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx2 => unsafe { super::avx2::table_in_place(&self.0, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Avx512Vnni => unsafe { super::avx512::table_in_place(&self.0, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
            Isa::Neon => unsafe { super::neon::table_in_place(&self.0, out) },
        });
    }
}

/// The sum of two activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Add {
    /// Of each input: scale and `f32(-zero_point) * scale`.
    pub inputs: [(f32, f32); 2],
    /// `1 / scale` of the output.
    pub inverse_scale: f32,
    /// Of the output.
    pub levels: Levels,
}

impl Add {
    /// `output = a + b`; the maps' shapes must be equal.
    pub fn run(&self, kernels: &Kernels, a: (&[u8], Map), b: (&[u8], Map), output: (&mut [u8], Map)) {
        by_runs(kernels, [a.1, b.1], output, |[i, j], out| {
            let (a, b) = (&a.0[i..][..out.len()], &b.0[j..][..out.len()]);
            match kernels.isa() {
                Isa::Scalar => scalar::add(self, a, b, out),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                Isa::Avx2 => unsafe { super::avx2::add(self, a, b, out) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                Isa::Avx512Vnni => unsafe { super::avx512::add(self, a, b, out) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                Isa::Neon => unsafe { super::neon::add(self, a, b, out) },
            }
        });
    }
}

/// The product of two activations, or of one and a factor per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mul {
    /// Of both inputs.
    pub zero_points: [u8; 2],
    /// `sa * sb / so`.
    pub multiplier: f32,
    /// Of the output.
    pub levels: Levels,
}

impl Mul {
    /// `output = a * b`; `b` is shaped as `a`, or one pixel.
    pub fn run(&self, kernels: &Kernels, a: (&[u8], Map), b: (&[u8], Map), output: (&mut [u8], Map)) {
        let (from, to) = (a.1, output.1);
        assert_eq!((from.c, from.h, from.w), (to.c, to.h, to.w));
        to.assert_within(output.0.len());
        let one_pixel = (b.1.h, b.1.w) == (1, 1);
        assert!(b.1.c == to.c && (one_pixel || (b.1.h, b.1.w) == (to.h, to.w)), "{:?} does not fit {to:?}", b.1);
        if one_pixel && from.is_packed() && to.is_packed() {
            // A row of pixels at once, whatever their number of channels.
            let factors = b.0[b.1.start..][..to.c].repeat(to.w);
            return by_runs(kernels, [from, from], output, |[at, _], out| {
                self.run_slice(kernels.isa(), &a.0[at..][..out.len()], &factors, out);
            });
        }
        let out = Shared::new(output.0);
        kernels.for_ranges(to.h, POINT_WORK * to.len(), |rows| {
            for (y, x) in rows.flat_map(|y| (0..to.w).map(move |x| (y, x))) {
                let place = to.at(y, x);
                // SAFETY: one slice a pixel; pixels of a map do not overlap (`assert_within`).
                let out = unsafe { out.slice(place..place + to.c) };
                let a = &a.0[from.at(y, x)..][..to.c];
                let b = &b.0[if one_pixel { b.1.start } else { b.1.at(y, x) }..][..to.c];
                self.run_slice(kernels.isa(), a, b, out);
            }
        });
    }

    fn run_slice(&self, isa: Isa, a: &[u8], b: &[u8], out: &mut [u8]) {
        match isa {
            Isa::Scalar => scalar::mul(self, a, b, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: comes from a `Kernels`, which exists only where the CPU has it.
            Isa::Avx2 => unsafe { super::avx2::mul(self, a, b, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: comes from a `Kernels`, which exists only where the CPU has it.
            Isa::Avx512Vnni => unsafe { super::avx512::mul(self, a, b, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: comes from a `Kernels`, which exists only where the CPU has it.
            Isa::Neon => unsafe { super::neon::mul(self, a, b, out) },
        }
    }
}

/// Concatenation of two and channel shuffle in two groups, at once: `out[2 i] = tables[0](a[i])`,
/// `out[2 i + 1] = tables[1](b[i])`.
pub fn interleave(kernels: &Kernels, a: (&[u8], Map), b: (&[u8], Map), tables: [&Table; 2], output: (&mut [u8], Map)) {
    let to = output.1;
    assert!(2 * a.1.c == to.c && 2 * b.1.c == to.c, "{:?} and {:?} do not make {to:?}", a.1, b.1);
    to.assert_within(output.0.len());
    let tables = tables.map(|t| &*t.0);
    let out = Shared::new(output.0);
    kernels.for_ranges(to.h, POINT_WORK * to.len(), |rows| {
        for y in rows {
            #[cfg(target_arch = "x86_64")]
            if kernels.isa() == Isa::Avx2 && a.1.c >= super::avx2::INTERLEAVED {
                // SAFETY: one slice a row; rows of a map do not overlap (`assert_within`).
                let out = unsafe { out.slice(to.row_range(y)) };
                let operands = [(&a.0[a.1.row_range(y)], a.1.pixel), (&b.0[b.1.row_range(y)], b.1.pixel)];
                // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                unsafe { super::avx2::interleave_row(operands, a.1.c, tables, (out, to.pixel)) };
                continue;
            }
            for x in 0..to.w {
                let place = to.at(y, x);
                // SAFETY: one slice a pixel; pixels of a map do not overlap (`assert_within`).
                let out = unsafe { out.slice(place..place + to.c) };
                let (a, b) = (&a.0[a.1.at(y, x)..][..a.1.c], &b.0[b.1.at(y, x)..][..b.1.c]);
                match kernels.isa() {
                    Isa::Scalar => scalar::interleave(a, b, tables, out),
                    #[cfg(target_arch = "x86_64")]
                    // Fewer channels than its rows take.
                    Isa::Avx2 => scalar::interleave(a, b, tables, out),
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                    Isa::Avx512Vnni => unsafe { super::avx512::interleave(a, b, tables, out) },
                    #[cfg(target_arch = "aarch64")]
                    // SAFETY: `Kernels` of this instruction set exist only where the CPU has it.
                    Isa::Neon => unsafe { super::neon::interleave(a, b, tables, out) },
                }
            }
        }
    });
}

/// Channel `g * (c / groups) + i` goes to `i * groups + g`.
pub fn shuffle(input: (&[u8], Map), groups: usize, output: (&mut [u8], Map)) {
    let ((x, from), (out, to)) = (input, output);
    let width = to.c / groups;
    for (y, column) in (0..to.h).flat_map(|y| (0..to.w).map(move |x| (y, x))) {
        let x = &x[from.at(y, column)..][..to.c];
        let out = &mut out[to.at(y, column)..][..to.c];
        for (c, q) in x.iter().enumerate() {
            out[c % width * groups + c / width] = *q;
        }
    }
}

/// One element here takes about as long as so many multiply-adds in a matrix product.
const POINT_WORK: usize = 12;

/// Calls `f` on every run of levels that lie next to each other in all maps, with where it starts in the inputs.
fn by_runs(kernels: &Kernels, inputs: [Map; 2], output: (&mut [u8], Map), f: impl Fn([usize; 2], &mut [u8]) + Sync) {
    let (out, to) = (Shared::new(output.0), output.1);
    to.assert_within(out.len());
    for from in inputs {
        assert_eq!((from.c, from.h, from.w), (to.c, to.h, to.w), "{from:?} does not fit {to:?}");
    }
    let whole_rows = to.is_packed() && inputs.iter().all(|m| m.is_packed());
    let (runs, len) = if whole_rows { (1, to.w * to.c) } else { (to.w, to.c) };
    kernels.for_ranges(to.h, POINT_WORK * to.len(), |rows| {
        for (y, x) in rows.flat_map(|y| (0..runs).map(move |x| (y, x))) {
            let place = to.at(y, x);
            // SAFETY: rows and pixels of a map do not overlap (`assert_within`); each is visited once.
            f(inputs.map(|m| m.at(y, x)), unsafe { out.slice(place..place + len) });
        }
    });
}
