use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::part::part_of;
use super::{DownloadError, Remote};

/// Silence of a server for so long ends a transfer.
const STALL: Duration = Duration::from_secs(30);

/// Where files are kept, and how patient a transfer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cache folder, made when something is fetched; `None` where the system names none.
    pub folder: Option<PathBuf>,
    /// A server that sends nothing for so long has stalled.
    pub stall: Duration,
}

/// What the cache folder has of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// So many bytes of an earlier transfer, which goes on from there.
    Part(u64),
    /// A file of its name; its hash is checked before it is used.
    Whole,
}

impl Place {
    /// `OCTET_CACHE` where it is set, else the folder `weights` in the system's cache folder of this user.
    pub fn from_env() -> Self {
        let own = std::env::var_os("OCTET_CACHE").filter(|v| !v.is_empty()).map(PathBuf::from);
        let system = || directories::ProjectDirs::from("", "", "octet").map(|dirs| dirs.cache_dir().join("weights"));
        Self { folder: own.or_else(system), stall: STALL }
    }

    /// A folder of one's own.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), stall: STALL }
    }

    /// What is here of a file. Looks at names and lengths alone.
    pub fn kept(&self, remote: &Remote) -> Kept {
        let Some(folder) = &self.folder else { return Kept::Nothing };
        let length = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| m.len());
        let whole = folder.join(&remote.name);
        match (length(&whole), length(&part_of(&whole))) {
            (Some(_), _) => Kept::Whole,
            (None, Some(bytes)) if bytes > 0 => Kept::Part(bytes),
            (None, Some(_) | None) => Kept::Nothing,
        }
    }

    /// The file's path here, its folder made.
    ///
    /// # Errors
    /// [`DownloadError::NoFolder`], [`DownloadError::Folder`].
    pub(super) fn prepare(&self, remote: &Remote) -> Result<PathBuf, DownloadError> {
        let folder = self.folder.as_ref().ok_or(DownloadError::NoFolder)?;
        fs::create_dir_all(folder)
            .map_err(|source| DownloadError::Folder { path: folder.display().to_string(), source })?;
        Ok(folder.join(&remote.name))
    }
}
