//! A folder of images that goes away in the middle, files that are deleted while they are open.

use std::fs;
use std::path::Path;

use octet::Int8Model;
use octet::data::{Image, Source};
use octet::session::{
    Calibration, CheckpointFile, Command, Control, Device, Event, FuseOptions, Method, ModelId, QConfig, QatTraining,
    Recipe, Session, SessionError, Step, TrainConfig, TrainEvent, WeightsChoice,
};
use octet::weights;
use tempfile::TempDir;

use crate::jobs::pictures;

const EPOCHS: TrainConfig = TrainConfig {
    epochs: 3,
    batch: 8,
    optimizer: octet::session::Optimizer::AdamW { weight_decay: 0.05 },
    learning_rate: 3e-3,
    warmup: 0.5,
    label_smoothing: 0.0,
    augment: true,
    seed: 0,
};

fn recipe(data: &Path) -> Recipe {
    let mut recipe = Recipe {
        data: Source::Path(data.to_owned()),
        weights: WeightsChoice::Train,
        calibration: Calibration { batches: 6, batch: 8, foresee: false },
        train: EPOCHS,
        threads: 1,
        ..Recipe::new(ModelId::ShuffleNetV2X05)
    };
    recipe.preprocess.size = Some(32);
    recipe
}

/// Applies a command and, at the first event that `when` picks, does `then`.
fn apply_and(
    session: &mut Session,
    command: Command,
    when: impl Fn(&Event) -> bool,
    mut then: impl FnMut(),
) -> Result<(), SessionError> {
    let mut done = false;
    let mut hear = |event: Event| {
        if !done && when(&event) {
            done = true;
            then();
        }
    };
    session.apply(command, &mut hear, &Control::default())
}

fn apply(session: &mut Session, command: Command) {
    session.apply(command, &mut |_| {}, &Control::default()).expect("allowed");
}

fn opened(data: &Path) -> Session {
    let mut session = Session::new(Device::Cpu);
    apply(&mut session, Command::Open(Box::new(recipe(data))));
    apply(&mut session, Command::InsertStubs);
    session
}

/// The folder, as an unplugged disk takes it away: whole, and at once.
fn unplug(data: &Path) {
    fs::rename(data, data.with_extension("elsewhere")).expect("a folder");
}

fn plug(data: &Path) {
    fs::rename(data.with_extension("elsewhere"), data).expect("a folder");
}

