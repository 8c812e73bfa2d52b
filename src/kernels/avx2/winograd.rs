use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::{
    gemm::even,
    gemm_weights::LANES,
    lanes::{Bounds, Constants, requantize},
};
use crate::kernels::{ConvGeometry, Kernels, Map, Requant, shared::Shared};

/// A dense 3x3 convolution of stride 1 by Winograd's minimal filtering, F(2x2, 3x3): 16 products for 4 outputs where the
/// sum itself takes 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
///
/// In integers it is exact: weights are transformed by twice the matrix `G`, so that no half is lost, and sums come out
/// four times as large. A transformed level is at most 4 * 255, a transformed weight 9 * 128: both fit 16 bits.
#[derive(Debug)]
pub(in crate::kernels) struct Winograd {
    input: Map,
    output: Map,
    /// Where the window of output pixel (0, 0) starts.
    first: usize,
    /// `[block of 16 channels][point of 16][two inputs]`, two vectors each.
    weights: Vec<Pairs>,
    /// Two a block.
    constants: Vec<Constants>,
    requant: Requant,
    /// Input channels, filled up to whole vectors.
    depth: usize,
}

/// 8 output channels times 2 inputs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct Pairs([i16; 16]);

/// Products of a tile.
const POINTS: usize = 16;
/// Tiles multiplied at once: with two vectors of sums each they fill 12 of the 16 registers.
const ROWS: usize = 6;
/// Tiles that are multiplied by all weights before the next ones are transformed: their sums of one block fit the L1.
const PANEL: usize = 25;
/// Sums four times as large must fit int32.
const MOST_CHANNELS: usize = 1 << 10;
/// With fewer tiles the time goes to reading weights, of which there are 3.6 times as many bytes.
const FEWEST_TILES: usize = 40;

thread_local! {
    /// Kept, so that a run allocates nothing.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { levels: Vec::new(), sums: Vec::new() }) };
}

/// Of some tiles.
struct Scratch {
    /// `[point][tile][depth]`.
    levels: Vec<i16>,
    /// `[point][tile][16 channels]` of one block.
    sums: Vec<i32>,
}

impl Winograd {
    /// Whether a layer can be computed so, and is worth it.
    pub(in crate::kernels) fn suits(geometry: ConvGeometry, input: Map, output: Map) -> bool {
        geometry.kernel == [3, 3]
            && geometry.stride == 1
            && (16..=MOST_CHANNELS).contains(&input.c)
            && output.c >= 16
            && output.h.div_ceil(2) * output.w.div_ceil(2) >= FEWEST_TILES
    }

    /// From `[out][3][3][in]`.
    pub(in crate::kernels) fn pack(plain: &[i8], padding: usize, input: Map, output: Map, requant: &Requant) -> Self {
        let (channels, depth) = (input.c, input.c.next_multiple_of(16));
        let blocks = output.c.div_ceil(2 * LANES);
        let mut constants = vec![Constants::ZERO; 2 * blocks];
        let mut weights = vec![Pairs([0; 16]); blocks * POINTS * depth];
        for (c, filter) in plain.chunks_exact(9 * channels).enumerate() {
            let slot = &mut constants[c / LANES];
            slot.start[c % LANES] = requant.start(filter);
            slot.bias[c % LANES] = requant.bias[c];
            slot.multiplier[c % LANES] = requant.multiplier[c];
            let (block, vector) = (c / (2 * LANES), c / LANES % 2);
            for i in 0..channels {
                let points = transform(std::array::from_fn(|tap| i16::from(filter[tap * channels + i])));
                for (point, weight) in points.into_iter().enumerate() {
                    let pair = (block * POINTS + point) * depth + i / 2 * 2 + vector;
                    weights[pair].0[c % LANES * 2 + i % 2] = weight;
                }
            }
        }
        let first = input.start - padding * (input.row + input.pixel);
        Self { input, output, first, weights, constants, requant: requant.clone(), depth }
    }

    /// Computes the layer; `Gemm::run` has checked that every window and every output lies in its slice.
    pub(in crate::kernels) fn run(&self, kernels: &Kernels, macs: usize, input: &[u8], output: &Shared<'_>) {
        let tiles = self.output.h.div_ceil(2) * self.output.w.div_ceil(2);
        let threads = kernels.threads();
        // Each part reads all weights: not many parts, and no small ones.
        let parts = if threads == 1 { 1 } else { even((tiles / PANEL).clamp(threads, 4 * threads), threads) };
        kernels.for_parts(parts, macs, |part| {
            let (start, end) = (tiles * part / parts, tiles * (part + 1) / parts);
            let panels = (end - start).div_ceil(PANEL);
            SCRATCH.with_borrow_mut(|scratch| {
                for panel in 0..panels {
                    let share = |panel: usize| start + (end - start) * panel / panels;
                    // SAFETY: the CPU has the features (`Kernels`); the slices were checked by `Gemm::run`; each part
                    // writes its own pixels.
                    unsafe { self.panel(share(panel)..share(panel + 1), scratch, input, output) };
                }
            });
        });
    }

