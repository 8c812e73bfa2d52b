//! What each step leaves, what it refuses, undo and redo.

use octet::graph::{Graph, check};
use octet::session::{
    Calibration, Command, CommandKind, Device, FuseOptions, Method, ModelId, QConfig, QatTraining, Recipe, Session,
    SessionError, Stage, Step, StepState, View,
};
use tempfile::TempDir;

use crate::{after, apply, command_of};

#[test]
fn six_steps_leave_sound_graphs_and_a_rail_that_says_so() {
    let (_, view) = after(Some(Step::Convert));
    for stage in view.stages.iter().flatten() {
        check(stage.graph()).unwrap_or_else(|e| panic!("{:?}: {e}", stage.done()));
    }
    let steps = view.steps();
    assert!(steps.iter().all(|s| s.state == StepState::Done && s.seconds.is_some()), "{steps:?}");
    assert_eq!(steps[Step::Fuse.index()].result.as_deref(), Some("56 fused"));
    assert_eq!(view.observed_images, 32);
    let Some(Stage::Fused { proof, .. }) = view.stage_of(Step::Fuse).map(AsRef::as_ref) else { panic!("no fusion") };
    assert!(proof.relative < 1e-5, "fusion moved the output by {}", proof.relative);
    assert_eq!(view.observers.len(), 74);
    assert!(view.observers.iter().all(|o| o.batches.len() == 2 && o.min <= o.max && !o.histogram.is_empty()));
}

#[test]
fn a_stage_refuses_what_it_does_not_allow_and_loses_nothing() {
    let commands = || {
        vec![
            Command::InsertStubs,
            Command::UseShippedWeights,
            Command::Fuse(FuseOptions::default()),
            Command::Prepare(QConfig::default()),
            Command::Calibrate(Calibration { batches: 1, batch: 8, foresee: false }),
            Command::SetRange("fc".to_owned(), None),
            Command::Convert,
            Command::Save("never-written.octet.safetensors".into()),
        ]
    };
    for step in [None, Some(Step::Stubs), Some(Step::Weights), Some(Step::Prepare), Some(Step::Convert)] {
        let (mut session, mut view) = after(step);
        for command in commands() {
            let kind = command.kind();
            if view.allows(kind) {
                continue;
            }
            let error = apply(&mut session, &mut view, command).expect_err("refused");
            assert!(matches!(error, SessionError::NotAllowed { .. }), "{kind:?} after {step:?}: {error}");
            assert_eq!(view.stage().and_then(|s| s.done()), step);
            assert!(view.failure.as_ref().is_some_and(|(k, _)| *k == kind));
        }
    }
    let error = apply(&mut Session::new(Device::Cpu), &mut View::default(), Command::Convert).expect_err("refused");
    assert!(matches!(error, SessionError::NothingOpen), "{error}");
}

#[test]
fn going_back_undoes_and_the_way_forward_is_the_same() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Convert));
    let save = |name: &str| Command::Save(dir.path().join(name));
    apply(&mut session, &mut view, save("a")).expect("saved");
    apply(&mut session, &mut view, Command::BackTo(Step::Weights)).expect("back");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Weights));
    assert!(view.stage_of(Step::Fuse).is_none() && view.observers.is_empty());
    // What was found is not lost sight of.
    for step in [Step::Fuse, Step::Prepare, Step::Calibrate, Step::Convert] {
        assert_eq!(view.steps()[step.index()].state, StepState::Stale, "{}", step.title());
    }
    assert_eq!(view.steps()[Step::Fuse.index()].result.as_deref(), Some("56 fused"));
    assert!(!view.allows(CommandKind::Prepare), "fusing comes first");
    let was = view.as_it_was(Step::Calibrate).expect("a stale result");
    assert_eq!((was.observers.len(), was.observed_images), (74, 32));
    assert!(was.stage_of(Step::Convert).is_none() && was.stage().and_then(|s| s.done()) == Some(Step::Calibrate));
    for step in [Step::Fuse, Step::Prepare, Step::Calibrate, Step::Convert] {
        apply(&mut session, &mut view, command_of(step)).expect("forward again");
    }
    apply(&mut session, &mut view, save("b")).expect("saved");
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("a file");
    assert!(read("a") == read("b"));
    assert!(view.steps().iter().all(|s| s.state == StepState::Done));
}

#[test]
fn what_was_undone_comes_back_as_it_was() {
    let (mut session, mut view) = after(Some(Step::Convert));
    let before = view.clone();
    for step in [Step::Calibrate, Step::Prepare, Step::Fuse] {
        apply(&mut session, &mut view, Command::BackTo(step)).expect("back");
    }
    assert_eq!(view.undone(), 3);
    while view.allows(CommandKind::Redo) {
        apply(&mut session, &mut view, Command::Redo).expect("forward");
    }
    for (a, b) in view.stages.iter().zip(&before.stages) {
        assert!(std::sync::Arc::ptr_eq(a.as_ref().expect("a stage"), b.as_ref().expect("a stage")));
    }
    assert_eq!((view.steps(), &view.observers, &view.recipe), (before.steps(), &before.observers, &before.recipe));
    let error = apply(&mut session, &mut view, Command::Redo).expect_err("nothing is undone");
    assert!(matches!(error, SessionError::NothingUndone), "{error}");
}

#[test]
fn another_choice_ends_the_way_forward_and_keeps_the_old_result_in_sight() {
    let (mut session, mut view) = after(Some(Step::Convert));
    apply(&mut session, &mut view, Command::BackTo(Step::Fuse)).expect("back");
    let qconfig: QConfig = "qnnpack".parse().expect("a qconfig");
    apply(&mut session, &mut view, Command::Prepare(qconfig)).expect("prepared otherwise");
    assert!(!view.allows(CommandKind::Redo) && view.undone() == 0);
    let states = view.steps().map(|s| s.state);
    assert_eq!(states[3..], [StepState::Done, StepState::Stale, StepState::Stale]);
    // The old calibration stands over the old observers, not over the new ones.
    let was = view.as_it_was(Step::Calibrate).expect("a stale result");
    let levels = |graph: &Graph| {
        graph.nodes.iter().find_map(|n| match &n.numeric {
            octet::graph::Numeric::Observed(spec) => Some(spec.quant_max),
            _ => None,
        })
    };
    assert_eq!(levels(was.stage_before(Step::Calibrate).expect("prepared").graph()), Some(127));
    assert_eq!(levels(view.stage_of(Step::Prepare).expect("prepared").graph()), Some(255));
    apply(&mut session, &mut view, command_of(Step::Calibrate)).expect("calibrated");
    assert_eq!(view.steps()[Step::Calibrate.index()].state, StepState::Done);
    assert!(view.as_it_was(Step::Calibrate).is_none());
    // Nor is what one method led to brought back into the other.
    apply(&mut session, &mut view, Command::BackTo(Step::Fuse)).expect("back");
    assert!(view.allows(CommandKind::Redo));
    apply(&mut session, &mut view, Command::ChooseMethod(Method::Qat(QatTraining::default()))).expect("chosen");
    assert!(!view.allows(CommandKind::Redo));
    let error = apply(&mut session, &mut view, Command::Redo).expect_err("it is of the other method");
    assert!(matches!(error, SessionError::NothingUndone), "{error}");
    // Another model has no results yet.
    apply(&mut session, &mut view, Command::Open(Box::new(Recipe::new(ModelId::ResNet18)))).expect("opened");
    assert!(view.steps().iter().all(|s| s.state != StepState::Stale && s.result.is_none()));
}
