//! Images: folders, CIFAR-10 and Fashion-MNIST files, the embedded sample; decoding, resizing, augmentation, splits.
//!
//! A [`Dataset`] is two [`Split`]s of the same classes. A split gives single images, or batches ready for a model,
//! decoded ahead on worker threads. Everything drawn at random is drawn from an explicit seed, and neither the order nor
//! a value depends on the number of threads.
//!
//! This room knows nothing of models, graphs or devices.

mod augment;
mod batches;
mod cifar;
mod dataset;
mod folder;
mod idx;
mod image;
mod preprocess;
mod random;
mod split;

use std::{io, path::PathBuf};

pub use augment::Augment;
pub use batches::{Batch, Batches};
pub use dataset::{Dataset, Skipped, Source};
pub use image::Image;
pub use preprocess::{Fit, Preprocess};
pub use random::shuffled;
pub use split::Split;

/// Why data could not be used. Each message is one sentence that names the file or folder.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum DataError {
    /// A file or folder that cannot be opened or listed.
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A folder without a single image.
    #[error(
        "{}: holds no images; expected class folders of jpg, png, webp or bmp files, CIFAR-10's *.bin files or \
         Fashion-MNIST's *-ubyte files", path.display()
    )]
    Empty { path: PathBuf },
    /// A file that is not of its kind, or a damaged one.
    #[error("{}: {detail}", path.display())]
    Format { path: PathBuf, detail: String },
    /// An image that cannot be decoded.
    #[error("{}: is no image that can be read: {detail}", path.display())]
    Image { path: PathBuf, detail: String },
    /// A preprocessing that no image can go through.
    #[error("preprocessing: {0}")]
    Preprocess(String),
}

#[cfg(test)]
mod tests;
