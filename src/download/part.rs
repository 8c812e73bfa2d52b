use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::DownloadError;

/// What has arrived of a file, as `NAME.part`, and `NAME.part.tag` beside it: which version of the file it is of.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    tag: Tag,
}

/// What the server called the file when its first byte came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tag {
    /// Its length.
    pub total: Option<u64>,
    /// Its `ETag`, quotes included.
    pub etag: Option<String>,
}

impl Tag {
    /// Whether two answers can be of the same file: nothing that both tell differs.
    pub fn agrees(&self, other: &Self) -> bool {
        let total = self.total.zip(other.total).is_none_or(|(a, b)| a == b);
        let etag = self.etag.as_ref().zip(other.etag.as_ref()).is_none_or(|(a, b)| a == b);
        total && etag
    }

    fn read(path: &Path) -> Self {
        // Without it nothing contradicts a resumed transfer but the hash of the whole, which is enough.
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        let total = lines.next().and_then(|line| line.parse().ok());
        let etag = lines.next().filter(|line| !line.is_empty()).map(str::to_owned);
        Self { total, etag }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let total = self.total.map_or(String::new(), |n| n.to_string());
        fs::write(path, format!("{total}\n{}\n", self.etag.as_deref().unwrap_or_default()))
    }
}

impl Part {
    /// Opens what is there of the file at `whole`, or begins it; no other process may have it.
    ///
    /// # Errors
    /// [`DownloadError::Write`], [`DownloadError::Busy`].
    pub fn open(whole: &Path) -> Result<Self, DownloadError> {
        let path = part_of(whole);
        let failed = |source| DownloadError::Write { path: path.display().to_string(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(DownloadError::Busy { path: path.display().to_string() }),
            // Some network file systems know no locks: two transfers at once would then end in a wrong hash.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let tag = Tag::read(&tag_of(&path));
        Ok(Self { path, file, bytes, tag })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much of it is here.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Which version of the file it is of.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Whether all of it came before, and only the check of its hash did not.
    pub fn is_whole(&self) -> bool {
        self.bytes > 0 && self.tag.total == Some(self.bytes)
    }

    /// Forgets what is here and begins with the version `tag`.
    pub fn restart(&mut self, tag: Tag) -> Result<(), DownloadError> {
        let begin = |part: &mut Self| {
            part.file.set_len(0)?;
            part.file.seek(SeekFrom::Start(0))?;
            tag.write(&tag_of(&part.path))
        };
        begin(self).map_err(|e| self.unwritable(e))?;
        self.bytes = 0;
        self.tag = tag;
        Ok(())
    }

    /// Appends what came.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        self.file.write_all(bytes).map_err(|e| self.unwritable(e))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its name, once it is safely on the disk.
    pub fn finish(self, whole: &Path) -> Result<(), DownloadError> {
        self.file.sync_all().and_then(|()| fs::rename(&self.path, whole)).map_err(|e| self.unwritable(e))?;
        // Litter at worst: without its part nobody reads it.
        let _ = fs::remove_file(tag_of(&self.path));
        Ok(())
    }

    /// Deletes what is here.
    pub fn discard(self) {
        // The error worth telling is the one that led here; what stays is checked again before it is used.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(tag_of(&self.path));
    }

    fn unwritable(&self, source: io::Error) -> DownloadError {
        DownloadError::Write { path: self.path.display().to_string(), source }
    }
}

/// Where the part of a file is kept.
pub(super) fn part_of(whole: &Path) -> PathBuf {
    with_suffix(whole, ".part")
}

fn tag_of(part: &Path) -> PathBuf {
    with_suffix(part, ".tag")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
