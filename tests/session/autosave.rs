//! A session that ends, by being closed or by dying, is gone on with at the same step.

use std::path::Path;

use octet::session::{
    Calibration, Command, Control, Device, Event, FuseOptions, Method, Project, QConfig, QatTraining, Session, Stage,
    Step, TrainConfig, TrainEvent, Unfinished, View, WeightsOrigin,
};
use tempfile::TempDir;

use crate::{apply, command_of, recipe};

fn session(folder: &Path) -> Session {
    Session::new(Device::Cpu).in_project(Project::new(folder)).autosaving()
}

fn kept(folder: &Path) -> Unfinished {
    Project::new(folder).unfinished().expect("it can be read").expect("there is one")
}

/// A new session that goes on where the last one was.
fn gone_on(folder: &Path) -> (Session, View) {
    let (mut next, mut view) = (session(folder), View::default());
    apply(&mut next, &mut view, Command::Continue(Box::new(kept(folder)))).expect("it goes on");
    (next, view)
}

#[test]
fn after_each_step_a_new_session_is_at_the_same_one() {
    let folder = TempDir::new().expect("a folder");
    assert_eq!(Project::new(folder.path()).unfinished().expect("nothing is wrong"), None);
    let (mut first, mut view) = (session(folder.path()), View::default());
    apply(&mut first, &mut view, Command::Open(Box::new(recipe()))).expect("the sample opens");
    for step in Step::ALL {
        apply(&mut first, &mut view, command_of(step)).unwrap_or_else(|e| panic!("{}: {e}", step.title()));
        let (_, next) = gone_on(folder.path());
        let (before, after) = (view.stage().expect("a stage"), next.stage().expect("a stage"));
        assert_eq!((after.done(), after.graph()), (Some(step), before.graph()), "{}", step.title());
        assert_eq!(next.recipe, view.recipe);
    }
    // Saved and measured, it is so again, and is no second run.
    let out = folder.path().join("a.octet.safetensors");
    apply(&mut first, &mut view, Command::Save(out.clone())).expect("saved");
    let bytes = std::fs::read(&out).expect("a file");
    let (mut next, mut again) = gone_on(folder.path());
    assert!(matches!(again.stage().map(AsRef::as_ref), Some(Stage::Saved { .. })));
    assert!(std::fs::read(&out).expect("a file") == bytes);
    assert_eq!(Project::new(folder.path()).runs().expect("a list").0.len(), 1);
    // What is undone is undone.
    apply(&mut next, &mut again, Command::BackTo(Step::Fuse)).expect("undone");
    assert_eq!(kept(folder.path()).done, Some(Step::Fuse));
    // In another folder it is kept from the start.
    let other = folder.path().join("other");
    apply(&mut next, &mut again, Command::UseProject(other.clone())).expect("another folder");
    assert_eq!((kept(&other).done, kept(&other).recipe), (Some(Step::Fuse), recipe()));
}

