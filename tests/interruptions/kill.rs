//! `kill -9`, at random moments and while a file is being written: every file is whole, old or new, and what is run again
//! ends as if nothing had happened.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use octet::session::Project;
use octet::weights;

use crate::jobs::{self, Job};

/// Kills where the whole suite is run: of training, quantizing and a session while they write, and of exports.
const BOUNDED: u64 = 7;

/// SplitMix64: the same moments for the same seed, as far as a clock can say.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// What a job does when nothing happens: how long it takes, what its file is.
struct Whole {
    job: Job,
    took: Duration,
    file: Vec<u8>,
}

/// Of all kills.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// The process had ended before.
    too_late: u64,
    /// Temporary files that a kill left, and that the next run cleared.
    left_over: u64,
    /// Final files as they were before, and as they were to be.
    old: u64,
    new: u64,
    /// Trainings that went on from a checkpoint.
    resumed: u64,
}

/// What stands under the final name before.
const OLD: &[u8] = b"what was there before";

#[test]
fn a_few_kills_leave_whole_files_and_work_goes_on() {
    let tally = kill(BOUNDED, 3);
    assert!(tally.kills >= 3, "{tally:?}: most of them came too late");
}

/// `tests/interruptions/run` calls this.
#[test]
#[ignore = "takes minutes: tests/interruptions/run"]
fn two_hundred_kills() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let start = Instant::now();
    let tally = kill(number("OCTET_KILLS", 200), number("OCTET_KILLS_SEED", 1));
    println!("{tally:?}, {} s", start.elapsed().as_secs());
}

/// Kills until so many of them hit a process that was at work.
fn kill(count: u64, seed: u64) -> Tally {
    let inputs = jobs::inputs();
    let mut random = Random(seed);
    let mut whole: Vec<Whole> = Vec::new();
    let mut tally = Tally::default();
    let mut round = 0;
    while tally.kills < count && tally.too_late < 2 * count + 4 {
        // Training and quantizing, which write more, more often than each export.
        let job = match round % 5 {
            0 => Job::Train,
            1 => Job::Qat,
            2 => Job::Ptq,
            3 => Job::Session,
            _ => Job::ALL[4 + (round / 5) as usize % 6],
        };
        round += 1;
        let known = whole.iter().position(|w| w.job == job);
        let at = known.unwrap_or_else(|| {
            whole.push(uninterrupted(job, inputs.path()));
            whole.len() - 1
        });
        once(&whole[at], inputs.path(), &mut random, &mut tally);
    }
    tally
}

fn uninterrupted(job: Job, inputs: &Path) -> Whole {
    let work = tempfile::tempdir().expect("a folder");
    let start = Instant::now();
    let done = job.finish(inputs, work.path());
    let took = start.elapsed();
    assert!(done.status.success(), "{job:?}: {}", String::from_utf8_lossy(&done.stderr));
    Whole { job, took, file: fs::read(work.path().join(job.out())).expect("its file") }
}

fn once(whole: &Whole, inputs: &Path, random: &mut Random, tally: &mut Tally) {
    let job = whole.job;
    let work = tempfile::tempdir().expect("a folder");
    let work = work.path();
    let out = work.join(job.out());
    fs::write(&out, OLD).expect("a file");
    let mut child = job.start(inputs, work);
    let start = Instant::now();
    // One of two: in the middle of a write, the n-th one that begins; else at any moment.
    let moment = Duration::from_micros(random.below(whole.took.as_micros() as u64 * 11 / 10));
    let mut writes = random.below(4);
    let writing = random.below(2) == 0;
    let mut seen = BTreeSet::new();
    loop {
        if child.try_wait().expect("a child of ours").is_some() {
            tally.too_late += 1;
            break;
        }
        let now = if writing {
            !temporaries(work, &mut seen).is_empty() && take(&mut writes)
        } else {
            start.elapsed() >= moment
        };
        if now {
            // SIGKILL: nothing is cleaned up.
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
            tally.kills += 1;
            break;
        }
        if !writing {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    // Old or new, nothing between.
    let file = fs::read(&out).expect("it is there");
    let is_new = file == whole.file;
    assert!(is_new || file == OLD, "{job:?}: {} bytes, neither old nor new", file.len());
    *(if is_new { &mut tally.new } else { &mut tally.old }) += 1;
    let checkpoint = work.join("state.checkpoint");
    if checkpoint.exists() {
        weights::read_checkpoint(&checkpoint).unwrap_or_else(|e| panic!("{job:?}: {e}"));
        tally.resumed += 1;
    }
    let recipe = work.join("recipe.toml");
    if recipe.exists() {
        octet::session::read_recipe(&recipe).unwrap_or_else(|e| panic!("{job:?}: {e}"));
    }
    let project = Project::new(work.join("project"));
    let (_, wrong) = project.runs().expect("a list");
    assert!(wrong.is_empty(), "{job:?}: {wrong:?}");
    project.unfinished().unwrap_or_else(|e| panic!("{job:?}: {e}"));
    let learnt = work.join("project/session");
    for name in ["weights.safetensors", "trained.safetensors", "training.checkpoint"] {
        let path = learnt.join(name);
        if path.exists() {
            weights::read_checkpoint(&path).unwrap_or_else(|e| panic!("{job:?}: {e}"));
        }
    }

    // Nobody waits a minute here: what was left is made older.
    let left = temporaries(work, &mut BTreeSet::new());
    tally.left_over += left.len() as u64;
    for path in left {
        let file = File::options().append(true).open(&path).expect("it is there");
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).expect("a time");
    }
    let done = job.finish(inputs, work);
    assert!(done.status.success(), "{job:?} again: {}", String::from_utf8_lossy(&done.stderr));
    assert!(fs::read(&out).expect("it is there") == whole.file, "{job:?}: another file than without the kill");
    let left = temporaries(work, &mut BTreeSet::new());
    assert!(left.is_empty(), "{job:?}: the next run left {left:?}");
    let (runs, wrong) = project.runs().expect("a list");
    assert!(wrong.is_empty() && (runs.len() <= 2), "{job:?}: {wrong:?}");
}

fn take(writes: &mut u64) -> bool {
    *writes = writes.wrapping_sub(1);
    *writes == u64::MAX
}

/// Temporary files in the folder and those below it that were not seen before.
fn temporaries(folder: &Path, seen: &mut BTreeSet<std::path::PathBuf>) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "tmp") && seen.insert(path.clone()) {
                found.push(path);
            }
        }
    }
    found
}
