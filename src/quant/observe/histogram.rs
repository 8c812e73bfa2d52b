use super::{Range, Values};

/// Bins of a histogram, as PyTorch's `HistogramObserver` has.
pub const BINS: usize = 2048;

/// When the range grows, the old histogram is cut this much finer before it is laid into the new bins.
const UPSAMPLE: usize = 16;

/// All values seen so far, counted in [`BINS`] bins over their range.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Values a bin; fractions of a value once the range has grown.
    pub counts: Vec<f32>,
    /// From the lower edge of the first bin to the upper edge of the last.
    pub range: Range,
}

impl Histogram {
    /// Of finite values; `None` where there is none.
    pub fn of(values: Vec<f32>) -> Option<Self> {
        let (min, max) = values.min_max();
        (min <= max && min.is_finite() && max.is_finite()).then(|| Self::first(Range { min, max }, &values))
    }

    /// The histogram of the first batch over its own range.
    pub(super) fn first(range: Range, values: &dyn Values) -> Self {
        Self { counts: count(values, range), range }
    }

    /// Adds a batch whose values span `batch`. Where that exceeds the range so far, the batch is counted over the union
    /// and what was counted before is spread into the union's bins.
    pub(super) fn add(&mut self, batch: Range, values: &dyn Values) {
        let union = self.range.union(batch);
        let mut counts = count(values, union);
        let before = if union == self.range {
            std::mem::take(&mut self.counts)
        } else if self.range.min == self.range.max {
            one_value(self.range.min, self.counts.iter().sum(), union)
        } else {
            spread(&self.counts, self.range, union)
        };
        for (new, old) in counts.iter_mut().zip(before) {
            *new += old;
        }
        *self = Self { counts, range: union };
    }
}

/// Counts `values` over `range`, widened by 1 to both sides where it is a single point, as `torch.histc` does.
fn count(values: &dyn Values, range: Range) -> Vec<f32> {
    if range.min == range.max {
        return values.histogram(BINS, range.min - 1.0, range.max + 1.0);
    }
    values.histogram(BINS, range.min, range.max)
}

/// All of `mass` in the bin of `range` that `value` falls into.
fn one_value(value: f32, mass: f32, range: Range) -> Vec<f32> {
    let mut counts = [value].as_slice().histogram(BINS, range.min, range.max);
    counts.iter_mut().for_each(|c| *c *= mass);
    counts
}

/// Lays `counts` over `old` into bins over `new`: each bin cut into [`UPSAMPLE`] parts, each part put where its middle is.
fn spread(counts: &[f32], old: Range, new: Range) -> Vec<f32> {
    let parts = BINS * UPSAMPLE;
    let half = 0.5 * ((old.max - old.min) / parts as f32);
    let starts = Linspace::new(old, parts + 1);
    let edges = Linspace::new(new, BINS + 1);
    let mut spread = vec![0.0; BINS];
    // Middles and edges both ascend: the bin of one is where the search for the next begins.
    let mut bin = 0;
    for part in 0..parts {
        let middle = starts.at(part) + half;
        while bin < BINS - 1 && edges.at(bin + 1) <= middle {
            bin += 1;
        }
        spread[bin] += counts[part / UPSAMPLE] / UPSAMPLE as f32;
    }
    spread
}

/// `torch.linspace` in float32: from the start in the first half, from the end in the second; one rounding a point.
struct Linspace {
    range: Range,
    step: f32,
    points: usize,
}

impl Linspace {
    fn new(range: Range, points: usize) -> Self {
        Self { range, step: (range.max - range.min) / (points - 1) as f32, points }
    }

    fn at(&self, i: usize) -> f32 {
        if i < self.points / 2 {
            self.step.mul_add(i as f32, self.range.min)
        } else {
            self.step.mul_add(-((self.points - i - 1) as f32), self.range.max)
        }
    }
}
