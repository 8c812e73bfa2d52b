/// What an observer asks of one batch of a node's output, wherever that tensor lives.
pub trait Values {
    /// The smallest and the largest value; both NaN where any value is NaN, `(inf, -inf)` where there is none.
    fn min_max(&self) -> (f32, f32);

    /// How many values fall into each of `bins` equal bins from `lo` to `hi`, as `torch.histc` counts: bin
    /// `(x - lo) * bins / (hi - lo)` in float32, cut off; `hi` itself belongs to the last bin, values outside to none.
    fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32>;
}

/// Values looked at in one go: enough for the compiler's vectors, few enough for the first cache.
const LANES: usize = 16;
const BLOCK: usize = 512;
/// Counters of the same bin: with one, a run of equal values (zeros after ReLU) waits for its own last store.
const TABLES: usize = 4;

impl Values for [f32] {
    fn min_max(&self) -> (f32, f32) {
        let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let mut nan = [false; LANES];
        let (blocks, rest) = self.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                let x = block[i];
                min[i] = if x < min[i] { x } else { min[i] };
                max[i] = if x > max[i] { x } else { max[i] };
                nan[i] |= x.is_nan();
            }
        }
        if nan.contains(&true) || rest.iter().any(|x| x.is_nan()) {
            return (f32::NAN, f32::NAN);
        }
        let low = min.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
        let high = max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        (low, high)
    }

    fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32> {
        // One more counter for what lies outside.
        let stride = bins + 1;
        let mut counts = vec![0_u32; stride * TABLES];
        let (n, last, width) = (bins as f32, bins as i32 - 1, hi - lo);
        let mut at = [0_i32; BLOCK];
        for block in self.chunks(BLOCK) {
            for (at, x) in at.iter_mut().zip(block) {
                let bin = ((x - lo) * n / width) as i32;
                *at = if *x >= lo && *x <= hi { bin.min(last) } else { bins as i32 };
            }
            for (i, at) in at[..block.len()].iter().enumerate() {
                counts[i % TABLES * stride + *at as usize] += 1;
            }
        }
        (0..bins).map(|bin| (0..TABLES).map(|t| counts[t * stride + bin]).sum::<u32>() as f32).collect()
    }
}

impl Values for Vec<f32> {
    fn min_max(&self) -> (f32, f32) {
        self.as_slice().min_max()
    }

    fn histogram(&self, bins: usize, lo: f32, hi: f32) -> Vec<f32> {
        self.as_slice().histogram(bins, lo, hi)
    }
}
