use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::{
    gemm_panel::{Excess, Panel, Windows},
    gemm_weights::{Block, GemmWeights, LANES},
    lanes::{Bounds, Constants, requantize},
};
use crate::kernels::{Gemm, Kernels, shared::Shared};

/// Pixels that a tile computes: with two vectors of sums each they leave six of the 16 registers.
const ROWS: usize = 5;
/// Bytes of copied windows that are multiplied by all weights before the next ones are copied: a third of a small L2.
const PANEL_BYTES: usize = 160 << 10;
/// Bytes of output that such a panel makes: each block writes a few of a pixel's channels, so that lines which have left the
/// L1 would come back for every block.
const OUTPUT_BYTES: usize = 12 << 10;

thread_local! {
    /// Kept, so that a run allocates nothing.
    static PANEL: RefCell<Panel> = const { RefCell::new(Panel::new()) };
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
    let blocks = weights.blocks();
    // Enough parts that threads end together: of pixels, and where there are few, of channels as well.
    let wanted = if kernels.threads() == 1 { 1 } else { 4 * kernels.threads() };
    let chunks = even(wanted.min(pixels.div_ceil(4 * ROWS)), kernels.threads());
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

/// As many of `parts` as all threads get the same number of.
pub(super) fn even(parts: usize, threads: usize) -> usize {
    if parts < threads { parts } else { parts - parts % threads }
}

struct Job<'a> {
    layer: &'a Gemm,
    weights: &'a GemmWeights,
    input: &'a [u8],
    output: &'a Shared<'a>,
}

/// Some pixels of a panel.
#[derive(Clone, Copy)]
struct Tile<'a> {
    block: Block<'a>,
    /// The first pixel in the layer.
    pixel: usize,
    /// And in the panel.
    row: usize,
}

/// Where a tile reads its levels.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// In the input: none is larger than the narrow tiles take.
    Input,
    Panel(&'a Panel),
}

/// Calls a function of one tile, with its numbers of rows and of vectors as constants.
macro_rules! by_size {
    ($job:ident . $f:ident ($tile:expr, $source:expr), $rows:expr, $width:expr, [$($n:literal)+]) => {
        match ($rows, $width) {
            $(($n, 2) => $job.$f::<$n, 2>($tile, $source),)+
            $(($n, 1) => $job.$f::<$n, 1>($tile, $source),)+
            size => unreachable!("a tile of {size:?}"),
        }
    };
}

