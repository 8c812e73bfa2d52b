//! The innermost loop of [`super::PackedConv`]: tiles of pixels by output channels that stay in registers.
//!
//! A fused multiply-add rounds once on every instruction set, so the result is the same on all, bit for bit. Where the CPU
//! has none, `mul_add` is a slow call.

use std::ops::Range;

use super::simd::{Level, per_level};
use crate::kernels::shared::Shared;

/// The start of a tap outside of the input.
pub(super) const OUTSIDE: usize = usize::MAX;
/// Products of one tap at most.
pub(super) const MOST_CHANNELS: usize = 512;
static NOTHING: [f32; MOST_CHANNELS] = [0.0; MOST_CHANNELS];

/// Pixels of a tile by the vectors of output channels beside each other: at least the eight sums that a multiply-add every
/// half cycle with a latency of four keeps going, and no more than fit AVX2's sixteen registers with the weights.
pub(super) const PIXELS: [usize; 4] = [0, 8, 6, 3];

/// Vectors of sums of the largest tile.
const MOST_SUMS: usize = 12;

/// Output channels of the widest panel: three vectors of AVX-512.
const WIDEST: usize = 48;

/// Where in the input each tap of some pixels begins.
pub(super) struct Rows<'a> {
    x: &'a [f32],
    /// Pixel by pixel, tap by tap, or [`OUTSIDE`].
    starts: &'a [usize],
    taps: usize,
    /// How far behind its start a tap's values lie at most.
    reach: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// Where a tap reaches outside of `x`.
    pub(super) fn new(x: &'a [f32], starts: &'a [usize], taps: usize, reach: usize) -> Self {
        let last = x.len().checked_sub(reach);
        let inside = |start: &usize| *start == OUTSIDE || last.is_some_and(|last| *start <= last);
        assert!(starts.iter().all(inside) && starts.len().is_multiple_of(taps), "taps of {reach} of {}", x.len());
        Self { x, starts, taps, reach }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len() / self.taps
    }
}

/// One stretch of input channels for one panel of output channels.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a> {
    /// Vectors of output channels, 1 to 3.
    pub vectors: usize,
    /// Values from a tap's start to those of this stretch.
    pub offset: usize,
    /// Values of each tap.
    pub channels: usize,
    /// `[tap, channel, output channel]`
    pub weight: &'a [f32],
    /// As wide as the panel.
    pub bias: &'a [f32],
    /// What the sums are, and what is added to them in the end.
    pub sum: Sum,
    pub relu: bool,
    /// Whether to fetch the weights behind these meanwhile, which are the next strip's.
    pub fetch_ahead: bool,
}

/// Where a stretch stands in the whole sum.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sum {
    /// It starts at the bias.
    FromBias,
    /// It starts at zero; the bias is added.
    PlusBias,
    /// It starts at zero; what the output holds is added.
    PlusOutput,
}

/// Where the results go: pixel `i`'s `count` channels stand from `first + i * step` on.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

/// Weights to fetch from `next` on, so many lines of the cache each tap.
#[derive(Clone, Copy)]
struct Ahead {
    next: *const f32,
    lines: usize,
}

/// Values of a line of the cache.
const LINE: usize = 16;

/// Computes a strip at `pixels` of `rows` into `out`; `to` is of the first of them.
///
/// # Safety
/// Nobody else touches those channels of `out` meanwhile.
pub(super) unsafe fn strip(
    level: Level,
    s: &Strip<'_>,
    rows: &Rows<'_>,
    pixels: Range<usize>,
    out: &Shared<'_, f32>,
    to: Place,
) {
    let width = s.vectors * level.lanes();
    assert!(pixels.end <= rows.len() && s.offset + s.channels <= rows.reach && s.channels <= MOST_CHANNELS);
    assert!(s.weight.len() == rows.taps * s.channels * width && s.bias.len() == width && to.count <= width);
    assert!(pixels.is_empty() || to.first + (pixels.len() - 1) * to.step + to.count <= out.len());
    // Tiles of nearly one size: a last one of one pixel would wait for its few sums.
    let tiles = pixels.len().div_ceil(PIXELS[s.vectors]);
    let (size, larger) = (pixels.len() / tiles.max(1), pixels.len() % tiles.max(1));
    let lines = if s.fetch_ahead && tiles > 1 { s.weight.len().div_ceil(rows.taps * tiles * LINE) } else { 0 };
    let mut pixel = pixels.start;
    let mut at = to.first;
    for tile in 0..tiles {
        let count = size + usize::from(tile < larger);
        // SAFETY: the assertions above bound what a tile reads and writes, [`Rows::new`] the taps; the level is there.
        unsafe {
            let starts = rows.starts.as_ptr().add(pixel * rows.taps);
            let out = out.as_mut_ptr().add(at);
            let next = s.weight.as_ptr().wrapping_add(s.weight.len() + tile * rows.taps * lines * LINE);
            let ahead = Ahead { next, lines };
            match level {
                Level::Baseline => portable::tile_of(s, rows, starts, out, to, ahead, count),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2::tile_of(s, rows, starts, out, to, ahead, count),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512::tile_of(s, rows, starts, out, to, ahead, count),
            }
        }
        (pixel, at) = (pixel + count, at + count * to.step);
    }
}

