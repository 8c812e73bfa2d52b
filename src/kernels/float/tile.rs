//! The innermost loop of [`super::PackedConv`]: tiles of pixels by output channels that stay in registers.
//!
//! A fused multiply-add rounds once on every instruction set, so the result is the same on all, bit for bit. Where the CPU
//! has none, `mul_add` is a slow call.

use super::simd::Level;

/// Pixels of a tile.
pub(super) const ROWS: usize = 6;
/// The start of a tap outside of the input.
pub(super) const OUTSIDE: usize = usize::MAX;

/// Output channels of a tile, which is [`ROWS`] times two vectors of 16 or 8 values.
pub(super) fn width(level: Level) -> usize {
    match level {
        Level::Baseline => 16,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 16,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => 32,
    }
}

/// One stretch of input channels for one panel of output channels.
pub(super) struct Strip<'a> {
    pub x: &'a [f32],
    /// Where in `x` each tap of each pixel begins, or [`OUTSIDE`]: tile by tile, tap by tap.
    pub starts: &'a [[usize; ROWS]],
    pub taps: usize,
    /// Pixels.
    pub rows: usize,
    /// The first input channel, and how many.
    pub first: usize,
    pub channels: usize,
    /// `[tap, channel, width]`
    pub weight: &'a [f32],
    /// At the first stretch; else the output is added to.
    pub bias: Option<&'a [f32]>,
    pub starts_at_bias: bool,
    pub relu: bool,
    /// Values from one pixel's output to the next.
    pub step: usize,
    /// Output channels written.
    pub count: usize,
}

