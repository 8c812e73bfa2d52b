//! Mutations: of bytes, whatever they mean, and (by kind) of what a format means.

use crate::readers::Kind;
use crate::seeds::Seed;
use crate::{json, pickles, pictures, wire};

/// SplitMix64 (Steele 2014): the same inputs everywhere.
pub struct Random(u64);

impl Random {
    /// A stream of its own for every pair.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed);
        random.0 = random.next() ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly in `0..n`, `n` above 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What lengths, counts and extents are replaced by.
pub const EXTREMES: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    4095,
    65_535,
    65_536,
    1 << 20,
    (1 << 28) + 1,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// The same as text, and what no number is.
pub const NUMBERS: [&str; 26] = [
    "0",
    "-1",
    "1",
    "2",
    "3",
    "7",
    "16",
    "31",
    "32",
    "127",
    "128",
    "255",
    "256",
    "4096",
    "65536",
    "1048576",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "0.5",
    "-1e-45",
    "1e30",
    "3.5e38",
    "1e999",
];

/// float32 that arithmetic trips over.
pub const FLOATS: [f32; 12] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    1e30,
    -1.0,
];

/// `whole`, changed one to four times; `other` is of the same kind, to splice with.
pub fn mutated(kind: Kind, whole: &Seed, other: &Seed, random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.bytes.clone();
    let rounds = 1 + random.below(4);
    // Half of them understand the format: the others rarely come behind its first check.
    let understand = random.below(2) == 0;
    for _ in 0..rounds {
        if understand && let Some(next) = by_format(kind, whole, &bytes, random) {
            bytes = next;
        } else {
            of_bytes(&mut bytes, &other.bytes, random);
        }
    }
    bytes
}

fn by_format(kind: Kind, whole: &Seed, bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    match kind {
        Kind::Torch => pickles::mutated(bytes, random),
        Kind::Safetensors | Kind::Checkpoint | Kind::Octet => json::in_header(bytes, random),
        Kind::Onnx => wire::mutated(bytes, random),
        Kind::Image => pictures::mutated(bytes, random),
        Kind::Records => pictures::records(bytes, random),
        Kind::Recipe | Kind::Project | Kind::Remembered if whole.name.ends_with(".json") => json::whole(bytes, random),
        Kind::Recipe | Kind::Project | Kind::Remembered => numbers(bytes, random),
    }
}

/// A place in `0..len`, the first bytes oftener: there the lengths are.
fn place(len: usize, random: &mut Random) -> usize {
    if random.one_in(3) { random.below(len.min(64)) } else { random.below(len) }
}

/// A stretch of at most `most` bytes.
fn stretch(len: usize, most: usize, random: &mut Random) -> std::ops::Range<usize> {
    let start = place(len, random);
    start..(start + 1 + random.below(most)).min(len)
}

fn of_bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        bytes.extend_from_slice(&other[..other.len().min(random.below(64) + 1)]);
        return;
    }
    let len = bytes.len();
    match random.below(12) {
        0 | 1 => {
            for _ in 0..=random.below(8) {
                let at = place(len, random);
                bytes[at] ^= 1 << random.below(8);
            }
        }
        2 => {
            for _ in 0..=random.below(4) {
                let at = place(len, random);
                bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'(', b'.', b'{', b'"']);
            }
        }
        3 => bytes.truncate(random.below(len)),
        4 => {
            let (at, from) = (place(len, random), stretch(other.len().max(1), 256, random));
            let end = (at + random.below(from.len() + 1)).min(len);
            bytes.splice(at..end, other.get(from).unwrap_or_default().iter().copied());
        }
        5 => {
            let again = bytes[stretch(len, 128, random)].to_vec();
            let most = if random.one_in(8) { 64 } else { 2 };
            let times = 1 + random.below(most);
            let at = place(len, random);
            bytes.splice(at..at, again.repeat(times));
        }
        6 => drop(bytes.drain(stretch(len, 64, random))),
        7 => {
            let more: Vec<u8> = (0..=random.below(32)).map(|_| random.next() as u8).collect();
            let at = place(len, random);
            bytes.splice(at..at, more);
        }
        8 | 9 => {
            let value = *random.pick(&EXTREMES);
            let little = value.to_le_bytes();
            let width = *random.pick(&[1, 2, 4, 8]);
            let mut field = little[..width].to_vec();
            if random.one_in(3) {
                field.reverse();
            }
            let at = place(len, random);
            for (to, from) in bytes[at..].iter_mut().zip(field) {
                *to = from;
            }
        }
        10 => {
            let at = random.below(len) / 4 * 4;
            for (to, from) in bytes[at..].iter_mut().zip(random.pick(&FLOATS).to_le_bytes()) {
                *to = from;
            }
        }
        _ => {
            if let Some(next) = numbers(bytes, random) {
                *bytes = next;
            }
        }
    }
}

/// One of the numbers that stand in the file as text, replaced.
pub fn numbers(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|i| bytes[*i].is_ascii_digit() && (*i == 0 || !bytes[*i - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return None;
    }
    let start = *random.pick(&starts);
    let end = (start..bytes.len()).find(|i| !bytes[*i].is_ascii_digit()).unwrap_or(bytes.len());
    let mut next = bytes[..start].to_vec();
    next.extend_from_slice(random.pick(&NUMBERS).as_bytes());
    next.extend_from_slice(&bytes[end..]);
    Some(next)
}
