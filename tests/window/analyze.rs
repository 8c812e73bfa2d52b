//! The tab Analyze of the result, by its labels.

use std::time::Duration;

use eframe::egui::Theme;
use egui_kittest::kittest::Queryable;
use octet::app::Window;
use octet::app::choices::Choices;
use octet::session::{CommandKind, Stage, Sweeping};

use crate::screens::{has, wait};
use crate::window::{draw, until};
use crate::{harness, snapshot};

#[test]
fn a_loss_is_found_repaired_and_promised() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut choices = Choices::new(folder.path().to_owned());
    (choices.calibration.batches, choices.calibration.batch) = (8, 8);
    let window = Window::new(choices, || {}).expect("the system gives a thread");
    let (mut harness, textures) = harness([1280.0, 1000.0], Theme::Light, window, draw);
    harness.run();
    harness.get_by_label("Quantize the sample now: Quantize").click();
    until(&mut harness, "all six steps", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    let before = harness.state().view().stage().expect("saved").graph().clone();
    harness.get_by_label("Result: Analyze").click();
    harness.run_steps(3);

    harness.get_by_label("Sweep over layers").click();
    wait(&mut harness, "a first layer", |h| h.state().bench().result().analyze().swept().is_some());
    harness.get_by_label("Cancel");
    wait(&mut harness, "all layers", |h| h.state().bench().result().analyze().swept().is_some_and(Sweeping::is_whole));
    wait(&mut harness, "every image", |h| h.state().bench().result().verdicts().is_some());
    assert!(has(&harness, "The most suspect layers, this one alone quantized: 24 values"));
    assert!(has(&harness, "McNemar's exact test"));
    for _ in 0..10 {
        harness.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    snapshot::part(&harness, &textures, "analyze_where_light", [200, 96, 780, 860]);

    harness.get_by_label("Analyze: Repairs").click();
    harness.run_steps(3);
    harness.get_by_label("Leave in float");
    harness.get_by_label("AdaRound");
    harness.get_by_label("Try observers");
    harness.get_by_label("Equalize").click();
    until(&mut harness, "equalizing", |w| w.view().repairs.len() == 1 && w.view().running.is_none());
    assert!(harness.state().bench().choices.repairs.equalize);
    harness.run_steps(3);
    harness.get_by_label("Correct biases").click();
    until(&mut harness, "correcting", |w| w.view().repairs.len() == 2 && w.view().running.is_none());
    harness.run_steps(3);
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures.picture(&harness).save(std::path::Path::new(&folder).join("analyze_repairs.png")).expect("a picture");
    }
    for left in [1, 0] {
        harness.get_by_label("Undo the last repair").click();
        until(&mut harness, "undoing", |w| w.view().repairs.len() == left && w.view().running.is_none());
        harness.run_steps(3);
    }
    assert_eq!(harness.state().view().stage().expect("saved").graph(), &before);
    assert!(!harness.state().bench().choices.repairs.equalize);
    assert!(!harness.state().view().allows(CommandKind::UndoRepair));

    harness.get_by_label("Analyze: Promise").click();
    harness.run_steps(3);
    harness.get_by_label("Points that may be lost");
    harness.get_by_label("Find the smallest").click();
    wait(&mut harness, "the search's end", |h| h.state().bench().result().analyze().promise().is_some());
    let said = harness.state().bench().result().analyze().promise().expect("ended").in_words();
    assert!(has(&harness, &said));
    assert!(has(&harness, "Accuracy against bytes: "));
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures.picture(&harness).save(std::path::Path::new(&folder).join("analyze_promise.png")).expect("a picture");
    }

    harness.get_by_label("Analyze: Calibration").click();
    harness.run_steps(3);
    harness.get_by_label("Measure").click();
    wait(&mut harness, "all numbers of images", |h| {
        h.state().bench().result().analyze().enough().is_some_and(|e| e.in_words().is_some())
    });
    assert!(has(&harness, "Accuracy against calibration images: choice 1"));
    assert!(has(&harness, "the last doubling brought"));
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures
            .picture(&harness)
            .save(std::path::Path::new(&folder).join("analyze_calibration.png"))
            .expect("a picture");
    }
}
