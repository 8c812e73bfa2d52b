//! What each step shows, used as a person does: ranges dragged, sites looked into, layers and images compared.

use std::time::{Duration, Instant};

use eframe::egui::{Key, Theme, pos2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use octet::app::Window;
use octet::app::choices::Choices;
use octet::session::{Stage, Step};

use crate::raster::Textures;
use crate::window::{done, draw, until, walk_to};
use crate::{harness, snapshot};

/// The window with a longer calibration than other tests want.
fn open(size: [f32; 2], look: Theme, folder: &std::path::Path) -> (Harness<'static, Window>, Textures) {
    let mut choices = Choices::new(folder.to_owned());
    (choices.calibration.batches, choices.calibration.batch) = (8, 8);
    let window = Window::new(choices, || {}).expect("the system gives a thread");
    harness(size, look, window, draw)
}

/// Draws until something that is worked on beside the session is there.
pub fn wait(harness: &mut Harness<'_, Window>, what: &str, ready: impl Fn(&Harness<'_, Window>) -> bool) {
    let start = Instant::now();
    while !ready(harness) {
        harness.step();
        assert!(start.elapsed() < Duration::from_secs(300), "{what} is not there after five minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(3);
}

pub fn has(harness: &Harness<'_, Window>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

fn picture(harness: &Harness<'_, Window>, textures: &Textures, name: &str) {
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures.picture(harness).save(std::path::Path::new(&folder).join(name)).expect("a picture");
    }
}

#[test]
fn a_clip_line_is_dragged_and_its_range_kept_and_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 1000.0], Theme::Dark, folder.path());
    walk_to(&mut harness, Step::Prepare);
    harness.get_by_label("Prepare").click();
    until(&mut harness, "preparing", |w| done(w, Step::Prepare));
    harness.get_by_label("Continue to Calibrate").click();
    harness.run_steps(2);
    harness.get_by_label("Calibrate").click();
    until(&mut harness, "calibrating", |w| done(w, Step::Calibrate));
    harness.get_by_label_contains("How far a batch moved the ranges: all, mean");
    harness.get_by_label_contains("Accuracy if converted now: int8");
    assert_eq!(harness.state().view().if_converted.len(), 8);
    harness.get_by_label("Sort by the largest value").click();
    harness.run_steps(2);
    harness.get_by_label("Sort by place in the graph").click();
    harness.run_steps(2);
    harness.get_by_label("conv1.0").click();
    harness.run_steps(2);
    picture(&harness, &textures, "calibrate_before.png");

    let before = harness.state().bench().calibrate().tried().0.expect("a range");
    let line = harness.get_by_label("Upper clip line").rect().center();
    harness.drag_at(line);
    harness.step();
    let to = line - eframe::egui::vec2(60.0, 0.0);
    harness.hover_at(to);
    harness.step();
    harness.step();
    // At once, while the line is held.
    let dragged = harness.state().bench().calibrate().tried().0.expect("a range");
    assert!(dragged.max < before.max && dragged.min == before.min, "{before:?} {dragged:?}");
    harness.drop_at(to);
    harness.step();
    // And the accuracy in a moment.
    wait(&mut harness, "the accuracy", |h| h.state().bench().calibrate().tried().1.is_some());
    assert!(has(&harness, "top-1 on 256 held-out images"));
    picture(&harness, &textures, "calibrate_dragged.png");
    snapshot::part(&harness, &textures, "calibrate_dark", [200, 96, 780, 860]);

    let tried = harness.state().bench().calibrate().tried().0.expect("a range");
    harness.get_by_label("Keep this range").click();
    let kept = |w: &Window| match w.view().stage().map(AsRef::as_ref) {
        Some(Stage::Calibrated { graph, observers, .. }) => observers.clip(graph.find("conv1.0").expect("a node")),
        _ => None,
    };
    until(&mut harness, "keeping", |w| kept(w) == Some(tried));
    assert_eq!(harness.state().bench().choices.qconfig, harness.state().view().recipe.as_ref().expect("one").qconfig);
    assert!(has(&harness, "set by hand"));
    harness.get_by_label("Back to the observer's").click();
    until(&mut harness, "dropping", |w| kept(w) == Some(before));
    assert!(harness.state().bench().choices.qconfig.overrides.is_empty());

    // By the keyboard, and away again.
    harness.get_by_label("Lower clip line").focus();
    harness.run_steps(2);
    harness.key_press(Key::ArrowRight);
    harness.run_steps(3);
    let moved = harness.state().bench().calibrate().tried().0.expect("a range");
    assert!(moved.min > before.min, "{before:?} {moved:?}");
    harness.get_by_label("Drop it").click();
    harness.run_steps(3);
    assert_eq!(harness.state().bench().calibrate().tried().0, Some(before));
}

#[test]
fn a_site_tells_its_pattern_its_numbers_and_its_proof() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 1040.0], Theme::Light, folder.path());
    walk_to(&mut harness, Step::Prepare);
    harness.key_press(Key::Num3);
    harness.run_steps(4);
    harness.get_by_label("conv1.0").click();
    harness.run_steps(4);
    harness.get_by_label_contains("What batch norm multiplies each channel by: channel 0");
    assert!(has(&harness, "largest |\u{394}|") && has(&harness, "rounding"));
    let formula = |h: &Harness<'_, Window>| {
        let lines: Vec<String> = h
            .query_all_by_label_contains("   = ")
            .filter_map(|n| n.accesskit_node().value().or_else(|| n.accesskit_node().label()))
            .collect();
        lines
    };
    let first = formula(&harness);
    // Another channel has other numbers.
    let bars = harness.get_by_label("What batch norm multiplies each channel by: pick").rect();
    let at = pos2(bars.right() - 8.0, bars.center().y);
    harness.drag_at(at);
    harness.step();
    harness.drop_at(at);
    harness.run_steps(3);
    harness.get_by_label_contains("What batch norm multiplies each channel by: channel 23");
    assert!(!first.is_empty() && formula(&harness) != first, "{first:?}");
    picture(&harness, &textures, "fuse_site.png");
    snapshot::part(&harness, &textures, "fuse_light", [200, 96, 780, 900]);
}

