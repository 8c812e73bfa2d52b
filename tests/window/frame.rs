//! The window's frame: keys, palette, help, undo, scale, memory, files that are dropped, small windows, kept runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::egui::{DroppedFile, Event, HoveredFile, Key, Modifiers, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use octet::app::Window;
use octet::app::memory::Memory;
use octet::session::{ModelId, Stage, Step, StepState};

use crate::raster::Textures;
use crate::snapshot;
use crate::window::{done, open, until};

const CTRL: Modifiers = Modifiers::COMMAND;

fn picture(harness: &Harness<'_, Window>, textures: &Textures, name: &str) {
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures.picture(harness).save(Path::new(&folder).join(name)).expect("a picture");
    }
}

/// A window on an opened model.
fn begun(size: [f32; 2], look: Theme, folder: &Path) -> (Harness<'static, Window>, Textures) {
    let (mut harness, textures) = open(size, look, folder);
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    (harness, textures)
}

/// A window whose every step is done.
pub fn finished(size: [f32; 2], look: Theme, folder: &Path) -> (Harness<'static, Window>, Textures) {
    let (mut harness, textures) = open(size, look, folder);
    harness.run();
    harness.get_by_label("Quantize the sample now: Quantize").click();
    until(&mut harness, "all steps", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    (harness, textures)
}

fn has(harness: &Harness<'_, Window>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

#[test]
fn the_palette_finds_commands_steps_and_layers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = begun([1280.0, 800.0], Theme::Dark, folder.path());
    harness.key_press_modifiers(CTRL, Key::P);
    harness.run_steps(3);
    harness.get_by_label("Search commands and layers").type_text("insert");
    harness.run_steps(2);
    harness.key_press(Key::Escape);
    harness.run_steps(3);
    assert!(harness.query_by_label("Search commands and layers").is_none(), "Escape closes it");

    // A layer, by a few of its letters.
    harness.key_press_modifiers(CTRL, Key::P);
    harness.run_steps(3);
    harness.get_by_label("Search commands and layers").type_text("s2.0b13");
    harness.run_steps(3);
    picture(&harness, &textures, "palette_dark.png");
    harness.key_press(Key::Enter);
    harness.run_steps(4);
    assert_eq!(harness.state().bench().selection.name(), Some("stage2.0.branch1.3"));

    // A step, with the arrow keys over what else begins so.
    harness.key_press_modifiers(CTRL, Key::P);
    harness.run_steps(3);
    harness.get_by_label("Search commands and layers").type_text("calibrate");
    harness.run_steps(2);
    harness.key_press(Key::Enter);
    harness.run_steps(3);
    assert_eq!(harness.state().bench().step, Step::Calibrate);

    // A command runs.
    harness.key_press(Key::Num1);
    harness.key_press_modifiers(CTRL, Key::P);
    harness.run_steps(3);
    harness.get_by_label("Search commands and layers").type_text("run this");
    harness.run_steps(2);
    harness.key_press(Key::Enter);
    until(&mut harness, "stubs", |w| done(w, Step::Stubs));
}

#[test]
fn the_keys_are_listed_and_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = begun([1280.0, 800.0], Theme::Light, folder.path());
    harness.event(Event::Text("?".to_owned()));
    harness.run_steps(3);
    harness.get_by_label("Ctrl+Shift+Z");
    picture(&harness, &textures, "keys_light.png");
    harness.get_by_label("Close").click();
    harness.run_steps(3);
    assert!(harness.query_by_label("Ctrl+Shift+Z").is_none());
    harness.key_press(Key::R);
    until(&mut harness, "R", |w| done(w, Step::Stubs));
    // A slash asks for a layer; what is typed then is text, not keys.
    harness.event(Event::Text("/".to_owned()));
    harness.run_steps(4);
    harness.key_press(Key::Num4);
    harness.run_steps(2);
    assert_eq!(harness.state().bench().step, Step::Stubs, "a digit is text here");
}

#[test]
fn undo_leaves_the_later_results_in_sight_and_redo_brings_them_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = finished([1280.0, 800.0], Theme::Dark, folder.path());
    for last in [Step::Calibrate, Step::Prepare] {
        harness.key_press_modifiers(CTRL, Key::Z);
        until(&mut harness, "undo", |w| w.view().stage().and_then(|s| s.done()) == Some(last));
    }
    harness.get_by_label_contains("6 Convert, 3.8\u{d7} smaller, run again");
    harness.get_by_label_contains("5 Calibrate, 64 images, run again");
    harness.key_press(Key::Num6);
    harness.run_steps(3);
    // The old result shows, and the button leads to what has to be done first.
    harness.get_by_label_contains("Size of the file: float32");
    harness.get_by_label_contains("An earlier step was changed");
    harness.get_by_label("Go to Calibrate");
    picture(&harness, &textures, "stale_dark.png");
    for step in [Step::Calibrate, Step::Convert] {
        harness.key_press_modifiers(CTRL | Modifiers::SHIFT, Key::Z);
        until(&mut harness, "redo", |w| done(w, step));
    }
    assert!(harness.state().view().steps().iter().all(|s| s.state == StepState::Done));
    assert!(!has(&harness, "An earlier step was changed"));
}

