//! One input: made, given to its reader, watched.

use std::fs;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::mutate::Random;
use crate::readers::{self, Kind};
use crate::{allocation, mutate, seeds};

/// No reader may take longer.
pub const LONGEST: Duration = Duration::from_secs(5);

/// What a reader may take of memory.
#[derive(Clone, Copy)]
pub struct Room {
    pub bytes: usize,
}

/// Of many inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub opened: u64,
    pub ran: u64,
}

/// Memory and panics are the whole process's: one test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder in memory, where there is one, that goes when it is dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self(made.expect("a folder for the files"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Panics of the inputs are told by [`watched`], not on standard error, each with its place.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = std::env::var_os("OCTET_HOSTILE_LOUD").is_none();
            if ours && WATCHING.load(std::sync::atomic::Ordering::SeqCst) {
                *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.to_string().replace('\n', " "));
            } else {
                loud(info);
            }
        }));
    });
}

static WATCHING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// What this process has computed for, where the system tells: a machine that is busy with other things is no reader's fault.
fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold anything: the 12th and 13th field, in hundredths of a second.
    let ticks = stat.rsplit(')').next()?.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().ok());
    Some(Duration::from_millis(10 * ticks.sum::<Option<u64>>()?))
}

/// How long it took: by the process's own time, else by the clock. What only waits never ends: the long form sees that.
fn worked(since: Instant, before: Option<Duration>) -> Duration {
    match (before, cpu_time()) {
        (Some(before), Some(now)) => now.saturating_sub(before),
        (_, _) => since.elapsed(),
    }
}

/// Runs `f`; what it did that no reader may, if anything.
pub fn watched(room: Room, f: impl FnOnce()) -> Option<String> {
    quiet();
    let start = allocation::begin();
    let (since, before) = (Instant::now(), cpu_time());
    WATCHING.store(true, std::sync::atomic::Ordering::SeqCst);
    let outcome = panic::catch_unwind(AssertUnwindSafe(f));
    WATCHING.store(false, std::sync::atomic::Ordering::SeqCst);
    let (took, most) = (worked(since, before), allocation::most_since(start));
    if outcome.is_err() {
        let said = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
        return Some(format!("panic: {}", said.unwrap_or_default()));
    }
    if took > LONGEST {
        return Some(format!("took {:.1} s", took.as_secs_f64()));
    }
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    (most > room.bytes).then(|| format!("took {:.1} MiB of memory, its bound is {:.1}", mib(most), mib(room.bytes)))
}

/// The input of this number: a seed's file, mutated.
pub fn input(kind: Kind, seed: u64, number: u64) -> seeds::Seed {
    let mut random = Random::new(seed ^ ((kind as u64) << 56), number);
    let all = seeds::of(kind);
    let whole = &all[random.below(all.len())];
    let other = &all[random.below(all.len())];
    seeds::Seed { bytes: mutate::mutated(kind, whole, other, &mut random), ..whole.clone() }
}

/// Tries the inputs of these numbers, telling `found` of each that broke its reader.
pub fn try_all(kind: Kind, seed: u64, numbers: Range<u64>, found: &mut dyn FnMut(String)) -> Tally {
    try_each(kind, seed, numbers, &mut |_| {}, found)
}

/// The same; `before` hears each number before it is tried.
pub fn try_each(
    kind: Kind,
    seed: u64,
    numbers: Range<u64>,
    before: &mut dyn FnMut(u64),
    found: &mut dyn FnMut(String),
) -> Tally {
    let folder = Folder::new();
    let mut tally = Tally::default();
    for number in numbers {
        before(number);
        let input = input(kind, seed, number);
        let mut outcome = readers::Outcome::default();
        let room = Room { bytes: 4 * input.bytes.len() + kind.room() };
        let mut broke = watched(room, || outcome = readers::open(kind, &input, folder.path()));
        if broke.is_none()
            && let Some(error) = &outcome.error
        {
            broke = readers::complaint(error);
        }
        if broke.is_none()
            && let Some(run) = outcome.run
        {
            tally.opened += 1;
            let room = Room { bytes: readers::RUNNING };
            broke = watched(room, || tally.ran += u64::from(run()));
        } else if outcome.error.is_none() {
            tally.opened += 1;
        }
        if let Some(broke) = broke {
            let kept = keep(kind, seed, number, &input);
            found(format!("{kind:?} seed {seed} number {number} ({}): {broke}{kept}", input.name));
        }
    }
    tally
}

/// Keeps an input that broke its reader, where `OCTET_HOSTILE_KEEP` names a folder.
fn keep(kind: Kind, seed: u64, number: u64, input: &seeds::Seed) -> String {
    let Some(folder) = std::env::var_os("OCTET_HOSTILE_KEEP").map(PathBuf::from) else { return String::new() };
    let path = folder.join(format!("{kind:?}-{seed}-{number}-{}", input.name));
    match fs::write(&path, &input.bytes) {
        Ok(()) => format!("; kept as {}", path.display()),
        Err(e) => format!("; not kept: {e}"),
    }
}
