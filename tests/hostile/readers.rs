//! Every reader of files, each with what it may take of memory beyond four times the file.

use std::fs;
use std::path::{Path, PathBuf};

use octet::Int8Model;
use octet::app::memory::Memory;
use octet::data::{Dataset, Fit, Image, Preprocess, Source};
use octet::export::onnx;
use octet::session::{Catalog, Project, inspect, read_recipe};
use octet::weights;

use crate::graphs;
use crate::seeds::Seed;

/// What is read, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.pth`, `.pt`: zip and the older format; float, quantized, of quantization-aware training.
    Torch,
    /// State dicts.
    Safetensors,
    /// Of training.
    Checkpoint,
    /// int8 files.
    Octet,
    /// What the export reads back.
    Onnx,
    /// PNG, JPEG, WebP, BMP.
    Image,
    /// CIFAR-10's and Fashion-MNIST's files.
    Records,
    /// TOML, JSON.
    Recipe,
    /// Kept runs and the note of the session in hand.
    Project,
    /// What the window remembers, and the table of published weights.
    Remembered,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Torch,
        Self::Safetensors,
        Self::Checkpoint,
        Self::Octet,
        Self::Onnx,
        Self::Image,
        Self::Records,
        Self::Recipe,
        Self::Project,
        Self::Remembered,
    ];

    /// Bytes that it may take beyond four times the file. `RELIABILITY.md` says where each comes from.
    pub fn room(self) -> usize {
        const MIB: usize = 1 << 20;
        match self {
            Self::Torch => 96 * MIB,
            Self::Octet => 24 * MIB,
            Self::Onnx => 64 * MIB,
            // A picture's pixels: 320 MiB of them decoded, again as RGB, and turned.
            Self::Image => 3 * 320 * MIB,
            // An array that is compressed well.
            Self::Records => 2 * 256 * MIB,
            Self::Safetensors | Self::Checkpoint | Self::Recipe | Self::Project | Self::Remembered => 8 * MIB,
        }
    }
}

/// What a small network or a picture may take while it runs.
pub const RUNNING: usize = 512 << 20;

/// What became of a file.
#[derive(Default)]
pub struct Outcome {
    /// Why it was refused.
    pub error: Option<String>,
    /// Uses what was opened; whether it did.
    pub run: Option<Box<dyn FnOnce() -> bool>>,
}

impl Outcome {
    fn refused(error: impl std::fmt::Display) -> Self {
        Self { error: Some(error.to_string()), run: None }
    }

    fn opened(run: impl FnOnce() -> bool + 'static) -> Self {
        Self { error: None, run: Some(Box::new(run)) }
    }
}

/// What is wrong with a sentence that refuses a file.
pub fn complaint(error: &str) -> Option<String> {
    if error.is_empty() || error.chars().any(char::is_control) {
        return Some(format!("its refusal is no sentence: {error:?}"));
    }
    (error.len() > 4_000).then(|| format!("its refusal has {} bytes: {error:.80}…", error.len()))
}

/// Gives a file to its reader; `folder` is for it alone.
pub fn open(kind: Kind, seed: &Seed, folder: &Path) -> Outcome {
    match kind {
        Kind::Torch | Kind::Safetensors => match weights::read_any(&put(folder, seed)) {
            Ok(dict) => Outcome::opened(move || graphs::of_dict(&dict).is_ok_and(|graph| graphs::run(&graph))),
            Err(e) => Outcome::refused(e),
        },
        Kind::Checkpoint => match weights::read_checkpoint(&put(folder, seed)) {
            Ok(_) => Outcome::default(),
            Err(e) => Outcome::refused(e),
        },
        Kind::Octet => octet(put(folder, seed)),
        Kind::Onnx => match onnx::decode(&seed.bytes) {
            Ok(graph) => Outcome::opened(move || graphs::run(&graph)),
            Err(e) => Outcome::refused(e),
        },
        Kind::Image => match Image::open(&put(folder, seed)) {
            Ok(image) => Outcome::opened(move || every_fit(&image)),
            Err(e) => Outcome::refused(e),
        },
        Kind::Records => records(folder, seed),
        Kind::Recipe => match read_recipe(&put(folder, seed)) {
            Ok(_) => Outcome::default(),
            Err(e) => Outcome::refused(e),
        },
        Kind::Project => project(folder, seed),
        Kind::Remembered if seed.name.ends_with(".json") => {
            // Nothing of it may stop the window: it is never refused.
            drop(Memory::load(&put(folder, seed)));
            Outcome::default()
        }
        Kind::Remembered => match std::str::from_utf8(&seed.bytes).map(|text| Catalog::parse(text, None)) {
            Ok(Ok(_)) => Outcome::default(),
            Ok(Err(e)) => Outcome::refused(e),
            Err(e) => Outcome::refused(e),
        },
    }
}