#[test]
fn theme_scale_and_files_are_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config/window.json");
    let (mut harness, _) = open([1280.0, 800.0], Theme::Dark, folder.path());
    let ctx = harness.ctx.clone();
    harness.state_mut().remember(&ctx, Memory::default(), Some(file.clone()));
    harness.run();
    harness.get_by_label("Light").click();
    harness.run_steps(2);
    for _ in 0..30 {
        harness.key_press_modifiers(CTRL, Key::Plus);
        harness.step();
    }
    harness.run_steps(3);
    assert_eq!(harness.ctx.zoom_factor(), 2.0, "no more than twice as large");
    let memory = Memory::load(&file);
    assert_eq!((memory.theme, memory.zoom), (Some(Theme::Light), Some(2.0)));
    for _ in 0..30 {
        harness.key_press_modifiers(CTRL, Key::Minus);
        harness.step();
    }
    harness.run_steps(3);
    assert!((harness.ctx.zoom_factor() - 0.9).abs() < 1e-6);
    harness.key_press_modifiers(CTRL, Key::Num0);
    harness.run_steps(3);
    assert_eq!(harness.ctx.zoom_factor(), 1.0);

    // The next start looks the same.
    let (mut next, _) = open([1280.0, 800.0], Theme::Dark, folder.path());
    let ctx = next.ctx.clone();
    next.state_mut().remember(&ctx, Memory { zoom: Some(1.3), ..memory }, None);
    next.run_steps(3);
    assert_eq!((next.ctx.theme(), next.ctx.zoom_factor()), (Theme::Light, 1.3));
}

#[derive(Debug)]
struct Dropped(PathBuf);

impl DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("read by its path".to_owned())
    }
}

pub fn drop_file(harness: &mut Harness<'_, Window>, path: &Path) {
    harness.input_mut().dropped_files.push(Arc::new(Dropped(path.to_owned())));
    harness.run_steps(3);
}

#[test]
fn what_is_dropped_goes_where_it_belongs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Dark, folder.path());
    harness.run();
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, "nothing").expect("a file");
    harness
        .input_mut()
        .hovered_files
        .push(HoveredFile { path: Some(folder.path().to_owned()), ..HoveredFile::default() });
    harness.step();
    picture(&harness, &textures, "drop_dark.png");
    harness.input_mut().hovered_files.clear();
    drop_file(&mut harness, &notes);
    assert!(has(&harness, "is nothing that Octet opens"), "it is said");
    harness.get_by_label("Dismiss").click();
    harness.run_steps(2);
    assert!(!has(&harness, "is nothing that Octet opens"));
    let images = folder.path().join("images");
    std::fs::create_dir(&images).expect("a folder");
    drop_file(&mut harness, &images);
    assert_eq!(harness.state().bench().choices.data, images.display().to_string());
    harness.get_by_label("Image folder");

    // An int8 file leads back to the choices that it was made by.
    let (mut harness, _) = finished([1280.0, 800.0], Theme::Dark, folder.path());
    let file = harness.state().bench().choices.out();
    let recipe = harness.state().view().recipe.clone().expect("a recipe");
    drop_file(&mut harness, &file);
    until(&mut harness, "opening the file's recipe", |w| {
        w.view().stage().is_some_and(|s| matches!(**s, Stage::Opened { .. }))
    });
    assert_eq!(harness.state().view().recipe.as_deref(), Some(&*recipe));
    assert_eq!(harness.state().bench().choices.calibration, recipe.calibration);
}

/// Controls whose place is not inside the window, scrolled content left out.
fn outside(harness: &Harness<'_, Window>, labels: &[&str]) -> Vec<String> {
    let room = harness.ctx.content_rect().expand(0.5);
    let place = |label: &&str| {
        let node = harness.get_by_label_contains(label);
        let rect = node.rect();
        (!room.contains_rect(rect)).then(|| format!("{label} at {rect:?} of {room:?}"))
    };
    labels.iter().filter_map(place).collect()
}

