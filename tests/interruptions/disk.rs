//! A disk that is full, a file that may not grow, a folder that may not be written: one sentence, and what was there stays.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::jobs::{self, Job};

const OLD: &str = "what was there before";

/// Jobs that write, with what they write first.
const JOBS: [Job; 4] = [Job::Train, Job::Ptq, Job::Export("onnx"), Job::Export("safetensors")];

/// Carries out `script` in `work`, where `$@` is the program with a job's arguments.
fn shell(script: &str, job: Job, inputs: &Path, work: &Path) -> Output {
    let (program, args) = job.spelled(inputs, work);
    Command::new("sh").args(["-c", script, "sh"]).arg(program).args(args).current_dir(work).output().expect("a shell")
}

/// One sentence on standard error that says `expected` and names a file, and exit code 1.
fn assert_refused(job: Job, done: &Output, expected: &[&str]) {
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(done.status.code(), Some(1), "{job:?}: {said}");
    assert!(last.starts_with("octet: ") && said.matches("octet: ").count() == 1, "{job:?}: {said}");
    assert!(expected.iter().any(|words| last.contains(words)), "{job:?}: {last}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name());
    entries.map(|n| n.to_string_lossy().into_owned()).collect()
}

/// `RLIMIT_FSIZE` of 4 KB, its signal ignored: every longer file fails in the middle of its write.
#[test]
fn a_file_that_may_not_grow_leaves_the_old_one() {
    let inputs = jobs::inputs();
    for job in JOBS {
        let work = tempfile::tempdir().expect("a folder");
        fs::write(work.path().join(job.out()), OLD).expect("a file");
        let done = shell("trap '' XFSZ; ulimit -f 8; exec \"$@\"", job, inputs.path(), work.path());
        assert_refused(job, &done, &["File too large"]);
        assert_eq!(fs::read_to_string(work.path().join(job.out())).expect("it is there"), OLD, "{job:?}");
        let litter: Vec<String> = names(work.path()).into_iter().filter(|n| n.ends_with(".tmp")).collect();
        assert_eq!(litter, Vec::<String>::new(), "{job:?}");
    }
}

/// Whether this user may mount: root, or one whom the kernel lets have a namespace.
fn can_mount() -> bool {
    let probe = "mount -t tmpfs tmpfs /mnt";
    let done = Command::new("unshare").args(["-rm", "sh", "-c", probe]).output();
    let can = done.is_ok_and(|done| done.status.success());
    if !can {
        println!("skipped: this user may not mount a small disk");
    }
    can
}

/// A disk of 100 KB: what fits is kept, what does not is one sentence.
#[test]
fn a_full_disk_leaves_the_old_file() {
    if !can_mount() {
        return;
    }
    let inputs = jobs::inputs();
    for job in JOBS {
        let work = tempfile::tempdir().expect("a folder");
        // The disk is seen by this process alone, and goes with it: what is on it is told on standard output.
        let script = format!(
            "mount -t tmpfs -o size=100k tmpfs . && cd \"$PWD\" && printf '%s' '{OLD}' > {out} && \"$@\" >&2; code=$?; \
             cat {out}; echo; ls -A; exit $code",
            out = job.out()
        );
        let done = shell(
            &format!("exec unshare -rm sh -c '{}' sh \"$@\"", script.replace('\'', "'\\''")),
            job,
            inputs.path(),
            work.path(),
        );
        assert_refused(job, &done, &["No space left on device"]);
        let said = String::from_utf8_lossy(&done.stdout);
        assert_eq!(said.lines().next(), Some(OLD), "{job:?}: {said}");
        assert!(!said.contains(".tmp"), "{job:?}: {said}");
    }
}

/// A folder on a disk that is mounted to be read: root may not write there either.
#[test]
fn a_folder_that_may_not_be_written_is_said() {
    if !can_mount() {
        return;
    }
    let inputs = jobs::inputs();
    for job in JOBS {
        let work = tempfile::tempdir().expect("a folder");
        fs::write(work.path().join(job.out()), OLD).expect("a file");
        let script = "mount --bind . . && mount -o remount,bind,ro \"$PWD\" && cd \"$PWD\" && exec \"$@\"";
        let done = shell(&format!("exec unshare -rm sh -c '{script}' sh \"$@\""), job, inputs.path(), work.path());
        assert_refused(job, &done, &["Read-only file system"]);
        assert_eq!(fs::read_to_string(work.path().join(job.out())).expect("it is there"), OLD, "{job:?}");
        assert_eq!(names(work.path()), [job.out()], "{job:?}");
    }
}

/// Where a file stands in the place of a folder, nobody may write, whoever he is.
#[test]
fn a_file_in_the_place_of_a_folder_is_said() {
    let inputs = jobs::inputs();
    let work = tempfile::tempdir().expect("a folder");
    fs::write(work.path().join("project"), "no folder").expect("a file");
    let done = Job::Ptq.finish(inputs.path(), work.path());
    let said = String::from_utf8_lossy(&done.stderr);
    // The run cannot be kept; its int8 file is there.
    assert!(done.status.success() && said.contains("choose another project folder"), "{said}");
    assert!(work.path().join(Job::Ptq.out()).exists());
}
