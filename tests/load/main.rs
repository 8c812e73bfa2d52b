//! Load: many runs in one process, many images in a folder, less memory than a run wants.
//!
//! `tests/load/run` is the long form; what it printed last stands in RELIABILITY.md.
#![cfg(target_os = "linux")]

mod memory;

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::Instant;

use octet::session::{
    Calibration, Command, Control, Device, ModelId, PreprocessChoice, Recipe, Session, Source, Stage, View,
    WeightsChoice,
};
use octet::weights::write_safetensors;
use octet::zoo::{self, ModelConfig};

/// More than this is growth, in MB: a warm allocator keeps some of what it was given.
const GROWTH: f64 = 16.0;

/// A figure of this process, as the kernel tells it: kilobytes, or a count.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux tells of a process");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("the figure");
    line.trim_start_matches(':').split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}

fn megabytes(key: &str) -> f64 {
    status(key) as f64 / 1024.0
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// `classes` folders of `each` small pictures.
fn images(root: &Path, classes: usize, each: usize) {
    // A picture is drawn once and written often: encoding is not what is measured.
    let picture = |shade: usize| {
        let pixels = image::RgbImage::from_fn(16, 16, |x, y| {
            image::Rgb([(shade * 23 % 256) as u8, (x * 15) as u8, (y * 11 + shade as u32 * 7) as u8])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        pixels.write_to(&mut bytes, image::ImageFormat::Png).expect("it encodes");
        bytes.into_inner()
    };
    for class in 0..classes {
        let folder = root.join(format!("class {class}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let pictures: Vec<Vec<u8>> = (0..16).map(|i| picture(16 * class + i)).collect();
        for i in 0..each {
            std::fs::write(folder.join(format!("{i:05}.png")), &pictures[i % pictures.len()]).expect("a picture");
        }
    }
}

/// Weights of that many classes, untrained: what they are worth is not asked.
fn weights(folder: &Path, classes: usize) -> PathBuf {
    let config = ModelConfig { classes, size: 32 };
    let graph = zoo::init(&zoo::build(ModelId::ShuffleNetV2X05, config).expect("a model"), 7);
    let path = folder.join("weights.safetensors");
    write_safetensors(&path, &graph, false).expect("a file");
    path
}

fn recipe(data: Option<PathBuf>, weights: Option<PathBuf>) -> Recipe {
    Recipe {
        data: data.map_or(Source::Sample, Source::Path),
        weights: weights.map_or(WeightsChoice::Automatic, WeightsChoice::File),
        preprocess: PreprocessChoice { size: Some(32), ..PreprocessChoice::default() },
        calibration: Calibration { batches: 8, batch: 32, foresee: false },
        ..Recipe::new(ModelId::ShuffleNetV2X05)
    }
}

/// All six steps, as a window's worker does them.
fn whole_run(recipe: &Recipe, out: &Path) -> View {
    let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
    for command in [Command::Open(Box::new(recipe.clone())), Command::RunAll(out.to_owned())] {
        let kind = command.kind();
        let done = session.apply(command, &mut |event| view.apply(event), &Control::default());
        done.unwrap_or_else(|e| panic!("{kind:?}: {e}"));
    }
    assert!(matches!(view.stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    view
}

/// `LOAD_RUNS` runs on the sample, or on a small folder, after a few that warm up.
#[test]
#[ignore = "a process of its own; the tests below and `tests/load/run` start it"]
fn many_runs() {
    let (count, sample) = (number("LOAD_RUNS", 100), number("LOAD_SAMPLE", 1) == 1);
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = if sample {
        recipe(None, None)
    } else {
        images(&folder.path().join("images"), 2, 40);
        recipe(Some(folder.path().join("images")), Some(weights(folder.path(), 2)))
    };
    let out = folder.path().join("model.octet.safetensors");
    let began = Instant::now();
    let warm = (count / 10).max(3);
    (0..warm).for_each(|_| drop(whole_run(&recipe, &out)));
    let (before, threads) = (megabytes("VmRSS"), status("Threads"));
    (0..count).for_each(|_| drop(whole_run(&recipe, &out)));
    let (after, threads_after) = (megabytes("VmRSS"), status("Threads"));
    eprintln!(
        "{count} whole runs after {warm}: resident {before:.1} MB before, {after:.1} MB after; {threads} threads before, \
         {threads_after} after; {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(after - before < GROWTH, "memory grows: {before:.1} MB, then {after:.1} MB");
    assert!(threads_after <= threads, "threads grow: {threads}, then {threads_after}");
}

/// `LOAD_IMAGES` pictures in a folder: opened, split, calibrated on, evaluated.
#[test]
#[ignore = "a process of its own; the tests below and `tests/load/run` start it"]
fn many_images() {
    const CLASSES: usize = 10;
    let count = number("LOAD_IMAGES", 50_000);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("images");
    images(&data, CLASSES, count / CLASSES);
    let recipe = recipe(Some(data), Some(weights(folder.path(), CLASSES)));
    let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
    let mut step = |command: Command| {
        let start = Instant::now();
        let kind = command.kind();
        let done = session.apply(command, &mut |event| view.apply(event), &Control::default());
        done.unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        start.elapsed().as_secs_f64()
    };
    let idle = megabytes("VmRSS");
    let opened = step(Command::Open(Box::new(recipe)));
    let listed = megabytes("VmRSS");
    let run = step(Command::RunAll(folder.path().join("model.octet.safetensors")));
    let data = view.stage().expect("saved").opened().dataset.clone();
    eprintln!(
        "{count} images in {CLASSES} folders: opened in {opened:.2} s, {} to train on and {} held out, {:.1} MB for the list; \
         all six steps with two evaluations in {run:.1} s; peak {:.1} MB",
        data.train.len(),
        data.valid.len(),
        listed - idle,
        megabytes("VmHWM")
    );
    assert_eq!((data.train.len(), data.valid.len()), (count / 5 * 4, count / 5));
    // A name of a file costs some hundred bytes, twice; no picture is kept.
    assert!(listed - idle < 16.0 + count as f64 / 1e3, "{:.1} MB for the list", listed - idle);
    assert!(megabytes("VmHWM") < 600.0, "{:.1} MB at the peak", megabytes("VmHWM"));
    assert!(opened < 5.0 + count as f64 / 1e3, "{opened:.1} s to open");
}

/// Starts one of the tests above in a process of its own, where no other test's memory or thread is counted.
fn alone(test: &str, settings: &[(&str, &str)]) {
    let mut program = Program::new(std::env::current_exe().expect("this program"));
    program.args(["--exact", test, "--ignored", "--nocapture"]).envs(settings.iter().copied());
    let output = program.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    eprintln!("{said}");
}

#[test]
fn runs_leave_memory_and_threads_as_they_were() {
    alone("many_runs", &[("LOAD_RUNS", "12"), ("LOAD_SAMPLE", "0")]);
}

#[test]
fn a_folder_of_many_images_is_no_burden() {
    alone("many_images", &[("LOAD_IMAGES", "2000")]);
}
