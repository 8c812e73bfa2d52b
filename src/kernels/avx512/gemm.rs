use std::arch::x86_64::*;

use super::lanes::{Bounds, Constants, Quads, first_bytes, narrow, requantize};
use crate::kernels::{Gemm, Kernels, Requant, shared::Shared};

/// Weights of a dense layer: blocks of 1 to 4 vectors (16 to 64 output channels); in a block, for every four bytes of the
/// window, one [`Quads`] a vector.
#[derive(Debug)]
pub(in crate::kernels) struct GemmWeights {
    quads: Vec<Quads>,
    constants: Vec<Constants>,
    blocks: Vec<Block>,
    /// Of four bytes, in one run; the last may hold fewer weights, the rest are 0.
    quads_in_run: usize,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    /// First vector of 16 channels.
    first: usize,
    /// Vectors.
    width: usize,
}

impl GemmWeights {
    /// From `[out][runs][run]`.
    pub(in crate::kernels) fn pack(plain: &[i8], runs: usize, run: usize, requant: &Requant) -> Self {
        let channels = requant.bias.len();
        let vectors = channels.div_ceil(16);
        let count = vectors.div_ceil(4);
        let blocks: Vec<Block> = (0..count)
            .map(|i| (vectors * i / count, vectors * (i + 1) / count))
            .map(|(first, end)| Block { first, width: end - first })
            .collect();
        let quads_in_run = run.div_ceil(4);
        let weight = |channel: usize, r: usize, byte: usize| {
            if channel < channels && byte < run { plain[(channel * runs + r) * run + byte] } else { 0 }
        };
        let mut quads = Vec::with_capacity(vectors * runs * quads_in_run);
        for block in &blocks {
            for (r, quad) in (0..runs).flat_map(|r| (0..quads_in_run).map(move |quad| (r, quad))) {
                for vector in block.first..block.first + block.width {
                    quads.push(Quads(std::array::from_fn(|i| weight(vector * 16 + i / 4, r, quad * 4 + i % 4))));
                }
            }
        }
        let mut constants = vec![Constants::ZERO; vectors];
        for c in 0..channels {
            let slot = &mut constants[c / 16];
            slot.start[c % 16] = requant.start(&plain[c * runs * run..][..runs * run]);
            slot.bias[c % 16] = requant.bias[c];
            slot.multiplier[c % 16] = requant.multiplier[c];
        }
        Self { quads, constants, blocks, quads_in_run }
    }
}

/// Computes a dense layer; `Gemm::run` has checked that every window and every output lies in its slice.
pub(in crate::kernels) fn gemm(
    layer: &Gemm,
    weights: &GemmWeights,
    kernels: &Kernels,
    input: &[u8],
    output: Shared<'_>,
) {
    let pixels = layer.windows.len();
    let blocks = weights.blocks.len();
    let threads = kernels.threads();
    // Enough parts that threads end together; whole blocks where there are many, for each part then reads its weights
    // alone.
    let chunks = if threads == 1 || blocks >= 4 * threads { 1 } else { (4 * threads).div_ceil(blocks) };
    let chunks = chunks.min(pixels.div_ceil(24));
    let (input, output) = (SendPtr(input.as_ptr()), &output);
    kernels.for_parts(blocks * chunks, layer.macs(), |part| {
        let block = weights.blocks[part / chunks];
        let chunk = part % chunks;
        let range = pixels * chunk / chunks..pixels * (chunk + 1) / chunks;
        let job = Job { layer, weights, block, input: input.get(), output: output.as_mut_ptr() };
        // SAFETY: the CPU has the features (`Kernels`); the slices were checked by `Gemm::run`; each part writes its own
        // pixels and channels.
        unsafe { job.run(range.start, range.end) };
    });
}

/// An input pointer that threads may share.
#[derive(Clone, Copy)]
struct SendPtr(*const u8);

// SAFETY: it is only read through, and the slice it comes from is borrowed while the job runs.
unsafe impl Sync for SendPtr {}

impl SendPtr {
    fn get(self) -> *const u8 {
        self.0
    }
}

/// One block of channels of a range of pixels.
struct Job<'a> {
    layer: &'a Gemm,
    weights: &'a GemmWeights,
    block: Block,
    input: *const u8,
    output: *mut u8,
}

