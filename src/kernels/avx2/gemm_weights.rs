use std::ops::Range;

use super::lanes::Constants;
use crate::kernels::Requant;

/// Output channels in one vector of sums.
pub(super) const LANES: usize = 8;
/// The largest level that the narrow tiles take: any two of their products, of levels with weights, fit 16 bits.
pub(super) const NARROW: u8 = 127;
/// The products of one lane must not exceed 16 bits: so much may its positive, or its negative, weights make.
const MOST: i32 = i16::MAX as i32 / NARROW as i32;

/// Weights of a dense layer: blocks of two vectors (16 output channels), the last of one or three where their number is odd;
/// in a block, for every four levels of
/// the window, one [`Quads`] a vector.
///
/// The order of a block's quads is its own: first those that can be added four by four in 16 bits without overflow, whatever
/// the levels up to [`NARROW`] are; then those two by two; then the rest.
#[derive(Debug)]
pub(in crate::kernels) struct GemmWeights {
    quads: Vec<Quads>,
    /// In each block, where the levels of each quad lie in a copied window.
    offsets: Vec<u32>,
    /// In each block, where they lie in the input, from the window's start.
    places: Vec<u32>,
    /// In each block, which quad of the order is the window's first, second...
    slots: Vec<u32>,
    /// In each block, how many fours of quads come first, and how many pairs behind them.
    groups: Vec<Groups>,
    constants: Vec<Constants>,
    /// Of four levels; the last of a run may hold fewer weights, the rest are 0.
    quads_in_window: usize,
    /// Levels of a run, filled up to whole quads.
    run: usize,
}

/// 8 output channels times 4 levels.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(32))]
pub(super) struct Quads(pub(super) [i8; 32]);

/// How many groups of quads are summed in 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Groups {
    pub(super) fours: usize,
    pub(super) pairs: usize,
}

/// One block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    /// `[quad][vector]`.
    pub(super) quads: &'a [Quads],
    pub(super) offsets: &'a [u32],
    pub(super) places: &'a [u32],
    pub(super) slots: &'a [u32],
    pub(super) groups: Groups,
    /// One a vector.
    pub(super) constants: &'a [Constants],
    /// First output channel.
    pub(super) first: usize,
}

impl GemmWeights {
    /// From `[out][runs][run]`; `runs` says where each starts in the input.
    pub(in crate::kernels) fn pack(plain: &[i8], runs: &[usize], run: usize, requant: &Requant) -> Self {
        let channels = requant.bias.len();
        let vectors = channels.div_ceil(LANES);
        let (window, filled) = (runs.len() * run, run.next_multiple_of(4));
        let quads_in_window = runs.len() * filled / 4;
        let mut constants = vec![Constants::ZERO; vectors];
        for c in 0..channels {
            let slot = &mut constants[c / LANES];
            slot.start[c % LANES] = requant.start(&plain[c * window..][..window]);
            slot.bias[c % LANES] = requant.bias[c];
            slot.multiplier[c % LANES] = requant.multiplier[c];
        }
        let weight = |c: usize, i: usize| {
            let (at, i) = (i / filled, i % filled);
            if c < channels && i < run { plain[c * window + at * run + i] } else { 0 }
        };
        let mut packed = Self {
            quads: Vec::with_capacity(vectors * quads_in_window),
            offsets: Vec::new(),
            places: Vec::new(),
            slots: Vec::new(),
            groups: Vec::new(),
            constants,
            quads_in_window,
            run: filled,
        };
        for index in 0..blocks(vectors) {
            let Range { start: first, end } = block_vectors(index, vectors);
            let width = end - first;
            let block: Vec<Quads> = (0..quads_in_window * width)
                .map(|at| {
                    let (quad, vector) = (at / width, first + at % width);
                    Quads(std::array::from_fn(|i| weight(vector * LANES + i / 4, quad * 4 + i % 4)))
                })
                .collect();
            let (order, groups) = order(&block, width);
            let mut slots = vec![0; order.len()];
            for (slot, quad) in order.iter().enumerate() {
                packed.quads.extend_from_slice(&block[quad * width..][..width]);
                packed.offsets.push(4 * *quad as u32);
                packed.places.push((runs[4 * quad / filled] + 4 * quad % filled) as u32);
                slots[*quad] = slot as u32;
            }
            packed.slots.extend(slots);
            packed.groups.push(groups);
        }
        packed
    }

    pub(super) fn blocks(&self) -> usize {
        self.groups.len()
    }

    /// Levels of a window, filled up to whole quads.
    pub(super) fn window(&self) -> usize {
        4 * self.quads_in_window
    }