#[test]
fn a_small_window_and_twice_the_scale_clip_no_control() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = finished([1280.0, 800.0], Theme::Light, folder.path());
    let always = ["Model: ", "Run all", "Search", "1 Stubs", "2 Weights", "Graph", "Code"];
    // In points: 640x360 is a screen of 1280x720 at twice the scale, 683x384 one of 1366x768.
    for (size, zoom) in [([640.0, 360.0], 1.0), ([683.0, 384.0], 2.0), ([999.0, 699.0], 1.0), ([1422.0, 889.0], 0.9)] {
        harness.ctx.set_zoom_factor(zoom);
        harness.run_steps(3);
        harness.set_size(eframe::egui::Vec2::from(size));
        harness.run_steps(6);
        assert!((harness.ctx.content_rect().width() - size[0]).abs() < 2.0, "{:?}", harness.ctx.content_rect());
        let outside = outside(&harness, &always);
        assert!(outside.is_empty(), "{size:?} at {zoom}: {outside:?}");
        picture(&harness, &textures, &format!("small_{}_{}.png", size[0], (zoom * 100.0) as u32));
    }
    // The inspector is a drawer there, and the log hides.
    harness.ctx.set_zoom_factor(1.0);
    harness.run_steps(3);
    harness.set_size([640.0, 360.0].into());
    harness.run_steps(4);
    assert!(harness.query_by_label("Log").is_none());
    harness.get_by_label("Inspect").click();
    harness.run_steps(4);
    let outside = outside(&harness, &["Close"]);
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn tab_reaches_every_control_of_the_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = begun([1280.0, 800.0], Theme::Dark, folder.path());
    let mut reached = Vec::new();
    for _ in 0..120 {
        harness.key_press(Key::Tab);
        harness.step();
        let focused = harness.root().children_recursive().find(|n| n.accesskit_node().is_focused());
        let name = focused.and_then(|n| n.accesskit_node().label());
        reached.extend(name);
    }
    for wanted in [
        "Model: ",
        "Images: ",
        "Qconfig of the run: ",
        "Search",
        "Run all",
        "Light",
        "Keys",
        "1 Stubs",
        "6 Convert",
        "Images",
        "Compare",
        "Picture",
        "Graph",
        "Code",
        "Insert stubs",
        "Log",
    ] {
        assert!(reached.iter().any(|r| r.starts_with(wanted)), "{wanted} is not reached: {reached:?}");
    }
}

#[test]
fn kept_runs_are_compared_saved_and_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = begun([1280.0, 1500.0], Theme::Light, folder.path());
    harness.get_by_label("Compare").click();
    harness.run_steps(3);
    // Empty, it offers what fills it.
    harness.get_by_label("Run all steps now").click();
    until(&mut harness, "the first run", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    harness.key_press_modifiers(CTRL, Key::S);
    until(&mut harness, "the second run", |w| w.view().log.iter().any(|l| l.text.starts_with("Kept as run 2")));
    harness.get_by_label("Compare").click();
    until(&mut harness, "the list", |w| w.bench().runs().runs().len() == 2);
    harness.get_by_label_contains("Size of the file: 2  ShuffleNetV2 x0.5, PTQ, x86, histogram: float32");
    // Both wrote one file; it is the second's.
    assert!(has(&harness, ", gone"));
    harness.get_by_label("Show run 1 in the charts").click();
    harness.run_steps(3);
    harness.get_by_label_contains("Accuracy with its 95 % interval: 1  ShuffleNetV2 x0.5");
    picture(&harness, &textures, "runs_light.png");
    let charts = folder.path().join("charts");
    for (button, files) in [
        ("Save as PNG", &["size.png", "accuracy.png", "time.png"][..]),
        ("Save as SVG", &["size.svg", "accuracy.svg", "time.svg"]),
        ("Save as CSV", &["runs.csv"]),
    ] {
        harness.get_by_label(button).click();
        harness.run_steps(3);
        for file in files {
            assert!(charts.join(file).exists(), "{file}");
        }
    }
    let table = std::fs::read_to_string(charts.join("runs.csv")).expect("a table");
    assert_eq!(table.lines().count(), 2, "the picked run under its head: {table}");
    assert!(table.contains("shufflenet_v2_x0_5,x86"));
    assert!(image::open(charts.join("accuracy.png")).expect("a picture").width() > 1000);
    harness.get_by_label("Open what run 1 was made by").click();
    until(&mut harness, "opening it again", |w| w.view().stage().is_some_and(|s| matches!(**s, Stage::Opened { .. })));
    assert_eq!(harness.state().view().recipe.as_ref().map(|r| r.model), Some(ModelId::ShuffleNetV2X05));
}

#[test]
fn the_frame_in_both_themes() {
    for (look, name) in [(Theme::Dark, "frame_dark"), (Theme::Light, "frame_light")] {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut harness, textures) = begun([1280.0, 720.0], look, folder.path());
        harness.key_press(Key::Num4);
        harness.run_steps(4);
        snapshot::matches(&harness, &textures, name);
    }
}

#[test]
fn the_palette_as_a_picture() {
    let (mut harness, textures) = {
        let folder = tempfile::tempdir().expect("a folder");
        begun([900.0, 600.0], Theme::Light, folder.path())
    };
    harness.key_press_modifiers(CTRL, Key::P);
    harness.run_steps(4);
    // The cursor of the field blinks.
    harness.key_press(Key::ArrowDown);
    harness.run_steps(4);
    snapshot::matches(&harness, &textures, "palette_light");
}

/// Where there is a GPU, its name and memory stand there instead: `tests/cuda/run` has one.
#[test]
#[cfg(not(feature = "cuda"))]
fn the_device_is_chosen_above_and_what_is_missing_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = begun([1280.0, 800.0], Theme::Light, folder.path());
    harness.get_by_label("Device: CPU").click();
    harness.run_steps(4);
    assert!(has(&harness, "No GPU: CUDA device 0 cannot be used: this build has no CUDA"));
    harness.get_by_label("CPU").click();
    until(&mut harness, "the choice", |w| w.view().ended == 2);
    assert!(harness.state().view().failure.is_none() && !has(&harness, "No GPU"));
}