    /// # Safety
    /// The features of this module; windows and pixels of the tiles within input and output, which nobody else writes.
    #[target_feature(enable = "avx2")]
    unsafe fn panel(&self, tiles: Range<usize>, scratch: &mut Scratch, input: &[u8], output: &Shared<'_>) {
        let count = tiles.len();
        // A line more than what could put all points on the same lines of the cache.
        let stride = count * 2 * LANES + 16;
        let deep = count * self.depth + 32;
        scratch.levels.resize(scratch.levels.len().max(POINTS * deep), 0);
        scratch.sums.resize(scratch.sums.len().max(POINTS * stride), 0);
        // SAFETY: as this function's; the buffers are as large as set above.
        unsafe {
            for (i, tile) in tiles.clone().enumerate() {
                self.transform_levels(tile, input, &mut scratch.levels[i * self.depth..], deep);
            }
            for block in 0..self.constants.len() / 2 {
                for point in 0..POINTS {
                    let weights = &self.weights[(block * POINTS + point) * self.depth..][..self.depth];
                    let groups = count.div_ceil(ROWS);
                    for group in 0..groups {
                        let first = count * group / groups;
                        let levels = &scratch.levels[point * deep + first * self.depth..];
                        let sums = &mut scratch.sums[point * stride + first * 2 * LANES..];
                        match count * (group + 1) / groups - first {
                            1 => multiply::<1>(levels, weights, sums),
                            2 => multiply::<2>(levels, weights, sums),
                            3 => multiply::<3>(levels, weights, sums),
                            4 => multiply::<4>(levels, weights, sums),
                            5 => multiply::<5>(levels, weights, sums),
                            6 => multiply::<6>(levels, weights, sums),
                            rows => unreachable!("a group of {rows} tiles"),
                        }
                    }
                }
                for (i, tile) in tiles.clone().enumerate() {
                    self.store(tile, block, &scratch.sums[i * 2 * LANES..], stride, output);
                }
            }
        }
    }

    /// Row and column of a tile's first output pixel.
    fn place(&self, tile: usize) -> [usize; 2] {
        let across = self.output.w.div_ceil(2);
        [tile / across * 2, tile % across * 2]
    }

    /// A tile's 4 x 4 levels of all channels, `B^T d B`, to `[point][depth]`, `stride` from one point to the next.
    ///
    /// # Safety
    /// As [`Winograd::panel`]; 16 points must fit `to`.
    #[target_feature(enable = "avx2")]
    unsafe fn transform_levels(&self, tile: usize, input: &[u8], to: &mut [i16], stride: usize) {
        let [y, x] = self.place(tile);
        assert!(15 * stride + self.depth <= to.len());
        // What lies outside the last window adds to no output that is kept: anything readable will do.
        let row = |i: usize| (y + i).min(self.output.h + 1);
        let column = |j: usize| (x + j).min(self.output.w + 1);
        let at = |i: usize, j: usize| self.first + row(i) * self.input.row + column(j) * self.input.pixel;
        let places: [[usize; 4]; 4] = std::array::from_fn(|i| std::array::from_fn(|j| at(i, j)));
        for c in (0..self.depth).step_by(16) {
            // SAFETY: the window lies in the input with `SLACK` behind.
            let load = |i: usize, j: usize| unsafe {
                _mm256_cvtepu8_epi16(_mm_loadu_si128(input.as_ptr().add(places[i][j] + c).cast()))
            };
            let column = |j: usize| spread([load(0, j), load(1, j), load(2, j), load(3, j)]);
            let columns = [column(0), column(1), column(2), column(3)];
            for i in 0..4 {
                let points = spread(columns.map(|column| column[i]));
                for (j, point) in points.into_iter().enumerate() {
                    // SAFETY: within `to`, as asserted.
                    unsafe { _mm256_storeu_si256(to.as_mut_ptr().add((4 * i + j) * stride + c).cast(), point) };
                }
            }
        }
    }

