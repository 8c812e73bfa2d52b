//! Folders of image files, as torchvision's `ImageFolder`: one folder a class, in alphabetical order.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{DataError, Dataset, Fit, Preprocess, Skipped, Split};

const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];
const HELD_OUT: [&str; 3] = ["valid", "val", "test"];
const SIZE: usize = 224;

/// Deeper than anybody sorts photographs; ends a circle of links.
const MAX_DEPTH: usize = 8;

/// The images below one folder.
#[derive(Default)]
struct Listing {
    /// Empty where images lie in the folder itself.
    classes: Vec<String>,
    files: Vec<PathBuf>,
    labels: Vec<u32>,
    skipped: Vec<Skipped>,
}

pub(super) fn open(path: &Path, seed: u64) -> Result<Dataset, DataError> {
    let preprocess = Preprocess::new(SIZE, Fit::Crop);
    let train = path.join("train");
    if !train.is_dir() {
        return Ok(divide(list(path)?, seed, preprocess));
    }
    let listing = list(&train)?;
    let Some(held_out) = HELD_OUT.iter().map(|name| path.join(name)).find(|p| p.is_dir()) else {
        return Ok(divide(listing, seed, preprocess));
    };
    let mut other = list(&held_out)?;
    relabel(&held_out, &mut other, &listing.classes)?;
    let (train, valid) = (listing.split(), other.split());
    let mut skipped = listing.skipped;
    skipped.append(&mut other.skipped);
    Ok(Dataset::new(listing.classes, train, valid, preprocess).with_skipped(skipped))
}

/// Without classes there is nothing to hold out: accuracy cannot be told, and every image may calibrate.
fn divide(listing: Listing, seed: u64, preprocess: Preprocess) -> Dataset {
    let all = listing.split();
    let dataset = if listing.classes.is_empty() {
        Dataset::new(listing.classes, all, Split::empty(), preprocess)
    } else {
        Dataset::divide(listing.classes, &all, seed, preprocess)
    };
    dataset.with_skipped(listing.skipped)
}

impl Listing {
    fn split(&self) -> Split {
        Split::files(self.files.clone(), (!self.classes.is_empty()).then(|| self.labels.clone()))
    }

    fn skip(&mut self, path: &Path, reason: &str) {
        self.skipped.push(Skipped { name: path.display().to_string(), reason: reason.to_owned() });
    }
}

/// The class folders of `root`, or the images in it where it has none.
fn list(root: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    let (folders, files) = entries(root)?;
    for folder in folders {
        let mut images = Vec::new();
        collect(&folder, MAX_DEPTH, &mut images, &mut listing)?;
        if images.is_empty() {
            listing.skip(&folder, "holds no images: not a class");
            continue;
        }
        let class = listing.classes.len() as u32;
        listing.classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
        listing.labels.extend(images.iter().map(|_| class));
        listing.files.append(&mut images);
    }
    for file in files {
        match (is_image(&file), listing.classes.is_empty()) {
            (true, true) => listing.files.push(file),
            (true, false) => listing.skip(&file, "lies in no class folder"),
            (false, _) => listing.skip(&file, "is no jpg, png, webp or bmp file"),
        }
    }
    if listing.files.is_empty() {
        return Err(DataError::Empty { path: root.to_owned() });
    }
    Ok(listing)
}

fn collect(folder: &Path, depth: usize, images: &mut Vec<PathBuf>, listing: &mut Listing) -> Result<(), DataError> {
    let (folders, files) = entries(folder)?;
    for file in files {
        if is_image(&file) {
            images.push(file);
        } else {
            listing.skip(&file, "is no jpg, png, webp or bmp file");
        }
    }
    for inner in folders {
        match depth {
            0 => listing.skip(&inner, "lies too deep"),
            depth => collect(&inner, depth - 1, images, listing)?,
        }
    }
    Ok(())
}

/// Folders and files in `folder`, by name; hidden ones are not seen. Links are followed.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

fn is_image(path: &Path) -> bool {
    path.extension().is_some_and(|e| ENDINGS.iter().any(|ending| e.eq_ignore_ascii_case(ending)))
}

/// Gives the held-out images the classes of the training folder.
fn relabel(path: &Path, held_out: &mut Listing, classes: &[String]) -> Result<(), DataError> {
    let refuse = |detail: String| Err(DataError::Format { path: path.to_owned(), detail });
    if held_out.classes.is_empty() != classes.is_empty() {
        return refuse("one of it and train/ has class folders, the other none".to_owned());
    }
    let mut indices = Vec::new();
    for class in &held_out.classes {
        match classes.iter().position(|c| c == class) {
            Some(index) => indices.push(index as u32),
            None => return refuse(format!("has the class `{class}`, which train/ lacks")),
        }
    }
    for label in &mut held_out.labels {
        *label = indices[*label as usize];
    }
    held_out.classes = classes.to_vec();
    Ok(())
}
