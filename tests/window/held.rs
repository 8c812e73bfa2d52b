//! What the window holds against: a panic below it, fingers that are too quick, a cancel that something comes after.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eframe::egui::{Key, Modifiers, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use octet::app::Window;
use octet::app::choices::Choices;
use octet::session::{CommandKind, Stage, Step};

use crate::frame::finished;
use crate::harness;
use crate::screens::has;
use crate::window::{done, draw, open, until, walk_to};

/// A window whose worker panics once: when it next tells something after `armed` was set.
fn planted(folder: &Path) -> (Harness<'static, Window>, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let bomb = armed.clone();
    let mut choices = Choices::new(folder.to_owned());
    (choices.calibration.batches, choices.calibration.batch, choices.calibration.foresee) = (150, 8, false);
    let wake = move || assert!(!bomb.swap(false, Ordering::SeqCst), "planted by the test");
    let window = Window::new(choices, wake).expect("the system gives a thread");
    (harness([1280.0, 1000.0], Theme::Dark, window, draw).0, armed)
}

/// Draws until something holds, however short it lasts.
fn catch(harness: &mut Harness<'static, Window>, what: &str, holds: impl Fn(&Window) -> bool) {
    let start = Instant::now();
    while !holds(harness.state()) {
        harness.step();
        assert!(start.elapsed() < Duration::from_secs(120), "{what}: {:?}", harness.state().view().log.last());
    }
}

fn saved(window: &Window) -> bool {
    matches!(window.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. }))
}

#[test]
fn a_panic_of_the_worker_is_told_and_costs_no_step_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, armed) = planted(folder.path());
    walk_to(&mut harness, Step::Prepare);
    harness.get_by_label("Prepare").click();
    until(&mut harness, "preparing", |w| done(w, Step::Prepare));
    harness.get_by_label("Continue to Calibrate").click();
    harness.run_steps(2);
    harness.get_by_label("Calibrate").click();
    catch(&mut harness, "a first batch", |w| w.view().observed_images > 0);
    armed.store(true, Ordering::SeqCst);
    until(&mut harness, "the panic", |w| w.view().failure.is_some());
    // On the screen where the work was asked for, with what happened.
    assert!(has(&harness, "Octet itself failed (planted by the test"));
    assert!(has(&harness, "your work up to here is kept"));
    assert_eq!(harness.state().view().failure.as_ref().map(|f| f.0), Some(CommandKind::Calibrate));
    assert!(done(harness.state(), Step::Prepare) && !done(harness.state(), Step::Calibrate));
    // It is as before the step: the same button does it, and what follows.
    harness.get_by_label("Calibrate").click();
    until(&mut harness, "calibrating", |w| done(w, Step::Calibrate));
    assert!(!has(&harness, "Octet itself failed (planted by the test); your work up to here is kept: "));
    harness.get_by_label("Run all").click();
    until(&mut harness, "saving", saved);
    assert!(folder.path().join("session/session.json").is_file(), "it is still kept as it goes");
}

#[test]
fn a_panic_within_a_repair_takes_the_repair_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, armed) = planted(folder.path());
    harness.run();
    harness.get_by_label("Quantize the sample now: Quantize").click();
    until(&mut harness, "all six steps", saved);
    let before = harness.state().view().stage().expect("saved").clone();
    harness.get_by_label("Result: Analyze").click();
    harness.run_steps(2);
    harness.get_by_label("Analyze: Repairs").click();
    harness.run_steps(3);
    harness.get_by_label("Equalize").click();
    catch(&mut harness, "the repair's steps", |w| w.view().observed_images > 0 && !saved(w));
    armed.store(true, Ordering::SeqCst);
    until(&mut harness, "the panic", |w| w.view().failure.is_some());
    let view = harness.state().view();
    assert!(Arc::ptr_eq(view.stage().expect("saved"), &before), "what was saved stands again");
    assert!(view.repairs.is_empty() && view.recipe.as_ref().is_some_and(|r| !r.repairs.equalize));
    harness.run_steps(2);
    harness.get_by_label("Equalize").click();
    until(&mut harness, "equalizing", |w| w.view().repairs.len() == 1);
}

#[test]
fn quick_fingers_ask_for_a_step_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = finished([1280.0, 800.0], Theme::Dark, folder.path());
    for _ in 0..3 {
        harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    }
    harness.run_steps(2);
    until(&mut harness, "undoing", |w| w.view().stage().and_then(|s| s.done()) < Some(Step::Convert));
    let view = harness.state().view();
    assert!(view.failure.is_none(), "{:?}", view.failure);
    assert!(!view.log.iter().any(|l| l.text.starts_with("cannot ")), "{:?}", view.log.last());
}

#[test]
fn what_is_out_of_date_offers_nothing_that_would_be_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = finished([1280.0, 1000.0], Theme::Dark, folder.path());
    harness.get_by_label("Result: Analyze").click();
    harness.run_steps(2);
    harness.get_by_label("Analyze: Repairs").click();
    harness.run_steps(3);
    assert!(!harness.get_by_label("Equalize").accesskit_node().is_disabled());
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "undoing", |w| w.view().stage().and_then(|s| s.done()) == Some(Step::Calibrate));
    assert!(has(&harness, "An earlier step was changed"));
    assert!(harness.get_by_label("Equalize").accesskit_node().is_disabled());
}

#[test]
fn what_is_halted_says_so_until_it_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut choices = Choices::new(folder.path().to_owned());
    choices.train.epochs = 1000;
    let window = Window::new(choices, || {}).expect("the system gives a thread");
    let (mut harness, _) = harness([1280.0, 1000.0], Theme::Dark, window, draw);
    walk_to_training(&mut harness);
    harness.get_by_label("Pause").click();
    harness.run_steps(2);
    harness.get_by_label("Resume");
    // Nothing that is asked for in the meantime sets it going again.
    assert!(harness.query_by_label("Pause").is_none());
    harness.get_by_label("Resume").click();
    let seen = harness.state().view().training.len();
    catch(&mut harness, "going on", |w| w.view().training.len() > seen + 1);
    harness.get_by_label("Pause").click();
    harness.run_steps(2);
    harness.key_press(Key::Escape);
    until(&mut harness, "cancelling", |_| true);
    assert!(harness.query_by_label("Resume").is_none() && harness.query_by_label("Pause").is_none());
}

fn walk_to_training(harness: &mut Harness<'static, Window>) {
    harness.run();
    harness.get_by_label("Walk the six steps: Begin").click();
    until(harness, "opening", |w| w.view().stage().is_some());
    harness.key_press(Key::R);
    until(harness, "stubs", |w| done(w, Step::Stubs));
    harness.key_press(Key::Num2);
    harness.run_steps(3);
    harness.get_by_label("Start training").click_accesskit();
    catch(harness, "training", |w| !w.view().training.is_empty());
}

#[test]
fn a_window_that_opens_offers_its_dialogs_to_whoever_stands_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let (harness, _) = open([1280.0, 800.0], Theme::Light, folder.path());
    let window = harness.into_state().asking(|field| Some(format!("/picked for {}", field.title()).into()));
    let (mut harness, _) = crate::harness([1280.0, 800.0], Theme::Light, window, draw);
    harness.run();
    harness.get_by_label("Open my model: Choose").click();
    harness.run_steps(3);
    harness.get_by_label("Image folder: browse").click();
    catch(&mut harness, "the dialog's answer", |w| !w.bench().choices.data.is_empty());
    assert_eq!(harness.state().bench().choices.data, "/picked for Choose a folder of images\u{2026}");
}