/// Computes a strip into `out`.
pub(super) fn strip(level: Level, s: &Strip<'_>, out: &mut [f32]) {
    match level {
        Level::Baseline => tiles(s, out, Portable),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level says that this CPU has these features.
        Level::Avx2 => unsafe { x86::avx2(s, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { x86::avx512(s, out) },
    }
}

/// The innermost loop of one instruction set.
trait Sums<const W: usize> {
    /// The sum of each pixel and channel of a tile, starting at `start`: taps, then channels.
    fn sums<const R: usize>(&self, s: &Strip<'_>, starts: &[[usize; ROWS]], start: &[f32; W]) -> [[f32; W]; R];
}

#[inline(always)]
fn tiles<const W: usize>(s: &Strip<'_>, out: &mut [f32], sums: impl Sums<W>) {
    for (tile, first) in (0..s.rows).step_by(ROWS).enumerate() {
        let starts = &s.starts[tile * s.taps..(tile + 1) * s.taps];
        let out = &mut out[first * s.step..];
        match s.rows - first {
            1 => tile_of::<1, W>(s, starts, out, &sums),
            2 => tile_of::<2, W>(s, starts, out, &sums),
            3 => tile_of::<3, W>(s, starts, out, &sums),
            4 => tile_of::<4, W>(s, starts, out, &sums),
            5 => tile_of::<5, W>(s, starts, out, &sums),
            _ => tile_of::<ROWS, W>(s, starts, out, &sums),
        }
    }
}

#[inline(always)]
fn tile_of<const R: usize, const W: usize>(
    s: &Strip<'_>,
    starts: &[[usize; ROWS]],
    out: &mut [f32],
    sums: &impl Sums<W>,
) {
    let bias: Option<&[f32; W]> = s.bias.map(|b| b.try_into().expect("a panel's bias is as wide as the panel"));
    let start = if s.starts_at_bias { bias.copied() } else { None };
    let mut sums = sums.sums::<R>(s, starts, &start.unwrap_or([0.0; W]));
    for (sum, out) in sums.iter_mut().zip(out.chunks_mut(s.step)) {
        let out = &mut out[..s.count];
        match bias {
            None => sum.iter_mut().zip(&*out).for_each(|(s, y)| *s += *y),
            Some(bias) if !s.starts_at_bias => sum.iter_mut().zip(bias).for_each(|(s, b)| *s += *b),
            Some(_) => {}
        }
        if s.relu {
            // NaN stays: observers refuse it.
            sum.iter_mut().for_each(|s| *s = if *s < 0.0 { 0.0 } else { *s });
        }
        out.copy_from_slice(&sum[..s.count]);
    }
}

/// The input of a tap for each pixel of a tile; `None` where all are outside.
#[inline(always)]
fn inputs<'a, const R: usize>(s: &Strip<'a>, starts: &[usize; ROWS]) -> Option<[&'a [f32]; R]> {
    static NOTHING: [f32; 512] = [0.0; 512];
    let outside = starts[..R].iter().all(|start| *start == OUTSIDE);
    (!outside).then(|| {
        std::array::from_fn(|i| match starts[i] {
            OUTSIDE => &NOTHING[..s.channels],
            start => &s.x[start + s.first..][..s.channels],
        })
    })
}

/// The specification, and what runs where there is nothing better.
struct Portable;

impl Sums<16> for Portable {
    fn sums<const R: usize>(&self, s: &Strip<'_>, starts: &[[usize; ROWS]], start: &[f32; 16]) -> [[f32; 16]; R] {
        let mut sums = [*start; R];
        for (starts, weight) in starts.iter().zip(s.weight.chunks_exact(s.channels * 16)) {
            let Some(x) = inputs::<R>(s, starts) else { continue };
            for (k, weight) in weight.as_chunks::<16>().0.iter().enumerate() {
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums.iter_mut().zip(weight).for_each(|(sum, w)| *sum = x[k].mul_add(*w, *sum));
                }
            }
        }
        sums
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{ROWS, Strip, Sums, inputs, tiles};

    /// A level's kernel: two vectors of channels for each pixel.
    macro_rules! kernel {
        ($run:ident, $sums:ident, $features:literal, $lanes:literal, $load:ident, $store:ident, $splat:ident, $fma:ident) => {
            #[target_feature(enable = $features)]
            pub fn $run(s: &Strip<'_>, out: &mut [f32]) {
                tiles(s, out, $sums(()));
            }

            /// Only made above, where the features are there.
            struct $sums(());

            impl Sums<{ 2 * $lanes }> for $sums {
                #[inline(always)]
                fn sums<const R: usize>(
                    &self,
                    s: &Strip<'_>,
                    starts: &[[usize; ROWS]],
                    start: &[f32; 2 * $lanes],
                ) -> [[f32; 2 * $lanes]; R] {
                    #[target_feature(enable = $features)]
                    #[inline]
                    fn run<const R: usize>(
                        s: &Strip<'_>,
                        starts: &[[usize; ROWS]],
                        start: &[f32; 2 * $lanes],
                    ) -> [[f32; 2 * $lanes]; R] {
                        let halves = |w: &[f32; 2 * $lanes]| {
                            // SAFETY: an array holds both vectors.
                            unsafe { [$load(w.as_ptr()), $load(w.as_ptr().add($lanes))] }
                        };
                        let mut acc = [halves(start); R];
                        for (starts, weight) in starts.iter().zip(s.weight.chunks_exact(s.channels * 2 * $lanes)) {
                            let Some(x) = inputs::<R>(s, starts) else { continue };
                            for (k, w) in weight.as_chunks::<{ 2 * $lanes }>().0.iter().enumerate() {
                                let w = halves(w);
                                for i in 0..R {
                                    // SAFETY: there are as many rows of weights as each input has channels.
                                    let x = $splat(unsafe { *x[i].get_unchecked(k) });
                                    acc[i] = [$fma(x, w[0], acc[i][0]), $fma(x, w[1], acc[i][1])];
                                }
                            }
                        }
                        acc.map(|[low, high]| {
                            let mut sums = [0.0; 2 * $lanes];
                            // SAFETY: the array holds both vectors.
                            unsafe {
                                $store(sums.as_mut_ptr(), low);
                                $store(sums.as_mut_ptr().add($lanes), high);
                            }
                            sums
                        })
                    }
                    // SAFETY: the kernel is only made where the features are there.
                    unsafe { run::<R>(s, starts, start) }
                }
            }
        };
    }

    kernel!(avx2, Avx2, "avx2,fma", 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps);
    kernel!(avx512, Avx512, "avx512f", 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps);
}
