//! Less memory than a run wants: an error in one sentence, never an abort.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// What the built program ends with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It had enough.
    Done,
    /// It said that there is not enough, and nothing else.
    Refused,
}

/// Runs `octet` with so many kilobytes of address space at most; what it says else is a failure of the test.
fn within(kilobytes: u64, arguments: &[&str]) -> End {
    let program = env!("CARGO_BIN_EXE_octet");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -v {kilobytes} && exec \"$0\" \"$@\"")).arg(program).args(arguments);
    let Output { status, stderr, .. } = shell.output().expect("a shell");
    let said = String::from_utf8_lossy(&stderr);
    let last = said.lines().last().unwrap_or_default();
    match status.code() {
        Some(0) => End::Done,
        Some(1) if last.starts_with("octet: not enough memory: ") => End::Refused,
        code => panic!("with {} MB: code {code:?}, {status}: {said}", kilobytes / 1024),
    }
}

/// The most address space that the program takes for this, in kilobytes.
fn peak(arguments: &[&str]) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_octet"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmPeak:"));
        let now = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        most = most.max(now);
        if let Some(status) = child.try_wait().expect("its end") {
            assert!(status.success(), "{arguments:?}: {status}");
            return most;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A run that wants much: large images through a deep network, many at a time.
fn large<'a>(data: &'a str, weights: &'a str, out: &'a str) -> Vec<&'a str> {
    let flags = ["--size", "160", "--batch", "32", "--calibration-batches", "2", "--threads", "2"];
    let mut arguments =
        vec!["ptq", "--model", "shufflenet_v2_x0_5", "--data", data, "--weights", weights, "--out", out];
    arguments.extend(flags);
    arguments
}

fn arguments_in(folder: &Path) -> (String, String, String) {
    super::images(&folder.join("images"), 2, 80);
    let text = |path: std::path::PathBuf| path.display().to_string();
    (text(folder.join("images")), text(super::weights(folder, 2)), text(folder.join("model.octet.safetensors")))
}

#[test]
fn a_run_with_less_memory_than_it_wants_ends_in_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, weights, out) = arguments_in(folder.path());
    let arguments = large(&data, &weights, &out);
    let most = peak(&arguments);
    // Threads reserve address space that they need not have, so a run may do with less than it took.
    let ends: Vec<End> =
        [1, 3, 6].into_iter().map(|i| within(most.saturating_sub(i * (64 << 10)).max(96 << 10), &arguments)).collect();
    eprintln!("{} MB of address space at the peak; with 64, 192 and 384 MB less: {ends:?}", most >> 10);
    assert!(ends.contains(&End::Refused), "no limit was too small");
}

/// From what it took down to next to nothing, in steps of 8 MB.
#[test]
#[ignore = "some dozens of runs; `tests/load/run` starts it"]
fn every_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, weights, out) = arguments_in(folder.path());
    let arguments = large(&data, &weights, &out);
    let most = peak(&arguments);
    let limits: Vec<u64> = (1..).map(|i| most.saturating_sub(i * (8 << 10))).take_while(|l| *l > 160 << 10).collect();
    let done: Vec<u64> = limits.iter().copied().filter(|l| within(*l, &arguments) == End::Done).collect();
    eprintln!(
        "{} MB of address space at the peak; {} limits below it, in steps of 8 MB: {} runs did with less, the least of them \
         with {} MB, {} were refused in a sentence, none was aborted",
        most >> 10,
        limits.len(),
        done.len(),
        done.iter().min().map_or(0, |l| l >> 10),
        limits.len() - done.len()
    );
    assert!(done.len() < limits.len(), "no limit was too small");
}
