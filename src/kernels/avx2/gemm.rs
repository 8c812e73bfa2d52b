use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::lanes::{Bounds, Constants, requantize};
use crate::kernels::{Gemm, Kernels, Requant, shared::Shared};

/// Output channels that a tile computes.
const CHANNELS: usize = 8;
/// Pixels that a tile computes: with two vectors of sums each they fill 12 of the 16 registers.
const ROWS: usize = 6;
/// Bytes of widened pixels that are multiplied by all weights before the next ones are widened: a third of a small L2.
const PANEL_BYTES: usize = 160 << 10;

/// Weights of a dense layer: for every 8 output channels, for every four levels of the window, one [`Quads`].
#[derive(Debug)]
pub(in crate::kernels) struct GemmWeights {
    quads: Vec<Quads>,
    constants: Vec<Constants>,
    /// Of four levels, in one window; the last may hold fewer weights, the rest are 0.
    quads_in_window: usize,
}

/// 8 output channels times 4 levels.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct Quads([i8; 32]);

impl GemmWeights {
    /// From `[out][window]`.
    pub(in crate::kernels) fn pack(plain: &[i8], window: usize, requant: &Requant) -> Self {
        let channels = requant.bias.len();
        let blocks = channels.div_ceil(CHANNELS);
        let quads_in_window = window.div_ceil(4);
        let weight = |c: usize, i: usize| if c < channels && i < window { plain[c * window + i] } else { 0 };
        let quad = |i: usize| {
            let (block, quad) = (i / quads_in_window, i % quads_in_window);
            Quads(std::array::from_fn(|i| weight(block * CHANNELS + i / 4, quad * 4 + i % 4)))
        };
        let quads = (0..blocks * quads_in_window).map(quad).collect();
        let mut constants = vec![Constants::ZERO; blocks];
        for c in 0..channels {
            let slot = &mut constants[c / CHANNELS];
            slot.start[c % CHANNELS] = requant.start(&plain[c * window..][..window]);
            slot.bias[c % CHANNELS] = requant.bias[c];
            slot.multiplier[c % CHANNELS] = requant.multiplier[c];
        }
        Self { quads, constants, quads_in_window }
    }
}

thread_local! {
    /// Windows of some pixels, widened; kept, so that a run allocates nothing.
    static PANEL: RefCell<Vec<i16>> = const { RefCell::new(Vec::new()) };
}

/// Computes a dense layer; `Gemm::run` has checked that every window and every output lies in its slice.
pub(in crate::kernels) fn gemm(
    layer: &Gemm,
    weights: &GemmWeights,
    kernels: &Kernels,
    input: &[u8],
    output: &Shared<'_>,
) {
    let pixels = layer.windows.len();
    let blocks = weights.constants.len();
    // Enough parts that threads end together: of pixels, and where there are few, of channels as well.
    let wanted = if kernels.threads() == 1 { 1 } else { 4 * kernels.threads() };
    let chunks = wanted.min(pixels.div_ceil(4 * ROWS));
    let groups = wanted.div_ceil(chunks).min(blocks);
    kernels.for_parts(chunks * groups, layer.macs(), |part| {
        let share = |part: usize, of: usize, all: usize| all * part / of..all * (part + 1) / of;
        let pixels = share(part / groups, chunks, pixels);
        let blocks = share(part % groups, groups, blocks);
        PANEL.with_borrow_mut(|panel| {
            // SAFETY: the CPU has the features (`Kernels`); the slices were checked by `Gemm::run`; each part writes its
            // own pixels and channels.
            unsafe { Job { layer, weights, input, output }.run(pixels, blocks, panel) }
        });
    });
}

struct Job<'a> {
    layer: &'a Gemm,
    weights: &'a GemmWeights,
    input: &'a [u8],
    output: &'a Shared<'a>,
}

