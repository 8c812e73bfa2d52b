//! The tutorial by its labels: both paths from the first card to the last lesson.

use std::path::Path;
use std::time::{Duration, Instant};

use eframe::egui::{Theme, Ui};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use octet::app::Window;
use octet::app::memory::Memory;
use octet::app::tutorial::Lesson;
use octet::session::{Stage, Step};

use crate::raster::Textures;
use crate::snapshot;
use crate::window::{open, until};

/// A window whose training takes an epoch, at its first start.
fn fresh(size: [f32; 2], look: Theme, folder: &Path) -> (Harness<'static, Window>, Textures) {
    let (mut harness, textures) = open(size, look, folder);
    harness.run();
    (harness, textures)
}

fn has(harness: &Harness<'_, Window>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

fn click(harness: &mut Harness<'_, Window>, label: &str) {
    let node = harness.get_by_label(label);
    node.scroll_to_me();
    harness.run_steps(2);
    harness.get_by_label(label).click();
    harness.run_steps(3);
}

fn picture(harness: &Harness<'_, Window>, textures: &Textures, name: &str) {
    if let Some(folder) = std::env::var_os("PICTURES") {
        textures.picture(harness).save(Path::new(&folder).join(name)).expect("a picture");
    }
}

fn lesson(harness: &Harness<'_, Window>) -> &'static Lesson {
    harness.state().bench().tutorial.lesson().expect("a lesson is open")
}

/// Draws until *Do it for me* has nothing left to press and the lesson is done.
fn until_done(harness: &mut Harness<'_, Window>) {
    let key = lesson(harness).key();
    let start = Instant::now();
    loop {
        harness.step();
        let window = harness.state();
        if !window.bench().tutorial.is_busy() && window.view().running.is_none() {
            break;
        }
        let log = window.view().log.last();
        assert!(start.elapsed() < Duration::from_secs(240), "{key} is not done after four minutes: {log:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(3);
    let verdict = lesson(harness).check.judge(harness.state().view());
    assert!(verdict.is_ok(), "{key}: {verdict:?}");
    assert!(has(harness, "Done: "), "{key} says that it is done");
    assert!(harness.query_by_label("Do it for me").is_none(), "{key}: nothing is left to do");
}

/// Guesses or skips what is asked, so that the task may begin.
fn guess(harness: &mut Harness<'_, Window>) {
    for (i, predict) in lesson(harness).predict.iter().enumerate() {
        assert!(has(harness, "First a guess"), "the task waits for the guess");
        assert!(!has(harness, "measured"), "nothing is told before it is guessed");
        let word = if i == 0 { "Guess" } else { "Skip guessing" };
        click(harness, &format!("{word} {}", predict.measure.key()));
    }
}

/// One lesson, done for the learner.
fn have_it_done(harness: &mut Harness<'_, Window>) {
    let key = lesson(harness).key();
    assert!(has(harness, "Not done: "), "{key} is done before anything was");
    guess(harness);
    click(harness, "Do it for me");
    until_done(harness);
    // Every number of the formula is there now.
    assert!(!has(harness, "The numbers of your own layer come here"), "{key}");
    for predict in &lesson(harness).predict {
        assert!(predict.measure.found(harness.state().view()).is_some(), "{key}: {:?} is measured", predict.measure);
    }
}

#[test]
fn the_first_path_from_the_first_card_to_the_last_lesson() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = fresh([1280.0, 800.0], Theme::Dark, folder.path());
    click(&mut harness, "Take the tutorial: Start");
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    picture(&harness, &textures, "learn.png");
    snapshot::matches(&harness, &textures, "learn_dark");
    click(&mut harness, "First method: PTQ: Begin");
    assert_eq!(lesson(&harness).key(), "ptq-1");

    // The first task by the workbench's own button.
    assert!(has(&harness, "Not done: The model is open; its stubs are not inserted yet."));
    picture(&harness, &textures, "lesson_1.png");
    click(&mut harness, "Insert stubs");
    until(&mut harness, "stubs", |w| w.view().stage_of(Step::Stubs).is_some());
    assert!(has(&harness, "1 QuantStub and 1 DeQuantStub stand in the graph."));
    click(&mut harness, "Next lesson");
    for step in 2..=6 {
        assert_eq!(lesson(&harness).key(), format!("ptq-{step}"));
        have_it_done(&mut harness);
        assert_eq!(harness.state().bench().step, lesson(&harness).check.step());
        picture(&harness, &textures, &format!("lesson_{step}.png"));
        if step < 6 {
            click(&mut harness, "Next lesson");
        }
    }
    assert!(has(&harness, "\u{d7} smaller."));
    let Some(Stage::Saved { measured, .. }) = harness.state().view().stage().map(AsRef::as_ref) else {
        panic!("saved");
    };
    assert!(measured.file.is_file());
    click(&mut harness, "Finish");
    assert!(has(&harness, "6 of 6 done"));
}

#[test]
fn the_second_path_from_its_card_to_the_last_lesson() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = fresh([1280.0, 800.0], Theme::Light, folder.path());
    click(&mut harness, "Take the tutorial: Start");
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    click(&mut harness, "Second method: QAT: Begin");
    for step in 1..=6 {
        assert_eq!(lesson(&harness).key(), format!("qat-{step}"));
        if step == 2 {
            // By the switch in the bar above.
            assert!(has(&harness, "The method is still PTQ"));
            click(&mut harness, "Method: QAT");
            until(&mut harness, "the method", |w| w.view().recipe.as_ref().is_some_and(|r| !r.method.is_ptq()));
            until_done(&mut harness);
        } else {
            have_it_done(&mut harness);
        }
        picture(&harness, &textures, &format!("qat_{step}.png"));
        if step < 6 {
            click(&mut harness, "Next lesson");
        }
    }
    click(&mut harness, "Finish");
    assert!(has(&harness, "6 of 6 done"));
}

#[test]
fn a_lesson_is_left_and_resumed_at_another_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = fresh([1024.0, 700.0], Theme::Dark, folder.path());
    click(&mut harness, "Take the tutorial: Start");
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    click(&mut harness, "First method: PTQ lesson 3: Fuse, not done");
    click(&mut harness, "Guess sites-fused");
    click(&mut harness, "Leave");
    assert!(has(&harness, "First method: PTQ, lesson 3: Fuse"));
    // What is remembered goes through its file.
    let file = folder.path().join("window.json");
    harness.state().bench().memory.save(&file).expect("the file is written");
    let memory = Memory::load(&file);
    assert_eq!(memory.tutorial, harness.state().bench().memory.tutorial);

    let (mut harness, textures) = {
        let choices = octet::app::choices::Choices::new(folder.path().to_owned());
        let window = Window::new(choices, || {}).expect("the system gives a thread");
        crate::harness([1024.0, 700.0], Theme::Light, window, |ui: &mut Ui, window: &mut Window| {
            window.logic();
            window.ui(ui);
        })
    };
    let ctx = harness.ctx.clone();
    harness.state_mut().remember(&ctx, memory, None);
    harness.run();
    click(&mut harness, "Take the tutorial: Resume");
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    click(&mut harness, "Resume");
    assert_eq!(lesson(&harness).key(), "ptq-3");
    assert!(has(&harness, "guessed") && has(&harness, "10 sites"), "the guess is still there");
    // From an empty start it brings the steps before along.
    click(&mut harness, "Do it for me");
    until_done(&mut harness);
    assert!(has(&harness, "off.") || has(&harness, "Exactly."), "the guess stands beside the measurement");
    picture(&harness, &textures, "resumed_small.png");
    snapshot::matches(&harness, &textures, "lesson_small_light");
}

#[test]
fn every_lesson_is_read_on_a_small_window() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = fresh([640.0, 360.0], Theme::Dark, folder.path());
    click(&mut harness, "Take the tutorial: Start");
    until(&mut harness, "opening", |w| w.view().stage().is_some());
    click(&mut harness, "First method: PTQ: Begin");
    assert!(has(&harness, "Not done: "));
    picture(&harness, &textures, "lesson_narrow.png");
    click(&mut harness, "Show: Workbench");
    harness.get_by_label("Insert stubs");
    assert!(!has(&harness, "Not done: "));
    click(&mut harness, "Show: Lesson");
    assert!(has(&harness, "Not done: "));
    let nodes = harness.root().children().count();
    assert!(nodes > 0);
}
