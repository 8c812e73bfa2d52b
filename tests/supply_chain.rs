//! `deny.toml`'s licences, bans and sources, held by what Cargo itself says: no other tool and no network is needed. Whether
//! a crate has an advisory is not asked here: only the network knows.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const LISTS: &str = include_str!("../deny.toml");
const LOCK: &str = include_str!("../Cargo.lock");

fn lists() -> toml::Table {
    LISTS.parse().expect("deny.toml is TOML")
}

fn strings(value: &toml::Value) -> BTreeSet<String> {
    let items = value.as_array().expect("a list").iter();
    items.map(|v| v.as_str().expect("a text").to_owned()).collect()
}

/// What Octet is built of on this machine's architecture: the only packages that are sure to be here.
fn packages() -> (Vec<Value>, Value) {
    let rustc = Command::new(option_env!("RUSTC").unwrap_or("rustc")).arg("-vV").output().expect("the compiler");
    let said = String::from_utf8(rustc.stdout).expect("text");
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).expect("its host").to_owned();
    let cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".to_owned()))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", &host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let mut metadata: Value = serde_json::from_slice(&cargo.stdout).expect("JSON");
    let used: BTreeSet<String> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node["id"].as_str().expect("an id").to_owned())
        .collect();
    let all = metadata["packages"].as_array().expect("packages").iter();
    let packages: Vec<Value> = all.filter(|p| used.contains(p["id"].as_str().unwrap_or_default())).cloned().collect();
    assert!(packages.len() > 100, "{} packages", packages.len());
    (packages, metadata["resolve"].take())
}

/// Whether an SPDX expression is met by licences that may be used.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allowed);
    met && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        // Both sides are read, whatever the first one says.
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, allowed);
        *at += 1;
        return met && words.get(*at - 1) == Some(&")");
    }
    let mut licence = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn every_licence_is_one_that_may_be_used() {
    let lists = lists();
    let licences = &lists["licenses"];
    let allowed = strings(&licences["allow"]);
    let exceptions: BTreeMap<String, BTreeSet<String>> = licences["exceptions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| (e["crate"].as_str().expect("a name").to_owned(), strings(&e["allow"])))
        .collect();
    let (packages, _) = packages();
    let mut wrong = Vec::new();
    let mut excepted = BTreeSet::new();
    for package in &packages {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or("none");
        if is_met(licence, &allowed) {
            continue;
        }
        match exceptions.get(name) {
            Some(more) if is_met(licence, &allowed.union(more).cloned().collect()) => drop(excepted.insert(name)),
            Some(_) | None => wrong.push(format!("{name} {}: {licence}", package["version"])),
        }
    }
    assert!(wrong.is_empty(), "licences that deny.toml does not allow:\n{}", wrong.join("\n"));
    assert_eq!(excepted.len(), exceptions.len(), "an exception that nothing needs: {exceptions:?}");
}

#[test]
fn every_crate_comes_from_the_default_registry_with_a_checksum() {
    let lists = lists();
    assert_eq!(lists["sources"]["unknown-registry"].as_str(), Some("deny"));
    assert!(strings(&lists["sources"]["allow-git"]).is_empty());
    let lock: toml::Table = LOCK.parse().expect("Cargo.lock is TOML");
    let mut sources = BTreeSet::new();
    for package in lock["package"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let Some(source) = package.get("source").and_then(toml::Value::as_str) else {
            assert_eq!(name, "octet", "a package from a folder");
            continue;
        };
        let checksum = package.get("checksum").and_then(toml::Value::as_str).unwrap_or_default();
        assert!(checksum.len() == 64, "{name} has no checksum");
        assert!(source.starts_with("registry+"), "{name} comes from {source}");
        sources.insert(source);
    }
    assert_eq!(sources.len(), 1, "more than one registry: {sources:?}");
    // Nothing puts another one in its place.
    for config in [".cargo/config.toml", ".cargo/config"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(config);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(!text.contains("[source"), "{config} replaces a source");
    }
}

#[test]
fn banned_crates_are_not_there_and_one_crate_speaks_http() {
    let lists = lists();
    let lock: toml::Table = LOCK.parse().expect("Cargo.lock is TOML");
    let locked = lock["package"].as_array().expect("packages");
    let named = |package: &toml::Value| package["name"].as_str().expect("a name").to_owned();
    let mut looked_at = 0;
    for ban in lists["bans"]["deny"].as_array().expect("a list") {
        let name = ban["crate"].as_str().expect("a name");
        let wrappers = ban.get("wrappers").map(strings).unwrap_or_default();
        let users = locked.iter().filter(|package| {
            let needs = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
            needs.filter_map(toml::Value::as_str).any(|need| need.split(' ').next() == Some(name))
        });
        let users: BTreeSet<String> = users.map(named).collect();
        assert!(users.is_subset(&wrappers), "{name} is used by {users:?}, allowed: {wrappers:?}");
        let is_there = locked.iter().any(|package| named(package) == name);
        assert!(!is_there || !wrappers.is_empty(), "{name} is banned");
        looked_at += 1;
    }
    assert!(looked_at >= 5);
}

#[test]
fn no_dependency_of_ours_has_an_open_version() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("Cargo.toml is TOML");
    for table in ["dependencies", "dev-dependencies"] {
        for (name, value) in manifest[table].as_table().expect("a table") {
            let version = value.as_str().or_else(|| value.get("version").and_then(toml::Value::as_str)).unwrap_or("*");
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name} = {version:?}");
            assert!(value.get("git").is_none() && value.get("path").is_none(), "{name} comes from elsewhere");
        }
    }
}

#[test]
fn the_reader_of_expressions_reads() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("MIT/GPL-3.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT AND GPL-3.0) OR ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT OR", true),
        ("MIT ISC", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}
