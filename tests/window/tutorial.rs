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
    harness.get_by_label(label).scroll_to_me();
    harness.run_steps(4);
    // The pointer comes from elsewhere, where it may have opened what explains a word.
    harness.get_by_label(label).hover();
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
    let mut idle = 0;
    loop {
        harness.step();
        let window = harness.state();
        // Between two commands nothing runs for a moment.
        idle = if window.bench().tutorial.is_busy() || window.view().running.is_some() { 0 } else { idle + 1 };
        if idle > 100 {
            break;
        }
        let log = window.view().log.last();
        assert!(start.elapsed() < Duration::from_secs(240), "{key} is not done after four minutes: {log:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(3);
    let verdict = lesson(harness).check.judge(harness.state().view(), &harness.state().bench().memory.tutorial);
    assert!(verdict.is_ok(), "{key}: {verdict:?}");
    assert!(has(harness, "Done: "), "{key} says that it is done");
    let last = lesson(harness).path.lessons().count() == lesson(harness).step;
    assert_eq!(crate::lead::leading(harness), [if last { "Finish" } else { "Next lesson" }], "{key}");
    assert!(harness.query_by_label("Do it for me").is_none(), "{key}: nothing is left to do");
}

/// Guesses or skips what is asked, so that the task may begin.
fn guess(harness: &mut Harness<'_, Window>) {
    for (i, predict) in lesson(harness).predict.iter().enumerate() {
        assert!(has(harness, "First a guess"), "the task waits for the guess");
        assert!(i > 0 || harness.query_by_label("measured").is_none(), "nothing is told before it is guessed");
        let word = if i == 0 { "Guess" } else { "Skip guessing" };
        click(harness, &format!("{word} {}", predict.measure.key()));
    }
}

/// One lesson, done for the learner.
fn have_it_done(harness: &mut Harness<'_, Window>) {
    let key = lesson(harness).key();
    assert!(has(harness, "Not done: "), "{key} is done before anything was");
    guess(harness);
    let asked = lesson(harness).predict.len();
    let told = harness.query_all_by_label("not yet").count();
    assert_eq!(told, asked, "{key}: what was measured before is of something else");
    click(harness, "Do it for me");
    until_done(harness);
    assert!(harness.query_by_label("not yet").is_none(), "{key}: now it is told");
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
    for done in ["Lesson 1: Load the model, with stubs, done", "Lesson 2: Train, or load trained weights, done"] {
        harness.get_by_label(done);
    }
    harness.get_by_label("Lesson 4: Prepare: choose what is watched, not done");
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

/// Draws until nothing is pressed or runs any more.
fn until_idle(harness: &mut Harness<'_, Window>) {
    let start = Instant::now();
    while harness.state().bench().tutorial.is_busy() || harness.state().view().running.is_some() {
        harness.step();
        assert!(start.elapsed() < Duration::from_secs(240), "nothing ends: {:?}", harness.state().view().log.last());
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(3);
}

#[test]
fn the_finales_from_first_to_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = fresh([1440.0, 900.0], Theme::Dark, folder.path());
    click(&mut harness, "Take the tutorial: Start");
    until(&mut harness, "opening", |w| w.view().stage().is_some());

    click(&mut harness, "Finale: break it, repair it: Begin");
    guess(&mut harness);
    click(&mut harness, "Open the planted model");
    until_idle(&mut harness);
    let recipe = harness.state().view().recipe.clone().expect("open");
    assert_eq!(recipe.model, octet::session::ModelId::MobileNetV3Small);
    assert!(has(&harness, "Not done: "), "opened is not broken yet");
    click(&mut harness, "Do it for me");
    until_done(&mut harness);
    picture(&harness, &textures, "break_1.png");
    for step in 2..=3 {
        click(&mut harness, "Next lesson");
        assert_eq!(lesson(&harness).key(), format!("break-{step}"));
        have_it_done(&mut harness);
        picture(&harness, &textures, &format!("break_{step}.png"));
    }
    click(&mut harness, "Finish");

    click(&mut harness, "Finale: one layer back to float: Begin");
    have_it_done(&mut harness);
    picture(&harness, &textures, "budget.png");
    click(&mut harness, "Finish");

    click(&mut harness, "Finale: the dead range: Begin");
    guess(&mut harness);
    click(&mut harness, "Plant a wrong range");
    until_idle(&mut harness);
    assert!(has(&harness, "Not done: "), "planted is not measured yet");
    // The workbench's own button.
    click(&mut harness, "Run all");
    until_idle(&mut harness);
    until_done(&mut harness);
    click(&mut harness, "Next lesson");
    assert!(has(&harness, "Not done: The wrong range is still set."));
    picture(&harness, &textures, "range_2.png");
    click(&mut harness, "Do it for me");
    until_done(&mut harness);
    click(&mut harness, "Finish");
    picture(&harness, &textures, "learn_finished.png");
    assert!(has(&harness, "3 of 3 done") && has(&harness, "2 of 2 done"));
}

#[test]
fn a_word_explains_itself_wherever_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = fresh([1280.0, 800.0], Theme::Dark, folder.path());
    click(&mut harness, "Quantize the sample now: Quantize");
    until(&mut harness, "all steps", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    for (step, label, meaning) in [
        (Step::Prepare, "Observer", "What notes the range of a layer's output"),
        (Step::Calibrate, "zero point", "The level that stands for 0"),
        (Step::Calibrate, "SQNR", "Signal over quantization noise"),
        (Step::Fuse, "Which layers become one?", ""),
    ] {
        let key = [eframe::egui::Key::Num3, eframe::egui::Key::Num4, eframe::egui::Key::Num5]
            [step.index() - Step::Fuse.index()];
        harness.key_press(key);
        harness.run_steps(4);
        harness.get_all_by_label(label).next().expect("the word stands there").scroll_to_me();
        harness.run_steps(4);
        harness.get_all_by_label(label).next().expect("the word stands there").hover();
        harness.run_steps(8);
        assert!(meaning.is_empty() || has(&harness, meaning), "{label} on {step:?}");
        if label == "SQNR" {
            picture(&harness, &textures, "term.png");
        }
    }
}

#[test]
fn what_is_played_with_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, textures) = fresh([1280.0, 1400.0], Theme::Light, folder.path());
    click(&mut harness, "Quantize the sample now: Quantize");
    until(&mut harness, "all steps", |w| matches!(w.view().stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    click(&mut harness, "Learn");

    // Two bits have four levels.
    click(&mut harness, "First method: PTQ lesson 1: Load the model, with stubs, not done");
    settle(&mut harness, "Bits of the line: 2");
    picture(&harness, &textures, "play_line.png");
    let right = harness.get_by_label("Next lesson").rect().right();
    assert!(right <= 1280.0, "the lesson stays within its panel: {right}");
    click(&mut harness, "Bits of the line: 2");
    assert!(has(&harness, "rounding error"));
    // The first level moves by arrow keys, and the scale with it.
    let scale = |h: &Harness<'_, Window>| h.get_by_label("First level").accesskit_node().numeric_value();
    let before = scale(&harness).expect("a scale");
    harness.get_by_label("First level").focus();
    harness.run_steps(2);
    harness.key_press(eframe::egui::Key::ArrowLeft);
    harness.run_steps(3);
    assert!(scale(&harness).expect("a scale") > before, "the comb is wider");

    click(&mut harness, "Lesson 3: Fuse, not done");
    settle(&mut harness, "apart");
    assert!(has(&harness, "Both end at "));
    picture(&harness, &textures, "play_fold.png");

    click(&mut harness, "Lesson 4: Prepare: choose what is watched, not done");
    settle(&mut harness, "A scale of its own");
    picture(&harness, &textures, "play_channel.png");

    click(&mut harness, "Lesson 5: Calibrate, not done");
    settle(&mut harness, "clipping error");
    picture(&harness, &textures, "play_clip.png");

    click(&mut harness, "Lesson 6: Convert and save, not done");
    settle(&mut harness, "All products");
    click(&mut harness, "All products");
    assert!(has(&harness, "The engine computed ") && has(&harness, " too."), "by hand it is what the engine computed");
    picture(&harness, &textures, "play_dot.png");

    click(&mut harness, "Leave");
    click(&mut harness, "Second method: QAT lesson 5: Train with fake quantization, not done");
    settle(&mut harness, "One step");
    for _ in 0..3 {
        click(&mut harness, "One step");
    }
    picture(&harness, &textures, "play_through.png");
    assert!(has(&harness, "gradient, weight"));
}

/// Draws until what a probe works on is there.
fn settle(harness: &mut Harness<'_, Window>, label: &str) {
    let start = Instant::now();
    while !has(harness, label) {
        harness.step();
        assert!(start.elapsed() < Duration::from_secs(60), "`{label}` is not there after a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.run_steps(3);
}
