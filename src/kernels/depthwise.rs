use super::{ConvGeometry, Isa, Kernels, Map, Requant, SLACK, gemm::windows, scalar, shared::Shared};

/// A depthwise convolution: each channel has a filter of its own, and vector lanes run along the channels.
#[derive(Debug)]
pub struct Depthwise {
    pub(super) input: Map,
    pub(super) output: Map,
    pub(super) requant: Requant,
    /// Where the window of output pixel (0, 0) starts.
    pub(super) first: usize,
    /// From one output pixel to the next, in the input: rows, pixels.
    pub(super) step: [usize; 2],
    /// Where each tap lies, from the window's start.
    pub(super) taps: Vec<usize>,
    needs: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    /// `[kh, kw, channels]`.
    Plain(Vec<i8>),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::avx2::DepthwiseWeights),
    #[cfg(target_arch = "x86_64")]
    Avx512(super::avx512::DepthwiseWeights),
    #[cfg(target_arch = "aarch64")]
    Neon(super::neon::DepthwiseWeights),
}

impl Depthwise {
    /// Packs `weight`, `[channels, 1, kh, kw]` row-major, for `kernels`, an input and an output that lie as the maps say.
    ///
    /// # Panics
    /// If maps, geometry and weight do not fit together: the planner checks them by shape inference.
    pub fn new(
        kernels: &Kernels,
        weight: &[i8],
        geometry: ConvGeometry,
        input: Map,
        output: Map,
        requant: Requant,
    ) -> Self {
        let kw = geometry.kernel[1];
        assert_eq!(input.c, output.c);
        assert_eq!(weight.len(), output.c * geometry.taps(), "weight of {output:?}");
        assert_eq!(requant.bias.len(), output.c);
        assert_eq!(requant.multiplier.len(), output.c);
        let windows = windows(geometry, input, output);
        let taps: Vec<usize> = (0..geometry.taps()).map(|tap| tap / kw * input.row + tap % kw * input.pixel).collect();
        let last = |offsets: &[usize]| offsets.iter().max().copied().unwrap_or(0);
        let plain = (0..weight.len()).map(|i| weight[i % output.c * taps.len() + i / output.c]).collect();
        let mut layer = Self {
            input,
            output,
            requant,
            first: windows[0],
            step: [geometry.stride * input.row, geometry.stride * input.pixel],
            needs: last(&windows) + last(&taps) + output.c,
            taps,
            weights: Weights::Plain(Vec::new()),
        };
        layer.weights = match kernels.isa() {
            Isa::Scalar => Weights::Plain(plain),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Weights::Avx2(super::avx2::DepthwiseWeights::pack(&plain, &layer)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Weights::Avx512(super::avx512::DepthwiseWeights::pack(&plain, &layer)),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Weights::Neon(super::neon::DepthwiseWeights::pack(&plain, &layer)),
        };
        layer
    }

    /// Bytes from the start of a row's first window to the end of its last.
    pub(super) fn window_row(&self) -> usize {
        let last = self.taps.last().copied().unwrap_or(0);
        (self.output.w - 1) * self.step[1] + last + self.output.c
    }

    /// Multiply-adds of one call.
    pub fn macs(&self) -> usize {
        self.output.len() * self.taps.len()
    }

    /// Computes the layer. `kernels` must be of the instruction set that the weights were packed for.
    ///
    /// # Panics
    /// If a slice is shorter than its map, or the input lacks the [`SLACK`].
    pub fn run(&self, kernels: &Kernels, input: &[u8], output: &mut [u8]) {
        assert!(self.needs + SLACK <= input.len(), "{} of {} bytes", self.needs + SLACK, input.len());
        self.output.assert_within(output.len());
        let out = Shared::new(output);
        // One multiply-add here takes about as long as four in a matrix product.
        kernels.for_ranges(self.output.h, 4 * self.macs(), |rows| {
            for y in rows {
                // SAFETY: one slice a row; rows of a map do not overlap (`assert_within`).
                let levels = unsafe { out.slice(self.output.row_range(y)) };
                let window = &input[self.first + y * self.step[0]..];
                match (&self.weights, kernels.isa()) {
                    (Weights::Plain(weights), _) => scalar::depthwise_row(self, weights, window, levels),
                    #[cfg(target_arch = "x86_64")]
                    (Weights::Avx2(weights), Isa::Avx2) => {
                        // SAFETY: as below.
                        unsafe { super::avx2::depthwise_row(self, weights, window, levels) }
                    }
                    #[cfg(target_arch = "x86_64")]
                    (Weights::Avx512(weights), Isa::Avx512Vnni) => {
                        // SAFETY: the CPU has it (`Kernels`); `needs` was checked above for the last window.
                        unsafe { super::avx512::depthwise_row(self, weights, window, levels) }
                    }
                    #[cfg(target_arch = "x86_64")]
                    (Weights::Avx2(_) | Weights::Avx512(_), isa) => {
                        panic!("weights packed for others given to {isa} kernels")
                    }
                    #[cfg(target_arch = "aarch64")]
                    (Weights::Neon(weights), Isa::Neon) => {
                        // SAFETY: as above.
                        unsafe { super::neon::depthwise_row(self, weights, window, levels) }
                    }
                    #[cfg(target_arch = "aarch64")]
                    (Weights::Neon(_), isa) => panic!("weights packed for others given to {isa} kernels"),
                }
            }
        });
    }
}