/// Calls `tile` with the number of rows as a constant.
macro_rules! by_rows {
    ($self:ident, $tile:expr, $rows:expr, [$($n:literal)+]) => {
        match $rows {
            $($n => $self.tile::<$n>($tile),)+
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

/// Where a tile is.
#[derive(Clone, Copy)]
struct Tile {
    /// Its first pixel.
    pixel: usize,
    /// That pixel's window, widened.
    window: *const i16,
    block: usize,
}

impl Job<'_> {
    /// # Safety
    /// The features of this module; windows and places of the pixels within input and output, which nobody else writes.
    #[target_feature(enable = "avx2")]
    unsafe fn run(&self, pixels: Range<usize>, blocks: Range<usize>, panel: &mut Vec<i16>) {
        let window = 4 * self.weights.quads_in_window;
        let most = (PANEL_BYTES / (2 * window)).max(2 * ROWS);
        let panels = pixels.len().div_ceil(most);
        panel.resize(panel.len().max(pixels.len().div_ceil(panels) * window + 32), 0);
        for part in 0..panels {
            let first = pixels.start + pixels.len() * part / panels;
            let end = pixels.start + pixels.len() * (part + 1) / panels;
            // SAFETY: as this function's; the panel holds `end - first` windows, and 32 levels more.
            unsafe { self.widen(first..end, panel.as_mut_ptr()) };
            let tiles = (end - first).div_ceil(ROWS);
            for block in blocks.clone() {
                for tile in 0..tiles {
                    // Tiles of even height.
                    let from = (end - first) * tile / tiles;
                    let rows = (end - first) * (tile + 1) / tiles - from;
                    // SAFETY: as this function's; the panel was filled above.
                    unsafe {
                        let tile = Tile { pixel: first + from, window: panel.as_ptr().add(from * window), block };
                        by_rows!(self, tile, rows, [1 2 3 4 5 6]);
                    }
                }
            }
        }
    }

    /// Writes the windows of some pixels one after the other, each a whole number of quads; what fills up the last quad is
    /// arbitrary, for its weights are 0.
    ///
    /// # Safety
    /// As [`Job::run`]; `to` must take 32 levels more than the windows.
    #[target_feature(enable = "avx2")]
    unsafe fn widen(&self, pixels: Range<usize>, mut to: *mut i16) {
        let (run, window) = (self.layer.run, 4 * self.weights.quads_in_window);
        for start in &self.layer.windows[pixels] {
            for (i, offset) in self.layer.runs.iter().enumerate() {
                // SAFETY: the run lies in the input, with `SLACK` behind; what is written behind a run's end is
                // overwritten by the next run, or within the 32 levels behind the last one.
                unsafe {
                    let from = self.input.as_ptr().add((start + offset) as usize);
                    let to = to.add(i * run);
                    for at in (0..run).step_by(16) {
                        let levels = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(at).cast()));
                        _mm256_storeu_si256(to.add(at).cast(), levels);
                    }
                }
            }
            // SAFETY: the next window, or the end of the last.
            to = unsafe { to.add(window) };
        }
    }

    /// `N` pixels times 8 channels.
    ///
    /// # Safety
    /// As [`Job::run`]; `tile.window` must be followed by the other pixels' windows.
    #[target_feature(enable = "avx2")]
    unsafe fn tile<const N: usize>(&self, tile: Tile) {
        let quads = self.weights.quads_in_window;
        let constants = &self.weights.constants[tile.block];
        let weights = self.weights.quads[tile.block * quads..][..quads].as_ptr();
        // In each row's two vectors, a channel has two lanes: of the first two levels of a quad and of the last two.
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for quad in 0..quads {
            // SAFETY: the weights were sliced above; each window holds as many quads.
            unsafe {
                let halves = weights.add(quad).cast::<__m128i>();
                let w = [halves, halves.add(1)].map(|half| _mm256_cvtepi8_epi16(_mm_load_si128(half)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = tile.window.add(4 * (row * quads + quad)).cast::<i64>().read_unaligned();
                    let x = _mm256_set1_epi64x(x);
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
                    }
                }
            }
        }
        // SAFETY: aligned by the layout of `Constants`.
        let start = unsafe { _mm256_load_si256(constants.start.as_ptr().cast()) };
        let sums = sums.map(|[low, high]| {
            // Channels 0, 1, 4, 5, 2, 3, 6, 7.
            let sums = _mm256_hadd_epi32(low, high);
            _mm256_add_epi32(_mm256_permute4x64_epi64::<0b11_01_10_00>(sums), start)
        });
        // SAFETY: as this function's.
        unsafe { self.store(tile, &sums, constants) };
    }

    /// # Safety
    /// As [`Job::tile`].
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store<const N: usize>(&self, tile: Tile, sums: &[__m256i; N], constants: &Constants) {
        let bounds = Bounds::new(self.layer.requant.levels);
        let first = tile.block * CHANNELS;
        let channels = (self.layer.out_channels - first).min(CHANNELS);
        for (i, sums) in sums.chunks(4).enumerate() {
            let mut levels = [_mm256_setzero_si256(); 4];
            for (level, sum) in levels.iter_mut().zip(sums) {
                *level = requantize(*sum, constants, bounds);
            }
            // `narrow` leaves four levels of each row in either half.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let bytes = _mm256_permutevar8x32_epi32(bounds.narrow(levels), order);
            let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            let rows = [
                _mm_cvtsi128_si64(low),
                _mm_extract_epi64::<1>(low),
                _mm_cvtsi128_si64(high),
                _mm_extract_epi64::<1>(high),
            ];
            for (row, levels) in rows.into_iter().enumerate().take(sums.len()) {
                let place = self.layer.places[tile.pixel + 4 * i + row] as usize + first;
                // SAFETY: the pixel's channels lie in the output, and no other thread writes them.
                unsafe {
                    let to = self.output.as_mut_ptr().add(place);
                    if channels == CHANNELS {
                        to.cast::<i64>().write_unaligned(levels);
                    } else {
                        to.copy_from_nonoverlapping(levels.to_le_bytes().as_ptr(), channels);
                    }
                }
            }
        }
    }
}
