/// The levels an output may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The level that stands for 0.
    pub zero_point: u8,
    /// The least level: the zero point behind a ReLU, else 0.
    pub low: u8,
    /// The largest level, 255 for PyTorch's kernels.
    pub high: u8,
}

impl Levels {
    /// For a zero point and a largest level, with or without ReLU.
    pub fn new(zero_point: u8, high: u8, relu: bool) -> Self {
        Self { zero_point, low: if relu { zero_point } else { 0 }, high }
    }

    /// `clamp(rne(x) + zero_point)`.
    #[inline(always)]
    pub fn round(self, x: f32) -> u8 {
        let level = x.round_ties_even() + f32::from(self.zero_point);
        level.max(f32::from(self.low)).min(f32::from(self.high)) as u8
    }
}

/// How int32 sums become output levels: `rne((f32(acc) + bias[c]) * multiplier[c]) + zero_point`, clamped.
///
/// `bias` is `b / (si * sw[c])` and `multiplier` `(si * sw[c]) / so`, float32 in this order, as PyTorch computes them: a
/// bias rounded to int32 first gives other levels.
#[derive(Clone, Debug, PartialEq)]
pub struct Requant {
    /// The input's zero point.
    pub input_zero_point: u8,
    /// One an output channel.
    pub bias: Vec<f32>,
    /// One an output channel.
    pub multiplier: Vec<f32>,
    /// Of the output.
    pub levels: Levels,
}

impl Requant {
    /// For an input's scale and zero point, the scale of each output channel's weights, its float bias (`None` for zeros)
    /// and the output's scale.
    pub fn of(input: (f32, u8), weights: &[f32], bias: Option<&[f32]>, output: f32, levels: Levels) -> Self {
        let scales: Vec<f32> = weights.iter().map(|w| input.0 * w).collect();
        let bias = match bias {
            Some(bias) => bias.iter().zip(&scales).map(|(b, s)| b / s).collect(),
            None => vec![0.0; scales.len()],
        };
        let multiplier = scales.iter().map(|s| s / output).collect();
        Self { input_zero_point: input.1, bias, multiplier, levels }
    }

    /// The level of output channel `c`, whose sum of `(q - zero point) * w` is `acc`.
    #[inline(always)]
    pub fn level(&self, c: usize, acc: i32) -> u8 {
        self.levels.round((acc as f32 + self.bias[c]) * self.multiplier[c])
    }

    /// Where the sum over raw levels starts, so that it ends as the sum over `q - zero point`.
    pub(super) fn start(&self, weights: &[i8]) -> i32 {
        -i32::from(self.input_zero_point) * weights.iter().map(|w| i32::from(*w)).sum::<i32>()
    }
}

/// Kernel, stride and padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Height and width.
    pub kernel: [usize; 2],
    /// In both directions.
    pub stride: usize,
    /// On all sides; the input's map needs a border as wide.
    pub padding: usize,
}

impl ConvGeometry {
    /// A fully connected layer: one pixel.
    pub const POINT: Self = Self { kernel: [1, 1], stride: 1, padding: 0 };

    /// Multiplications per input channel.
    pub fn taps(self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}