fn assert_gone(result: Result<(), SessionError>) {
    match result {
        Err(e @ SessionError::DataGone { .. }) => {
            let said = e.to_string();
            assert!(said.contains("data") && said.contains("no longer there") && !said.contains('\n'), "{said}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_data_folder_that_is_unplugged_while_it_trains_costs_that_epoch() {
    let folder = TempDir::new().expect("a folder");
    let (data, checkpoint) = (folder.path().join("data"), folder.path().join("state.checkpoint"));
    pictures(&data, 20);
    let keep = |resume| Command::KeepCheckpoints(Some(CheckpointFile { path: checkpoint.clone(), resume }));
    let mut session = opened(&data);
    apply(&mut session, keep(false));
    let second = |event: &Event| matches!(event, Event::Training(TrainEvent::Step { epoch: 1, step: 0, .. }));
    assert_gone(apply_and(&mut session, Command::Train(EPOCHS), second, || unplug(&data)));
    // Nothing is half done, and the first epoch is kept.
    assert_eq!(session.stage().expect("a stage").done(), Some(Step::Stubs));
    assert_eq!(weights::read_checkpoint(&checkpoint).expect("whole").document["epochs"], 1);
    plug(&data);
    apply(&mut session, keep(true));
    apply(&mut session, Command::Train(EPOCHS));
    let resumed = session.stage().expect("trained").graph().clone();
    let mut whole = opened(&data);
    apply(&mut whole, Command::Train(EPOCHS));
    assert_eq!(&resumed, whole.stage().expect("trained").graph(), "other weights than without the interruption");
}

#[test]
fn a_data_folder_that_is_unplugged_while_it_calibrates_costs_that_step() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    // More than are read ahead.
    pictures(&data, 60);
    let mut session = opened(&data);
    let one = TrainConfig { epochs: 1, batch: 16, ..EPOCHS };
    for command in [Command::Train(one), Command::Fuse(FuseOptions::default()), Command::Prepare(QConfig::default())] {
        apply(&mut session, command);
    }
    let many = Calibration { batches: 12, batch: 8, foresee: false };
    let first = |event: &Event| matches!(event, Event::Observed { .. });
    assert_gone(apply_and(&mut session, Command::Calibrate(many), first, || unplug(&data)));
    assert_eq!(session.stage().expect("a stage").done(), Some(Step::Prepare));
    plug(&data);
    apply(&mut session, Command::Calibrate(many));
    apply(&mut session, Command::Convert);
    // While the int8 file is measured.
    let out = folder.path().join("a.octet.safetensors");
    unplug(&data);
    let saved = session.apply(Command::Save(out.clone()), &mut |_| {}, &Control::default());
    assert_gone(saved);
    assert_eq!(session.stage().expect("a stage").done(), Some(Step::Convert));
    plug(&data);
    apply(&mut session, Command::Save(out));
}

#[test]
fn a_data_folder_that_is_unplugged_while_it_trains_with_fake_quantization_costs_that_step() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    pictures(&data, 20);
    let mut session = Session::new(Device::Cpu);
    let training = QatTraining { train: EPOCHS, ..QatTraining::default() };
    apply(&mut session, Command::Open(Box::new(Recipe { method: Method::Qat(training), ..recipe(&data) })));
    let one = TrainConfig { epochs: 1, ..EPOCHS };
    for command in [
        Command::InsertStubs,
        Command::Train(one),
        Command::Fuse(FuseOptions::default()),
        Command::Prepare(QConfig::default()),
    ] {
        apply(&mut session, command);
    }
    let second = |event: &Event| matches!(event, Event::Training(TrainEvent::Step { epoch: 1, step: 0, .. }));
    assert_gone(apply_and(&mut session, Command::TrainQat(training), second, || unplug(&data)));
    assert_eq!(session.stage().expect("a stage").done(), Some(Step::Prepare));
}

/// One file that goes is one image less, and is named; it is no reason to stop.
#[test]
fn an_image_that_is_deleted_is_left_out_and_named() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    pictures(&data, 20);
    let mut session = opened(&data);
    fs::remove_file(data.join("red/03.png")).expect("it is there");
    let mut said = Vec::new();
    let mut hear = |event: Event| {
        if let Event::Log(line) = event {
            said.push(line.text);
        }
    };
    session
        .apply(Command::Train(TrainConfig { epochs: 1, ..EPOCHS }), &mut hear, &Control::default())
        .expect("trained");
    assert_eq!(said.iter().filter(|line| line.contains("red/03.png")).count(), 1, "{said:?}");
}

/// A file that was opened is in memory: it may go, and what was read of it stays as it was.
#[test]
fn files_that_are_deleted_while_they_are_open_cost_nothing() {
    let folder = TempDir::new().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("a.octet.safetensors"));
    pictures(&data, 20);
    let trained = folder.path().join("w.safetensors");
    let mut session = opened(&data);
    apply(&mut session, Command::Train(TrainConfig { epochs: 1, ..EPOCHS }));
    octet::session::save_float(&trained, session.stage().expect("trained").graph(), false).expect("room on the disk");
    let mut session = opened(&data);
    apply(&mut session, Command::LoadWeights(trained.clone()));
    // The weights' file goes after it was read.
    fs::remove_file(&trained).expect("it is there");
    for command in [
        Command::Fuse(FuseOptions::default()),
        Command::Prepare(QConfig::default()),
        Command::Calibrate(Calibration { batches: 2, batch: 8, foresee: false }),
        Command::Convert,
        Command::Save(out.clone()),
    ] {
        apply(&mut session, command);
    }
    let picture = Image::open(&data.join("red/00.png")).expect("a picture");
    let mut model = Int8Model::open(&out).expect("our own file");
    let before = model.run(&picture).expect("logits");
    fs::remove_file(&out).expect("it is there");
    assert_eq!(model.run(&picture).expect("logits"), before);
    // The session writes it again.
    apply(&mut session, Command::BackTo(Step::Calibrate));
    apply(&mut session, Command::Convert);
    apply(&mut session, Command::Save(out.clone()));
    assert_eq!(Int8Model::open(&out).expect("our own file").run(&picture).expect("logits"), before);
    // And where the weights are asked for again, they are missed by their name.
    let error = session
        .apply(Command::BackTo(Step::Stubs), &mut |_| {}, &Control::default())
        .and_then(|()| session.apply(Command::LoadWeights(trained.clone()), &mut |_| {}, &Control::default()));
    assert!(error.expect_err("it is gone").to_string().contains("w.safetensors"));
}
