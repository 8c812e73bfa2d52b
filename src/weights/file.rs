use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::WeightsError;
use crate::buffers::make_room;

/// A temporary file that nobody has written to for so long, and whose process is gone, is left over.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// Writes `parts` one after the other to a temporary file beside `path`, flushes it to the disk and renames it: `path` is
/// either what it was or whole. Returns the number of bytes.
pub(super) fn write_atomic(path: &Path, parts: &[&[u8]]) -> Result<u64, WeightsError> {
    replace(path, parts).map_err(|source| WeightsError::Write { path: path.display().to_string(), source })
}

/// Writes a file of another room's making, whole or not at all. Returns the number of bytes.
///
/// # Errors
/// [`WeightsError::Write`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<u64, WeightsError> {
    write_atomic(path, &[bytes])
}

/// Writes a file that is not there yet, whole or not at all.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] where it is there, also where another process has just written it; those of writing.
pub fn write_new_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let temporary = fill(path, &[bytes])?;
    // A link to what is whole already; unlike a rename it never takes the place of another file.
    let named = match fs::hard_link(&temporary, path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            // A file system without links: then two processes at once may write the same name.
            return fs::rename(&temporary, path).inspect_err(|_| discard(&temporary));
        }
        named => named,
    };
    discard(&temporary);
    named
}

fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<u64> {
    let path = &target(path)?;
    let temporary = fill(path, parts)?;
    fs::rename(&temporary, path).inspect_err(|_| discard(&temporary))?;
    Ok(parts.iter().map(|p| p.len() as u64).sum())
}

/// How long a file of these bytes is, from one that is really written beside `near`, and removed again.
pub(super) fn measured(near: &Path, bytes: &[u8]) -> Result<u64, WeightsError> {
    let written = fill(near, &[bytes]).and_then(|temporary| {
        let len = fs::metadata(&temporary).map(|m| m.len());
        discard(&temporary);
        len
    });
    written.map_err(|source| WeightsError::Write { path: near.display().to_string(), source })
}

/// The file that `path` names: what a link leads to, so that the link stays one.
fn target(path: &Path) -> io::Result<PathBuf> {
    let Ok(there) = fs::metadata(path) else { return Ok(path.to_owned()) };
    if !there.is_file() && !there.is_dir() {
        // A rename would put a file in the place of the device.
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a device or a pipe, not a file"));
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink());
    if is_link { fs::canonicalize(path) } else { Ok(path.to_owned()) }
}

/// Best effort: an error that led here is the one worth telling.
fn discard(temporary: &Path) {
    let _ = fs::remove_file(temporary);
}

/// A temporary file beside `path` with all of `parts` on the disk.
fn fill(path: &Path, parts: &[&[u8]]) -> io::Result<PathBuf> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let ours = prefix(path);
    clear_left_over(folder, |stem| ours.to_str().is_some_and(|ours| ours.strip_suffix('.') == Some(stem)));
    let (temporary, mut file) = begin(path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
    match written {
        Ok(()) => Ok(temporary),
        Err(e) => {
            discard(&temporary);
            Err(e)
        }
    }
}

/// A new file in the same folder, since a rename does not cross file systems; its name is unique among the writers of
/// this machine.
fn begin(path: &Path) -> io::Result<(PathBuf, File)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    loop {
        let mut name = prefix(path);
        name.push(format!("{}-{}{ENDING}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(name);
        match File::create_new(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // Of a process that died, and whose number is ours now: in a container it is the same one each time.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

const ENDING: &str = ".tmp";

/// How the names of the temporary files of `path` begin: then follow the process and a number.
fn prefix(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name
}

/// Removes what writers left in a folder of Octet's own that were killed, whatever they wrote. Best effort.
pub fn clear_folder(folder: &Path) {
    clear_left_over(folder, |stem| stem.starts_with('.'));
}

/// Removes what killed writers left of the files whose temporary names begin so. Best effort: what stays is litter.
fn clear_left_over(folder: &Path, is_meant: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(ENDING)).and_then(|name| name.rsplit_once('.'));
        let Some((_, writer)) = parts.filter(|(stem, _)| is_meant(stem)) else { continue };
        let writer = writer.split_once('-').filter(|(_, number)| number.parse::<u32>().is_ok());
        let Some(writer) = writer.and_then(|(id, _)| id.parse().ok()) else { continue };
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|when| when.elapsed().ok());
        if age.is_some_and(|age| age > LEFT_OVER) && !is_running(writer) {
            discard(&entry.path());
        }
    }
}

/// Whether another process of this number may be at work. Where the system does not tell, a minute without a write
/// decides, as it does of one that had our number before us.
fn is_running(id: u32) -> bool {
    id != process::id() && Path::new("/proc/self").exists() && Path::new(&format!("/proc/{id}")).exists()
}

/// Files from here on are asked room for before they are read, and more beside them; smaller ones are such as that is for.
const LARGE: usize = 64 << 20;

/// The whole file.
pub(super) fn read_all(path: &Path) -> Result<Vec<u8>, WeightsError> {
    let bytes = fs::metadata(path).map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
    if bytes >= LARGE {
        make_room::<u8>(bytes);
    }
    fs::read(path).map_err(|source| WeightsError::Read { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_writer_left_is_cleared_by_the_next_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.bin");
        let old = |name: &str| {
            let file = File::create(folder.path().join(name)).expect("a file");
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).expect("a time");
        };
        // Of a process that is gone (numbers end at 2^22), of one of our number, of one at work, of another file, a user's.
        old(".a.bin.4194399-3.tmp");
        old(&format!(".a.bin.{}-77.tmp", process::id()));
        old(".a.bin.1-0.tmp");
        old(".b.bin.4194399-3.tmp");
        old(".a.bin.mine.tmp");
        fs::write(folder.path().join(".a.bin.4194399-4.tmp"), "just written").expect("a file");
        write_file(&path, b"whole").expect("room on the disk");
        let mut expected = vec![".a.bin.4194399-4.tmp", ".a.bin.mine.tmp", ".b.bin.4194399-3.tmp", "a.bin"];
        if Path::new("/proc/1").exists() {
            expected.insert(0, ".a.bin.1-0.tmp");
        }
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn a_left_over_of_our_own_number_is_in_nobodys_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.bin");
        // Whatever number is the next one: a thousand of them are taken.
        for n in 0..1000 {
            fs::write(folder.path().join(format!(".a.bin.{}-{n}.tmp", process::id())), "cut").expect("a file");
        }
        write_file(&path, b"whole").expect("another number");
        assert_eq!(fs::read(&path).expect("a file"), b"whole");
    }

    #[test]
    fn a_new_file_takes_no_others_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.json");
        write_new_file(&path, b"first").expect("room on the disk");
        let taken = write_new_file(&path, b"second").expect_err("it is there");
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("a file"), b"first");
        assert_eq!(names(folder.path()), ["1.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_stays_one_and_a_link_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("a.bin"), folder.path().join("link"));
        let error = write_file(Path::new("/dev/null"), b"x").expect_err("no file").to_string();
        assert!(error.contains("/dev/null") && error.contains("not a file"), "{error}");
        assert!(!fs::metadata("/dev/null").expect("it is there").is_file(), "it has become a file");
        fs::write(&file, "old").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        write_file(&link, b"new").expect("room on the disk");
        assert_eq!(fs::read(&file).expect("a file"), b"new");
        assert!(fs::symlink_metadata(&link).expect("it is there").file_type().is_symlink());
    }
}
