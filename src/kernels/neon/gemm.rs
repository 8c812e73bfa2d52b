use std::arch::aarch64::*;

use super::lanes::{Bounds, Constants, Quads, dot_quad, load_signed, narrow, requantize, start, store};
use crate::kernels::{Gemm, Kernels, Requant, shared::Shared};

/// Weights of a dense layer: blocks of 1 to 4 vectors (4 to 16 output channels); in a block, for every four bytes of the
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
    /// First vector of 4 channels.
    first: usize,
    /// Vectors.
    width: usize,
}

impl GemmWeights {
    /// From `[out][runs][run]`.
    pub(in crate::kernels) fn pack(plain: &[i8], runs: usize, run: usize, requant: &Requant) -> Self {
        let channels = requant.bias.len();
        let vectors = channels.div_ceil(4);
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
                    quads.push(Quads(std::array::from_fn(|i| weight(vector * 4 + i / 4, r, quad * 4 + i % 4))));
                }
            }
        }
        let mut constants = vec![Constants::ZERO; vectors];
        for c in 0..channels {
            let slot = &mut constants[c / 4];
            slot.start[c % 4] = start(requant, &plain[c * runs * run..][..runs * run]);
            slot.bias[c % 4] = requant.bias[c];
            slot.multiplier[c % 4] = requant.multiplier[c];
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

/// The sums of a tile: pixels, then vectors of channels.
type Sums<const ROWS: usize, const WIDTH: usize> = [[int32x4_t; WIDTH]; ROWS];

/// Adds one quad of every pixel times one vector of weights a vector of channels.
///
/// # Safety
/// `WIDTH` vectors of weights must be readable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn step<const QUAD: usize, const ROWS: usize, const WIDTH: usize>(
    sums: &mut Sums<ROWS, WIDTH>,
    x: &[int8x16_t; ROWS],
    quads: *const Quads,
) {
    // SAFETY: by this function's contract.
    let w: [int8x16_t; WIDTH] = std::array::from_fn(|v| unsafe { vld1q_s8(quads.add(v).cast()) });
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = dot_quad::<QUAD>(*sum, w, *x);
        }
    }
}

impl Job<'_> {
    /// # Safety
    /// The features of this module; windows and places of the pixels within input and output.
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn run(&self, first: usize, end: usize) {
        // Sums, one vector of levels a pixel and one of weights a vector of channels fit the 32 registers.
        let most = if self.block.width == 4 { 5 } else { 6 };
        let tiles = (end - first).div_ceil(most);
        for tile in 0..tiles {
            // Tiles of even height: a last one of a single row would wait for its own sums.
            let at = first + (end - first) * tile / tiles;
            let rows = first + (end - first) * (tile + 1) / tiles - at;
            // SAFETY: as this function's.
            unsafe {
                match self.block.width {
                    1 => by_rows!(self, at, rows, 1, [1 2 3 4 5 6]),
                    2 => by_rows!(self, at, rows, 2, [1 2 3 4 5 6]),
                    3 => by_rows!(self, at, rows, 3, [1 2 3 4 5 6]),
                    4 => by_rows!(self, at, rows, 4, [1 2 3 4 5]),
                    width => unreachable!("a block of {width} vectors"),
                }
            }
        }
    }

    /// `ROWS` pixels times `4 * WIDTH` channels.
    ///
    /// # Safety
    /// As [`Job::run`].
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn tile<const ROWS: usize, const WIDTH: usize>(&self, at: usize) {
        let Self { layer, weights, block, .. } = self;
        let constants: &[Constants; WIDTH] =
            weights.constants[block.first..][..WIDTH].try_into().expect("as wide as the block");
        let per_vector = layer.runs.len() * weights.quads_in_run;
        let mut quads = weights.quads[block.first * per_vector..][..WIDTH * per_vector].as_ptr();
        let windows: &[u32; ROWS] = layer.windows[at..][..ROWS].try_into().expect("as many as rows");
        // SAFETY: four values each.
        let start: [int32x4_t; WIDTH] = std::array::from_fn(|v| unsafe { vld1q_s32(constants[v].start.as_ptr()) });
        let mut sums = [start; ROWS];
        let (whole, rest) = (weights.quads_in_run / 4, weights.quads_in_run % 4);
        for run in &layer.runs {
            // SAFETY: the window and its runs lie in the input with `SLACK` behind, so 16 bytes are readable from every
            // byte of a run; `WIDTH` vectors of weights for each quad of each run were packed.
            unsafe {
                let rows: [*const u8; ROWS] =
                    std::array::from_fn(|i| self.input.add(windows[i] as usize + *run as usize));
                for four in 0..whole {
                    let x: [int8x16_t; ROWS] = std::array::from_fn(|i| load_signed(rows[i].add(16 * four)));
                    step::<0, ROWS, WIDTH>(&mut sums, &x, quads);
                    step::<1, ROWS, WIDTH>(&mut sums, &x, quads.add(WIDTH));
                    step::<2, ROWS, WIDTH>(&mut sums, &x, quads.add(2 * WIDTH));
                    step::<3, ROWS, WIDTH>(&mut sums, &x, quads.add(3 * WIDTH));
                    quads = quads.add(4 * WIDTH);
                }
                if rest > 0 {
                    let x: [int8x16_t; ROWS] = std::array::from_fn(|i| load_signed(rows[i].add(16 * whole)));
                    step::<0, ROWS, WIDTH>(&mut sums, &x, quads);
                    if rest > 1 {
                        step::<1, ROWS, WIDTH>(&mut sums, &x, quads.add(WIDTH));
                    }
                    if rest > 2 {
                        step::<2, ROWS, WIDTH>(&mut sums, &x, quads.add(2 * WIDTH));
                    }
                    quads = quads.add(rest * WIDTH);
                }
            }
        }
        // SAFETY: as this function's.
        unsafe { self.store(at, &sums, constants) };
    }

    /// # Safety
    /// As [`Job::run`].
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn store<const ROWS: usize, const WIDTH: usize>(
        &self,
        at: usize,
        sums: &Sums<ROWS, WIDTH>,
        constants: &[Constants; WIDTH],
    ) {
        let bounds = Bounds::new(self.layer.requant.levels);
        let first = self.block.first * 4;
        let channels = (self.layer.out_channels - first).min(4 * WIDTH);
        for (i, sums) in sums.iter().enumerate() {
            let mut levels = [vdupq_n_s32(0); 4];
            for ((level, sum), constants) in levels.iter_mut().zip(sums).zip(constants) {
                *level = requantize(*sum, constants, bounds);
            }
            // SAFETY: the pixel's channels lie in the output.
            let to = unsafe {
                std::slice::from_raw_parts_mut(self.output.add(self.layer.places[at + i] as usize + first), channels)
            };
            store(to, narrow(levels));
        }
    }
}
