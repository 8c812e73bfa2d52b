//! What the project folder keeps: the session that is gone on with, the folder itself, charts and tables one by one.

use std::path::Path;

use eframe::egui::{Key, Modifiers, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use octet::app::Window;
use octet::session::{Backend, CommandKind, ObserverKind, Stage, Step};

use crate::frame::finished;
use crate::screens::wait;
use crate::window::{done, open, until, walk_to};

const SIZE: [f32; 2] = [1280.0, 900.0];

fn has(harness: &Harness<'_, Window>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

fn saved(window: &Window) -> bool {
    matches!(window.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. }))
}

#[test]
fn a_closed_window_opens_at_the_same_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open(SIZE, Theme::Dark, folder.path());
    walk_to(&mut harness, Step::Prepare);
    harness.get_by_label("Observer: MSE").click();
    harness.run_steps(2);
    harness.get_by_label("Prepare").click();
    until(&mut harness, "preparing", |w| done(w, Step::Prepare));
    let recipe = harness.state().view().recipe.clone();
    drop(harness);

    let (mut harness, textures) = open(SIZE, Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label_contains("ShuffleNetV2 x0.5, PTQ, the sample: 4 Prepare is done");
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures.picture(&harness).save(Path::new(&folder).join("continue_dark.png")).expect("a picture");
    }
    harness.get_by_label("Continue where you were: Continue").click();
    until(&mut harness, "going on", |w| done(w, Step::Prepare));
    let window = harness.state();
    // Whether accuracy is foreseen while calibrating is the window's, and in no file.
    let mut gone_on = window.view().recipe.as_deref().expect("a recipe").clone();
    gone_on.calibration.foresee = true;
    assert_eq!(Some(&gone_on), recipe.as_deref());
    assert_eq!(window.bench().step, Step::Calibrate);
    assert_eq!(window.bench().choices.qconfig.activation.observer, ObserverKind::Mse, "the fields say it too");
    harness.get_by_label("Calibrate").click();
    until(&mut harness, "calibrating", |w| done(w, Step::Calibrate));
}

#[test]
fn the_tutorial_is_resumed_with_what_it_was_left_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open(SIZE, Theme::Dark, folder.path());
    walk_to(&mut harness, Step::Prepare);
    let mut memory = harness.state().bench().memory.clone();
    memory.tutorial.at = Some("ptq-4".to_owned());
    drop(harness);

    let (mut harness, _) = open(SIZE, Theme::Dark, folder.path());
    let ctx = harness.ctx.clone();
    harness.state_mut().remember(&ctx, memory, None);
    harness.run();
    harness.get_by_label("Take the tutorial: Resume").click();
    until(&mut harness, "going on", |w| done(w, Step::Fuse));
    harness.get_by_label("Resume").click();
    harness.run_steps(3);
    let lesson = harness.state().bench().tutorial.lesson().expect("a lesson is open");
    assert_eq!(lesson.key(), "ptq-4");
    assert!(has(&harness, "Not done: No observer is placed yet."));
}

#[test]
fn the_project_folder_is_chosen_and_compare_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = finished(SIZE, Theme::Light, folder.path());
    harness.get_by_label("Compare").click();
    until(&mut harness, "the list", |w| w.bench().runs().runs().len() == 1);
    let other = folder.path().join("another place");
    harness.get_by_label("Project folder").focus();
    harness.run_steps(2);
    harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    harness.get_by_label("Project folder").type_text(&other.display().to_string());
    harness.run_steps(3);
    harness.get_by_label("Use this folder").click();
    until(&mut harness, "the other folder", |w| w.view().finished == Some(CommandKind::UseProject));
    wait(&mut harness, "its runs", |h| h.state().bench().runs().runs().is_empty());
    assert!(has(&harness, "There is none yet"));
    assert!(harness.state().bench().choices.out().starts_with(&other));
    assert_eq!(harness.state().bench().memory.project.as_deref(), Some(other.as_path()));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::S);
    until(&mut harness, "saving there", |w| w.bench().runs().runs().len() == 1);
    assert!(other.join("shufflenet_v2_x0_5.octet.safetensors").is_file());
    assert!(other.join("session/session.json").is_file());
}

