use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::{
    gemm_panel::{Excess, Panel, Tiles, TilesOf, Windows},
    gemm_weights::{Block, GemmWeights, LANES, Quads},
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

/// What the tiles of a panel share that are multiplied by one block.
struct Strip<'a> {
    block: Block<'a>,
    bounds: Bounds,
    panel: &'a Panel,
    /// The panel's first pixel in the layer.
    first: usize,
    /// Whether the block's channels are as many as its lanes.
    is_whole: bool,
}

/// Calls a function of some tiles, with their number of rows as a constant.
macro_rules! by_rows {
    ($rows:expr, $job:ident . $f:ident :: <$width:ident> ($($argument:expr),*)) => {
        match $rows {
            1 => $job.$f::<1, $width>($($argument),*),
            2 => $job.$f::<2, $width>($($argument),*),
            3 => $job.$f::<3, $width>($($argument),*),
            4 => $job.$f::<4, $width>($($argument),*),
            5 => $job.$f::<5, $width>($($argument),*),
            rows => unreachable!("a tile of {rows} rows"),
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
            let tiles = Tiles::new(count, ROWS);
            // SAFETY: every window lies in the input with `SLACK` behind.
            unsafe { panel.fill_tiles(&windows, tiles, input) };
            for block in blocks.clone().map(|b| weights.block(b)) {
                let width = block.constants.len();
                let strip = Strip {
                    block,
                    bounds: Bounds::new(layer.requant.levels),
                    panel,
                    first,
                    is_whole: layer.out_channels - block.first >= LANES * width,
                };
                // SAFETY: as this function's; the panel was filled above.
                unsafe {
                    match width {
                        1 => self.run_strip::<1>(&strip, tiles),
                        2 => self.run_strip::<2>(&strip, tiles),
                        3 => self.run_strip::<3>(&strip, tiles),
                        width => unreachable!("a block of {width} vectors"),
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Job::run`]; the panel must hold the tiles.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn run_strip<const WIDTH: usize>(&self, strip: &Strip<'_>, tiles: Tiles) {
        for (tiles, rows) in tiles.by_rows() {
            // SAFETY: as this function's.
            unsafe { by_rows!(rows, self.run_tiles::<WIDTH>(strip, tiles)) }
        }
    }

    /// Tiles of `N` pixels times `8 * WIDTH` channels.
    ///
    /// # Safety
    /// As [`Job::run_strip`].
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn run_tiles<const N: usize, const WIDTH: usize>(&self, strip: &Strip<'_>, tiles: TilesOf) {
        let quads = QuadOrder::of(&strip.block, strip.block.places);
        let rows = &strip.panel.rows()[tiles.range.clone()];
        let first = strip.first + tiles.pixel;
        // Where windows start in the input, and where levels go.
        let windows = self.layer.windows[first..][..N * rows.len()].as_chunks::<N>().0;
        let places = self.layer.places[first..][..N * rows.len()].as_chunks::<N>().0;
        for (tile, ((row, windows), places)) in rows.iter().zip(windows).zip(places).enumerate() {
            // SAFETY: the input holds the windows, with a quad at each of the block's places; the pixels' channels lie in
            // the output, and nobody else writes them.
            unsafe {
                if row.is_none() && strip.is_whole {
                    let windows = windows.map(|start| self.input.as_ptr().add(start as usize));
                    let sums = add_narrow::<N, WIDTH, false>(starts(&strip.block), &quads, windows);
                    self.store(strip, sums, places);
                } else {
                    self.rare_tile::<N, WIDTH>(strip, first + N * tile, *row);
                }
            }
        }
    }

    /// A tile that has large levels, which are read in the panel from row `row` on, or fewer channels than lanes.
    ///
    /// # Safety
    /// As [`Job::run_strip`].
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn rare_tile<const N: usize, const WIDTH: usize>(&self, strip: &Strip<'_>, pixel: usize, row: Option<u32>) {
        let Strip { block, panel, .. } = strip;
        let mut sums = starts::<N, WIDTH>(block);
        // SAFETY: the input, or else the panel, holds `N` windows, with a quad at each of the block's offsets.
        unsafe {
            let (windows, offsets) = match row {
                None => {
                    let starts: &[u32; N] = self.layer.windows[pixel..][..N].try_into().expect("as many");
                    (starts.map(|start| self.input.as_ptr().add(start as usize)), block.places)
                }
                Some(row) => {
                    let (row, size) = (row as usize, self.weights.window());
                    if let Some(wide) = panel.wide() {
                        add_wide(&mut sums, block, wide[row * size..].as_ptr(), size);
                        return self.store_rare(strip, &sums, pixel);
                    }
                    let excess = panel.excess(row..row + N);
                    if !excess.is_empty() {
                        add_excess(&mut sums, block, excess, row);
                    }
                    let narrow = panel.narrow()[row * size..].as_ptr();
                    (std::array::from_fn(|row| narrow.add(row * size)), block.offsets)
                }
            };
            sums = add_narrow::<N, WIDTH, true>(sums, &QuadOrder::of(block, offsets), windows);
            self.store_rare(strip, &sums, pixel);
        }
    }

    /// Sums to levels, as many channels as lanes.
    ///
    /// # Safety
    /// The features of this module; the channels of each place must lie in the output, and nobody else write them.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store<const N: usize, const WIDTH: usize>(
        &self,
        strip: &Strip<'_>,
        sums: [[__m256i; WIDTH]; N],
        places: &[u32; N],
    ) {
        let bounds = strip.bounds;
        let constants: &[Constants; WIDTH] = strip.block.constants.try_into().expect("as wide as the tile");
        let first = strip.block.first;
        // `narrow` leaves the two halves of each vector in either half.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let at_once = 4 / WIDTH;
        for row in (0..N).step_by(at_once) {
            let mut levels = [_mm256_setzero_si256(); 4];
            for (i, level) in levels.iter_mut().enumerate().take(at_once * WIDTH) {
                if row + i / WIDTH < N {
                    *level = requantize(sums[row + i / WIDTH][i % WIDTH], &constants[i % WIDTH], bounds);
                }
            }
            let bytes = _mm256_permutevar8x32_epi32(bounds.narrow(levels), order);
            let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            let rows = match WIDTH {
                1 => [low, _mm_unpackhi_epi64(low, low), high, _mm_unpackhi_epi64(high, high)],
                2 => [low, high, low, high],
                _ => [low; 4],
            };
            for (i, levels) in rows.into_iter().enumerate().take(at_once) {
                if row + i < N {
                    // SAFETY: as this function's.
                    unsafe {
                        let to = self.output.as_mut_ptr().add(places[row + i] as usize + first);
                        if WIDTH == 1 {
                            _mm_storel_epi64(to.cast(), levels);
                        } else {
                            _mm_storeu_si128(to.cast(), levels);
                        }
                        if WIDTH == 3 {
                            _mm_storel_epi64(to.add(2 * LANES).cast(), high);
                        }
                    }
                }
            }
        }
    }

    /// Sums to levels, of a rare tile.
    ///
    /// # Safety
    /// As [`Job::run_strip`].
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn store_rare<const WIDTH: usize>(&self, strip: &Strip<'_>, sums: &[[__m256i; WIDTH]], pixel: usize) {
        let Strip { block, bounds, .. } = strip;
        let channels = (self.layer.out_channels - block.first).min(LANES * WIDTH);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for (sums, place) in sums.iter().zip(&self.layer.places[pixel..]) {
            let mut levels = [_mm256_setzero_si256(); 4];
            for ((level, sum), constants) in levels.iter_mut().zip(sums).zip(block.constants) {
                *level = requantize(*sum, constants, *bounds);
            }
            let mut bytes = [0; 4 * LANES];
            // SAFETY: 32 bytes; the pixel's channels lie in the output, and nobody else writes them.
            unsafe {
                _mm256_storeu_si256(
                    bytes.as_mut_ptr().cast(),
                    _mm256_permutevar8x32_epi32(bounds.narrow(levels), order),
                );
                let to = self.output.as_mut_ptr().add(*place as usize + block.first);
                to.copy_from_nonoverlapping(bytes.as_ptr(), channels);
            }
        }
    }
}

/// Where the sums of a tile start.
#[inline]
#[target_feature(enable = "avx2")]
fn starts<const N: usize, const WIDTH: usize>(block: &Block<'_>) -> [[__m256i; WIDTH]; N] {
    let constants: &[Constants; WIDTH] = block.constants.try_into().expect("as wide as the tile");
    // SAFETY: 32 bytes, aligned by the layout of `Constants`.
    [std::array::from_fn(|v| unsafe { _mm256_load_si256(constants[v].start.as_ptr().cast()) }); N]
}

/// The quads of a block in their order, and where the levels of each lie in a window.
struct QuadOrder<'a> {
    quads: *const Quads,
    fours: &'a [[u32; 4]],
    pairs: &'a [[u32; 2]],
    singles: &'a [u32],
}

impl<'a> QuadOrder<'a> {
    fn of(block: &Block<'a>, offsets: &'a [u32]) -> Self {
        let (fours, offsets) = offsets.split_at(4 * block.groups.fours);
        let (pairs, singles) = offsets.split_at(2 * block.groups.pairs);
        Self { quads: block.quads.as_ptr(), fours: fours.as_chunks().0, pairs: pairs.as_chunks().0, singles }
    }
}

/// Adds the products of windows of levels up to 127. `vpmaddubsw` multiplies four levels by four weights and adds two and
/// two in 16 bits, which such levels do not overflow; the quads of a group are added in 16 bits as well.
///
/// `RARE` keeps the two callers' copies apart: each is called once and so becomes part of it, with its sums in registers.
///
/// # Safety
/// The features of this module; four levels must be readable at each of the offsets, one a quad, from each window.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_narrow<const N: usize, const WIDTH: usize, const RARE: bool>(
    mut sums: [[__m256i; WIDTH]; N],
    order: &QuadOrder<'_>,
    windows: [*const u8; N],
) -> [[__m256i; WIDTH]; N] {
    let ones = _mm256_set1_epi16(1);
    let mut quads = order.quads;
    // SAFETY: `WIDTH` vectors were packed for each offset, and each offset lies in the window.
    unsafe {
        for offsets in order.fours {
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
        for offsets in order.pairs {
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
        for offset in order.singles {
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