    /// Levels from one run of a copied window to the next.
    pub(super) fn run(&self) -> usize {
        self.run
    }

    pub(super) fn block(&self, index: usize) -> Block<'_> {
        let vectors = block_vectors(index, self.constants.len());
        let quads = self.quads_in_window;
        Block {
            quads: &self.quads[vectors.start * quads..vectors.end * quads],
            offsets: &self.offsets[index * quads..][..quads],
            places: &self.places[index * quads..][..quads],
            slots: &self.slots[index * quads..][..quads],
            groups: self.groups[index],
            constants: &self.constants[vectors.clone()],
            first: vectors.start * LANES,
        }
    }
}

/// How many blocks that many vectors make.
fn blocks(vectors: usize) -> usize {
    (vectors / 2).max(1)
}

/// The vectors of a block.
fn block_vectors(index: usize, vectors: usize) -> Range<usize> {
    let end = if index + 1 == blocks(vectors) { vectors } else { 2 * index + 2 };
    2 * index..end
}

/// An order of a block's quads, and how many groups of it can be summed in 16 bits.
fn order(block: &[Quads], width: usize) -> (Vec<usize>, Groups) {
    // Of each quad, of every two weights that `vpmaddubsw` adds: the sums of the positive and of the negative ones.
    let quads: Vec<Group> = block
        .chunks_exact(width)
        .enumerate()
        .map(|(index, quad)| {
            let sum = |w: &[i8], sign: i32| w.iter().map(|w| (sign * i32::from(*w)).max(0)).sum();
            let pairs = quad.iter().flat_map(|q| q.0.chunks_exact(2));
            Group { quads: vec![index], sums: pairs.flat_map(|w| [sum(w, 1), sum(w, -1)]).collect() }
        })
        .collect();
    let (pairs, singles) = join(quads);
    let (fours, pairs) = join(pairs);
    let groups = Groups { fours: fours.len(), pairs: pairs.len() };
    (fours.into_iter().chain(pairs).chain(singles).flat_map(|group| group.quads).collect(), groups)
}

/// Quads that are summed together.
struct Group {
    quads: Vec<usize>,
    sums: Vec<i32>,
}

/// Joins two and two that fit 16 bits together, each with the first that it fits; and those that are left.
fn join(groups: Vec<Group>) -> (Vec<Group>, Vec<Group>) {
    let (mut joined, mut open): (Vec<Group>, Vec<Group>) = (Vec::new(), Vec::new());
    for group in groups {
        let fits = |other: &Group| other.sums.iter().zip(&group.sums).all(|(a, b)| a + b <= MOST);
        match open.iter().position(fits) {
            Some(at) => {
                let mut other = open.remove(at);
                other.quads.extend(group.quads);
                other.sums.iter_mut().zip(group.sums).for_each(|(a, b)| *a += b);
                joined.push(other);
            }
            None => open.push(group),
        }
    }
    (joined, open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quads_that_cannot_overflow_are_paired() {
        let quad = |w: [i8; 4]| Quads(std::array::from_fn(|i| w[i % 4]));
        let pairs = |pairs| Groups { fours: 0, pairs };
        // 127 + 127 + 4 = 258 is allowed, 259 is not; -128 twice with 2 as well.
        let block = [quad([127, 127, 0, 0]), quad([5, 0, 0, 0]), quad([4, 0, -2, 0]), quad([0, 0, -128, -128])];
        assert_eq!(order(&block, 1), (vec![0, 2, 1, 3], pairs(2)));
        let block = [quad([127, 127, 0, 0]), quad([5, 0, 0, 0]), quad([-3, 0, -128, -128]), quad([0, 0, -3, 0])];
        assert_eq!(order(&block, 1), (vec![0, 2, 1, 3], pairs(2)));
        // 4 * 64 + 2 is allowed in one lane, 259 is not.
        let block = [quad([64, 0, 0, 0]), quad([0, 64, 0, 0]), quad([65, 0, 0, 0]), quad([65, 0, 0, 0])];
        assert_eq!(order(&block, 1), (vec![0, 1, 2, 3], Groups { fours: 1, pairs: 0 }));
        let block = [quad([64, 0, 0, 0]), quad([0, 64, 0, 0]), quad([65, 0, 0, 0]), quad([66, 0, 0, 0])];
        assert_eq!(order(&block, 1), (vec![0, 1, 2, 3], pairs(2)));
    }

    #[test]
    fn the_largest_sums_of_a_pair_fit_16_bits() {
        assert!(MOST * i32::from(NARROW) <= i32::from(i16::MAX));
        assert!(2 * 128 * i32::from(NARROW) <= i32::from(i16::MAX));
    }
}
