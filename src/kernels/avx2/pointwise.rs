use std::arch::x86_64::*;

use super::lanes::{Bounds, load, store, widen};
use crate::kernels::{Add, Levels, Map, Mul, scalar};

/// A table of 256 bytes as 16 rows of 16, each in both halves of a vector, for `vpshufb`.
#[derive(Clone, Copy)]
struct Lookup([__m256i; 16]);

impl Lookup {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(table: &[u8; 256]) -> Self {
        // SAFETY: 16 times 16 of 256 bytes.
        let row = |i| unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16 * i).cast())) };
        Self(std::array::from_fn(row))
    }

    /// The low four bits look up in every row; the high four choose among the rows, bit by bit. Levels above 127 are rare
    /// where ranges are reduced: without them half of the rows will do.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, x: __m256i) -> __m256i {
        let column = _mm256_and_si256(x, _mm256_set1_epi8(0x0F));
        let (bit4, bit5, bit6) = (_mm256_slli_epi16(x, 3), _mm256_slli_epi16(x, 2), _mm256_slli_epi16(x, 1));
        let row = |i: usize| _mm256_shuffle_epi8(self.0[i], column);
        let two = |i: usize| _mm256_blendv_epi8(row(i), row(i + 1), bit4);
        let four = |i: usize| _mm256_blendv_epi8(two(i), two(i + 2), bit5);
        let eight = |i: usize| _mm256_blendv_epi8(four(i), four(i + 4), bit6);
        if _mm256_movemask_epi8(x) == 0 {
            return eight(0);
        }
        _mm256_blendv_epi8(eight(0), eight(8), x)
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn table(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    let lookup = Lookup::new(table);
    for (x, out) in x.chunks(32).zip(out.chunks_mut(32)) {
        store(out, lookup.of(load(x)));
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn table_in_place(table: &[u8; 256], out: &mut [u8]) {
    let lookup = Lookup::new(table);
    for out in out.chunks_mut(32) {
        let x = load(out);
        store(out, lookup.of(x));
    }
}

/// Channels that each operand of [`interleave_row`] must have.
pub(in crate::kernels) const INTERLEAVED: usize = 16;

/// A row of pixels: each operand, with the bytes from one of its pixels to the next, has `channels`; `out` twice as many.
///
/// # Panics
/// If there are fewer than [`INTERLEAVED`] channels, or a row is too short.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn interleave_row(
    operands: [(&[u8], usize); 2],
    channels: usize,
    tables: [&[u8; 256]; 2],
    out: (&mut [u8], usize),
) {
    let lookups = [Lookup::new(tables[0]), Lookup::new(tables[1])];
    let [a, b] = operands.map(|(x, pixel)| x.chunks(pixel));
    for ((a, b), out) in a.zip(b).zip(out.0.chunks_mut(out.1)) {
        let (a, b, out) = (&a[..channels], &b[..channels], &mut out[..2 * channels]);
        // Sixteen channels in each half of a vector; the last sixteen may overlap those before.
        let last = channels - INTERLEAVED;
        for first in (0..channels).step_by(2 * INTERLEAVED) {
            let at = [first.min(last), (first + INTERLEAVED).min(last)];
            // SAFETY: 16 bytes from `last` or before.
            let load =
                |x: &[u8]| unsafe { _mm256_loadu2_m128i(x.as_ptr().add(at[1]).cast(), x.as_ptr().add(at[0]).cast()) };
            let (a, b) = (lookups[0].of(load(a)), lookups[1].of(load(b)));
            let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            // SAFETY: 32 bytes from twice `last` or before.
            unsafe {
                let (to, behind) = (out.as_mut_ptr().add(2 * at[0]), out.as_mut_ptr().add(2 * at[1]));
                _mm256_storeu2_m128i(behind.cast(), to.cast(), low);
                _mm256_storeu2_m128i(behind.add(16).cast(), to.add(16).cast(), high);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(in crate::kernels) fn add(params: &Add, a: &[u8], b: &[u8], out: &mut [u8]) {
    let bounds = Bounds::new(params.levels);
    let [(sa, ca), (sb, cb)] = params.inputs;
    let (sa, ca) = (_mm256_set1_ps(sa), _mm256_set1_ps(ca));
    let (sb, cb) = (_mm256_set1_ps(sb), _mm256_set1_ps(cb));
    let inverse_scale = _mm256_set1_ps(params.inverse_scale);
    for ((a, b), out) in a.chunks(32).zip(b.chunks(32)).zip(out.chunks_mut(32)) {
        let (a, b) = (widen(load(a)), widen(load(b)));
        let mut levels = [_mm256_setzero_si256(); 4];
        for v in 0..4 {
            let a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(a[v]), sa, ca);
            let b = _mm256_fmadd_ps(_mm256_cvtepi32_ps(b[v]), sb, cb);
            levels[v] = bounds.round(_mm256_mul_ps(_mm256_add_ps(a, b), inverse_scale));
        }
        store(out, bounds.narrow(levels));
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn mul(params: &Mul, a: &[u8], b: &[u8], out: &mut [u8]) {
    let bounds = Bounds::new(params.levels);
    let [za, zb] = params.zero_points.map(|z| _mm256_set1_epi32(i32::from(z)));
    let multiplier = _mm256_set1_ps(params.multiplier);
    for ((a, b), out) in a.chunks(32).zip(b.chunks(32)).zip(out.chunks_mut(32)) {
        let (a, b) = (widen(load(a)), widen(load(b)));
        let mut levels = [_mm256_setzero_si256(); 4];
        for v in 0..4 {
            // Both factors have 9 bits: their product is exact in float32, as in int32.
            let a = _mm256_cvtepi32_ps(_mm256_sub_epi32(a[v], za));
            let b = _mm256_cvtepi32_ps(_mm256_sub_epi32(b[v], zb));
            levels[v] = bounds.round(_mm256_mul_ps(_mm256_mul_ps(a, b), multiplier));
        }
        store(out, bounds.narrow(levels));
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn quantize(x: &[f32], inverse_scale: f32, levels: Levels, out: &mut [u8]) {
    let bounds = Bounds::new(levels);
    let scale = _mm256_set1_ps(inverse_scale);
    // Where `narrow` leaves each four of 32 levels that were rounded in their order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let whole = x.len() / 32 * 32;
    for (x, out) in x.chunks_exact(32).zip(out.chunks_exact_mut(32)) {
        // SAFETY: four times 8 of 32 values.
        let round = |v: usize| bounds.round(_mm256_mul_ps(unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * v)) }, scale));
        let rounded: [__m256i; 4] = [round(0), round(1), round(2), round(3)];
        store(out, _mm256_permutevar8x32_epi32(bounds.narrow(rounded), order));
    }
    scalar::quantize(&x[whole..], inverse_scale, levels, &mut out[whole..]);
}

/// `out[c]` = the maximum of `x[at + c]` over all `places`.
///
/// # Panics
/// If `x` ends before.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn max(x: &[u8], places: impl Iterator<Item = usize> + Clone, out: &mut [u8]) {
    let channels = out.len();
    if channels < 16 {
        out.fill(0);
        return places.for_each(|at| scalar::max(&x[at..], out));
    }
    // Sixteen at once; the last sixteen may overlap those before.
    for first in (0..channels).step_by(16).map(|c| c.min(channels - 16)) {
        let mut most = _mm_setzero_si128();
        for at in places.clone() {
            let x = &x[at + first..][..16];
            // SAFETY: 16 bytes.
            most = _mm_max_epu8(most, unsafe { _mm_loadu_si128(x.as_ptr().cast()) });
        }
        // SAFETY: 16 bytes from the last 16 or before.
        unsafe { _mm_storeu_si128(out[first..].as_mut_ptr().cast(), most) };
    }
}

/// Sums of each channel over all pixels of `from`, at least 16 channels of them.
///
/// # Panics
/// If `x` ends before.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn channel_sums(x: &[u8], from: Map, sums: &mut [i32]) {
    assert!(from.c >= 16 && sums.len() == from.c && from.at(from.h - 1, from.w - 1) + from.c <= x.len());
    // A cache line at once; then sixteen, the last of which may overlap those before.
    let lines = from.c / 64;
    for line in 0..lines {
        sums_from::<4>(x, from, 64 * line, sums);
    }
    for first in (64 * lines..from.c).step_by(16) {
        sums_from::<1>(x, from, first.min(from.c - 16), sums);
    }
}

/// [`channel_sums`] of `16 * N` channels from `first` on.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_from<const N: usize>(x: &[u8], from: Map, first: usize, sums: &mut [i32]) {
    // So many levels fit 16 bits.
    const PIXELS: usize = 256;
    assert!(first + 16 * N <= from.c && from.at(from.h - 1, from.w - 1) + from.c <= x.len());
    let mut wide = [[_mm256_setzero_si256(); 2]; N];
    let (mut short, mut count) = ([_mm256_setzero_si256(); N], 0);
    for y in 0..from.h {
        for column in 0..from.w {
            let pixel = from.at(y, column) + first;
            for (i, short) in short.iter_mut().enumerate() {
                // SAFETY: 16 bytes of the pixel's, which lie in `x` as asserted.
                let levels = unsafe { _mm_loadu_si128(x.as_ptr().add(pixel + 16 * i).cast()) };
                *short = _mm256_add_epi16(*short, _mm256_cvtepu8_epi16(levels));
            }
            count += 1;
            if count == PIXELS {
                wide.iter_mut().zip(&short).for_each(|(wide, short)| add_short(wide, *short));
                (short, count) = ([_mm256_setzero_si256(); N], 0);
            }
        }
    }
    wide.iter_mut().zip(&short).for_each(|(wide, short)| add_short(wide, *short));
    for (wide, sums) in wide.iter().flatten().zip(sums[first..].as_chunks_mut::<8>().0) {
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), *wide) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_short(wide: &mut [__m256i; 2], short: __m256i) {
    wide[0] = _mm256_add_epi32(wide[0], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(short)));
    wide[1] = _mm256_add_epi32(wide[1], _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(short)));
}

