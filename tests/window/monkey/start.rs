//! Where a seed begins: every stage that a session can be at, and what stands around it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use eframe::egui::Key;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use octet::app::choices::Choices;
use octet::app::{Field, Window};
use octet::session::{Place, Stage, Step};

use crate::server::{Answer, End, Server};
use crate::window::{done, until, walk_to};
use crate::{download, screens};

/// How far a session is when the monkey gets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    Fresh,
    Opened,
    Fused,
    Calibrated,
    Saved,
    Training,
    Qat,
    Analysis,
    Tutorial,
    Folder,
}

impl Start {
    pub const ALL: [Self; 10] = [
        Self::Fresh,
        Self::Opened,
        Self::Fused,
        Self::Calibrated,
        Self::Saved,
        Self::Training,
        Self::Qat,
        Self::Analysis,
        Self::Tutorial,
        Self::Folder,
    ];
}

/// What is picked in a dialog: the next of these, until there is none.
static PICKS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// In the place of the system's dialogs.
pub fn dialog(_: Field) -> Option<PathBuf> {
    let mut picks = PICKS.lock().unwrap_or_else(PoisonError::into_inner);
    let next = picks.pop()?;
    picks.insert(0, next.clone());
    Some(next)
}

/// Small settings, files good and bad in the folder, and a server in the place of the network.
pub fn choices(start: Start, folder: &Path) -> (Choices, Server) {
    static WEIGHTS: OnceLock<Vec<u8>> = OnceLock::new();
    let body = WEIGHTS.get_or_init(|| download::weights(folder)).clone();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("a file");
    write("weights.safetensors", &body);
    write("cut.safetensors", &body[..body.len() / 2]);
    write("cut.pth", b"PK\x03\x04 and no more");
    write("nonsense.toml", b"[model\nname = 3");
    write("other.json", b"{\"format\": \"octet-run\"}");
    write("notes.txt", b"nothing");
    images(&folder.join("images"), 12);
    images(&folder.join("few"), 1);
    std::fs::create_dir_all(folder.join("empty")).expect("a folder");
    *PICKS.lock().unwrap_or_else(PoisonError::into_inner) = paths(folder).into_iter().step_by(2).collect();

    let served = body.clone();
    let server = Server::start(move |n, request| match n % 4 {
        0 => Answer::of_file(&served, "\"1\"", request).stopping(served.len() / 3, End::Silence),
        1 => Answer::status(404),
        2 => Answer::of_file(&served, "\"1\"", request).stopping(served.len() / 2, End::Close),
        _ => Answer::of_file(&served, "\"1\"", request),
    });
    let mut choices = Choices::new(folder.join("project"));
    choices.catalog = Ok(download::table(&server.base(), &body));
    choices.place = Place { stall: Duration::from_secs(20), ..Place::new(folder.join("cache")) };
    (choices.calibration.batches, choices.calibration.batch) = (2, 8);
    let long = matches!(start, Start::Training | Start::Qat);
    choices.train.epochs = if long { 1000 } else { 1 };
    choices.qat.train.epochs = choices.train.epochs;
    choices.by_qat = start == Start::Qat;
    if start == Start::Folder {
        choices.data = folder.join("images").display().to_string();
        choices.preprocess.size = Some(32);
    }
    (choices, server)
}

/// What is typed where a path is wanted, and dropped on the window.
pub fn paths(folder: &Path) -> Vec<PathBuf> {
    let names = [
        "images",
        "few",
        "empty",
        "absent",
        "weights.safetensors",
        "cut.safetensors",
        "cut.pth",
        "nonsense.toml",
        "other.json",
        "notes.txt",
        "notes.txt/below",
        "project/shufflenet_v2_x0_5.octet.safetensors",
        "another project",
        "\u{442}\u{435}\u{441}\u{442} \u{65e5}\u{672c} \u{202e}x",
    ];
    let mut all: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    all.push(folder.join("long".repeat(80)));
    all.push(PathBuf::from("/proc/self/nothing/x.safetensors"));
    all
}

/// Two classes of so many images, and a file that is none.
fn images(root: &Path, count: u8) {
    for (class, shade) in [("cat", 40), ("dog", 200)] {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).expect("a folder");
        for i in 0..count {
            let pixels = image::RgbImage::from_fn(32, 24, |x, y| image::Rgb([shade, (x * 7) as u8, (y * 9) as u8 + i]));
            pixels.save(folder.join(format!("{i}.png"))).expect("a picture");
        }
    }
    std::fs::write(root.join("dog/broken.png"), "no picture").expect("a file");
}

/// Brings a fresh window there.
pub fn prepare(harness: &mut Harness<'static, Window>, start: Start) {
    harness.run_steps(4);
    let saved = |w: &Window| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. }));
    match start {
        Start::Fresh => {}
        Start::Opened => open(harness),
        Start::Fused => walk_to(harness, Step::Prepare),
        Start::Calibrated => {
            walk_to(harness, Step::Prepare);
            for (button, step) in [("Prepare", Step::Prepare), ("Calibrate", Step::Calibrate)] {
                harness.get_by_label(button).click();
                until(harness, button, |w| done(w, step));
                harness.get_by_label_contains("Continue to ").click();
                harness.run_steps(2);
            }
        }
        Start::Saved | Start::Analysis => {
            harness.get_by_label("Quantize the sample now: Quantize").click();
            until(harness, "all steps", saved);
            if start == Start::Analysis {
                harness.get_by_label("Result: Analyze").click();
                harness.run_steps(3);
                harness.get_by_label("Sweep over layers").click();
                screens::wait(harness, "a first layer", |h| h.state().bench().result().analyze().swept().is_some());
            }
        }
        Start::Training => {
            open(harness);
            harness.key_press(Key::R);
            until(harness, "stubs", |w| done(w, Step::Stubs));
            harness.key_press(Key::Num2);
            harness.run_steps(3);
            harness.get_by_label("Start training").click_accesskit();
            wait(harness, |w| !w.view().training.is_empty());
        }
        Start::Qat => {
            harness.get_by_label("Quantize the sample now: Quantize").click();
            wait(harness, |w| !w.view().qat.is_empty());
        }
        Start::Tutorial => {
            harness.get_by_label("Take the tutorial: Start").click();
            until(harness, "opening", |w| w.view().stage().is_some());
            harness.get_by_label("First method: PTQ: Begin").click();
            harness.run_steps(3);
        }
        Start::Folder => {
            harness.get_by_label("Open my model: Choose").click();
            harness.run_steps(3);
            harness.get_by_label("Open model").click_accesskit();
            until(harness, "opening", |w| w.view().stage().is_some());
        }
    }
}

fn open(harness: &mut Harness<'static, Window>) {
    harness.get_by_label("Walk the six steps: Begin").click();
    until(harness, "opening", |w| w.view().stage().is_some());
}

/// Until something that goes on has begun.
fn wait(harness: &mut Harness<'static, Window>, ready: impl Fn(&Window) -> bool) {
    let start = Instant::now();
    harness.run_steps(2);
    while !ready(harness.state()) {
        harness.step();
        let log = harness.state().view().log.last();
        assert!(start.elapsed() < Duration::from_secs(120), "it does not begin: {log:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
