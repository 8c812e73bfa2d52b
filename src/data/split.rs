use std::{path::PathBuf, sync::Arc};

use super::{Augment, Batches, DataError, Image, Preprocess};

/// Images of one purpose: training, or held out. Cloning it shares the images.
#[derive(Clone, Debug)]
pub struct Split {
    store: Store,
    labels: Option<Arc<[u32]>>,
}

#[derive(Clone, Debug)]
enum Store {
    Files(Arc<[PathBuf]>),
    /// Which of the decoded images.
    Memory(Arc<Decoded>, Arc<[u32]>),
}

/// Images of one size, kept as their file has them.
#[derive(Debug)]
pub(super) struct Decoded {
    /// For errors.
    pub path: PathBuf,
    pub width: usize,
    pub height: usize,
    pub layout: Layout,
    /// One image after the other.
    pub pixels: Vec<u8>,
}

/// How the bytes of one image lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One grey byte a pixel, and how many black pixels to add on each side.
    Grey { border: usize },
    /// A red, a green and a blue plane.
    Planes,
}

impl Decoded {
    /// Bytes of one image.
    pub fn stride(&self) -> usize {
        self.width * self.height * if self.layout == Layout::Planes { 3 } else { 1 }
    }

    fn image(&self, i: usize) -> Image {
        let pixels = self.width * self.height;
        let raw = &self.pixels[i * self.stride()..(i + 1) * self.stride()];
        match self.layout {
            Layout::Planes => {
                let rgb = (0..pixels).flat_map(|p| [raw[p], raw[p + pixels], raw[p + 2 * pixels]]).collect();
                Image { width: self.width, height: self.height, rgb }
            }
            Layout::Grey { border } => {
                let mut image = Image::black(self.width + 2 * border, self.height + 2 * border);
                for (y, row) in raw.chunks_exact(self.width).enumerate() {
                    let start = 3 * ((y + border) * image.width + border);
                    for (rgb, grey) in image.rgb[start..].chunks_exact_mut(3).zip(row) {
                        rgb.fill(*grey);
                    }
                }
                image
            }
        }
    }
}

impl Split {
    /// Without images.
    pub fn empty() -> Self {
        Self::files(Vec::new(), None)
    }

    /// Files, with a label each or without labels.
    pub(super) fn files(files: Vec<PathBuf>, labels: Option<Vec<u32>>) -> Self {
        Self { store: Store::Files(files.into()), labels: labels.map(Into::into) }
    }

    /// All of the decoded images.
    pub(super) fn memory(images: Decoded, labels: Vec<u32>) -> Self {
        let all = (0..labels.len() as u32).collect();
        Self { store: Store::Memory(Arc::new(images), all), labels: Some(labels.into()) }
    }

    /// Those at `picks`, in that order.
    pub(super) fn select(&self, picks: &[usize]) -> Self {
        let store = match &self.store {
            Store::Files(files) => Store::Files(picks.iter().map(|i| files[*i].clone()).collect()),
            Store::Memory(images, kept) => Store::Memory(images.clone(), picks.iter().map(|i| kept[*i]).collect()),
        };
        Self { store, labels: self.labels.as_ref().map(|l| picks.iter().map(|i| l[*i]).collect()) }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.store {
            Store::Files(files) => files.len(),
            Store::Memory(_, kept) => kept.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of image `i`; none in a folder without classes, or beyond the end.
    pub fn label(&self, i: usize) -> Option<usize> {
        self.labels.as_ref().and_then(|l| l.get(i)).map(|l| *l as usize)
    }

    /// How image `i` is called: its file's path, or the data file's path and its number there.
    pub fn name(&self, i: usize) -> String {
        match &self.store {
            Store::Files(files) => files[i].display().to_string(),
            Store::Memory(images, kept) => format!("{}#{}", images.path.display(), kept[i]),
        }
    }

    /// Decodes image `i`.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Image`] for a file that is no image.
    ///
    /// # Panics
    /// If `i` is not below [`Split::len`].
    pub fn image(&self, i: usize) -> Result<Image, DataError> {
        match &self.store {
            Store::Files(files) => Image::open(&files[i]),
            Store::Memory(images, kept) => Ok(images.image(kept[i] as usize)),
        }
    }

    /// The images of `order` in batches of up to `batch`, decoded and preprocessed ahead on worker threads. The order
    /// and every value are the same on any number of threads. Dropping it stops the workers.
    ///
    /// # Panics
    /// If `batch` is 0 or an index of `order` is not below [`Split::len`].
    pub fn batches(
        &self,
        order: Vec<usize>,
        batch: usize,
        preprocess: &Preprocess,
        augment: Option<Augment>,
    ) -> Batches {
        assert!(batch > 0, "a batch holds at least one image");
        assert!(order.iter().all(|i| *i < self.len()), "an index beyond the split's {} images", self.len());
        Batches::start(self.clone(), order, batch, *preprocess, augment)
    }
}
