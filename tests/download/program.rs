//! `octet download`, on the built program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::server::{Answer, End, Server};
use crate::{bytes, sha256};

/// A table of one file for ResNet18 at `base`, in `folder`.
pub fn table(folder: &Path, base: &str, model: &str, file: &str, body: &[u8]) -> PathBuf {
    let path = folder.join("table.toml");
    let mebibytes = body.len() as f64 / f64::from(1 << 20);
    let text = format!(
        "base = \"{base}\"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n[[weights]]\nmodel = \"{model}\"\n\
         entry = \"IMAGENET1K_V1\"\nfile = \"{file}\"\nmebibytes = {mebibytes:.3}\nsha256 = \"{}\"\ntop1 = 69.758\n\
         resize = 72\nsize = 64\n",
        &sha256(body)[..8]
    );
    fs::write(&path, text).expect("a table");
    path
}

/// A server, a table that names it and a cache folder.
struct Case {
    folder: TempDir,
    server: Server,
}

const FILE: &str = "resnet18-0a1b2c3d.pth";

impl Case {
    fn new(body: &[u8], server: Server) -> Self {
        let folder = TempDir::new().expect("a folder");
        table(folder.path(), &server.base(), "resnet18", FILE, body);
        Self { folder, server }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_octet"));
        command.arg("download").args(args).current_dir(self.folder.path());
        command.env("OCTET_WEIGHTS_TABLE", "table.toml").env("OCTET_CACHE", "cache");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    fn cached(&self, name: &str) -> PathBuf {
        self.folder.path().join("cache").join(name)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_prints_the_file_and_nothing_else() {
    let body = bytes(300_000);
    let served = body.clone();
    let case = Case::new(&body, Server::start(move |_, request| Answer::of_file(&served, "\"1\"", request)));
    let output = case.run(&["resnet18"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(String::from_utf8(output.stdout.clone()).expect("text"), format!("cache/{FILE}\n"));
    let said = stderr(&output);
    assert!(said.contains(&format!("{}/{FILE}", case.server.base())) && said.contains("0.3 MB"), "{said}");
    assert!(fs::read(case.cached(FILE)).expect("the file") == body);

    let again = case.run(&["resnet18", "--entry", "IMAGENET1K_V1", "--json"]);
    let report: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    let expected = serde_json::json!({
        "model": "resnet18", "entry": "IMAGENET1K_V1", "file": format!("cache/{FILE}"), "bytes": 300_000,
        "imagenet_top1": 0.69758,
    });
    assert_eq!(report, expected);
    assert_eq!(case.server.connections(), 1);
}

#[test]
fn a_killed_program_leaves_a_part_that_the_next_one_goes_on_from() {
    let body = bytes(600_000);
    let served = body.clone();
    let case = Case::new(
        &body,
        Server::start(move |n, request| {
            let answer = Answer::of_file(&served, "\"1\"", request);
            if n == 0 { answer.stopping(400_000, End::Silence) } else { answer }
        }),
    );
    let quiet = || Stdio::null();
    let mut child = case.command(&["resnet18"]).stdout(quiet()).stderr(quiet()).spawn().expect("it starts");
    let part = case.cached(&format!("{FILE}.part"));
    let end = Instant::now() + Duration::from_secs(20);
    while fs::metadata(&part).map_or(0, |m| m.len()) < 400_000 {
        assert!(Instant::now() < end, "the part does not grow");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let output = case.run(&["resnet18"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("0.4 MB are here"), "{}", stderr(&output));
    assert!(fs::read(case.cached(FILE)).expect("the file") == body);
    assert_eq!(case.server.seen()[1].sent, 200_000);
}

#[test]
fn failures_are_one_sentence_and_1() {
    let case = Case::new(&bytes(1000), Server::start(|_, _| Answer::status(404)));
    let fails = |command: &mut Command, words: &[&str]| {
        let output = command.output().expect("the program starts");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
        let said = stderr(&output);
        let last = said.lines().last().expect("a sentence");
        assert!(last.starts_with("octet: ") && words.iter().all(|w| last.contains(w)), "{said}");
    };
    fails(&mut case.command(&["resnet18"]), &["404", FILE]);
    fails(&mut case.command(&["resnet34"]), &["resnet34", "no weights"]);
    fails(&mut case.command(&["resnet18", "--entry", "V9"]), &["V9", "IMAGENET1K_V1"]);
    fails(case.command(&["resnet18"]).env("OCTET_WEIGHTS_TABLE", "nowhere.toml"), &["nowhere.toml"]);
    fs::write(case.folder.path().join("odd.toml"), "base = 3").expect("a file");
    fails(case.command(&["resnet18"]).env("OCTET_WEIGHTS_TABLE", "odd.toml"), &["odd.toml", "base"]);
    fails(case.command(&["resnet18"]).env("OCTET_WEIGHTS_URL", "ftp://x"), &["OCTET_WEIGHTS_URL", "ftp://x"]);
    fails(case.command(&["resnet18"]).env("OCTET_CACHE", "table.toml"), &["table.toml", "OCTET_CACHE"]);
    let output = case.run(&["resnet19"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn another_server_with_the_same_files_is_named_by_its_address() {
    let body = bytes(2000);
    let served = body.clone();
    let case = Case::new(&body, Server::start(|_, _| Answer::status(500)));
    let mirror = Server::start(move |_, _| Answer::whole(&served));
    let base = format!("{}/mirror/", mirror.base());
    let output = case.command(&["resnet18"]).env("OCTET_WEIGHTS_URL", base).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(mirror.seen()[0].path, format!("/mirror/{FILE}"));
    assert_eq!(case.server.connections(), 0);
}

/// A limit on file size fails a write the way a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_the_part_goes_on_when_there_is_room() {
    let body = bytes(900_000);
    let served = body.clone();
    let case = Case::new(&body, Server::start(move |_, request| Answer::of_file(&served, "\"1\"", request)));
    let script = format!("trap '' XFSZ; ulimit -f 600; exec {} download resnet18", env!("CARGO_BIN_EXE_octet"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(case.folder.path());
    shell.env("OCTET_WEIGHTS_TABLE", "table.toml").env("OCTET_CACHE", "cache");
    let output = shell.output().expect("a shell");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("make room"), "{}", stderr(&output));
    let kept = fs::metadata(case.cached(&format!("{FILE}.part"))).expect("a part").len();
    assert!(kept > 0 && kept < 900_000, "{kept}");
    let output = case.run(&["resnet18"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(fs::read(case.cached(FILE)).expect("the file") == body);
    assert_eq!(case.server.seen()[1].from, Some(kept));
}