impl Job<'_> {
    /// # Safety
    /// The features of this module; windows and places of the pixels within input and output, which nobody else writes.
    #[target_feature(enable = "avx2")]
    unsafe fn run(&self, pixels: Range<usize>, blocks: Range<usize>, panel: &mut Panel) {
        let Self { layer, weights, input, .. } = self;
        let by_output = (OUTPUT_BYTES / layer.out_channels).max(8 * ROWS);
        let most = (PANEL_BYTES / weights.window()).clamp(2 * ROWS, by_output);
        let panels = pixels.len().div_ceil(most);
        for part in 0..panels {
            let first = pixels.start + pixels.len() * part / panels;
            let count = pixels.start + pixels.len() * (part + 1) / panels - first;
            let starts = &layer.windows[first..][..count];
            let (step, size) = (weights.run(), weights.window());
            let windows = Windows { starts, runs: &layer.runs, run: layer.run, step, size };
            let tiles = count.div_ceil(ROWS);
            // SAFETY: every window lies in the input with `SLACK` behind.
            unsafe { panel.fill_tiles(&windows, tiles, input) };
            for block in blocks.clone().map(|b| weights.block(b)) {
                for tile in 0..tiles {
                    // Tiles of even height.
                    let pixel = count * tile / tiles;
                    let rows = count * (tile + 1) / tiles - pixel;
                    let (source, row) = match panel.row(tile) {
                        Some(row) => (Source::Panel(panel), row),
                        None => (Source::Input, 0),
                    };
                    let tile = Tile { block, pixel: first + pixel, row };
                    // SAFETY: as this function's; the panel was filled above.
                    unsafe { by_size!(self.tile(tile, source), rows, block.constants.len(), [1 2 3 4 5 6]) }
                }
            }
        }
    }

    /// `N` pixels times `8 * WIDTH` channels.
    ///
    /// # Safety
    /// As [`Job::run`]; the panel must hold the tile's pixels.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn tile<const N: usize, const WIDTH: usize>(&self, tile: Tile<'_>, source: Source<'_>) {
        let block = &tile.block;
        let constants: &[Constants; WIDTH] = block.constants.try_into().expect("as wide as the tile");
        let size = self.weights.window();
        let mut starts = [[_mm256_setzero_si256(); WIDTH]; N];
        for row in &mut starts {
            for (sum, constants) in row.iter_mut().zip(constants) {
                // SAFETY: 32 bytes, aligned by the layout of `Constants`.
                *sum = unsafe { _mm256_load_si256(constants.start.as_ptr().cast()) };
            }
        }
        let mut windows = [self.input.as_ptr(); N];
        // SAFETY: the input, or else the panel, holds `N` windows, with a quad at each of the block's offsets.
        unsafe {
            let offsets = match source {
                Source::Input => {
                    let places: &[u32; N] = self.layer.windows[tile.pixel..][..N].try_into().expect("as many");
                    for (window, start) in windows.iter_mut().zip(places) {
                        *window = window.add(*start as usize);
                    }
                    block.places
                }
                Source::Panel(panel) => {
                    if let Some(wide) = panel.wide() {
                        add_wide(&mut starts, block, wide[tile.row * size..].as_ptr(), size);
                        return self.store(tile, starts);
                    }
                    let excess = panel.excess(tile.row..tile.row + N);
                    if !excess.is_empty() {
                        add_excess(&mut starts, block, excess, tile.row);
                    }
                    let narrow = panel.narrow()[tile.row * size..].as_ptr();
                    for (row, window) in windows.iter_mut().enumerate() {
                        *window = narrow.add(row * size);
                    }
                    block.offsets
                }
            };
            let sums = add_narrow(starts, block, windows, offsets);
            self.store(tile, sums);
        }
    }

    /// # Safety
    /// As [`Job::tile`].
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store<const N: usize, const WIDTH: usize>(&self, tile: Tile<'_>, sums: [[__m256i; WIDTH]; N]) {
        let bounds = Bounds::new(self.layer.requant.levels);
        let constants: &[Constants; WIDTH] = tile.block.constants.try_into().expect("as wide as the tile");
        let first = tile.block.first;
        let channels = (self.layer.out_channels - first).min(LANES * WIDTH);
        let places: &[u32; N] = self.layer.places[tile.pixel..][..N].try_into().expect("as many as rows");
        // `narrow` leaves the two halves of each vector in either half.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let at_once = 4 / WIDTH;
        for row in (0..N).step_by(at_once) {
            let mut levels = [_mm256_setzero_si256(); 4];
            for (i, level) in levels.iter_mut().enumerate() {
                if row + i / WIDTH < N {
                    *level = requantize(sums[row + i / WIDTH][i % WIDTH], &constants[i % WIDTH], bounds);
                }
            }
            let bytes = _mm256_permutevar8x32_epi32(bounds.narrow(levels), order);
            let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            let rows = if WIDTH == 2 {
                [low, high, low, high]
            } else {
                [low, _mm_unpackhi_epi64(low, low), high, _mm_unpackhi_epi64(high, high)]
            };
            for (i, levels) in rows.into_iter().enumerate().take(at_once) {
                if row + i < N {
                    // SAFETY: the pixel's channels lie in the output, and no other thread writes them.
                    unsafe {
                        let to = self.output.as_mut_ptr().add(places[row + i] as usize + first);
                        if channels < LANES * WIDTH {
                            store_some(levels, to, channels);
                        } else if WIDTH == 2 {
                            _mm_storeu_si128(to.cast(), levels);
                        } else {
                            _mm_storel_epi64(to.cast(), levels);
                        }
                    }
                }
            }
        }
    }
}

/// The first `count` bytes of `levels`.
///
/// # Safety
/// The features of this module; as many bytes from `to` on are the caller's.
#[inline(never)]
#[target_feature(enable = "avx2")]
unsafe fn store_some(levels: __m128i, to: *mut u8, count: usize) {
    let mut bytes = [0; 16];
    // SAFETY: 16 bytes; `to` as this function's.
    unsafe {
        _mm_storeu_si128(bytes.as_mut_ptr().cast(), levels);
        to.copy_from_nonoverlapping(bytes.as_ptr(), count.min(16));
    }
}

