//! Mutations of what `torch.save` writes: the zip archive's entries, the pickle's instructions.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::mutate::{EXTREMES, Random};

/// The files in an archive.
pub type Entries = Vec<(String, Vec<u8>)>;

/// An archive is read no further than this while it is mutated: mutated ones may be bombs already.
const LARGEST: u64 = 1 << 20;

/// Of a zip archive or of the older format's pickles.
pub fn mutated(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"PK") {
        return Some(instructions(bytes, random));
    }
    let mut entries = unzip(bytes)?;
    if entries.is_empty() {
        return None;
    }
    match random.below(10) {
        0 => entry_name(&mut entries, random),
        1 => {
            let at = random.below(entries.len());
            entries.remove(at);
        }
        2 => {
            // A storage of another length.
            let at = random.below(entries.len());
            let len = entries[at].1.len();
            let next = [0, 1, len / 2, len.saturating_sub(1), len + 1, len * 3, 100_000];
            entries[at].1.resize(*random.pick(&next), 0);
        }
        _ => {
            let pickle = entries.iter_mut().find(|(name, _)| name.ends_with("data.pkl"))?;
            pickle.1 = instructions(&pickle.1, random);
        }
    }
    let method = if random.one_in(4) { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    zip(&entries, method)
}

/// The entries of an archive, short ones.
pub fn unzip(bytes: &[u8]) -> Option<Entries> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut entries = Vec::new();
    for i in 0..archive.len().min(256) {
        let file = archive.by_index(i).ok()?;
        let (name, mut content) = (file.name().ok()?.into_owned(), Vec::new());
        // What is damaged stays as far as it could be read.
        let _ = file.take(LARGEST).read_to_end(&mut content);
        entries.push((name, content));
    }
    Some(entries)
}

/// An archive of these entries; names may be anything.
pub fn zip(entries: &Entries, method: CompressionMethod) -> Option<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, content) in entries {
        zip.start_file(name.as_str(), options).ok()?;
        zip.write_all(content).ok()?;
    }
    Some(zip.finish().ok()?.into_inner())
}

/// Names that lead elsewhere, or are there twice.
fn entry_name(entries: &mut Entries, random: &mut Random) {
    let at = random.below(entries.len());
    let other = entries[random.below(entries.len())].0.clone();
    let name = entries[at].0.clone();
    entries[at].0 = match random.below(6) {
        0 => format!("../../../../tmp/{name}"),
        1 => format!("/etc/{name}"),
        2 => name.replace('/', "\\"),
        3 => "x".repeat(60_000),
        4 => format!("{name}\u{0}"),
        _ => other,
    };
}

/// Where each instruction of a pickle starts, as far as they can be told apart.
fn starts(pickle: &[u8]) -> Vec<usize> {
    let (mut at, mut starts) = (0, Vec::new());
    while at < pickle.len() {
        starts.push(at);
        let number = |width: usize| {
            let field = pickle.get(at + 1..at + 1 + width).unwrap_or_default();
            field.iter().rev().fold(0_usize, |n, b| n << 8 | usize::from(*b))
        };
        let line = |from: usize| {
            pickle.get(from..).and_then(|r| r.iter().position(|b| *b == b'\n')).map_or(usize::MAX / 2, |n| from + n + 1)
        };
        at = match pickle[at] {
            0x80 | b'K' | b'q' | b'h' => at + 2,
            b'M' => at + 3,
            b'J' | b'r' | b'j' => at + 5,
            b'G' | 0x95 => at + 9,
            b'X' | b'T' | b'B' => at.saturating_add(5).saturating_add(number(4)),
            0x8c | b'U' | b'C' | 0x8a => at.saturating_add(2).saturating_add(number(1)),
            b'c' => line(line(at + 1)),
            _ => at + 1,
        };
    }
    starts
}

fn instructions(pickle: &[u8], random: &mut Random) -> Vec<u8> {
    let starts = starts(pickle);
    if starts.is_empty() {
        return b".".to_vec();
    }
    let mut next = pickle.to_vec();
    let at = *random.pick(&starts);
    match random.below(7) {
        // A number that an instruction carries.
        0 | 1 => {
            let numbers: Vec<usize> = starts
                .iter()
                .copied()
                .filter(|s| matches!(pickle[*s], b'K' | b'M' | b'J' | b'X' | 0x8c | 0x8a))
                .collect();
            let at = if numbers.is_empty() { at } else { *random.pick(&numbers) };
            let value = random.pick(&EXTREMES).to_le_bytes();
            let width = match pickle[at] {
                b'M' => 2,
                b'J' | b'X' => 4,
                _ => 1,
            };
            for (to, from) in next[at + 1..].iter_mut().zip(&value[..width]) {
                *to = *from;
            }
        }
        2 => {
            // A whole instruction elsewhere, or twice.
            let (from, to) = (*random.pick(&starts), *random.pick(&starts));
            let end = starts.iter().copied().find(|s| *s > from).unwrap_or(pickle.len());
            next.splice(to..to, pickle[from..end].iter().copied());
        }
        3 => {
            let end = starts.iter().copied().find(|s| *s > at).unwrap_or(pickle.len());
            next.drain(at..end);
        }
        4 => drop(next.splice(at..at, planted(random))),
        5 => {
            // A global of another name.
            let names: [&[u8]; 7] = [
                b"cos\nsystem\n",
                b"ctorch\nDoubleStorage\n",
                b"ctorch\nByteStorage\n",
                b"ctorch\nLongStorage\n",
                b"ctorch._utils\n_rebuild_qtensor\n",
                b"ctorch._utils\n_rebuild_parameter\n",
                b"ccollections\nOrderedDict\n",
            ];
            let globals: Vec<usize> = starts.iter().copied().filter(|s| pickle[*s] == b'c').collect();
            let at = if globals.is_empty() { at } else { *random.pick(&globals) };
            let end = starts.iter().copied().find(|s| *s > at).unwrap_or(pickle.len());
            next.splice(at..end, random.pick(&names).iter().copied());
        }
        _ => {
            // A stride or an extent, as `K n`, one for the other.
            let small: Vec<usize> = starts.iter().copied().filter(|s| pickle[*s] == b'K').collect();
            if small.len() > 1 {
                let (a, b) = (*random.pick(&small), *random.pick(&small));
                if a + 1 < next.len() && b + 1 < next.len() {
                    next.swap(a + 1, b + 1);
                }
            }
        }
    }
    next
}

/// Instructions that are legal somewhere: recursion, what fills the stack, the memo, a list with itself.
fn planted(random: &mut Random) -> Vec<u8> {
    let times = *random.pick(&[1, 3, 40, 3_000]);
    match random.below(10) {
        0 => b"(".repeat(times),
        1 => b")\x85".repeat(times),
        2 => b"N\x94".repeat(times),
        3 => b"N2".repeat(times),
        4 => b"]q\x01h\x01a".to_vec(),
        5 => b"}q\x02h\x02h\x02s".to_vec(),
        6 => [b"(".as_slice(), &b"h\x00".repeat(times), b"t"].concat(),
        7 => b"\x8a\xff".to_vec(),
        8 => b"X\xff\xff\xff\x7f".to_vec(),
        _ => b"0".repeat(times.min(5)),
    }
}
