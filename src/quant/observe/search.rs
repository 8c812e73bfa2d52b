use super::{BINS, Histogram, Range};

/// Levels the search lays over a clip: all of uint8's, also where the scale is later laid out for 0..127.
const LEVELS: f32 = 256.0;
/// How much of the mass one step cuts off.
const STEP: f64 = 1e-5;

/// The clip that loses least in the sense of L2, as `HistogramObserver._non_linear_param_search` finds it: from both ends
/// inwards, a step of mass at a time, on the side where that moves the clip further, until the error rises.
pub(super) fn best_clip(histogram: &Histogram) -> Range {
    let Range { min, max } = histogram.range;
    let below = cumulative(&histogram.counts);
    let total = f64::from(sum(&histogram.counts));
    let (mut start, mut end) = (0, BINS - 1);
    let (mut alpha, mut beta) = (0.0, 1.0);
    let mut least = f64::INFINITY;
    while alpha < beta {
        let (next_alpha, next_beta) = (alpha + STEP, beta - STEP);
        // The casts to float32 are PyTorch's: a tensor is compared with a Python number in the tensor's type.
        let (lower, upper) = ((next_alpha * total) as f32, (next_beta * total) as f32);
        let (mut l, mut r) = (start, end);
        while l < end && below[l] < lower {
            l += 1;
        }
        while r > start && below[r] > upper {
            r -= 1;
        }
        let (mut next_start, mut next_end) = (start, end);
        if l - start > end - r {
            (next_start, alpha) = (l, next_alpha);
        } else {
            (next_end, beta) = (r, next_beta);
        }
        if (next_start, next_end) == (start, end) {
            continue;
        }
        let error = clip_error(histogram, next_start, next_end);
        if error > least {
            break;
        }
        (least, start, end) = (error, next_start, next_end);
    }
    let width = (max - min) / BINS as f32;
    Range { min: min + width * start as f32, max: min + width * (end + 1) as f32 }
}

/// Values at or below each bin; summed in f64, as `torch.cumsum` does on a CPU, and rounded to f32.
fn cumulative(counts: &[f32]) -> Vec<f32> {
    counts
        .iter()
        .scan(0.0_f64, |sum, c| {
            *sum += f64::from(*c);
            Some(*sum as f32)
        })
        .collect()
}

/// The squared error of rounding to levels over the bins `start..=end`, values uniform within a bin. Steps are rounded to
/// float32 where PyTorch's tensors are, widths kept in f64 where it has Python numbers.
fn clip_error(histogram: &Histogram, start: usize, end: usize) -> f64 {
    let width = (f64::from(histogram.range.max) - f64::from(histogram.range.min)) / BINS as f64;
    let level_width = width * (end - start + 1) as f64 / f64::from(LEVELS);
    if level_width == 0.0 {
        return 0.0;
    }
    let (width, half, level) = (width as f32, (level_width / 2.0) as f32, level_width as f32);
    let level_of = |x: f32| floor_divide(x, level).clamp(0.0, LEVELS - 1.0);
    let whole = cubes(-half, half);
    let mut errors = [0.0; BINS];
    for ((bin, count), error) in histogram.counts.iter().enumerate().zip(&mut errors) {
        let density = count / width;
        let from = (bin as f32 - start as f32) * width;
        let to = from + width;
        let (first, last) = (level_of(from), level_of(to));
        let first_part = density * cubes(from - (first + 0.5) * level, half);
        let between = (last - first - 1.0) * (density * whole);
        let last_part = density * cubes(-half, to - (last * level + half));
        *error = first_part + between + last_part;
    }
    f64::from(sum(&errors))
}

/// The sum of [`BINS`] values in the order of `torch.sum` (`SumKernel.cpp`, on AVX2), which decides between clips whose
/// errors are equal but for rounding: 32 sums, each of stretches of 16 of its values; four of them make a lane, and the
/// eight lanes the sum.
fn sum(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    const SUMS: usize = 4 * LANES;
    const STRETCH: usize = 16;
    debug_assert!(values.len() == BINS && BINS / SUMS / STRETCH <= STRETCH, "longer ones have stretches of stretches");
    let mut sums = [0.0_f32; SUMS];
    for some in values.chunks_exact(SUMS * STRETCH) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += some.iter().skip(i).step_by(SUMS).sum::<f32>();
        }
    }
    let lane = |i: usize| sums[i] + sums[i + LANES] + sums[i + 2 * LANES] + sums[i + 3 * LANES];
    (0..LANES).map(lane).fold(0.0, |sum, lane| sum + lane)
}

/// The integral of x^2 between two distances from a level.
fn cubes(from: f32, to: f32) -> f32 {
    (to * to * to - from * from * from) / 3.0
}

/// `floor(x / y)` of the exact quotient, which `torch.div(rounding_mode="floor")` gives by way of `fmod`: a float32
/// quotient can round up to a whole number, an f64 one of two float32 numbers cannot.
fn floor_divide(x: f32, y: f32) -> f32 {
    (f64::from(x) / f64::from(y)).floor() as f32
}
