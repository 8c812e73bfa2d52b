use super::Geometry;

/// In which order the products of one output are summed.
///
/// float32 sums depend on their order, and observers, which search for a clip by comparing errors, see it. The order is
/// therefore specified, one for every instruction set, and it is the one that PyTorch's calibration has: that of oneDNN's
/// kernels for AVX-512 on blocked layouts (`jit_avx512_common_conv`, `jit_avx512_common_1x1_conv`, version 3.7), and for
/// linear layers that of MKL's `sgemm`, both as PyTorch 2.9 calls them for contiguous NCHW activations.
///
/// The input channels are taken in stretches. Within a stretch one accumulator starts at zero and takes a fused
/// multiply-add for each kernel row, kernel column and channel, channels innermost; taps outside of the input add
/// nothing. With `s` the sum of a stretch: `y = s + bias` at the first, `y = s + y` at each later one. Where
/// `starts_at_bias`, the first accumulator starts at the bias instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumOrder {
    /// Input channels a stretch.
    pub(super) stretch: usize,
    /// Whether the first sum starts at the bias.
    pub(super) starts_at_bias: bool,
}

/// Channels that oneDNN keeps together in a blocked layout.
const BLOCK: usize = 16;

impl SumOrder {
    /// Of a dense convolution.
    pub fn conv(g: &Geometry) -> Self {
        if g.kernel == [1, 1] {
            return Self { stretch: pointwise_stretch(g), starts_at_bias: true };
        }
        // Few channels, those of an image, stay in a plain layout, which is one block.
        let stretch = if g.channels < BLOCK { g.channels } else { BLOCK };
        Self { stretch, starts_at_bias: false }
    }

    /// Of a linear layer. MKL sums one of ten outputs or fewer in an order of its own, which is not followed here.
    pub fn linear() -> Self {
        Self { stretch: 192, starts_at_bias: false }
    }
}

/// Input channels of a 1x1 convolution that oneDNN sums before it stores the result: a matter of its caches, by the
/// size of the output map.
fn pointwise_stretch(g: &Geometry) -> usize {
    let (inputs, outputs) = (g.channels.next_multiple_of(BLOCK), g.out_channels.next_multiple_of(BLOCK));
    let [rows, columns] = g.output;
    let pixels = rows * columns;
    let most = match rows {
        11..=27 if outputs <= 256 => 80,
        11.. => 512,
        _ => 256,
    };
    let stretch = inputs.min(most);
    // Floats in one way of the second-level cache of 1 MiB, and how many lines of a set a stretch may take.
    const WAY: usize = 16 * 1024;
    const LINES: usize = 7;
    if pixels * stretch <= WAY * LINES {
        return stretch;
    }
    let tile = pixels_at_a_time(outputs, rows, pixels);
    let (way, end) = (WAY / BLOCK, pixels * (stretch / BLOCK));
    (0..tile)
        .filter_map(|start| (start..end).step_by(way).filter(|at| at % pixels < tile).nth(LINES - 1))
        .map(|at| BLOCK * ((at + way) / pixels).max(1))
        .fold(stretch, usize::min)
}

/// Pixels that oneDNN's 1x1 kernel holds in registers.
fn pixels_at_a_time(outputs: usize, rows: usize, pixels: usize) -> usize {
    let sizes = if (129..256).contains(&outputs) && (11..28).contains(&rows) { 5..=6 } else { 6..=9 };
    let whole = if rows >= 14 { rows } else { pixels };
    if let Some(size) = sizes.clone().rev().find(|size| whole.is_multiple_of(*size)) {
        return size;
    }
    // None divides: the one that leaves nothing, else the most, over.
    let largest = *sizes.end();
    let (mut best, mut left) = (largest.min(pixels), pixels % largest);
    for size in sizes.rev() {
        let over = pixels % size;
        if over == 0 {
            return size;
        }
        if over > left {
            (best, left) = (size, over);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointwise_sums_are_as_long_as_onednns() {
        let stretch = |size: usize, channels: usize, out_channels: usize| {
            let sizes = [size; 2];
            let g = Geometry {
                batch: 1,
                input: sizes,
                output: sizes,
                channels,
                out_channels,
                kernel: [1, 1],
                stride: 1,
                padding: [0, 0],
            };
            SumOrder::conv(&g).stretch
        };
        // Small maps; middling ones with few and with many outputs, the last cut to what a cache's ways hold; large ones.
        assert_eq!([stretch(1, 2048, 33), stretch(10, 200, 64)], [256, 208]);
        assert_eq!([stretch(16, 256, 64), stretch(16, 256, 256), stretch(16, 1024, 257)], [80, 80, 448]);
        assert_eq!([stretch(32, 64, 16), stretch(28, 512, 128)], [64, 512]);
    }
}
