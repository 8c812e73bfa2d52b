//! Fashion-MNIST's format (<http://yann.lecun.com/exdb/mnist/>): a big-endian header, then bytes; gzipped or not.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

use super::{
    DataError, Dataset, Split,
    dataset::small,
    split::{Decoded, Layout},
};

/// Fashion-MNIST's classes (<https://github.com/zalandoresearch/fashion-mnist>).
const LABELS: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// 28 pixels and a border of 2: the least that every model takes.
const SIZE: usize = 32;

/// More than the whole of Fashion-MNIST (47 MB); a small file that inflates beyond is refused.
const MAX_BYTES: u64 = 1 << 28;

/// What `examples/draw_sample.rs` drew.
pub(super) fn sample() -> Result<Dataset, DataError> {
    let split = |part: &str, images: &[u8], labels: &[u8]| {
        let path = |kind: &str| PathBuf::from(format!("sample_data/{part}-{kind}-ubyte.gz"));
        parse(&path("images-idx3"), images, &path("labels-idx1"), labels)
    };
    let train = split(
        "train",
        include_bytes!("../../sample_data/train-images-idx3-ubyte.gz"),
        include_bytes!("../../sample_data/train-labels-idx1-ubyte.gz"),
    )?;
    let valid = split(
        "t10k",
        include_bytes!("../../sample_data/t10k-images-idx3-ubyte.gz"),
        include_bytes!("../../sample_data/t10k-labels-idx1-ubyte.gz"),
    )?;
    Ok(Dataset::new(LABELS.map(str::to_owned).to_vec(), train, valid, small(SIZE)))
}

/// The four files `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]`; nothing where the first is not there.
pub(super) fn open_folder(path: &Path) -> Result<Option<Dataset>, DataError> {
    let find = |name: &str| {
        let plain = path.join(name);
        if plain.exists() { plain } else { path.join(format!("{name}.gz")) }
    };
    if !find("train-images-idx3-ubyte").exists() {
        return Ok(None);
    }
    let read = |file: &Path| fs::read(file).map_err(|source| DataError::Read { path: file.to_owned(), source });
    let split = |part: &str| {
        let (images, labels) = (find(&format!("{part}-images-idx3-ubyte")), find(&format!("{part}-labels-idx1-ubyte")));
        parse(&images, &read(&images)?, &labels, &read(&labels)?)
    };
    let labels = LABELS.map(str::to_owned).to_vec();
    Ok(Some(Dataset::new(labels, split("train")?, split("t10k")?, small(SIZE))))
}

fn parse(image_path: &Path, images: &[u8], label_path: &Path, labels: &[u8]) -> Result<Split, DataError> {
    let ([count, height, width], pixels) = array::<3>(image_path, images)?;
    let ([label_count], labels) = array::<1>(label_path, labels)?;
    let refuse = |detail: String| DataError::Format { path: label_path.to_owned(), detail };
    if label_count != count {
        return Err(refuse(format!("has {label_count} labels for {count} images")));
    }
    if let Some(odd) = labels.iter().find(|l| usize::from(**l) >= LABELS.len()) {
        return Err(refuse(format!("has the label {odd}, expected 0 to 9: not Fashion-MNIST")));
    }
    let border = SIZE.saturating_sub(width.max(height)) / 2;
    let layout = Layout::Grey { border };
    let images = Decoded { path: image_path.to_owned(), width, height, layout, pixels };
    Ok(Split::memory(images, labels.iter().map(|l| u32::from(*l)).collect()))
}

/// An array of bytes of `RANK` dimensions.
fn array<const RANK: usize>(path: &Path, file: &[u8]) -> Result<([usize; RANK], Vec<u8>), DataError> {
    let refuse = |detail: String| DataError::Format { path: path.to_owned(), detail };
    let mut from: Box<dyn Read> =
        if file.starts_with(&[0x1f, 0x8b]) { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let damaged = |e: std::io::Error| refuse(format!("is a damaged or truncated gzip file: {e}"));
    let mut header = Vec::new();
    from.by_ref().take(4 + 4 * RANK as u64).read_to_end(&mut header).map_err(damaged)?;
    let (magic, extents) = header.split_at_checked(4).unwrap_or_default();
    let (extents, _) = extents.as_chunks::<4>();
    if magic != [0, 0, 8, RANK as u8] || extents.len() != RANK {
        return Err(refuse(format!("is no idx file of bytes with {RANK} dimensions")));
    }
    let shape: [usize; RANK] = std::array::from_fn(|axis| u32::from_be_bytes(extents[axis]) as usize);
    let expected = shape.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent as u64));
    let Some(expected) = expected.filter(|n| (1..=MAX_BYTES).contains(n)) else {
        return Err(refuse(format!("its header says {shape:?}, expected 1 to {MAX_BYTES} values")));
    };
    // No more is inflated than the header says, and room taken only as it comes.
    let mut values = Vec::new();
    from.take(expected + 1).read_to_end(&mut values).map_err(damaged)?;
    if values.len() as u64 != expected {
        let held = values.len();
        return Err(refuse(format!("holds {held} values or more, its header says {shape:?}: truncated, or too long")));
    }
    values.shrink_to_fit();
    Ok((shape, values))
}
