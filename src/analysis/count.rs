use std::ops::Range;

use rayon::prelude::*;

use super::{pairs::Filters, saturation::PairBound};
use crate::graph::{QParams, Shape};

/// The least sum of two levels whose products can leave 16 bits: -128 * 257 < -32768, and 127 needs 259.
const LEAST_LEVELS: i32 = 257;

/// The pairs of one layer that can saturate, ready to be counted.
#[derive(Debug)]
pub(super) struct Suspects {
    from: Shape,
    to: Shape,
    padding: usize,
    stride: usize,
    zero_point: u8,
    sites: Vec<Site>,
    users: Vec<User>,
}

/// Two levels of a window that are multiplied side by side.
#[derive(Debug)]
struct Site {
    /// Where the two are, from the window's first level on.
    levels: [usize; 2],
    /// Which of the users.
    users: Range<usize>,
}

/// A filter whose pair of weights there can saturate.
#[derive(Debug)]
struct User {
    output: u32,
    weights: [i16; 2],
}

/// What one image did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Pair sums outside 16 bits.
    pub saturated: u64,
    /// Outputs with at least one of them.
    pub outputs: u64,
    /// The one that is farthest outside.
    pub worst: Option<i32>,
}

impl Tally {
    pub fn add(self, other: Self) -> Self {
        Self {
            saturated: self.saturated + other.saturated,
            outputs: self.outputs + other.outputs,
            worst: self.worst.into_iter().chain(other.worst).max_by_key(|sum| (outside(*sum), *sum)),
        }
    }
}

/// How far a sum is outside 16 bits; 0 within.
fn outside(sum: i32) -> i32 {
    (sum - i32::from(i16::MAX)).max(i32::from(i16::MIN) - sum).max(0)
}

impl Suspects {
    /// The pairs of weights that some pair of levels up to the input's largest drives out of 16 bits.
    pub fn new(filters: &Filters<'_>, input: QParams) -> Self {
        let Filters { from, to, padding, stride, .. } = *filters;
        let [_, kw] = filters.kernel;
        let row = (from.w + 2 * padding) * from.c;
        let (mut sites, mut users) = (Vec::new(), Vec::new());
        for group in 0..filters.groups {
            for pair in 0..filters.pairs() {
                let first = users.len();
                for output in group * filters.outputs()..(group + 1) * filters.outputs() {
                    let weights = filters.weights(output, pair);
                    if !PairBound::of(weights, input.qmax).is_safe() {
                        users.push(User { output: output as u32, weights: weights.map(|w| w as i16) });
                    }
                }
                if users.len() > first {
                    let levels = [2 * pair, 2 * pair + 1].map(|k| {
                        let (tap, channel) = filters.place(k);
                        tap / kw * row + tap % kw * from.c + group * filters.channels() + channel
                    });
                    sites.push(Site { levels, users: first..users.len() });
                }
            }
        }
        Self { from, to, padding, stride, zero_point: input.zero_point, sites, users }
    }

    /// Counts one image's levels, NHWC without gaps.
    pub fn count(&self, levels: &[u8]) -> Tally {
        let padded = self.pad(levels);
        let rows = (0..self.to.h).into_par_iter().map(|y| self.count_row(&padded, y));
        rows.reduce(Tally::default, Tally::add)
    }

    /// What lies outside the image is the zero point: a zero.
    fn pad(&self, levels: &[u8]) -> Vec<u8> {
        let Shape { c, h, w } = self.from;
        let width = (w + 2 * self.padding) * c;
        let mut padded = vec![self.zero_point; (h + 2 * self.padding) * width];
        for (y, row) in levels.chunks_exact(w * c).enumerate() {
            let start = (y + self.padding) * width + self.padding * c;
            padded[start..start + w * c].copy_from_slice(row);
        }
        padded
    }

    fn count_row(&self, padded: &[u8], y: usize) -> Tally {
        let width = (self.from.w + 2 * self.padding) * self.from.c;
        let mut tally = Tally::default();
        let mut hit = vec![false; self.to.c];
        for x in 0..self.to.w {
            let window = &padded[y * self.stride * width + x * self.stride * self.from.c..];
            hit.fill(false);
            for site in &self.sites {
                let [a, b] = site.levels.map(|at| i32::from(window[at]));
                if a + b < LEAST_LEVELS {
                    continue;
                }
                for user in &self.users[site.users.clone()] {
                    let [u, v] = user.weights.map(i32::from);
                    let sum = a * u + b * v;
                    if outside(sum) > 0 {
                        let hit = &mut hit[user.output as usize];
                        let outputs = u64::from(!std::mem::replace(hit, true));
                        tally = tally.add(Tally { saturated: 1, outputs, worst: Some(sum) });
                    }
                }
            }
        }
        tally
    }
}
