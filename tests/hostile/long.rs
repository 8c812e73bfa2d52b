//! The long form: processes that try inputs, and one that watches them, so that an abort or a hang is found and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::readers::Kind;
use crate::trial;

/// Which part of all inputs each kind gets: fewer of what takes longer.
const SHARES: [(Kind, u64); 10] = [
    (Kind::Torch, 20),
    (Kind::Safetensors, 12),
    (Kind::Checkpoint, 10),
    (Kind::Octet, 16),
    (Kind::Onnx, 12),
    (Kind::Image, 3),
    (Kind::Records, 8),
    (Kind::Recipe, 9),
    (Kind::Project, 5),
    (Kind::Remembered, 5),
];

/// A process gets so many at a time.
const PART: u64 = 10_000;
/// Without a sign of life for so long, an input hangs; on a machine that is busy with other things seconds become minutes.
const SILENCE: Duration = Duration::from_secs(180);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// `tests/hostile/run` calls this.
#[test]
#[ignore = "takes minutes: tests/hostile/run"]
fn a_million() {
    let (count, seed) = (number("OCTET_HOSTILE_COUNT", 1_000_000), number("OCTET_HOSTILE_SEED", 1));
    let start = Instant::now();
    let folder = tempfile::tempdir().expect("a folder");
    let mut waiting = Vec::new();
    for (kind, share) in SHARES {
        let all = count * share / 100;
        let parts = (0..all).step_by(PART as usize).map(|first| (kind, first, all.min(first + PART)));
        waiting.extend(parts);
    }
    waiting.reverse();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut running: Vec<Worker> = Vec::new();
    let (mut tried, mut opened, mut ran, mut found) = (0, 0, 0, Vec::new());
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < workers
            && let Some((kind, first, end)) = waiting.pop()
        {
            running.push(Worker::start(kind, seed, first, end, folder.path()));
        }
        std::thread::sleep(Duration::from_millis(20));
        let mut still = Vec::new();
        for mut worker in running {
            match worker.look() {
                Look::Busy => still.push(worker),
                Look::Done => {
                    let report = worker.report();
                    (tried, opened, ran) = (tried + report[0], opened + report[1], ran + report[2]);
                    found.extend(worker.found());
                }
                Look::Broken(how) => {
                    let (kind, at) = (worker.kind, worker.at());
                    found.extend(worker.found());
                    found.push(format!("{kind:?} seed {seed} number {at}: {how}"));
                    tried += at + 1 - worker.first;
                    if at + 1 < worker.end {
                        waiting.push((kind, at + 1, worker.end));
                    }
                }
            }
        }
        running = still;
    }
    let seconds = start.elapsed().as_secs();
    println!("{tried} inputs, seed {seed}: {opened} opened, {ran} ran, {} broke a reader, {seconds} s", found.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A part of the above, in a process of its own.
#[test]
#[ignore = "a part of the long form"]
fn part_of_a_million() {
    let Ok(what) = std::env::var("OCTET_HOSTILE_PART") else { return };
    let words: Vec<&str> = what.splitn(5, ' ').collect();
    let kind = Kind::ALL.into_iter().find(|k| format!("{k:?}") == words[0]).expect("a kind");
    let number = |i: usize| words[i].parse::<u64>().expect("a number");
    let (seed, first, end, files) = (number(1), number(2), number(3), PathBuf::from(words[4]));
    let _alone = trial::alone();
    let mut found = String::new();
    let tally = trial::try_each(
        kind,
        seed,
        first..end,
        // In memory: what is being tried when the process ends.
        &mut |n| fs::write(files.join("at"), n.to_string()).expect("room for a number"),
        &mut |what| {
            found += &what;
            found.push('\n');
            fs::write(files.join("found"), &found).expect("room for a line");
        },
    );
    fs::write(files.join("report"), format!("{} {} {}", end - first, tally.opened, tally.ran)).expect("room for it");
}

struct Worker {
    kind: Kind,
    first: u64,
    end: u64,
    files: PathBuf,
    child: Child,
    last: (u64, Instant),
}

enum Look {
    Busy,
    Done,
    Broken(String),
}

impl Worker {
    fn start(kind: Kind, seed: u64, first: u64, end: u64, folder: &Path) -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory } else { folder };
        let files = place.join(format!("octet-hostile-{}-{kind:?}-{first}", std::process::id()));
        fs::create_dir_all(&files).expect("a folder");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "long::part_of_a_million", "--ignored", "--nocapture"])
            .env("OCTET_HOSTILE_PART", format!("{kind:?} {seed} {first} {end} {}", files.display()))
            .stdout(Stdio::null())
            .stderr(fs::File::create(files.join("stderr")).expect("a file"))
            .spawn()
            .expect("this program starts");
        Self { kind, first, end, files, child, last: (first, Instant::now()) }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.files.join(name)).unwrap_or_default()
    }

    fn at(&self) -> u64 {
        self.text("at").parse().unwrap_or(self.first)
    }

    fn look(&mut self) -> Look {
        if let Some(status) = self.child.try_wait().expect("a child of ours") {
            if status.success() && self.files.join("report").exists() {
                return Look::Done;
            }
            let said = self.text("stderr");
            let last = said.lines().rfind(|l| !l.is_empty()).unwrap_or_default();
            return Look::Broken(format!("the process ended ({status}): {last}"));
        }
        let at = self.at();
        if at != self.last.0 {
            self.last = (at, Instant::now());
        } else if self.last.1.elapsed() > SILENCE {
            // It may just have ended: then there is nothing to end.
            let _ = self.child.kill();
            let _ = self.child.wait();
            return Look::Broken(format!("hangs for {} s", SILENCE.as_secs()));
        }
        Look::Busy
    }

    fn report(&self) -> Vec<u64> {
        self.text("report").split(' ').map(|n| n.parse().unwrap_or(0)).collect()
    }

    fn found(&self) -> Vec<String> {
        self.text("found").lines().map(str::to_owned).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Litter in memory, at worst.
        let _ = fs::remove_dir_all(&self.files);
    }
}

/// One input again, by the name that the long form gave it: `tests/hostile/run one KIND SEED NUMBER`.
#[test]
#[ignore = "asked for by name"]
fn one() {
    let Ok(what) = std::env::var("OCTET_HOSTILE_ONE") else { return };
    let words: Vec<&str> = what.split(' ').collect();
    let kind = Kind::ALL.into_iter().find(|k| format!("{k:?}") == words[0]).expect("a kind");
    let number = |i: usize| words[i].parse::<u64>().expect("a number");
    let _alone = trial::alone();
    let mut found = Vec::new();
    let tally = trial::try_all(kind, number(1), number(2)..number(2) + 1, &mut |what| found.push(what));
    println!("{tally:?}");
    assert!(found.is_empty(), "{}", found.join("\n"));
}
