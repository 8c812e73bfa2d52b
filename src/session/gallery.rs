//! The data for eyes: what each class holds, small pictures of it, and one image as the model sees it. Read-only, for
//! [`super::Probe`]s.

use super::SessionError;
use crate::data::{Dataset, Image, Preprocess, Split};

/// Thumbnails a class.
const EXAMPLES: usize = 6;
/// Longer side of the image that [`Preview`] starts from.
const WHOLE: usize = 256;

/// What one class of the data holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRow {
    /// Its name; of images without classes one row stands for all.
    pub label: String,
    /// Images to train on.
    pub train: usize,
    /// Images held out.
    pub held_out: usize,
    /// A few of the training images, spread evenly.
    pub examples: Vec<usize>,
}

/// One row a class, in the classes' order.
pub fn class_rows(dataset: &Dataset) -> Vec<ClassRow> {
    let row = |label: String| ClassRow { label, train: 0, held_out: 0, examples: Vec::new() };
    let mut rows: Vec<ClassRow> = match dataset.labelled {
        true => dataset.labels.iter().cloned().map(row).collect(),
        false => vec![row("images without classes".to_owned())],
    };
    let class = |split: &Split, i| split.label(i).unwrap_or(0);
    (0..dataset.train.len()).for_each(|i| rows[class(&dataset.train, i)].train += 1);
    (0..dataset.valid.len()).for_each(|i| rows[class(&dataset.valid, i)].held_out += 1);
    let mut seen = vec![0usize; rows.len()];
    for i in 0..dataset.train.len() {
        let class = class(&dataset.train, i);
        let row = &mut rows[class];
        if seen[class].is_multiple_of(row.train.div_ceil(EXAMPLES)) {
            row.examples.push(i);
        }
        seen[class] += 1;
    }
    rows
}

/// A training image no larger than `side`; why not, in one sentence, where it cannot be read.
pub fn thumbnail(dataset: &Dataset, image: usize, side: usize) -> Result<Image, String> {
    dataset.train.image(image).map(|image| image.within(side)).map_err(|e| e.to_string())
}

/// The same of a held-out image.
pub fn held_out_thumbnail(dataset: &Dataset, image: usize, side: usize) -> Result<Image, String> {
    dataset.valid.image(image).map(|image| image.within(side)).map_err(|e| e.to_string())
}

/// One image on its way into the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Its file.
    pub name: String,
    /// Width and height as stored.
    pub stored: [usize; 2],
    /// All of it, made small.
    pub whole: Image,
    /// The square that the model sees, before normalization.
    pub seen: Image,
    /// Least and greatest value after it.
    pub range: (f32, f32),
}

/// Training image `image` through `preprocess`.
///
/// # Errors
/// A preprocessing that no image can go through, an image that cannot be read.
pub fn preview(dataset: &Dataset, image: usize, preprocess: &Preprocess) -> Result<Preview, SessionError> {
    preprocess.check()?;
    let stored = dataset.train.image(image)?;
    let input = preprocess.apply(&stored);
    let range = input.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    Ok(Preview {
        name: dataset.train.name(image),
        stored: [stored.width, stored.height],
        whole: stored.within(WHOLE),
        seen: preprocess.fit(&stored),
        range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Source;

    #[test]
    fn every_image_is_in_one_row() {
        let dataset = Dataset::open(&Source::Sample, 0).expect("the sample");
        let rows = class_rows(&dataset);
        assert_eq!(rows.len(), 10);
        assert_eq!(rows.iter().map(|r| r.train).sum::<usize>(), dataset.train.len());
        assert_eq!(rows.iter().map(|r| r.held_out).sum::<usize>(), dataset.valid.len());
        for (class, row) in rows.iter().enumerate() {
            assert_eq!(row.examples.len(), EXAMPLES, "{}", row.label);
            assert!(row.examples.iter().all(|i| dataset.train.label(*i) == Some(class)), "{}", row.label);
        }
    }

    #[test]
    fn a_preview_is_what_the_model_gets() {
        let dataset = Dataset::open(&Source::Sample, 0).expect("the sample");
        let preprocess = Preprocess { mean: [0.5; 3], std: [0.5; 3], ..dataset.preprocess() };
        let preview = preview(&dataset, 3, &preprocess).expect("it can be read");
        assert_eq!([preview.seen.width, preview.seen.height], [preprocess.size; 2]);
        assert!(preview.range.0 >= -1.0 && preview.range.1 <= 1.0 && preview.range.0 < preview.range.1);
        let wrong = Preprocess { size: 0, ..preprocess };
        assert!(super::preview(&dataset, 3, &wrong).is_err());
    }
}