/// Calls `tile` with as many rows as `$rows` says.
macro_rules! by_rows {
    ($job:expr, $at:expr, $rows:expr, $width:literal, [$($n:literal)*]) => {
        match $rows {
            $($n => $job.tile::<$n, $width>($at),)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

impl Job<'_> {
    /// # Safety
    /// The features of this module; windows and places of the pixels within input and output.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run(&self, first: usize, end: usize) {
        // 24 of the 32 registers hold sums, whatever the width of the block.
        let most = if self.block.width == 4 { 6 } else { 8 };
        let tiles = (end - first).div_ceil(most);
        for tile in 0..tiles {
            // Tiles of even height: a last one of a single row would wait for its own sums.
            let at = first + (end - first) * tile / tiles;
            let rows = first + (end - first) * (tile + 1) / tiles - at;
            // SAFETY: as this function's.
            unsafe {
                match self.block.width {
                    1 => by_rows!(self, at, rows, 1, [1 2 3 4 5 6 7 8]),
                    2 => by_rows!(self, at, rows, 2, [1 2 3 4 5 6 7 8]),
                    3 => by_rows!(self, at, rows, 3, [1 2 3 4 5 6 7 8]),
                    4 => by_rows!(self, at, rows, 4, [1 2 3 4 5 6]),
                    width => unreachable!("a block of {width} vectors"),
                }
            }
        }
    }

    /// `ROWS` pixels times `16 * WIDTH` channels.
    ///
    /// # Safety
    /// As [`Job::run`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile<const ROWS: usize, const WIDTH: usize>(&self, at: usize) {
        let Self { layer, weights, block, .. } = self;
        let constants: &[Constants; WIDTH] =
            weights.constants[block.first..][..WIDTH].try_into().expect("as wide as the block");
        let per_vector = layer.runs.len() * weights.quads_in_run;
        let mut quads = weights.quads[block.first * per_vector..][..WIDTH * per_vector].as_ptr();
        let windows: &[u32; ROWS] = layer.windows[at..][..ROWS].try_into().expect("as many as rows");
        let mut sums: [[__m512i; WIDTH]; ROWS] = [[_mm512_setzero_si512(); WIDTH]; ROWS];
        for row in &mut sums {
            for (sum, constants) in row.iter_mut().zip(constants) {
                // SAFETY: 64 bytes, aligned by the layout of `Constants`.
                *sum = unsafe { _mm512_load_si512(constants.start.as_ptr().cast()) };
            }
        }
        for run in &layer.runs {
            // SAFETY: the window and its runs lie in the input, with `SLACK` behind.
            let rows: [*const u8; ROWS] =
                std::array::from_fn(|i| unsafe { self.input.add(windows[i] as usize + *run as usize) });
            for quad in 0..weights.quads_in_run {
                // SAFETY: `WIDTH` vectors for each quad of each run were packed; four bytes of each run are readable.
                unsafe {
                    let w: [__m512i; WIDTH] = std::array::from_fn(|v| _mm512_load_si512(quads.add(v).cast()));
                    quads = quads.add(WIDTH);
                    for (row, sums) in rows.iter().zip(&mut sums) {
                        let x = _mm512_set1_epi32(row.add(4 * quad).cast::<i32>().read_unaligned());
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = _mm512_dpbusd_epi32(*sum, x, w);
                        }
                    }
                }
            }
        }
        // SAFETY: as this function's.
        unsafe { self.store(at, &sums, constants) };
    }

    /// # Safety
    /// As [`Job::run`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn store<const ROWS: usize, const WIDTH: usize>(
        &self,
        at: usize,
        sums: &[[__m512i; WIDTH]; ROWS],
        constants: &[Constants; WIDTH],
    ) {
        let bounds = Bounds::new(self.layer.requant.levels);
        let first = self.block.first * 16;
        let mask = first_bytes((self.layer.out_channels - first).min(16 * WIDTH));
        // `narrow` leaves each vector's quarters apart: quarter `q` of vector `v` at `4 q + v`.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        for (i, sums) in sums.iter().enumerate() {
            let mut levels = [_mm512_setzero_si512(); 4];
            for ((level, sum), constants) in levels.iter_mut().zip(sums).zip(constants) {
                *level = requantize(*sum, constants, bounds);
            }
            let bytes = _mm512_permutexvar_epi32(order, narrow(levels));
            // SAFETY: the pixel's channels lie in the output.
            unsafe {
                let to = self.output.add(self.layer.places[at + i] as usize + first).cast::<i8>();
                match (WIDTH, mask) {
                    (4, u64::MAX) => _mm512_storeu_si512(to.cast(), bytes),
                    (2, 0xFFFF_FFFF) => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(bytes)),
                    (1, 0xFFFF) => _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(bytes)),
                    _ => _mm512_mask_storeu_epi8(to, mask, bytes),
                }
            }
        }
    }
}
