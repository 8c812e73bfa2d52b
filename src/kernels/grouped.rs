use super::{ConvGeometry, Kernels, Map, Requant, gemm::windows, shared::Shared};

/// Any grouped convolution, one output at a time. No model of the zoo has one that is not depthwise: this is for graphs
/// from elsewhere, and not tuned.
#[derive(Debug)]
pub struct Grouped {
    weight: Vec<i8>,
    groups: usize,
    windows: Vec<usize>,
    taps: Vec<usize>,
    output: Map,
    input_channels: usize,
    requant: Requant,
}

impl Grouped {
    /// `weight` is `[out, in / groups, kh, kw]`, row-major.
    ///
    /// # Panics
    /// If maps, geometry and weight do not fit together: the planner checks them by shape inference.
    pub fn new(
        weight: &[i8],
        groups: usize,
        geometry: ConvGeometry,
        input: Map,
        output: Map,
        requant: Requant,
    ) -> Self {
        let kw = geometry.kernel[1];
        assert_eq!(weight.len(), output.c * (input.c / groups) * geometry.taps(), "weight of {output:?}");
        let taps = (0..geometry.taps()).map(|tap| tap / kw * input.row + tap % kw * input.pixel).collect();
        let windows = windows(geometry, input, output);
        Self { weight: weight.to_vec(), groups, windows, taps, output, input_channels: input.c, requant }
    }

    /// Computes the layer.
    ///
    /// # Panics
    /// If a slice is shorter than its map.
    pub fn run(&self, kernels: &Kernels, input: &[u8], output: &mut [u8]) {
        self.output.assert_within(output.len());
        let out = Shared::new(output);
        let per_channel = self.weight.len() / self.output.c;
        kernels.for_ranges(self.output.h, 8 * per_channel * self.output.len(), |rows| {
            for (y, x) in rows.flat_map(|y| (0..self.output.w).map(move |x| (y, x))) {
                let place = self.output.at(y, x);
                // SAFETY: one slice a pixel; pixels of a map do not overlap (`assert_within`).
                let levels = unsafe { out.slice(place..place + self.output.c) };
                let window = &input[self.windows[y * self.output.w + x]..];
                for (c, level) in levels.iter_mut().enumerate() {
                    *level = self.level(c, window);
                }
            }
        });
    }

    fn level(&self, c: usize, window: &[u8]) -> u8 {
        let channels = self.input_channels / self.groups;
        let first = c / (self.output.c / self.groups) * channels;
        let filter = &self.weight[c * channels * self.taps.len()..][..channels * self.taps.len()];
        let mut acc = self.requant.start(filter);
        for (i, weights) in filter.chunks_exact(self.taps.len()).enumerate() {
            for (weight, tap) in weights.iter().zip(&self.taps) {
                acc += i32::from(window[tap + first + i]) * i32::from(*weight);
            }
        }
        self.requant.level(c, acc)
    }
}
