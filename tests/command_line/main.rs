//! The contract of flags, JSON and exit codes, on the built program.

mod analyze;
mod failures;
mod quantize;
mod training;
mod zoo;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn octet(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_octet")).args(args).current_dir(folder).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed and gives its JSON, which must be all that standard output holds.
fn json(folder: &Path, args: &[&str]) -> Value {
    let output = octet(folder, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Runs a command that must fail with exit code 1 and one last sentence; gives the sentence.
fn failure(folder: &Path, args: &[&str]) -> String {
    let output = octet(folder, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
    assert!(output.stdout.is_empty(), "{args:?} wrote to standard output");
    let text = stderr(&output);
    let last = text.lines().last().expect("a sentence").to_owned();
    assert!(last.starts_with("octet: "), "{args:?}: {text}");
    assert_eq!(text.matches("octet: ").count(), 1, "{args:?}: {text}");
    last
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn picture(path: &Path, size: u32, shade: impl Fn(u32, u32) -> [u8; 3]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    image::RgbImage::from_fn(size, size, |x, y| image::Rgb(shade(x, y))).save(path).expect("a picture can be saved");
}

/// Two classes that differ in colour.
fn folder_of_two_classes(root: &Path, each: u32) -> PathBuf {
    let data = root.join("data");
    for i in 0..each {
        let light = (i * 3) as u8;
        picture(&data.join(format!("blue/{i}.png")), 40, |x, _| [light, x as u8, 200]);
        picture(&data.join(format!("red/{i}.png")), 40, |_, y| [200, y as u8, light]);
    }
    data
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}
