//! Draws the embedded sample from the whole of Fashion-MNIST: so many images of each class, seeded, in the same format.
//!
//! `cargo run --release --example draw_sample -- FOLDER sample_data`, FOLDER with the four `*-ubyte.gz` files (Debian's
//! package `dataset-fashion-mnist`, or <https://github.com/zalandoresearch/fashion-mnist>).

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, GzBuilder, read::GzDecoder};

const SEED: u64 = 0;
const PIXELS: usize = 28 * 28;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else { bail!("expected two folders: Fashion-MNIST's, and where to write") };
    for (part, per_class) in [("train", 600), ("t10k", 250)] {
        draw(Path::new(from), Path::new(to), part, per_class)?;
    }
    Ok(())
}

fn draw(from: &Path, to: &Path, part: &str, per_class: usize) -> Result<()> {
    let (image_name, label_name) = (format!("{part}-images-idx3-ubyte.gz"), format!("{part}-labels-idx1-ubyte.gz"));
    let (images, labels) = (inflate(&from.join(&image_name))?, inflate(&from.join(&label_name))?);
    let (pixels, labels) = (&images[16..], &labels[8..]);
    ensure!(pixels.len() == labels.len() * PIXELS, "{image_name} and {label_name} do not belong together");
    let mut left = [per_class; 10];
    let mut picks = Vec::new();
    for i in octet::data::shuffled(labels.len(), SEED) {
        let left = &mut left[usize::from(labels[i])];
        if *left > 0 {
            *left -= 1;
            picks.push(i);
        }
    }
    // In the original's order, which is shuffled already.
    picks.sort_unstable();
    let count = (picks.len() as u32).to_be_bytes();
    let mut drawn = [&images[..4], &count, &images[8..16]].concat();
    picks.iter().for_each(|i| drawn.extend_from_slice(&pixels[i * PIXELS..(i + 1) * PIXELS]));
    deflate(&to.join(&image_name), &drawn)?;
    let mut drawn = [&[0, 0, 8, 1][..], &count].concat();
    drawn.extend(picks.iter().map(|i| labels[*i]));
    deflate(&to.join(&label_name), &drawn)
}

fn inflate(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    ensure!(bytes.len() > 16, "{}: is no idx file", path.display());
    Ok(bytes)
}

/// Without a time or a name in the header: the same draw gives the same bytes.
fn deflate(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut packed = Vec::new();
    GzBuilder::new().mtime(0).read(bytes, Compression::best()).read_to_end(&mut packed)?;
    fs::write(path, &packed).with_context(|| path.display().to_string())?;
    println!("{}: {} bytes", path.display(), packed.len());
    Ok(())
}
