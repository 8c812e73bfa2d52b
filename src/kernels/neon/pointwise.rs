use std::arch::aarch64::*;

use super::lanes::{Bounds, load, narrow, store, widen};
use crate::kernels::{Add, Levels, Mul, scalar};

/// A table of 256 bytes as four of 64, for `tbl` and `tbx`.
#[derive(Clone, Copy)]
struct Lookup([uint8x16x4_t; 4]);

impl Lookup {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(table: &[u8; 256]) -> Self {
        // SAFETY: four times 64 of 256 bytes.
        Self(std::array::from_fn(|i| unsafe { vld1q_u8_x4(table.as_ptr().add(64 * i)) }))
    }

    /// An index beyond its 64 bytes leaves a lane of `tbx` as it was.
    #[inline]
    #[target_feature(enable = "neon")]
    fn of(self, x: uint8x16_t) -> uint8x16_t {
        let mut levels = vqtbl4q_u8(self.0[0], x);
        levels = vqtbx4q_u8(levels, self.0[1], vsubq_u8(x, vdupq_n_u8(64)));
        levels = vqtbx4q_u8(levels, self.0[2], vsubq_u8(x, vdupq_n_u8(128)));
        vqtbx4q_u8(levels, self.0[3], vsubq_u8(x, vdupq_n_u8(192)))
    }
}

#[target_feature(enable = "neon")]
pub(in crate::kernels) fn table(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    let lookup = Lookup::new(table);
    for (x, out) in x.chunks(16).zip(out.chunks_mut(16)) {
        store(out, lookup.of(load(x)));
    }
}

#[target_feature(enable = "neon")]
pub(in crate::kernels) fn table_in_place(table: &[u8; 256], out: &mut [u8]) {
    let lookup = Lookup::new(table);
    for out in out.chunks_mut(16) {
        let x = load(out);
        store(out, lookup.of(x));
    }
}

#[target_feature(enable = "neon")]
pub(in crate::kernels) fn interleave(a: &[u8], b: &[u8], tables: [&[u8; 256]; 2], out: &mut [u8]) {
    let lookups = [Lookup::new(tables[0]), Lookup::new(tables[1])];
    for ((a, b), out) in a.chunks(16).zip(b.chunks(16)).zip(out.chunks_mut(32)) {
        let (a, b) = (lookups[0].of(load(a)), lookups[1].of(load(b)));
        for (x, out) in [vzip1q_u8(a, b), vzip2q_u8(a, b)].into_iter().zip(out.chunks_mut(16)) {
            store(out, x);
        }
    }
}

#[target_feature(enable = "neon")]
pub(in crate::kernels) fn add(params: &Add, a: &[u8], b: &[u8], out: &mut [u8]) {
    let bounds = Bounds::new(params.levels);
    let [(sa, ca), (sb, cb)] = params.inputs.map(|(scale, shift)| (vdupq_n_f32(scale), vdupq_n_f32(shift)));
    for ((a, b), out) in a.chunks(16).zip(b.chunks(16)).zip(out.chunks_mut(16)) {
        let (a, b) = (widen(load(a)), widen(load(b)));
        let level = |v: usize| {
            let a = vfmaq_f32(ca, vcvtq_f32_s32(a[v]), sa);
            let b = vfmaq_f32(cb, vcvtq_f32_s32(b[v]), sb);
            bounds.round(vmulq_n_f32(vaddq_f32(a, b), params.inverse_scale))
        };
        store(out, narrow([level(0), level(1), level(2), level(3)]));
    }
}

#[target_feature(enable = "neon")]
pub(in crate::kernels) fn mul(params: &Mul, a: &[u8], b: &[u8], out: &mut [u8]) {
    let bounds = Bounds::new(params.levels);
    let [za, zb] = params.zero_points.map(|z| vdupq_n_s32(i32::from(z)));
    for ((a, b), out) in a.chunks(16).zip(b.chunks(16)).zip(out.chunks_mut(16)) {
        let (a, b) = (widen(load(a)), widen(load(b)));
        let level = |v: usize| {
            let product = vmulq_s32(vsubq_s32(a[v], za), vsubq_s32(b[v], zb));
            bounds.round(vmulq_n_f32(vcvtq_f32_s32(product), params.multiplier))
        };
        store(out, narrow([level(0), level(1), level(2), level(3)]));
    }
}

#[target_feature(enable = "neon")]
pub(in crate::kernels) fn quantize(x: &[f32], inverse_scale: f32, levels: Levels, out: &mut [u8]) {
    let bounds = Bounds::new(levels);
    let whole = x.len() / 16 * 16;
    for (x, out) in x.chunks_exact(16).zip(out.chunks_exact_mut(16)) {
        // SAFETY: four times 4 of 16 values.
        let level = |v: usize| bounds.round(vmulq_n_f32(unsafe { vld1q_f32(x.as_ptr().add(4 * v)) }, inverse_scale));
        store(out, narrow([level(0), level(1), level(2), level(3)]));
    }
    scalar::quantize(&x[whole..], inverse_scale, levels, &mut out[whole..]);
}
