//! The card that downloads: nothing before the click, progress, cancel, resume, and the offer of a new head.

use std::fs;
use std::time::{Duration, Instant};

use eframe::egui::{Key, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use octet::app::choices::Choices;
use octet::app::{Window, number};
use octet::session::{Catalog, ModelId, Place, Stage, Step, WeightsOrigin};
use octet::weights::write_safetensors;
use octet::zoo::{self, ModelConfig};
use sha2::{Digest, Sha256};

use crate::harness;
use crate::raster::Textures;
use crate::server::{Answer, End, Server};
use crate::window::{done, draw, until};

const FILE: &str = "shufflenetv2_x0.5-0a1b2c3d.safetensors";

/// Weights of a thousand classes for ShuffleNetV2 x0.5.
pub fn weights(folder: &std::path::Path) -> Vec<u8> {
    let config = ModelConfig { classes: 1000, size: 32 };
    let graph = zoo::init(&zoo::build(ModelId::ShuffleNetV2X05, config).expect("a model"), 7);
    let path = folder.join("made.safetensors");
    write_safetensors(&path, &graph, false).expect("a file");
    fs::read(path).expect("the file")
}

pub fn table(base: &str, body: &[u8]) -> Catalog {
    let mebibytes = body.len() as f64 / f64::from(1 << 20);
    let hash: String = Sha256::digest(body).iter().take(4).map(|b| format!("{b:02x}")).collect();
    let row = |entry: &str, file: &str| {
        format!(
            "[[weights]]\nmodel = \"shufflenet_v2_x0_5\"\nentry = \"{entry}\"\nfile = \"{file}\"\nsha256 = \"{hash}\"\n\
             mebibytes = {mebibytes:.3}\ntop1 = 60.552\nresize = 256\nsize = 224\n"
        )
    };
    let text = format!(
        "base = \"{base}\"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n{}{}",
        row("IMAGENET1K_V2", FILE),
        row("IMAGENET1K_V1", "older.safetensors")
    );
    Catalog::parse(&text, None).expect("a table")
}

/// The window at step 2.
fn open(folder: &std::path::Path, catalog: Catalog, look: Theme) -> (Harness<'static, Window>, Textures) {
    let mut choices = Choices::new(folder.to_owned());
    choices.catalog = Ok(catalog);
    choices.place = Place { stall: Duration::from_secs(60), ..Place::new(folder.join("cache")) };
    let window = Window::new(choices, || {}).expect("the system gives a thread");
    let (mut harness, textures) = harness([1280.0, 1400.0], look, window, draw);
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    harness.get_by_label("Insert stubs").click();
    until(&mut harness, "stubs", |w| done(w, Step::Stubs));
    harness.key_press(Key::Num2);
    harness.run_steps(3);
    (harness, textures)
}

fn origin(window: &Window) -> Option<&WeightsOrigin> {
    match window.view().stage_of(Step::Weights).map(AsRef::as_ref) {
        Some(Stage::Weighted { origin, .. }) => Some(origin),
        _ => None,
    }
}

#[test]
fn a_download_begins_with_the_click_and_goes_on_after_a_cancel() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = weights(folder.path());
    let served = body.clone();
    let server = Server::start(move |n, request| {
        let answer = Answer::of_file(&served, "\"1\"", request);
        if n == 0 { answer.stopping(2_000_000, End::Silence) } else { answer }
    });
    let (mut harness, textures) = open(folder.path(), table(&server.base(), &body), Theme::Dark);
    let picture = |harness: &mut Harness<'_, Window>, name: &str| {
        if let Some(folder) = std::env::var_os("PICTURES") {
            let path = std::path::Path::new(&folder).join(format!("download_{name}.png"));
            textures.picture(harness).save(path).expect("a picture");
        }
    };
    // All of it is said before the click, and nothing is fetched.
    harness.get_by_label_contains("Nothing is fetched unless you press the button");
    harness.get_by_label(&format!("{}/{FILE}", server.base()));
    harness.get_by_label("60.6\u{2009}% on ImageNet, first guess");
    harness.get_by_label("Weights: IMAGENET1K_V1").click();
    harness.run_steps(2);
    harness.get_by_label(&format!("{}/older.safetensors", server.base()));
    harness.get_by_label("Weights: IMAGENET1K_V2").click();
    harness.run_steps(2);
    assert_eq!(server.connections(), 0);
    picture(&mut harness, "before");

    let picked = harness.state().bench().choices.published(ModelId::ShuffleNetV2X05).1.expect("published").bytes();
    harness.get_by_label(&format!("Download {}", number::bytes(picked))).click();
    let start = Instant::now();
    while harness.state().view().transfer.is_none_or(|t| t.bytes < 1_900_000) {
        harness.step();
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", harness.state().view().log.last());
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(2);
    picture(&mut harness, "during");
    let start = Instant::now();
    harness.get_by_label("Cancel the download").click();
    until(&mut harness, "cancelling", |w| w.view().finished.is_some());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(harness.state().view().failure.is_none() && !done(harness.state(), Step::Weights));
    picture(&mut harness, "cancelled");

    harness.get_by_label_contains("Resume, ").click();
    until(&mut harness, "downloading", |w| done(w, Step::Weights) && w.view().running.is_none());
    harness.run_steps(2);
    assert_eq!(server.seen()[1].sent, body.len() - 2_000_000);
    harness.get_by_label("Use the downloaded file");

    // A thousand classes and ten kinds of clothing: the head is offered to be replaced, and is not unless asked.
    assert!(matches!(origin(harness.state()), Some(WeightsOrigin::File(_))));
    harness.get_by_label_contains("tell 1000 classes apart");
    picture(&mut harness, "loaded");
    harness.get_by_label("New head for 10 classes").click();
    until(&mut harness, "a new head", |w| matches!(origin(w), Some(WeightsOrigin::WithoutHead(_))));
    // On the card, and in the log.
    assert_eq!(harness.query_all_by_label_contains("random until it is trained").count(), 2);
    harness.get_by_label("Train");
    picture(&mut harness, "new_head");
    harness.get_by_label("Back to the file's own head").click();
    until(&mut harness, "the old head", |w| matches!(origin(w), Some(WeightsOrigin::File(_))));
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_failed_download_says_why_where_it_was_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|_, _| Answer::status(404));
    let (mut harness, _) = open(folder.path(), table(&server.base(), &[7; 2_000_000]), Theme::Light);
    harness.get_by_label("Download 2.00\u{2009}MB").click();
    until(&mut harness, "failing", |w| w.view().failure.is_some());
    assert!(harness.query_all_by_label_contains("404 (Not Found)").next().is_some());
    harness.get_by_label("Download 2.00\u{2009}MB");
}

#[test]
fn the_run_key_never_downloads() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|_, _| Answer::status(404));
    let (mut harness, _) = open(folder.path(), table(&server.base(), &[7; 2_000_000]), Theme::Light);
    harness.key_press(Key::R);
    until(&mut harness, "weights", |w| done(w, Step::Weights));
    assert_eq!(origin(harness.state()), Some(&WeightsOrigin::Shipped));
    assert_eq!(server.connections(), 0);
}
