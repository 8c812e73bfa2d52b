use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::WeightsError;
use crate::buffers::make_room;

/// Writes `parts` one after the other to a temporary file beside `path`, flushes it to the disk and renames it: `path` is
/// either what it was or whole. Returns the number of bytes.
pub(super) fn write_atomic(path: &Path, parts: &[&[u8]]) -> Result<u64, WeightsError> {
    let temporary = temporary_name(path);
    let written = fill(&temporary, parts).and_then(|()| fs::rename(&temporary, path));
    match written {
        Ok(()) => Ok(parts.iter().map(|p| p.len() as u64).sum()),
        Err(source) => {
            // Best effort: the error worth telling is the first one.
            let _ = fs::remove_file(&temporary);
            Err(WeightsError::Write { path: path.display().to_string(), source })
        }
    }
}

/// Writes a file of another room's making, whole or not at all. Returns the number of bytes.
///
/// # Errors
/// [`WeightsError::Write`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<u64, WeightsError> {
    write_atomic(path, &[bytes])
}

fn fill(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// In the same folder, since a rename does not cross file systems; unique among the writers of this machine.
fn temporary_name(path: &Path) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.tmp", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// The whole file.
pub(super) fn read_all(path: &Path) -> Result<Vec<u8>, WeightsError> {
    make_room::<u8>(fs::metadata(path).map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX)));
    fs::read(path).map_err(|source| WeightsError::Read { path: path.display().to_string(), source })
}