/// Adds the products of windows of levels up to 127. `vpmaddubsw` multiplies four levels by four weights and adds two and
/// two in 16 bits, which such levels do not overflow; the quads of a group are added in 16 bits as well.
///
/// # Safety
/// The features of this module; four levels must be readable at each of the offsets, one a quad, from each window.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_narrow<const N: usize, const WIDTH: usize>(
    mut sums: [[__m256i; WIDTH]; N],
    block: &Block<'_>,
    windows: [*const u8; N],
    offsets: &[u32],
) -> [[__m256i; WIDTH]; N] {
    let ones = _mm256_set1_epi16(1);
    let mut quads = block.quads.as_ptr();
    let (fours, offsets) = offsets.split_at(4 * block.groups.fours);
    let (pairs, singles) = offsets.split_at(2 * block.groups.pairs);
    // SAFETY: `WIDTH` vectors were packed for each offset, and each offset lies in the window.
    unsafe {
        for offsets in fours.as_chunks::<4>().0 {
            for (row, sums) in sums.iter_mut().enumerate() {
                let mut four = [_mm256_setzero_si256(); WIDTH];
                for (quad, offset) in offsets.iter().enumerate() {
                    let x = windows[row].add(*offset as usize).cast::<i32>().read_unaligned();
                    let x = _mm256_set1_epi32(x);
                    for (v, four) in four.iter_mut().enumerate() {
                        let quad = _mm256_load_si256(quads.add(WIDTH * quad + v).cast());
                        *four = _mm256_add_epi16(*four, _mm256_maddubs_epi16(x, quad));
                    }
                }
                for (sum, four) in sums.iter_mut().zip(four) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(four, ones));
                }
            }
            quads = quads.add(4 * WIDTH);
        }
        for offsets in pairs.as_chunks::<2>().0 {
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = windows[row].add(offsets[0] as usize).cast::<i32>().read_unaligned();
                let y = windows[row].add(offsets[1] as usize).cast::<i32>().read_unaligned();
                let (x, y) = (_mm256_set1_epi32(x), _mm256_set1_epi32(y));
                for (v, sum) in sums.iter_mut().enumerate() {
                    let first = _mm256_maddubs_epi16(x, _mm256_load_si256(quads.add(v).cast()));
                    let second = _mm256_maddubs_epi16(y, _mm256_load_si256(quads.add(WIDTH + v).cast()));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_add_epi16(first, second), ones));
                }
            }
            quads = quads.add(2 * WIDTH);
        }
        for offset in singles {
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = windows[row].add(*offset as usize).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(x);
                for (v, sum) in sums.iter_mut().enumerate() {
                    let products = _mm256_maddubs_epi16(x, _mm256_load_si256(quads.add(v).cast()));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(products, ones));
                }
            }
            quads = quads.add(WIDTH);
        }
    }
    sums
}

/// Adds what the levels of the narrow windows lack.
///
/// # Safety
/// The features of this module; `excess` must be of `N` pixels from `row` on.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
unsafe fn add_excess<const N: usize, const WIDTH: usize>(
    sums: &mut [[__m256i; WIDTH]; N],
    block: &Block<'_>,
    excess: &[Excess],
    row: usize,
) {
    for Excess { pixel, at, by } in excess.iter().copied() {
        let slot = block.slots[at as usize / 4] as usize;
        let left = _mm_cvtsi32_si128(24 - 8 * (at as i32 % 4));
        let by = _mm256_set1_epi32(i32::from(by));
        for (sum, quads) in sums[pixel as usize - row].iter_mut().zip(&block.quads[slot * WIDTH..]) {
            // SAFETY: 32 bytes, aligned by the layout of `Quads`.
            let quads = unsafe { _mm256_load_si256(quads.0.as_ptr().cast()) };
            // The weight that belongs to the level, out of each lane's four.
            let weight = _mm256_srai_epi32::<24>(_mm256_sll_epi32(quads, left));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(weight, by));
        }
    }
}

/// Adds the products of any levels, widened to 16 bits: `vpmaddwd` is exact.
///
/// # Safety
/// The features of this module; `windows` must hold `N` windows, `size` levels from one to the next.
#[inline(never)]
#[target_feature(enable = "avx2")]
unsafe fn add_wide<const N: usize, const WIDTH: usize>(
    sums: &mut [[__m256i; WIDTH]; N],
    block: &Block<'_>,
    windows: *const i16,
    size: usize,
) {
    for v in 0..WIDTH {
        // In each row's two vectors, a channel has two lanes: of the first two levels of a quad and of the last two.
        let mut halves = [[_mm256_setzero_si256(); 2]; N];
        for (i, offset) in block.offsets.iter().enumerate() {
            // SAFETY: `WIDTH` vectors were packed for each offset, and each offset lies in the window.
            unsafe {
                let quads = block.quads.as_ptr().add(i * WIDTH + v).cast::<__m128i>();
                let w = [quads, quads.add(1)].map(|half| _mm256_cvtepi8_epi16(_mm_load_si128(half)));
                for (row, halves) in halves.iter_mut().enumerate() {
                    let x = windows.add(row * size + *offset as usize).cast::<i64>().read_unaligned();
                    let x = _mm256_set1_epi64x(x);
                    for (half, w) in halves.iter_mut().zip(w) {
                        *half = _mm256_add_epi32(*half, _mm256_madd_epi16(x, w));
                    }
                }
            }
        }
        for (sums, [low, high]) in sums.iter_mut().zip(halves) {
            // Channels 0, 1, 4, 5, 2, 3, 6, 7.
            let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
            sums[v] = _mm256_add_epi32(sums[v], both);
        }
    }
}
