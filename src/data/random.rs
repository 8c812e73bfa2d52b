/// SplitMix64 (Steele 2014, <https://doi.org/10.1145/2714064.2660195>): small, seeded, the same everywhere.
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A stream of its own for every pair of `seed` and `stream`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self { state: seed };
        random.state = random.next() ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        random
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly in `0..n`, `n` above 0 (the bias of taking the high half of a product is below 2^-32 for any array).
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Fisher and Yates's shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// `0..len` in a random order; the same seed gives the same order.
pub fn shuffled(len: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    Random::new(seed, 0).shuffle(&mut order);
    order
}