per_level! {
    /// The kernel of `count` pixels.
    #[inline]
    fn tile_of(
        s: &Strip<'_>, rows: &Rows<'_>, starts: *const usize, out: *mut f32, to: Place, ahead: Ahead, count: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match (s.vectors, count) {
                (1, 1) => tile::<1, 1>(s, rows, starts, out, to, ahead),
                (1, 2) => tile::<2, 1>(s, rows, starts, out, to, ahead),
                (1, 3) => tile::<3, 1>(s, rows, starts, out, to, ahead),
                (1, 4) => tile::<4, 1>(s, rows, starts, out, to, ahead),
                (1, 5) => tile::<5, 1>(s, rows, starts, out, to, ahead),
                (1, 6) => tile::<6, 1>(s, rows, starts, out, to, ahead),
                (1, 7) => tile::<7, 1>(s, rows, starts, out, to, ahead),
                (1, 8) => tile::<8, 1>(s, rows, starts, out, to, ahead),
                (2, 1) => tile::<1, 2>(s, rows, starts, out, to, ahead),
                (2, 2) => tile::<2, 2>(s, rows, starts, out, to, ahead),
                (2, 3) => tile::<3, 2>(s, rows, starts, out, to, ahead),
                (2, 4) => tile::<4, 2>(s, rows, starts, out, to, ahead),
                (2, 5) => tile::<5, 2>(s, rows, starts, out, to, ahead),
                (2, 6) => tile::<6, 2>(s, rows, starts, out, to, ahead),
                (3, 1) => tile::<1, 3>(s, rows, starts, out, to, ahead),
                (3, 2) => tile::<2, 3>(s, rows, starts, out, to, ahead),
                (3, 3) => tile::<3, 3>(s, rows, starts, out, to, ahead),
                _ => unreachable!("a tile of {count} pixels by {} vectors", s.vectors),
            }
        }
    }

    /// `R` pixels by `V` vectors of output channels.
    fn tile<const R: usize, const V: usize>(
        s: &Strip<'_>, rows: &Rows<'_>, starts: *const usize, out: *mut f32, to: Place, ahead: Ahead,
    ) {
        // SAFETY: `starts` holds the taps of R pixels, each with the strip's channels behind it; weights, bias and
        // output are as long as `strip` asserted.
        unsafe {
            let mut sums = [[splat(0.0); V]; R];
            if s.sum == Sum::FromBias {
                for v in 0..V {
                    let bias = load(s.bias.as_ptr().add(v * LANES));
                    for r in 0..R {
                        sums[r][v] = bias;
                    }
                }
            }
            let mut weight = s.weight.as_ptr();
            let input = rows.x.as_ptr().wrapping_add(s.offset);
            let mut next = ahead.next;
            for tap in 0..rows.taps {
                let mut x = [NOTHING.as_ptr(); R];
                let mut live = false;
                for r in 0..R {
                    let start = *starts.add(r * rows.taps + tap);
                    if start != OUTSIDE {
                        x[r] = input.wrapping_add(start);
                        live = true;
                    }
                }
                for _ in 0..ahead.lines {
                    prefetch(next);
                    next = next.wrapping_add(LINE);
                }
                if !live {
                    weight = weight.add(s.channels * V * LANES);
                    continue;
                }
                for k in 0..s.channels {
                    let mut w = [splat(0.0); V];
                    for v in 0..V {
                        w[v] = load(weight.add(v * LANES));
                    }
                    for r in 0..R {
                        let x = splat(*x[r].add(k));
                        for v in 0..V {
                            sums[r][v] = fma(x, w[v], sums[r][v]);
                        }
                    }
                    weight = weight.add(V * LANES);
                }
            }
            // Out of the registers at once: a loop that asks for the sums by number would keep them in memory all along.
            let mut done = [0.0_f32; MOST_SUMS * LANES];
            for r in 0..R {
                for v in 0..V {
                    store(done.as_mut_ptr().add((r * V + v) * LANES), sums[r][v]);
                }
            }
            // The last panel may be wider than the output.
            let whole = to.count == V * LANES;
            let mut part = [0.0_f32; WIDEST];
            for r in 0..R {
                let out = out.add(r * to.step);
                if !whole {
                    std::ptr::copy_nonoverlapping(out, part.as_mut_ptr(), to.count);
                }
                let target = if whole { out } else { part.as_mut_ptr() };
                for v in 0..V {
                    let target = target.add(v * LANES);
                    let mut sum = load(done.as_ptr().add((r * V + v) * LANES));
                    match s.sum {
                        Sum::FromBias => {}
                        Sum::PlusBias => sum = add(sum, load(s.bias.as_ptr().add(v * LANES))),
                        Sum::PlusOutput => sum = add(sum, load(target)),
                    }
                    store(target, if s.relu { positive(sum) } else { sum });
                }
                if !whole {
                    std::ptr::copy_nonoverlapping(part.as_ptr(), out, to.count);
                }
            }
        }
    }
}