/// Writes the file where its reader finds it.
fn put(folder: &Path, seed: &Seed) -> PathBuf {
    let path = folder.join(seed.name);
    fs::write(&path, &seed.bytes).expect("room for the file");
    path
}

fn octet(path: PathBuf) -> Outcome {
    // Everything that is shown of a file, of those that are planned only what a test may take time for.
    let (graph, _) = match weights::octet::read(&path) {
        Ok(read) => read,
        Err(e) => return Outcome::refused(e),
    };
    Outcome::opened(move || {
        if let Ok(contents) = inspect(&path) {
            let _ = (contents.json(), contents.overrides(), contents.bounds());
        }
        if !graphs::is_small(&graph) {
            return false;
        }
        let Ok(mut model) = Int8Model::open(&path) else { return graphs::run(&graph) };
        let picture = Image { width: 5, height: 9, rgb: (0..135).collect() };
        let Ok(best) = model.top(&picture, 3) else { return graphs::run(&graph) };
        let labels = model.labels();
        assert!(labels.is_empty() || best.iter().all(|b| b.class < labels.len()), "a class without a name");
        true
    })
}

fn every_fit(image: &Image) -> bool {
    for fit in Fit::ALL {
        let input = Preprocess::new(32, fit).apply(image);
        assert_eq!(input.len(), 3 * 32 * 32);
    }
    drop(image.within(64));
    true
}

fn records(folder: &Path, seed: &Seed) -> Outcome {
    let data = folder.join("data");
    // What an earlier input left.
    let _ = fs::remove_dir_all(&data);
    fs::create_dir(&data).expect("a folder");
    let path = put(&data, seed);
    let source = if seed.name.ends_with(".bin") {
        path
    } else {
        for part in ["train", "t10k"] {
            for (name, bytes) in [
                ("images-idx3-ubyte", crate::seeds::idx(&[4, 28, 28], (0..4 * 784_u32).map(|i| i as u8))),
                ("labels-idx1-ubyte", crate::seeds::idx(&[4], [0, 9, 3, 3])),
            ] {
                let other = data.join(format!("{part}-{name}"));
                if !seed.name.starts_with(&format!("{part}-{name}")) {
                    fs::write(other, bytes).expect("room for the file");
                }
            }
        }
        data
    };
    match Dataset::open(&Source::Path(source), 0) {
        Ok(dataset) => Outcome::opened(move || {
            let split = if dataset.train.is_empty() { &dataset.valid } else { &dataset.train };
            split.is_empty() || split.image(0).is_ok_and(|image| every_fit(&image))
        }),
        Err(e) => Outcome::refused(e),
    }
}

fn project(folder: &Path, seed: &Seed) -> Outcome {
    let inside = folder.join(if seed.name == "session.json" { "session" } else { "runs" });
    fs::create_dir_all(&inside).expect("a folder");
    put(&inside, seed);
    let project = Project::new(folder);
    if seed.name == "session.json" {
        return match project.unfinished() {
            Ok(_) => Outcome::default(),
            Err(e) => Outcome::refused(e),
        };
    }
    match project.runs() {
        Ok((_, wrong)) => wrong.into_iter().next().map_or_else(Outcome::default, Outcome::refused),
        Err(e) => Outcome::refused(e),
    }
}