#[test]
fn what_was_trained_is_read_and_not_trained_again() {
    let folder = TempDir::new().expect("a folder");
    let (mut first, mut view) = (session(folder.path()), View::default());
    let mut chosen = recipe();
    let mut training = QatTraining::default();
    training.train.epochs = 1;
    chosen.method = Method::Qat(training);
    let train = TrainConfig { epochs: 1, ..chosen.train };
    for command in [
        Command::Open(Box::new(chosen)),
        Command::InsertStubs,
        Command::Train(train),
        Command::Fuse(FuseOptions::default()),
        Command::Prepare(QConfig::default()),
        Command::TrainQat(training),
    ] {
        apply(&mut first, &mut view, command).expect("allowed");
    }
    let (_, next) = gone_on(folder.path());
    assert!(next.training.is_empty() && next.qat.is_empty(), "it trained again");
    for step in [Step::Weights, Step::Calibrate] {
        let (before, after) = (view.stage_of(step).expect("there"), next.stage_of(step).expect("there"));
        assert_eq!(after.graph(), before.graph(), "{}", step.title());
        match (before.as_ref(), after.as_ref()) {
            (Stage::Weighted { origin: a, accuracy: b, .. }, Stage::Weighted { origin, accuracy, .. }) => {
                assert_eq!((origin, accuracy), (a, b));
                assert_eq!(*origin, WeightsOrigin::Trained { epochs: 1, stopped: false });
            }
            (Stage::Trained { fake_quants: a, accuracy: b, .. }, Stage::Trained { fake_quants, accuracy, .. }) => {
                assert_eq!((fake_quants, accuracy), (a, b));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_training_that_was_cut_short_goes_on_after_its_last_epoch() {
    let folder = TempDir::new().expect("a folder");
    let config = TrainConfig { epochs: 3, ..TrainConfig::default() };
    let (mut first, mut view) = (session(folder.path()), View::default());
    apply(&mut first, &mut view, Command::Open(Box::new(recipe()))).expect("the sample opens");
    apply(&mut first, &mut view, Command::InsertStubs).expect("stubs");
    // The program dies in the second epoch: nothing is told to anybody any more.
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let watch = &mut |event: Event| {
            if let Event::Training(TrainEvent::Step { epoch: 1, .. }) = event {
                panic!("the end");
            }
        };
        drop(first.apply(Command::Train(config), watch, &Control::default()));
    }));
    assert!(died.is_err());
    let note = kept(folder.path());
    assert_eq!((note.done, note.training), (Some(Step::Stubs), Some(1)));
    let (_, next) = gone_on(folder.path());
    let epochs: Vec<usize> = next
        .training
        .iter()
        .filter_map(|e| if let TrainEvent::Epoch(report) = e { Some(report.epoch) } else { None })
        .collect();
    assert_eq!(epochs, [1, 2], "the first epoch is not trained again");

    // To the same weights as without the end.
    let (mut whole, mut beside) = (Session::new(Device::Cpu), View::default());
    for command in [Command::Open(Box::new(recipe())), Command::InsertStubs, Command::Train(config)] {
        apply(&mut whole, &mut beside, command).expect("allowed");
    }
    assert_eq!(next.stage().expect("trained").graph(), beside.stage().expect("trained").graph());
    assert_eq!(kept(folder.path()).training, None);
}

#[test]
fn what_is_no_session_is_named_and_what_cannot_be_kept_costs_nothing() {
    let folder = TempDir::new().expect("a folder");
    let note = folder.path().join("session/session.json");
    std::fs::create_dir(folder.path().join("session")).expect("a folder");
    for text in ["", "{}", "{\"format\": \"octet-run\"}"] {
        std::fs::write(&note, text).expect("a file");
        let error = Project::new(folder.path()).unfinished().expect_err("refused").to_string();
        assert!(error.contains("session.json"), "{error}");
    }
    // A file where the folder should be.
    let (mut session, mut view) = (session(&note), View::default());
    apply(&mut session, &mut view, Command::Open(Box::new(recipe()))).expect("it opens all the same");
    apply(&mut session, &mut view, Command::InsertStubs).expect("and goes on");
    let warned = view.log.iter().filter(|l| l.text.contains("The session is not kept as it goes"));
    assert_eq!(warned.count(), 1, "said once");
}

#[test]
fn keeping_the_session_costs_a_step_next_to_nothing() {
    let folder = TempDir::new().expect("a folder");
    let (mut session, mut view) = (session(folder.path()), View::default());
    apply(&mut session, &mut view, Command::Open(Box::new(recipe()))).expect("the sample opens");
    apply(&mut session, &mut view, command_of(Step::Stubs)).expect("stubs");
    let size = std::fs::metadata(folder.path().join("session/session.json")).expect("a note").len();
    assert!(size < 10_000, "{size} bytes");
    let files = std::fs::read_dir(folder.path().join("session")).expect("a folder").count();
    assert_eq!(files, 1, "parameters are kept only where they were trained");
}

/// What the screens have chosen is what *Run all* runs, also where a step was run otherwise.
#[test]
fn what_is_chosen_is_what_runs() {
    let (mut session, mut view) = crate::after(Some(Step::Calibrate));
    let mut chosen = recipe();
    // Nothing differs: nothing is undone.
    apply(&mut session, &mut view, Command::Choose(Box::new(chosen.clone()))).expect("the same");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Calibrate));
    chosen.calibration = Calibration { batches: 3, batch: 16, foresee: true };
    apply(&mut session, &mut view, Command::Choose(Box::new(chosen.clone()))).expect("more images");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Prepare));
    chosen.qconfig = QConfig::new(octet::session::Backend::Qnnpack);
    apply(&mut session, &mut view, Command::Choose(Box::new(chosen.clone()))).expect("another qconfig");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Fuse));
    chosen.unfused.insert("conv1.0".to_owned());
    apply(&mut session, &mut view, Command::Choose(Box::new(chosen.clone()))).expect("another fusion");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Weights));
    let folder = TempDir::new().expect("a folder");
    apply(&mut session, &mut view, Command::RunAll(folder.path().join("a.octet.safetensors"))).expect("run");
    let recipe = view.recipe.clone().expect("a recipe");
    assert_eq!((&recipe.qconfig, &recipe.unfused), (&chosen.qconfig, &chosen.unfused));
    assert_eq!((recipe.calibration.batches, view.observed_images), (3, 48));
    // The other method undoes what was fused for this one.
    chosen.method = Method::Qat(QatTraining::default());
    apply(&mut session, &mut view, Command::Choose(Box::new(chosen))).expect("the other method");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Weights));
}
