use super::{Kernels, Levels, Map, shared::Shared};

/// Batch norm that was quantized on its own: `rne(multiplier[c] * f32(q - zero point) + offset[c]) + zero_point`, the sum
/// rounded once. One implementation for every instruction set: models made for speed have it folded.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// Of the input.
    pub zero_point: u8,
    /// One a channel.
    pub multiplier: Vec<f32>,
    /// One a channel.
    pub offset: Vec<f32>,
    /// Of the output.
    pub levels: Levels,
}

impl Affine {
    /// Computes the layer; the maps' shapes must be equal.
    pub fn run(&self, kernels: &Kernels, input: (&[u8], Map), output: (&mut [u8], Map)) {
        let ((x, from), to) = (input, output.1);
        assert_eq!((from.c, from.h, from.w), (to.c, to.h, to.w), "{from:?} does not fit {to:?}");
        assert_eq!((self.multiplier.len(), self.offset.len()), (to.c, to.c));
        to.assert_within(output.0.len());
        let out = Shared::new(output.0);
        kernels.for_ranges(to.h, 16 * to.len(), |rows| {
            for (y, column) in rows.flat_map(|y| (0..to.w).map(move |x| (y, x))) {
                let place = to.at(y, column);
                // SAFETY: one slice a pixel; pixels of a map do not overlap (`assert_within`).
                let out = unsafe { out.slice(place..place + to.c) };
                let factors = self.multiplier.iter().zip(&self.offset);
                for ((out, q), (a, b)) in out.iter_mut().zip(&x[from.at(y, column)..]).zip(factors) {
                    let q = f32::from(i16::from(*q) - i16::from(self.zero_point));
                    *out = self.levels.round(a.mul_add(q, *b));
                }
            }
        });
    }
}