    /// A block of channels of a tile: `A^T m A`, requantized. `sums` has the tile's, `stride` from one point to the next.
    ///
    /// # Safety
    /// As [`Winograd::panel`]; `sums` must hold 16 points.
    #[target_feature(enable = "avx2")]
    unsafe fn store(&self, tile: usize, block: usize, sums: &[i32], stride: usize, output: &Shared<'_>) {
        assert!(15 * stride + 2 * LANES <= sums.len());
        let bounds = Bounds::new(self.requant.levels);
        let mut levels = [[_mm256_setzero_si256(); 4]; 2];
        for vector in 0..2 {
            let constants = &self.constants[2 * block + vector];
            // SAFETY: as asserted.
            let load = |i: usize, j: usize| unsafe {
                _mm256_loadu_si256(sums.as_ptr().add((4 * i + j) * stride + vector * LANES).cast())
            };
            let column = |j: usize| gather([load(0, j), load(1, j), load(2, j), load(3, j)]);
            let columns = [column(0), column(1), column(2), column(3)];
            // SAFETY: 32 bytes, aligned by the layout of `Constants`.
            let start = unsafe { _mm256_load_si256(constants.start.as_ptr().cast()) };
            for (y, levels) in levels.iter_mut().enumerate() {
                for (x, sum) in gather(columns.map(|column| column[y])).into_iter().enumerate() {
                    let sum = _mm256_add_epi32(_mm256_srai_epi32::<2>(sum), start);
                    levels[2 * x + vector] = requantize(sum, constants, bounds);
                }
            }
        }
        let [y, x] = self.place(tile);
        let first = block * 2 * LANES;
        let channels = (self.output.c - first).min(2 * LANES);
        // `narrow` leaves the two halves of each vector in either half.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for (i, levels) in levels.into_iter().enumerate().take(self.output.h - y) {
            let bytes = _mm256_permutevar8x32_epi32(bounds.narrow(levels), order);
            let pixels = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
            for (j, levels) in pixels.into_iter().enumerate().take(self.output.w - x) {
                // SAFETY: the pixel's channels lie in the output, and no other thread writes them.
                unsafe {
                    let to = output.as_mut_ptr().add(self.output.at(y + i, x + j) + first);
                    if channels == 2 * LANES {
                        _mm_storeu_si128(to.cast(), levels);
                    } else {
                        let mut bytes = [0; 16];
                        _mm_storeu_si128(bytes.as_mut_ptr().cast(), levels);
                        to.copy_from_nonoverlapping(bytes.as_ptr(), channels);
                    }
                }
            }
        }
    }
}

/// `B^T d` for one column of 16 channels.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(d: [__m256i; 4]) -> [__m256i; 4] {
    [
        _mm256_sub_epi16(d[0], d[2]),
        _mm256_add_epi16(d[1], d[2]),
        _mm256_sub_epi16(d[2], d[1]),
        _mm256_sub_epi16(d[1], d[3]),
    ]
}

/// `A^T m` for one column of 8 channels; sums may wrap around, the last ones fit again.
#[inline]
#[target_feature(enable = "avx2")]
fn gather(m: [__m256i; 4]) -> [__m256i; 2] {
    let (sum, difference) = (_mm256_add_epi32(m[1], m[2]), _mm256_sub_epi32(m[1], m[2]));
    [_mm256_add_epi32(m[0], sum), _mm256_sub_epi32(difference, m[3])]
}

/// `(2 G) g (2 G)^T`.
fn transform(g: [i16; 9]) -> [i16; POINTS] {
    let line = |g: [i16; 3]| [2 * g[0], g[0] + g[1] + g[2], g[0] - g[1] + g[2], 2 * g[2]];
    let columns: [[i16; 4]; 3] = std::array::from_fn(|x| line([g[x], g[3 + x], g[6 + x]]));
    let rows: [[i16; 4]; 4] = std::array::from_fn(|y| line([columns[0][y], columns[1][y], columns[2][y]]));
    std::array::from_fn(|i| rows[i / 4][i % 4])
}

/// The sums of one point: `N` tiles times 16 channels.
///
/// # Safety
/// The features of this module.
#[target_feature(enable = "avx2")]
unsafe fn multiply<const N: usize>(levels: &[i16], weights: &[Pairs], to: &mut [i32]) {
    let depth = weights.len();
    assert!(N * depth <= levels.len() && N * 2 * LANES <= to.len());
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    for pair in 0..depth / 2 {
        // SAFETY: two vectors for each two levels; the levels as asserted.
        unsafe {
            let w = weights.as_ptr().add(2 * pair);
            let w = [w, w.add(1)].map(|w| _mm256_load_si256(w.cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = levels.as_ptr().add(row * depth + 2 * pair).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(x);
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
                }
            }
        }
    }
    for (sum, to) in sums.iter().flatten().zip(to.chunks_exact_mut(LANES)) {
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), *sum) };
    }
}
