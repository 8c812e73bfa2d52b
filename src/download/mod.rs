//! One published file, fetched into the user's cache folder: with progress, cancel, resume and a check of its hash.
//!
//! Nothing here runs unless [`fetch`] is called, and nothing calls it but the command that a user gave. What has arrived
//! is kept as `NAME.part` whatever happens, a wrong hash excepted; the file takes its name only when it is whole and right.
//!
//! This room knows HTTP, files and SHA-256. It knows nothing of models, weights or sessions.

mod error;
mod fetch;
mod hash;
mod pace;
mod part;
mod place;
mod stream;

pub use error::DownloadError;
pub use fetch::fetch;
pub use hash::has_hash;
pub use pace::Transfer;
pub use place::{Kept, Place};

/// A file that someone published, and what is known of it beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The file's name in the cache folder, without any folder.
    pub name: String,
    /// Where it is: `https://…` or `http://…`.
    pub address: String,
    /// The first hex digits of its SHA-256, in lower case.
    pub sha256: String,
    /// About how long it is. One that is longer or shorter by more than [`Remote::MARGIN`] is refused.
    pub bytes: u64,
}

impl Remote {
    /// So many bytes a file may differ from what is known of it.
    pub const MARGIN: u64 = 1 << 20;

    /// The most that is ever written of it.
    pub fn most_bytes(&self) -> u64 {
        self.bytes.saturating_add(Self::MARGIN)
    }

    /// Whether it can be `bytes` long.
    fn can_have(&self, bytes: u64) -> bool {
        self.bytes.abs_diff(bytes) <= Self::MARGIN
    }
}
