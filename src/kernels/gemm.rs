use super::{ConvGeometry, Isa, Kernels, Map, Requant, SLACK, scalar, shared::Shared};

/// A dense convolution or a fully connected layer: a matrix of pixels times a matrix of weights, the windows read
/// where they lie (no im2col copy).
///
/// A window is a few runs of bytes next to each other: a row of the kernel is one, where the input's pixels are.
#[derive(Debug)]
pub struct Gemm {
    pub(super) out_channels: usize,
    pub(super) requant: Requant,
    /// For each output pixel, where its window starts in the input.
    pub(super) windows: Vec<u32>,
    /// For each output pixel, where its levels go.
    pub(super) places: Vec<u32>,
    /// Where each run starts, from the window's start.
    pub(super) runs: Vec<u32>,
    /// Bytes of a run.
    pub(super) run: usize,
    needs: Needs,
    weights: Weights,
}

/// Bytes that the input and the output must have.
#[derive(Clone, Copy, Debug)]
struct Needs {
    input: usize,
    output: usize,
}

#[derive(Debug)]
enum Weights {
    /// `[out][runs][run]`, as the scalar kernel reads them.
    Plain(Vec<i8>),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::avx2::GemmWeights),
    #[cfg(target_arch = "x86_64")]
    Winograd(super::avx2::Winograd),
    #[cfg(target_arch = "x86_64")]
    Avx512(super::avx512::GemmWeights),
    #[cfg(target_arch = "aarch64")]
    Neon(super::neon::GemmWeights),
}

impl Gemm {
    /// Packs `weight`, `[out, in, kh, kw]` row-major, for `kernels`, an input and an output that lie as the maps say.
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
        let [kh, kw] = geometry.kernel;
        let (channels, out_channels) = (input.c, output.c);
        assert_eq!(weight.len(), out_channels * channels * kh * kw, "weight of {output:?} from {input:?}");
        assert_eq!(requant.bias.len(), out_channels);
        assert_eq!(requant.multiplier.len(), out_channels);
        let (runs, run): (Vec<usize>, usize) = if input.is_packed() {
            ((0..kh).map(|ky| ky * input.row).collect(), kw * channels)
        } else {
            ((0..kh * kw).map(|tap| tap / kw * input.row + tap % kw * input.pixel).collect(), channels)
        };
        let windows = windows(geometry, input, output);
        let places: Vec<usize> = (0..output.h).flat_map(|y| (0..output.w).map(move |x| output.at(y, x))).collect();
        let last = |offsets: &[usize]| offsets.iter().max().copied().unwrap_or(0);
        let needs = Needs {
            input: last(&windows) + last(&runs) + run,
            output: output.at(output.h - 1, output.w - 1) + out_channels,
        };
        output.assert_within(needs.output);
        let plain = runs_of(weight, geometry, channels);
        let weights = match kernels.isa() {
            Isa::Scalar => Weights::Plain(plain),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if super::avx2::Winograd::suits(&plain, geometry, input, output) => {
                Weights::Winograd(super::avx2::Winograd::pack(&plain, geometry.padding, input, output, &requant))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Weights::Avx2(super::avx2::GemmWeights::pack(&plain, &runs, run, &requant)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Weights::Avx512(super::avx512::GemmWeights::pack(&plain, runs.len(), run, &requant)),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Weights::Neon(super::neon::GemmWeights::pack(&plain, runs.len(), run, &requant)),
        };
        let narrow = |offsets: Vec<usize>| offsets.into_iter().map(narrow).collect();
        Self {
            out_channels,
            requant,
            windows: narrow(windows),
            places: narrow(places),
            runs: narrow(runs),
            run,
            needs,
            weights,
        }
    }

    /// Multiply-adds of one call.
    pub fn macs(&self) -> usize {
        self.windows.len() * self.runs.len() * self.run * self.out_channels
    }

    /// Computes the layer. `kernels` must be of the instruction set that the weights were packed for.
    ///
    /// # Panics
    /// If a slice is shorter than its map, or the input lacks the [`SLACK`].
    pub fn run(&self, kernels: &Kernels, input: &[u8], output: &mut [u8]) {
        assert!(self.needs.input + SLACK <= input.len() && self.needs.output <= output.len(), "{:?}", self.needs);
        match (&self.weights, kernels.isa()) {
            (Weights::Plain(weights), _) => {
                let out = Shared::new(output);
                kernels.for_ranges(self.windows.len(), self.macs(), |pixels| {
                    for p in pixels {
                        let place = self.places[p] as usize;
                        // SAFETY: one slice a pixel; pixels of a map do not overlap (`assert_within`).
                        let levels = unsafe { out.slice(place..place + self.out_channels) };
                        scalar::gemm_pixel(self, weights, &input[self.windows[p] as usize..], levels);
                    }
                });
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Avx2(weights), Isa::Avx2) => {
                super::avx2::gemm(self, weights, kernels, input, &Shared::new(output));
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Winograd(weights), Isa::Avx2) => {
                weights.run(kernels, self.macs(), input, &Shared::new(output));
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Avx512(weights), Isa::Avx512Vnni) => {
                super::avx512::gemm(self, weights, kernels, input, Shared::new(output));
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Avx2(_) | Weights::Winograd(_) | Weights::Avx512(_), isa) => {
                panic!("weights packed for others given to {isa} kernels")
            }
            #[cfg(target_arch = "aarch64")]
            (Weights::Neon(weights), Isa::Neon) => {
                super::neon::gemm(self, weights, kernels, input, Shared::new(output));
            }
            #[cfg(target_arch = "aarch64")]
            (Weights::Neon(_), isa) => panic!("weights packed for others given to {isa} kernels"),
        }
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("an activation is smaller than 4 GiB")
}

/// Where the window of each output pixel starts.
pub(super) fn windows(geometry: ConvGeometry, input: Map, output: Map) -> Vec<usize> {
    let ConvGeometry { kernel: [kh, kw], stride, padding } = geometry;
    assert!(padding <= input.border, "padding {padding} of an input with a border of {}", input.border);
    assert!((output.h - 1) * stride + kh <= input.h + 2 * padding, "{output:?} is too high for {input:?}");
    assert!((output.w - 1) * stride + kw <= input.w + 2 * padding, "{output:?} is too wide for {input:?}");
    input.assert_within(usize::MAX);
    let first = input.start - padding * (input.row + input.pixel);
    let at = |y: usize, x: usize| first + y * stride * input.row + x * stride * input.pixel;
    (0..output.h).flat_map(|y| (0..output.w).map(move |x| at(y, x))).collect()
}

/// `[out, in, kh, kw]` to `[out, kh, kw, in]`: the order in which an NHWC window is read.
fn runs_of(weight: &[i8], geometry: ConvGeometry, channels: usize) -> Vec<i8> {
    let taps = geometry.taps();
    let mut out = Vec::with_capacity(weight.len());
    for filter in weight.chunks_exact(taps * channels) {
        for tap in 0..taps {
            out.extend((0..channels).map(|c| filter[c * taps + tap]));
        }
    }
    out
}