/// Which byte of a plane's sixteen goes to byte `16 part + i` of 48: `[part][plane][i]`.
const INTERLEAVE: [[[i8; 16]; 3]; 3] = {
    let mut orders = [[[-1; 16]; 3]; 3];
    let mut at = 0;
    while at < 48 {
        orders[at / 16][at % 3][at % 16] = (at / 3) as i8;
        at += 1;
    }
    orders
};

/// `out[3 i + p] = planes[p][i]`.
///
/// # Panics
/// If the planes are not of one length, or `out` is not three times as long.
#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn interleave_planes(planes: [&[u8]; 3], out: &mut [u8]) {
    let len = planes[0].len();
    assert!(planes.iter().all(|p| p.len() == len) && out.len() == 3 * len);
    let whole = len / 16 * 16;
    for at in (0..whole).step_by(16) {
        for (part, orders) in INTERLEAVE.iter().enumerate() {
            let mut bytes = _mm_setzero_si128();
            for (plane, order) in planes.iter().zip(orders) {
                // SAFETY: 16 bytes each, the plane's from a multiple of 16 within its whole ones.
                let (plane, order) =
                    unsafe { (_mm_loadu_si128(plane.as_ptr().add(at).cast()), _mm_loadu_si128(order.as_ptr().cast())) };
                bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(plane, order));
            }
            // SAFETY: 16 of the 48 bytes that belong to 16 of each plane.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().add(3 * at + 16 * part).cast(), bytes) };
        }
    }
    for i in whole..len {
        out[3 * i..][..3].copy_from_slice(&planes.map(|p| p[i]));
    }
}

// The loops below are the scalar ones: the compiler makes vectors of them where these features are on.

#[target_feature(enable = "avx2")]
pub(in crate::kernels) fn max_of_two(x: &[u8], out: &mut [u8]) {
    scalar::max(x, out);
}

#[target_feature(enable = "avx2,fma")]
pub(in crate::kernels) fn add_to_sums(x: &[u8], sums: &mut [i32]) {
    scalar::add_to_sums(x, sums);
}

#[target_feature(enable = "avx2,fma")]
pub(in crate::kernels) fn add_values_to_sums(x: &[u8], zero_point: u8, scale: f32, sums: &mut [f32]) {
    scalar::add_values_to_sums(x, zero_point, scale, sums);
}
