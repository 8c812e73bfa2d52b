//! Mutations of pictures and of files of records: headers whose checksum is set right again, and what is compressed.

use std::io::{Read, Write};

use flate2::{Compression, Crc, read::GzDecoder, write::GzEncoder};

use crate::mutate::{EXTREMES, Random};

/// Extents that a picture may claim.
const SIDES: [u32; 12] = [0, 1, 2, 3, 255, 4096, 16_384, 16_385, 65_535, 1 << 20, i32::MAX as u32, u32::MAX];

/// Of a picture whose kind is known by its first bytes.
pub fn mutated(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    if bytes.starts_with(b"\x89PNG") && bytes.len() > 33 {
        // Width, height, depth, colour, interlacing: then the chunk's checksum.
        match random.below(5) {
            0 => next[16..20].copy_from_slice(&random.pick(&SIDES).to_be_bytes()),
            1 => next[20..24].copy_from_slice(&random.pick(&SIDES).to_be_bytes()),
            2 => next[24] = *random.pick(&[1, 2, 4, 8, 16, 3]),
            3 => next[25] = *random.pick(&[0, 2, 3, 4, 6, 5]),
            _ => next[28] ^= 1,
        }
        let mut crc = Crc::new();
        crc.update(&next[12..29]);
        next[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        return Some(next);
    }
    if bytes.starts_with(b"\xff\xd8") {
        // A start of frame, and a table or a scan in some other place.
        let frame =
            (2..bytes.len().saturating_sub(9)).find(|i| bytes[*i] == 0xff && matches!(bytes[i + 1], 0xc0..=0xc2))?;
        let side = *random.pick(&SIDES) as u16;
        match random.below(4) {
            0 => next[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes()),
            1 => next[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes()),
            2 => next[frame + 1] = *random.pick(&[0xc0, 0xc1, 0xc2, 0xc3, 0xc9]),
            _ => *next.get_mut(frame + 11)? = *random.pick(&[0x11, 0x22, 0x41, 0x14, 0x44, 0x00, 0xff]),
        }
        return Some(next);
    }
    if bytes.starts_with(b"BM") && bytes.len() > 54 {
        let at = *random.pick(&[2_usize, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50]);
        next[at..at + 4].copy_from_slice(&random.pick(&SIDES).to_le_bytes());
        return Some(next);
    }
    // WebP: a chunk's length, or the picture's extents behind the signature.
    let at = *random.pick(&[4_usize, 16, 20, 21, 24]);
    let value = random.pick(&EXTREMES).to_le_bytes();
    next.get_mut(at..at + 4)?.copy_from_slice(&value[..4]);
    Some(next)
}

/// Of CIFAR-10's records, or of an array of bytes (Fashion-MNIST's), compressed or not.
pub fn records(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut inside = Vec::new();
        GzDecoder::new(bytes).take(1 << 22).read_to_end(&mut inside).ok()?;
        let changed = array(inside, random)?;
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&changed).ok()?;
        return gz.finish().ok();
    }
    if bytes.starts_with(&[0, 0, 8]) {
        return array(bytes.to_vec(), random);
    }
    let mut next = bytes.to_vec();
    let record = 3073 * random.below(bytes.len().div_ceil(3073).max(1));
    *next.get_mut(record)? = *random.pick(&[9, 10, 255]);
    Some(next)
}

fn array(mut bytes: Vec<u8>, random: &mut Random) -> Option<Vec<u8>> {
    let rank = usize::from(*bytes.get(3)?);
    let at = 4 + 4 * random.below(rank.clamp(1, 3));
    match random.below(4) {
        0 => bytes.get_mut(at..at + 4)?.copy_from_slice(&random.pick(&SIDES).to_be_bytes()),
        1 => {
            // The same number of pixels, otherwise laid out.
            let (height, width) = *random.pick(&[(1_u32, 784_u32), (784, 1), (56, 14), (2, 392)]);
            bytes.get_mut(8..12)?.copy_from_slice(&height.to_be_bytes());
            bytes.get_mut(12..16)?.copy_from_slice(&width.to_be_bytes());
        }
        2 => bytes[3] = *random.pick(&[0, 1, 2, 3, 4, 255]),
        _ => {
            let value = *random.pick(&[9_u8, 10, 255]);
            *bytes.last_mut()? = value;
        }
    }
    Some(bytes)
}
