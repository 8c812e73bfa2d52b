use std::arch::x86_64::*;

use super::lanes::{Bounds, first_bytes, narrow, widen};
use crate::kernels::{Add, Levels, Mul, scalar};

/// The two halves of a table of 256 bytes, for `vpermi2b`.
#[derive(Clone, Copy)]
struct Lookup([__m512i; 4]);

impl Lookup {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn new(table: &[u8; 256]) -> Self {
        // SAFETY: four times 64 of 256 bytes.
        Self(std::array::from_fn(|i| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * i).cast()) }))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn of(self, x: __m512i) -> __m512i {
        let low = _mm512_permutex2var_epi8(self.0[0], x, self.0[1]);
        let high = _mm512_permutex2var_epi8(self.0[2], x, self.0[3]);
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high)
    }
}

/// The first bytes of `x`, at most 64, the other lanes 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(x: &[u8]) -> __m512i {
    // SAFETY: masked to the slice.
    unsafe { _mm512_maskz_loadu_epi8(first_bytes(x.len()), x.as_ptr().cast()) }
}

/// As many lanes as `out` has bytes, at most 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(out: &mut [u8], x: __m512i) {
    // SAFETY: masked to the slice.
    unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), first_bytes(out.len()), x) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(in crate::kernels) fn table(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    let lookup = Lookup::new(table);
    for (x, out) in x.chunks(64).zip(out.chunks_mut(64)) {
        store(out, lookup.of(load(x)));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(in crate::kernels) fn table_in_place(table: &[u8; 256], out: &mut [u8]) {
    let lookup = Lookup::new(table);
    for out in out.chunks_mut(64) {
        let x = load(out);
        store(out, lookup.of(x));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(in crate::kernels) fn interleave(a: &[u8], b: &[u8], tables: [&[u8; 256]; 2], out: &mut [u8]) {
    let lookups = [Lookup::new(tables[0]), Lookup::new(tables[1])];
    // Byte `2 i` from the first operand's `i`, byte `2 i + 1` from the second's.
    let order: [[u8; 64]; 2] =
        std::array::from_fn(|half| std::array::from_fn(|i| (half * 32 + i / 2 + i % 2 * 64) as u8));
    // SAFETY: 64 bytes each.
    let order: [__m512i; 2] = std::array::from_fn(|half| unsafe { _mm512_loadu_si512(order[half].as_ptr().cast()) });
    for ((a, b), out) in a.chunks(64).zip(b.chunks(64)).zip(out.chunks_mut(128)) {
        let (a, b) = (lookups[0].of(load(a)), lookups[1].of(load(b)));
        for (order, out) in order.into_iter().zip(out.chunks_mut(64)) {
            store(out, _mm512_permutex2var_epi8(a, order, b));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::kernels) fn add(params: &Add, a: &[u8], b: &[u8], out: &mut [u8]) {
    let bounds = Bounds::new(params.levels);
    let [(sa, ca), (sb, cb)] = params.inputs;
    let (sa, ca) = (_mm512_set1_ps(sa), _mm512_set1_ps(ca));
    let (sb, cb) = (_mm512_set1_ps(sb), _mm512_set1_ps(cb));
    let inverse_scale = _mm512_set1_ps(params.inverse_scale);
    for ((a, b), out) in a.chunks(64).zip(b.chunks(64)).zip(out.chunks_mut(64)) {
        let (a, b) = (widen(load(a)), widen(load(b)));
        let mut levels = [_mm512_setzero_si512(); 4];
        for v in 0..4 {
            let a = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[v]), sa, ca);
            let b = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b[v]), sb, cb);
            levels[v] = bounds.round(_mm512_mul_ps(_mm512_add_ps(a, b), inverse_scale));
        }
        store(out, narrow(levels));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::kernels) fn mul(params: &Mul, a: &[u8], b: &[u8], out: &mut [u8]) {
    let bounds = Bounds::new(params.levels);
    let [za, zb] = params.zero_points.map(|z| _mm512_set1_epi32(i32::from(z)));
    let multiplier = _mm512_set1_ps(params.multiplier);
    for ((a, b), out) in a.chunks(64).zip(b.chunks(64)).zip(out.chunks_mut(64)) {
        let (a, b) = (widen(load(a)), widen(load(b)));
        let mut levels = [_mm512_setzero_si512(); 4];
        for v in 0..4 {
            // Both factors have 9 bits: their product is exact in float32, as in int32.
            let a = _mm512_cvtepi32_ps(_mm512_sub_epi32(a[v], za));
            let b = _mm512_cvtepi32_ps(_mm512_sub_epi32(b[v], zb));
            levels[v] = bounds.round(_mm512_mul_ps(_mm512_mul_ps(a, b), multiplier));
        }
        store(out, narrow(levels));
    }
}

// The loops below are the scalar ones: the compiler makes vectors of them where these features are on.

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(in crate::kernels) fn max(x: &[u8], out: &mut [u8]) {
    scalar::max(x, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(in crate::kernels) fn add_to_sums(x: &[u8], sums: &mut [i32]) {
    scalar::add_to_sums(x, sums);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(in crate::kernels) fn add_values_to_sums(x: &[u8], zero_point: u8, scale: f32, sums: &mut [f32]) {
    scalar::add_values_to_sums(x, zero_point, scale, sums);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(in crate::kernels) fn quantize(x: &[f32], inverse_scale: f32, levels: Levels, out: &mut [u8]) {
    scalar::quantize(x, inverse_scale, levels, out);
}