#[test]
fn like_warnings_are_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Dark, folder.path());
    walk_to(&mut harness, Step::Prepare);
    harness.get_by_label("Prepare").click();
    until(&mut harness, "preparing", |w| done(w, Step::Prepare));
    let dead = harness.state().view().stage_of(Step::Prepare).expect("prepared").warnings().len();
    assert!(dead > 1, "the shipped ShuffleNet has dead channels");
    harness.get_by_label_contains(&format!("{dead} nodes: all weights of some of their channels are zero"));
    picture(&harness, &textures, "prepare_warnings.png");
    harness.get_by_label(&format!("Which {dead} nodes")).click();
    harness.run_steps(16);
    assert!(harness.query_all_by_label_contains("channels are zero (").count() >= dead);
}

#[test]
fn stubs_show_where_values_cross_on_the_model_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 800.0], Theme::Light, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    harness.get_by_label("Insert stubs").click();
    until(&mut harness, "stubs", |w| done(w, Step::Stubs));
    harness.get_by_label_contains("Values become int8 at 1 place and float again at 1");
    assert!(has(&harness, "input \u{b7} 3\u{d7}32\u{d7}32 \u{b7} 12.3\u{2009}kB \u{2192} 3.07\u{2009}kB an image"));
    harness.get_by_label("dequant").click();
    harness.run_steps(4);
    assert_eq!(harness.state().bench().selection.name(), Some("dequant"));
    picture(&harness, &textures, "stubs.png");
}

#[test]
fn training_shows_its_loss_and_its_rate_as_it_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 1000.0], Theme::Dark, folder.path());
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    harness.get_by_label("Insert stubs").click();
    until(&mut harness, "stubs", |w| done(w, Step::Stubs));
    harness.key_press(Key::Num2);
    harness.run_steps(2);
    harness.get_by_label("Start training").scroll_to_me();
    harness.run_steps(2);
    harness.get_by_label("Start training").click();
    wait(&mut harness, "a few steps", |h| h.state().view().training.len() > 8);
    assert!(has(&harness, "Loss: train") && has(&harness, "Learning rate: rate"));
    picture(&harness, &textures, "training.png");
    harness.key_press(Key::Escape);
    until(&mut harness, "cancelling", |_| true);
}

#[test]
fn the_result_is_looked_into_layer_by_layer_and_image_by_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = open([1280.0, 1000.0], Theme::Light, folder.path());
    harness.run();
    harness.get_by_label("Quantize the sample now: Quantize").click();
    until(&mut harness, "all six steps", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    picture(&harness, &textures, "result_summary.png");

    harness.get_by_label("Result: Weights").click();
    harness.run_steps(3);
    harness.get_by_label_contains("Scale of each channel: channel 0");
    harness.get_by_label("stage2.0.branch1.0").click();
    harness.run_steps(3);
    harness.get_by_label_contains("Channel 0 over int8's levels: from");
    picture(&harness, &textures, "result_weights.png");
    snapshot::part(&harness, &textures, "convert_light", [200, 96, 780, 860]);

    harness.get_by_label("Result: Images").click();
    wait(&mut harness, "every image", |h| h.state().bench().result().verdicts().is_some());
    let verdicts = harness.state().bench().result().verdicts().expect("there").clone();
    let right = |c: &octet::session::Confusion| format!("{} of {} right", c.right(), c.total());
    harness.get_by_label_contains(&format!("Float: what each class is named: {}", right(&verdicts.float)));
    harness.get_by_label_contains(&format!("int8: what each class is named: {}", right(&verdicts.int8)));
    let flipped = format!("{} images flipped: right in float, wrong in int8", verdicts.flipped.len());
    harness.get_by_label(&flipped);
    for _ in 0..40 {
        harness.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    picture(&harness, &textures, "result_images.png");
    harness.get_by_label("int8: what each class is named: show as table").click();
    harness.run_steps(3);

    harness.get_by_label("Result: Error by layer").click();
    wait(&mut harness, "every layer's error", |h| h.state().bench().result().errors().is_some());
    assert!(has(&harness, "Signal over noise, layer by layer, dB: "));
    picture(&harness, &textures, "result_error.png");
    harness.get_by_label("Result: Time by layer").click();
    wait(&mut harness, "every layer's time", |h| h.state().bench().result().times().is_some());
    assert!(has(&harness, "Time of one image, layer by layer, µs: "));
    picture(&harness, &textures, "result_time.png");

    // The same on the graph.
    harness.get_by_label("Graph").click();
    harness.run_steps(4);
    harness.get_by_label("Cards say: Time").click();
    harness.run_steps(4);
    assert!(has(&harness, "\u{b5}s"), "cards say their times");
    picture(&harness, &textures, "graph_time.png");
    harness.get_by_label("Cards say: Error").click();
    harness.run_steps(4);
    assert!(has(&harness, "dB"), "cards say their errors");
    picture(&harness, &textures, "graph_error.png");
    harness.ctx.set_theme(Theme::Dark);
    harness.get_by_label("Picture").click();
    harness.get_by_label("Picture");
    harness.run_steps(4);
    harness.get_by_label("Result: Images").click();
    harness.run_steps(8);
    picture(&harness, &textures, "result_images_dark.png");
}
