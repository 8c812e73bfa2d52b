//! Holds ARCHITECTURE.md's table of rooms: what each may use, where candle and egui may stand, where `unsafe` may.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms it may name.
const ROOMS: [(&str, &[&str]); 17] = [
    ("buffers", &[]),
    ("graph", &[]),
    ("chart", &[]),
    ("kernels", &[]),
    ("data", &["buffers"]),
    ("download", &[]),
    ("zoo", &["graph"]),
    ("weights", &["buffers", "graph"]),
    ("quant", &["graph"]),
    ("exec", &["buffers", "graph", "kernels"]),
    ("train", &["graph", "quant", "exec", "data"]),
    ("analysis", &["graph", "quant", "exec", "data"]),
    ("export", &["graph"]),
    ("int8_model", &["graph", "data", "weights", "exec"]),
    (
        "session",
        &[
            "buffers",
            "graph",
            "kernels",
            "data",
            "zoo",
            "weights",
            "quant",
            "exec",
            "train",
            "analysis",
            "export",
            "chart",
            "download",
            "int8_model",
        ],
    ),
    ("cli", &["session"]),
    ("app", &["session", "graph", "chart"]),
];

/// Crates that only these rooms may name.
const CRATES: [(&str, &[&str]); 11] = [
    ("prost", &["export"]),
    ("resvg", &["chart"]),
    ("thread_priority", &["session"]),
    ("candle_core", &["exec", "train"]),
    ("candle_nn", &["exec", "train"]),
    ("egui", &["app"]),
    ("eframe", &["app"]),
    ("egui_plot", &["app"]),
    ("egui_extras", &["app"]),
    ("rfd", &["app"]),
    ("ureq", &["download"]),
];

/// Every source file with the room it belongs to.
fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be listed") {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
                let inside = path.strip_prefix(&src).expect("below src");
                let first = inside.iter().next().expect("a name").to_string_lossy();
                let room = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("a source file is text");
                files.push((room, path, text));
            }
        }
    }
    files.sort();
    files
}

/// The code of a file: without comments, and without its tests, which stand last and may use any room.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or("")))
}

/// The words that follow `crate::` in a line, also in the groups of `use crate::{a, b::c}`.
fn rooms_named(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if line[..at].ends_with("in ") {
            continue; // pub(in crate::…)
        }
        let rest = &line[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && c == ',' {
                    found.push(std::mem::take(&mut word));
                } else if depth == 0 {
                    word.push(c);
                }
            }
            found.push(word);
        } else {
            found.push(rest.to_owned());
        }
    }
    found
        .into_iter()
        .map(|w| w.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        .filter(|w| !w.is_empty())
        .collect()
}

#[test]
fn rooms_use_only_what_they_may() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        if room == "lib" || room == "main" {
            continue;
        }
        let allowed = ROOMS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{}: `{room}` is no room of ARCHITECTURE.md", path.display()))
            .1;
        // A group may span lines: look at each `use` as one.
        let joined: Vec<(usize, String)> = statements(&text);
        for (line, statement) in joined {
            for named in rooms_named(&statement) {
                let is_room = ROOMS.iter().any(|(name, _)| *name == named);
                if is_room && named != room && !allowed.contains(&named.as_str()) {
                    wrong.push(format!("{}:{line}: {room} names {named}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines, those of one `use` joined.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in code(text) {
        let (start, mut statement) = open.take().unwrap_or((number, String::new()));
        statement.push_str(line);
        let is_use = statement.trim_start().trim_start_matches("pub ").starts_with("use ");
        if is_use && !statement.contains(';') {
            open = Some((start, statement));
        } else {
            all.push((start, statement));
        }
    }
    all
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        for (number, line) in code(&text) {
            for (name, rooms) in CRATES {
                let named = line.contains(&format!("{name}::")) || line.trim() == format!("use {name};");
                let whole = line
                    .find(&format!("{name}::"))
                    .is_none_or(|at| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
                if named && whole && !rooms.contains(&room.as_str()) {
                    wrong.push(format!("{}:{number}: {room} names {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_kernels() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        for (number, line) in code(&text) {
            if room != "kernels" && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe") {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside kernels/:\n{}", wrong.join("\n"));
}

#[test]
fn the_page_lists_every_room() {
    let page = include_str!("../ARCHITECTURE.md");
    for (room, _) in ROOMS {
        assert!(
            page.contains(&format!("| `{room}/`")) || page.contains(&format!("| `{room}.rs`")),
            "ARCHITECTURE.md's table lacks {room}"
        );
    }
}

#[test]
fn the_reader_of_use_lines_reads() {
    assert_eq!(rooms_named("use crate::graph::Graph;"), ["graph"]);
    assert_eq!(rooms_named("use crate::{data::{A, B}, exec::C};"), ["data", "exec"]);
    assert_eq!(rooms_named("let x = crate::zoo::build(y);"), ["zoo"]);
}
