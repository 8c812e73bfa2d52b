use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::hash::{has_hash, sha256};
use super::pace::Pace;
use super::part::{Part, Tag};
use super::stream::{Failure, Head, Request, Stream};
use super::{DownloadError, Place, Remote, Transfer};

/// Progress is told so often.
const TELL: Duration = Duration::from_millis(100);

/// The path of `remote` in the cache folder, fetched if it is not there: from where an earlier transfer ended, if the
/// server still has the same file and can send a part of it, else from the start. A file that is there under its name
/// with the right hash costs no request.
///
/// `on` hears ten times a second how far it is; `go_on` is asked as often, and a `Break` ends the transfer within a
/// fraction of a second, also one whose server is silent.
///
/// # Errors
/// Every [`DownloadError`]. What has arrived is kept, unless it cannot be the file: a wrong hash, too many bytes.
pub fn fetch(
    remote: &Remote,
    place: &Place,
    on: &mut dyn FnMut(Transfer),
    go_on: &dyn Fn() -> ControlFlow<()>,
) -> Result<PathBuf, DownloadError> {
    let whole = place.prepare(remote)?;
    let go_on = &|| go_on().is_continue();
    let unreadable = |path: &Path, source| DownloadError::Read { path: path.display().to_string(), source };
    if whole.exists() {
        if has_hash(&whole, &remote.sha256).map_err(|e| unreadable(&whole, e))? {
            return Ok(whole);
        }
        // Damaged since: it must not pass for the real one while that is on its way.
        fs::remove_file(&whole).map_err(|source| DownloadError::Write { path: whole.display().to_string(), source })?;
    }
    let mut part = Part::open(&whole)?;
    if !part.is_whole() {
        let fetched = Fetching { remote, place, go_on }.run(&mut part, on);
        if fetched.is_err() && part.bytes() == 0 {
            part.discard();
            return fetched.map(|()| whole);
        }
        fetched?;
    }
    let found = sha256(part.path(), go_on).map_err(|e| unreadable(part.path(), e))?;
    let found = found.ok_or(DownloadError::Cancelled)?;
    if !found.starts_with(&remote.sha256) {
        let bytes = part.bytes();
        part.discard();
        return Err(DownloadError::WrongHash {
            address: remote.address.clone(),
            bytes,
            found: found[..remote.sha256.len().min(found.len())].to_owned(),
            expected: remote.sha256.clone(),
        });
    }
    part.finish(&whole)?;
    Ok(whole)
}

/// One transfer that is going on.
struct Fetching<'a> {
    remote: &'a Remote,
    place: &'a Place,
    go_on: &'a dyn Fn() -> bool,
}

impl Fetching<'_> {
    /// Brings the rest of the file into its part.
    fn run(&self, part: &mut Part, on: &mut dyn FnMut(Transfer)) -> Result<(), DownloadError> {
        let (stream, head) = self.open(part)?;
        let (stream, head) = if continues(part, &head) || part.bytes() == 0 {
            (stream, head)
        } else {
            // The server answered for another file, or that there is no such part: from the start.
            drop(stream);
            part.restart(Tag::default())?;
            self.open(part)?
        };
        match head.status {
            200 => part.restart(head.tag)?,
            206 if continues(part, &head) => {}
            status => return Err(self.status(status)),
        }
        self.receive(part, &stream, on)
    }

    fn open(&self, part: &Part) -> Result<(Stream, Head), DownloadError> {
        let address = &self.remote.address;
        let request = Request { address, from: part.bytes(), tag: part.tag(), stall: self.place.stall };
        let (stream, head) = Stream::open(&request, self.go_on).map_err(|failure| match failure {
            Failure::Broken(reason) => DownloadError::Unreachable { address: address.clone(), reason },
            Failure::Cancelled | Failure::Stalled => self.failed(failure, part),
        })?;
        // Before a byte of it takes the place of what is here.
        match head.tag.total {
            Some(total) if matches!(head.status, 200 | 206) && !self.remote.can_have(total) => {
                Err(self.wrong_length(total))
            }
            Some(_) | None => Ok((stream, head)),
        }
    }

    fn receive(&self, part: &mut Part, stream: &Stream, on: &mut dyn FnMut(Transfer)) -> Result<(), DownloadError> {
        let total = part.tag().total;
        let expected = total.unwrap_or(self.remote.bytes);
        let mut pace = Pace::default();
        let mut told = Instant::now();
        let mut tell = |bytes: u64| on(pace.at(Instant::now(), bytes, expected.max(bytes)));
        tell(part.bytes());
        loop {
            let here = part.bytes();
            let next = stream.next(self.go_on, &mut || tell(here));
            let Some(chunk) = next.map_err(|failure| self.failed(failure, part))? else { break };
            let bytes = here + chunk.len() as u64;
            if bytes > self.remote.most_bytes() {
                part.restart(Tag::default())?;
                return Err(self.wrong_length(bytes));
            }
            part.write(&chunk)?;
            if told.elapsed() >= TELL {
                told = Instant::now();
                tell(bytes);
            }
        }
        let bytes = part.bytes();
        tell(bytes);
        if total.is_some_and(|total| bytes < total) {
            return Err(self.failed(Failure::Broken("closed by the server".to_owned()), part));
        }
        Ok(())
    }

    /// Once an answer came.
    fn failed(&self, failure: Failure, part: &Part) -> DownloadError {
        let address = self.remote.address.clone();
        let found = part.bytes();
        match failure {
            Failure::Cancelled => DownloadError::Cancelled,
            Failure::Stalled => {
                DownloadError::Stalled { address, seconds: self.place.stall.as_secs_f64(), kept: found }
            }
            Failure::Broken(reason) => {
                let expected = part.tag().total.unwrap_or(self.remote.bytes);
                DownloadError::Interrupted { address, found, expected, reason }
            }
        }
    }

    fn wrong_length(&self, found: u64) -> DownloadError {
        DownloadError::WrongLength { address: self.remote.address.clone(), found, expected: self.remote.bytes }
    }

    fn status(&self, status: u16) -> DownloadError {
        let meaning = ureq::http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
        DownloadError::Status {
            address: self.remote.address.clone(),
            status,
            meaning: meaning.unwrap_or("an unknown status"),
        }
    }
}

/// Whether the answer goes on where the part ends, or begins the file anew, or says why it does neither for reasons that
/// asking again from the start would not change.
fn continues(part: &Part, head: &Head) -> bool {
    match head.status {
        206 => head.from == part.bytes() && part.tag().agrees(&head.tag),
        416 => false,
        _ => true,
    }
}
