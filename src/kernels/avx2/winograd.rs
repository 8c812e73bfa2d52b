use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::{
    gemm::even,
    gemm_weights::LANES,
    lanes::{Bounds, Constants, requantize},
};
use crate::kernels::{ConvGeometry, Kernels, Map, Requant, shared::Shared};

/// A dense 3x3 convolution of stride 1 by Winograd's minimal filtering, F(4x4, 3x3): 36 products for 16 outputs where the
/// sum itself takes 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). A tile of 4 x 4 outputs,
/// from 6 x 6 levels, is `A^T ((G g G^T) * (B^T d B)) A`.
///
/// In integers it is exact. `G` is multiplied by 24, so that no fraction is lost, and sums come out 576 times as large.
/// Transformed levels and weights fit 16 bits: 68 * 255 and 144 * 128 at most. Sums may wrap around: the last ones are divided
/// by 9, which modulo 2^32 is a product with [`INVERSE`], and then by 64, which is exact where the sum itself leaves
/// [`SHIFT`] bits of int32 free ([`holds`]).
#[derive(Debug)]
pub(in crate::kernels) struct Winograd {
    input: Map,
    output: Map,
    /// Where the window of output pixel (0, 0) starts.
    first: usize,
    /// `[block of 16 channels][point][two inputs]`, two vectors each.
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

/// Rows and columns of a tile's outputs, and of its levels.
const OUT: usize = 4;
const IN: usize = 6;
/// Products of a tile.
const POINTS: usize = IN * IN;
/// Of 9, modulo 2^32.
const INVERSE: i32 = 954_437_177;
/// 576 is 9 times 2 to this.
const SHIFT: i32 = 6;
/// With fewer tiles the time goes to reading weights, of which there are 8 times as many bytes.
const FEWEST_TILES: usize = 12;
/// Tiles that are multiplied by all weights before the next ones are transformed: their sums of one block nearly fit the L1.
const PANEL: usize = 18;
/// Tiles multiplied at once: with two vectors of sums each they fill 12 of the 16 registers.
const ROWS: usize = 6;

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

/// Whether no sum of levels times weights, `[out][3][3][channels]`, leaves int32 when shifted to the left by [`SHIFT`].
fn holds(plain: &[i8], channels: usize) -> bool {
    let most = (i32::MAX >> SHIFT) / 255;
    let sum = |filter: &[i8], sign: i32| filter.iter().map(|w| (sign * i32::from(*w)).max(0)).sum::<i32>();
    plain.chunks_exact(9 * channels).all(|filter| sum(filter, 1) <= most && sum(filter, -1) <= most)
}

fn tiles(output: Map) -> usize {
    output.h.div_ceil(OUT) * output.w.div_ceil(OUT)
}

impl Winograd {
    /// Whether a layer can be computed so, and is worth it; `plain` is `[out][3][3][in]`.
    pub(in crate::kernels) fn suits(plain: &[i8], geometry: ConvGeometry, input: Map, output: Map) -> bool {
        geometry.kernel == [3, 3]
            && geometry.stride == 1
            && input.c >= 16
            && output.c >= 16
            && tiles(output) >= FEWEST_TILES
            && holds(plain, input.c)
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
                for (point, weight) in points.as_flattened().iter().enumerate() {
                    let pair = (block * POINTS + point) * depth + i / 2 * 2 + vector;
                    weights[pair].0[c % LANES * 2 + i % 2] = *weight;
                }
            }
        }
        let first = input.start - padding * (input.row + input.pixel);
        Self { input, output, first, weights, constants, requant: requant.clone(), depth }
    }

    /// Computes the layer; `Gemm::run` has checked that every window and every output lies in its slice.
    pub(in crate::kernels) fn run(&self, kernels: &Kernels, macs: usize, input: &[u8], output: &Shared<'_>) {
        let (tiles, blocks) = (tiles(self.output), self.constants.len() / 2);
        let threads = kernels.threads();
        // Parts of the tiles each read all weights; parts of the channels each transform all levels, where tiles are few.
        let (chunks, groups) = if threads == 1 {
            (1, 1)
        } else if tiles >= threads * PANEL {
            (even((tiles / PANEL).clamp(threads, 4 * threads), threads), 1)
        } else {
            (1, blocks.min(threads))
        };
        kernels.for_parts(chunks * groups, macs, |part| {
            let share = |part: usize, of: usize, all: usize| all * part / of..all * (part + 1) / of;
            let (tiles, blocks) = (share(part / groups, chunks, tiles), share(part % groups, groups, blocks));
            let panels = tiles.len().div_ceil(PANEL);
            SCRATCH.with_borrow_mut(|scratch| {
                for panel in 0..panels {
                    let panel = share(panel, panels, tiles.len());
                    let panel = tiles.start + panel.start..tiles.start + panel.end;
                    // SAFETY: the CPU has the features (`Kernels`); the slices were checked by `Gemm::run`; each part
                    // writes its own pixels and channels.
                    unsafe { self.panel(panel, blocks.clone(), scratch, input, output) };
                }
            });
        });
    }

    /// # Safety
    /// The features of this module; windows and pixels of the tiles within input and output, which nobody else writes.
    #[target_feature(enable = "avx2")]
    unsafe fn panel(
        &self,
        tiles: Range<usize>,
        blocks: Range<usize>,
        scratch: &mut Scratch,
        input: &[u8],
        output: &Shared<'_>,
    ) {
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
            for block in blocks {
                for point in 0..POINTS {
                    let weights = &self.weights[(block * POINTS + point) * self.depth..][..self.depth];
                    let groups = count.div_ceil(ROWS);
                    for group in 0..groups {
                        let first = count * group / groups;
                        let levels = &scratch.levels[point * deep + first * self.depth..];
                        let sums = &mut scratch.sums[point * stride + first * 2 * LANES..];
                        let rows = count * (group + 1) / groups - first;
                        match (rows, group) {
                            (1, 0) => multiply::<1, true>(levels, weights, sums),
                            (1, _) => multiply::<1, false>(levels, weights, sums),
                            (2, 0) => multiply::<2, true>(levels, weights, sums),
                            (2, _) => multiply::<2, false>(levels, weights, sums),
                            (3, 0) => multiply::<3, true>(levels, weights, sums),
                            (3, _) => multiply::<3, false>(levels, weights, sums),
                            (4, 0) => multiply::<4, true>(levels, weights, sums),
                            (4, _) => multiply::<4, false>(levels, weights, sums),
                            (5, 0) => multiply::<5, true>(levels, weights, sums),
                            (5, _) => multiply::<5, false>(levels, weights, sums),
                            (6, 0) => multiply::<6, true>(levels, weights, sums),
                            (6, _) => multiply::<6, false>(levels, weights, sums),
                            rows => unreachable!("a group of {rows:?} tiles"),
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
        let across = self.output.w.div_ceil(OUT);
        [tile / across * OUT, tile % across * OUT]
    }

    /// A tile's levels of all channels, `B^T d B`, to `[point][depth]`, `stride` from one point to the next.
    ///
    /// # Safety
    /// As [`Winograd::panel`]; all points must fit `to`.
    #[target_feature(enable = "avx2")]
    unsafe fn transform_levels(&self, tile: usize, input: &[u8], to: &mut [i16], stride: usize) {
        let [y, x] = self.place(tile);
        assert!((POINTS - 1) * stride + self.depth <= to.len());
        // What lies outside the last window adds to no output that is kept: anything readable will do.
        let row = |i: usize| (y + i).min(self.output.h + 1);
        let column = |j: usize| (x + j).min(self.output.w + 1);
        let at = |i: usize, j: usize| self.first + row(i) * self.input.row + column(j) * self.input.pixel;
        let places: [[usize; IN]; IN] = std::array::from_fn(|i| std::array::from_fn(|j| at(i, j)));
        for c in (0..self.depth).step_by(16) {
            let mut columns = [[_mm256_setzero_si256(); IN]; IN];
            for (j, column) in columns.iter_mut().enumerate() {
                let mut d = [_mm256_setzero_si256(); IN];
                for (d, places) in d.iter_mut().zip(&places) {
                    // SAFETY: the window lies in the input with `SLACK` behind.
                    *d = unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(input.as_ptr().add(places[j] + c).cast())) };
                }
                *column = spread(d);
            }
            for i in 0..IN {
                let mut line = [_mm256_setzero_si256(); IN];
                for (d, column) in line.iter_mut().zip(&columns) {
                    *d = column[i];
                }
                for (j, point) in spread(line).into_iter().enumerate() {
                    // SAFETY: within `to`, as asserted.
                    unsafe { _mm256_storeu_si256(to.as_mut_ptr().add((IN * i + j) * stride + c).cast(), point) };
                }
            }
        }
    }

    /// A block of channels of a tile: `A^T m A`, requantized. `sums` has the tile's, `stride` from one point to the next.
    ///
    /// # Safety
    /// As [`Winograd::panel`]; `sums` must hold all points.
    #[target_feature(enable = "avx2")]
    unsafe fn store(&self, tile: usize, block: usize, sums: &[i32], stride: usize, output: &Shared<'_>) {
        assert!((POINTS - 1) * stride + 2 * LANES <= sums.len());
        let bounds = Bounds::new(self.requant.levels);
        let inverse = _mm256_set1_epi32(INVERSE);
        // `[row][pixel][vector]`.
        let mut levels = [[[_mm256_setzero_si256(); 2]; OUT]; OUT];
        for vector in 0..2 {
            let constants = &self.constants[2 * block + vector];
            // SAFETY: 32 bytes, aligned by the layout of `Constants`.
            let start = unsafe { _mm256_load_si256(constants.start.as_ptr().cast()) };
            let mut columns = [[_mm256_setzero_si256(); OUT]; IN];
            for (j, column) in columns.iter_mut().enumerate() {
                let mut m = [_mm256_setzero_si256(); IN];
                for (i, m) in m.iter_mut().enumerate() {
                    // SAFETY: as asserted.
                    *m =
                        unsafe { _mm256_loadu_si256(sums.as_ptr().add((IN * i + j) * stride + vector * LANES).cast()) };
                }
                *column = gather(m);
            }
            for (y, levels) in levels.iter_mut().enumerate() {
                let mut line = [_mm256_setzero_si256(); IN];
                for (m, column) in line.iter_mut().zip(&columns) {
                    *m = column[y];
                }
                for (levels, sum) in levels.iter_mut().zip(gather(line)) {
                    let sum = _mm256_srai_epi32::<SHIFT>(_mm256_mullo_epi32(sum, inverse));
                    levels[vector] = requantize(_mm256_add_epi32(sum, start), constants, bounds);
                }
            }
        }
        let [y, x] = self.place(tile);
        let first = block * 2 * LANES;
        let channels = (self.output.c - first).min(2 * LANES);
        // `narrow` leaves the two halves of each vector in either half.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for (i, levels) in levels.iter().enumerate().take(self.output.h - y) {
            for (j, levels) in levels.chunks_exact(2).enumerate() {
                let both = [levels[0][0], levels[0][1], levels[1][0], levels[1][1]];
                let bytes = _mm256_permutevar8x32_epi32(bounds.narrow(both), order);
                let pixels = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
                for (j, levels) in (2 * j..).zip(pixels).take_while(|(j, _)| *j < self.output.w - x) {
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
}

/// `B^T d` for one column of 16 channels:
/// `[4 0 -5 0 1 0] [0 -4 -4 1 1 0] [0 4 -4 -1 1 0] [0 -2 -1 2 1 0] [0 2 -1 -2 1 0] [0 4 0 -5 0 1]`.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(d: [__m256i; IN]) -> [__m256i; IN] {
    let (add, sub) = (|a, b| _mm256_add_epi16(a, b), |a, b| _mm256_sub_epi16(a, b));
    let four = |a| _mm256_slli_epi16::<2>(a);
    let (a, b) = (sub(d[4], four(d[2])), sub(d[3], four(d[1])));
    let (even, odd) = (sub(d[4], d[2]), sub(d[3], d[1]));
    let twice = add(odd, odd);
    let (first, last) = (add(four(sub(d[0], d[2])), even), sub(sub(d[5], d[3]), four(odd)));
    [first, add(a, b), sub(a, b), add(even, twice), sub(even, twice), last]
}

/// `A^T m` for one column of 8 channels, with the factors that [`transform`] left to it:
/// `[1 1 1 1 1 0] [0 1 -1 2 -2 0] [0 1 1 4 4 0] [0 1 -1 8 -8 2]`. Sums may wrap around, the last ones fit again.
#[inline]
#[target_feature(enable = "avx2")]
fn gather(m: [__m256i; IN]) -> [__m256i; OUT] {
    let (add, sub) = (|a, b| _mm256_add_epi32(a, b), |a, b| _mm256_sub_epi32(a, b));
    let four = |a| _mm256_slli_epi32::<2>(a);
    let (sum, difference) = (add(m[1], m[2]), sub(m[1], m[2]));
    let (even, odd) = (add(m[3], m[4]), sub(m[3], m[4]));
    let twice = add(odd, odd);
    [
        add(add(m[0], sum), even),
        add(difference, twice),
        add(sum, four(even)),
        add(add(difference, four(twice)), add(m[5], m[5])),
    ]
}

/// `G g G^T` times 576, but for the factors that are left to [`gather`], so that all fit 16 bits:
/// `[6 0 0] [-4 -4 -4] [-4 4 -4] [1 2 4] [1 -2 4] [0 0 12]`.
fn transform(g: [i16; 9]) -> [[i16; IN]; IN] {
    let line =
        |[a, b, c]: [i16; 3]| [6 * a, -4 * (a + b + c), -4 * (a - b + c), a + 2 * b + 4 * c, a - 2 * b + 4 * c, 12 * c];
    let columns: [[i16; IN]; 3] = std::array::from_fn(|x| line([g[x], g[3 + x], g[6 + x]]));
    std::array::from_fn(|y| line([columns[0][y], columns[1][y], columns[2][y]]))
}

/// The sums of one point: `N` tiles times 16 channels. With `AHEAD`, as many weights behind these are fetched meanwhile.
///
/// # Safety
/// The features of this module.
#[target_feature(enable = "avx2")]
unsafe fn multiply<const N: usize, const AHEAD: bool>(levels: &[i16], weights: &[Pairs], to: &mut [i32]) {
    let depth = weights.len();
    assert!(N * depth <= levels.len() && N * 2 * LANES <= to.len());
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    let mut levels = levels.as_ptr();
    let mut weights = weights.as_ptr();
    for _ in 0..depth / 2 {
        // SAFETY: two vectors for each two levels; the levels as asserted. What is fetched may lie anywhere.
        unsafe {
            if AHEAD {
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(depth).cast());
            }
            let w = [_mm256_load_si256(weights.cast()), _mm256_load_si256(weights.add(1).cast())];
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(levels.add(row * depth).cast::<i32>().read_unaligned());
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
                }
            }
            levels = levels.add(2);
            weights = weights.add(2);
        }
    }
    for (sum, to) in sums.iter().flatten().zip(to.chunks_exact_mut(LANES)) {
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), *sum) };
    }
}