#[test]
fn every_chart_and_table_is_saved_where_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = finished([1280.0, 700.0], Theme::Dark, folder.path());
    harness.key_press(Key::Num5);
    harness.run_steps(4);
    let chart = "How far a batch moved the ranges";
    let charts = folder.path().join("charts");
    let name = "shufflenet_v2_x0_5-how-far-a-batch-moved-the-ranges";
    for kind in ["PNG", "SVG", "CSV"] {
        harness.get_by_label(&format!("{chart}: save")).scroll_to_me();
        harness.run_steps(12);
        harness.get_by_label(&format!("{chart}: save")).click_accesskit();
        wait(&mut harness, "the menu", |h| has(h, &format!("{chart}: save as {kind}")));
        harness.get_by_label(&format!("{chart}: save as {kind}")).click_accesskit();
        let file = charts.join(format!("{name}.{}", kind.to_lowercase()));
        wait(&mut harness, kind, |h| file.is_file() && has(h, &format!("Saved {}", file.display())));
    }
    let png = image::open(charts.join(format!("{name}.png"))).expect("a picture").to_rgba8();
    let curve = png.pixels().filter(|p| p.0[2] > 180 && p.0[0] < 190).count();
    assert!(png.width() > 300 && curve > 200, "{} pixels of the curve in {:?}", curve, png.dimensions());
    let svg = std::fs::read_to_string(charts.join(format!("{name}.svg"))).expect("an SVG");
    for word in ["<svg", chart, "farthest", "batch"] {
        assert!(svg.contains(word), "{word} is not in the SVG: {svg}");
    }
    let csv = std::fs::read_to_string(charts.join(format!("{name}.csv"))).expect("a table");
    assert!(csv.starts_with(",batch,") && csv.lines().count() > 2, "{csv}");

    // Where half of a chart is out of sight it is brought in before it is taken.
    harness.key_press(Key::Num6);
    harness.run_steps(12);
    harness.get_by_label("Result: Error by layer").click();
    wait(&mut harness, "every layer's error", |h| h.state().bench().result().errors().is_some());
    harness.get_by_label("One minus cosine, layer by layer: save").click_accesskit();
    harness.run_steps(12);
    harness.get_by_label("One minus cosine, layer by layer: save as PNG").click_accesskit();
    let file = charts.join("shufflenet_v2_x0_5-one-minus-cosine-layer-by-layer.png");
    wait(&mut harness, "the chart", |_| file.is_file());
    harness.get_by_label("The largest errors: save").scroll_to_me();
    harness.run_steps(12);
    harness.get_by_label("The largest errors: save").click_accesskit();
    harness.run_steps(12);
    harness.get_by_label("The largest errors: save as CSV").click_accesskit();
    let file = charts.join("shufflenet_v2_x0_5-the-largest-errors.csv");
    wait(&mut harness, "the table", |_| file.is_file());
    if let Some(out) = std::env::var_os("PICTURES") {
        for file in std::fs::read_dir(&charts).expect("a folder").flatten() {
            std::fs::copy(file.path(), Path::new(&out).join(file.file_name())).expect("a copy");
        }
    }
}

#[test]
fn the_log_is_filtered_by_how_much_a_line_matters() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = finished(SIZE, Theme::Dark, folder.path());
    harness.get_by_label("Log").click();
    harness.run_steps(3);
    let (info, warning) = ("sites fused; the output of", "channels are zero");
    assert!(has(&harness, info));
    harness.get_by_label("Log: Warnings").click();
    harness.run_steps(3);
    assert!(!has(&harness, info) && has(&harness, warning));
    harness.get_by_label("Log: Errors").click();
    harness.run_steps(3);
    assert!(!has(&harness, warning));
    harness.get_by_label("No line of the log is like this.");
}

#[test]
fn run_all_runs_what_is_picked_on_the_screens() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = finished(SIZE, Theme::Dark, folder.path());
    // Picked, and not prepared again: what runs is what is picked.
    harness.key_press(Key::Num4);
    harness.run_steps(3);
    harness.get_by_label("Qconfig: qnnpack").click();
    harness.run_steps(2);
    harness.get_by_label("Run all").click();
    until(&mut harness, "the other qconfig", |w| {
        saved(w) && w.view().recipe.as_ref().is_some_and(|r| r.qconfig.name == Backend::Qnnpack)
    });
    let graph = harness.state().view().stage_of(Step::Calibrate).expect("calibrated").graph().clone();
    let node = graph.node(graph.find("conv1.0").expect("a node"));
    assert!(matches!(node.numeric, octet::graph::Numeric::Observed(spec) if spec.quant_max == 255));
}

#[test]
fn prepare_shows_a_range_that_was_set_by_hand_since() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open([1280.0, 1000.0], Theme::Dark, folder.path());
    walk_to(&mut harness, Step::Prepare);
    harness.get_by_label("Prepare").click();
    until(&mut harness, "preparing", |w| done(w, Step::Prepare));
    harness.key_press(Key::Num5);
    harness.run_steps(2);
    harness.get_by_label("Calibrate").click();
    until(&mut harness, "calibrating", |w| done(w, Step::Calibrate));
    harness.get_by_label("conv1.0").click();
    harness.run_steps(2);
    harness.get_by_label("Upper clip line").focus();
    harness.run_steps(2);
    harness.key_press(Key::ArrowLeft);
    harness.run_steps(3);
    let tried = harness.state().bench().calibrate().tried().0.expect("a range");
    harness.get_by_label("Keep this range").click();
    until(&mut harness, "keeping", |w| w.view().recipe.as_ref().is_some_and(|r| !r.qconfig.overrides.is_empty()));
    harness.get_by_label("Calibrate again").click();
    until(&mut harness, "calibrating again", |w| done(w, Step::Calibrate));
    harness.key_press(Key::Num4);
    harness.run_steps(4);
    let ends = [tried.min, tried.max].map(|v| octet::app::number::number(f64::from(v)));
    assert!(has(&harness, &ends.join(" \u{2026} ")), "{ends:?}");
}

#[test]
fn paths_and_epochs_are_typed_into_the_palette() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = open(SIZE, Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    let images = folder.path().join("images");
    std::fs::create_dir(&images).expect("a folder");
    let typed = |harness: &mut Harness<'_, Window>, text: &str| {
        harness.key_press_modifiers(Modifiers::COMMAND, Key::P);
        harness.run_steps(3);
        harness.get_by_label("Search commands and layers").type_text(text);
        harness.run_steps(3);
        harness.key_press(Key::Enter);
        harness.run_steps(4);
    };
    typed(&mut harness, "epochs 3");
    let choices = &harness.state().bench().choices;
    assert_eq!((choices.train.epochs, choices.qat.train.epochs), (3, 3));
    typed(&mut harness, &images.display().to_string());
    assert_eq!(harness.state().bench().choices.data, images.display().to_string());
    harness.get_by_label_contains("The images are noted");
}
