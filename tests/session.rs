//! The session as both faces drive it: the six steps, undo, refusal, cancel, and the worker thread.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use octet::exec::float::Model;
use octet::graph::{Graph, Op, Tensor, check};
use octet::session::{
    ActivationSpec, Calibration, CheckpointFile, Command, CommandKind, Confusion, Control, Device, Event, FuseOptions,
    Method, ModelConfig, ModelId, ObserverKind, ObserverView, Pair, Project, QConfig, QatTraining, Range, Recipe,
    SampleScore, Scheme, Session, SessionError, Stage, Step, StepState, Study, TrainConfig, View, WeightSpec,
    WeightsOrigin, WhatIf, Worker, layer_costs,
};
use tempfile::TempDir;

/// Applies a command and keeps the view that a window would have.
fn apply(session: &mut Session, view: &mut View, command: Command) -> Result<(), SessionError> {
    session.apply(command, &mut |event| view.apply(event), &Control::default())
}

fn recipe() -> Recipe {
    Recipe {
        calibration: Calibration { batches: 2, batch: 16, foresee: false },
        ..Recipe::new(ModelId::ShuffleNetV2X05)
    }
}

/// A session and its view after the command that ends `step`.
fn after(step: Option<Step>) -> (Session, View) {
    let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
    apply(&mut session, &mut view, Command::Open(Box::new(recipe()))).expect("the sample opens");
    for s in Step::ALL.into_iter().take_while(|s| step.is_some_and(|last| *s <= last)) {
        apply(&mut session, &mut view, command_of(s)).unwrap_or_else(|e| panic!("{}: {e}", s.title()));
    }
    (session, view)
}

fn command_of(step: Step) -> Command {
    match step {
        Step::Stubs => Command::InsertStubs,
        Step::Weights => Command::UseShippedWeights,
        Step::Fuse => Command::Fuse(FuseOptions::default()),
        Step::Prepare => Command::Prepare(QConfig::default()),
        Step::Calibrate => Command::Calibrate(Calibration { batches: 2, batch: 16, foresee: false }),
        Step::Convert => Command::Convert,
    }
}

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

#[test]
fn every_saved_run_is_kept_in_the_project() {
    let dir = TempDir::new().expect("a folder");
    let project = Project::new(dir.path().join("project"));
    let mut session = Session::new(Device::Cpu).in_project(project.clone());
    let mut view = View::default();
    apply(&mut session, &mut view, Command::Open(Box::new(recipe()))).expect("opened");
    let out = dir.path().join("a.octet.safetensors");
    apply(&mut session, &mut view, Command::RunAll(out.clone())).expect("run");
    let Some(Stage::Saved { measured, .. }) = view.stage().map(AsRef::as_ref) else { panic!("not saved") };
    let (runs, wrong) = project.runs().expect("a list");
    assert!(wrong.is_empty() && runs.len() == 1, "{wrong:?}");
    let run = &runs[0].run;
    assert_eq!(&run.recipe, session.recipe());
    for (kept, side) in [(run.float, measured.float), (run.int8, measured.int8)] {
        // JSON's decimals may lose the last bit of a time.
        assert_eq!((kept.accuracy, kept.bytes), (side.accuracy, side.bytes));
        assert!((kept.latency_ms - side.latency_ms).abs() < 1e-9);
    }
    assert_eq!((run.images, run.classes), (measured.images, 10));
    assert!((run.shrink - measured.shrink).abs() < 1e-9);
    assert!(runs[0].has_file && run.file == out && run.weights == "shipped with Octet");
    assert!(view.log.iter().any(|l| l.text.starts_with("Kept as run 1: ")));
    // Where it cannot be kept, the result stands.
    std::fs::remove_dir_all(project.folder()).expect("removed");
    std::fs::write(project.folder(), "no folder").expect("a file");
    apply(&mut session, &mut view, Command::Save(out)).expect("saved");
    assert!(view.log.iter().any(|l| l.text.contains("choose another project folder")));
}

/// The range of a node set by hand decides its levels, without another image; dropped, the file is as before.
#[test]
fn a_range_set_by_hand_is_the_nodes_override() {
    let node = "conv5.0";
    let range = Range { min: -0.5, max: 1.5 };
    let int8 = |view: &View| {
        let graph = view.stage_of(Step::Convert).expect("converted").graph().clone();
        graph.node(graph.find(node).expect("a node")).numeric.qparams().expect("int8")
    };
    let (mut session, mut view) = after(Some(Step::Convert));
    let before = int8(&view);
    let error = apply(&mut session, &mut view, Command::SetRange(node.to_owned(), Some(range))).expect_err("too late");
    assert!(matches!(error, SessionError::NotAllowed { .. }), "{error}");
    apply(&mut session, &mut view, Command::BackTo(Step::Calibrate)).expect("back");
    let (seen, seconds) = (view.observers.clone(), view.seconds);
    assert!(!seen.is_empty());
    apply(&mut session, &mut view, Command::SetRange(node.to_owned(), Some(range))).expect("set");
    assert_eq!((view.observers.clone(), view.seconds), (seen, seconds), "nothing was calibrated again");
    let spec = session.recipe().qconfig.activation_of(node).expect("int8");
    assert_eq!(spec.fixed, Some([range.min, range.max]));
    apply(&mut session, &mut view, Command::Convert).expect("converted");
    assert_eq!(int8(&view), range.qparams(&spec));
    assert_ne!(int8(&view), before);

    // Calibrated again by the recipe, it still holds; and a node that cannot have one says so.
    apply(&mut session, &mut view, Command::BackTo(Step::Prepare)).expect("back");
    for step in [Step::Calibrate, Step::Convert] {
        apply(&mut session, &mut view, command_of(step)).expect("forward");
    }
    assert_eq!(int8(&view), range.qparams(&spec));
    apply(&mut session, &mut view, Command::BackTo(Step::Calibrate)).expect("back");
    for (bad, range) in [("maxpool", range), (node, Range { min: 1.0, max: f32::NAN }), ("no_such_node", range)] {
        apply(&mut session, &mut view, Command::SetRange(bad.to_owned(), Some(range))).expect_err("refused");
    }
    apply(&mut session, &mut view, Command::SetRange(node.to_owned(), None)).expect("dropped");
    assert!(session.recipe().qconfig.overrides.is_empty());
    apply(&mut session, &mut view, Command::Convert).expect("converted");
    assert_eq!(int8(&view), before);
}

/// Looking ahead changes nothing, is done only when asked for, and its last look is what conversion gives.
#[test]
fn calibration_can_look_ahead() {
    let (mut session, mut view) = after(Some(Step::Prepare));
    let calibration = Calibration { batches: 12, batch: 8, foresee: false };
    apply(&mut session, &mut view, Command::Calibrate(calibration)).expect("calibrated");
    assert!(view.if_converted.is_empty());
    let plain = view.observers.clone();
    apply(&mut session, &mut view, Command::Calibrate(Calibration { foresee: true, ..calibration })).expect("again");
    let seen: Vec<_> = view.observers.iter().map(|o| ObserverView { levels: None, ..o.clone() }).collect();
    assert_eq!(seen, *plain);
    assert!(view.observers.iter().all(|o| o.levels.is_some_and(|(low, high, _)| low < high)));
    let looks: Vec<usize> = view.if_converted.iter().map(|look| look.images).collect();
    assert_eq!(looks, [16, 32, 48, 64, 80, 96], "every second batch: eight looks at most");
    assert!(view.if_converted.iter().all(|look| look.sample == 256 && look.accuracy > 0.5), "{:?}", view.if_converted);

    let Some(Stage::Calibrated { graph, observers, before, .. }) = view.stage().map(AsRef::as_ref) else {
        panic!("calibrated");
    };
    let what_if =
        WhatIf::new(before.opened.clone(), graph.clone(), observers.clone(), session.recipe().qconfig.clone());
    let score = |node: &str, range: Option<Range>| {
        let mut last = None;
        let id = graph.find(node).expect("a node");
        let hear = &mut |score: SampleScore| {
            last = Some(score);
            ControlFlow::Continue(())
        };
        what_if.run(id, range, hear).expect("it runs");
        last.expect("labels")
    };
    let own = score("fc", None);
    assert_eq!((own.seen, own.of), (256, 256));
    let last = view.if_converted.last().expect("looks").accuracy;
    assert!((own.right as f64 / 256.0 - last).abs() < 1e-12);
    // All but nothing of the input is left.
    let blind = score("quant", Some(Range { min: 0.0, max: 1e-3 }));
    assert!(blind.right < own.right / 2, "{blind:?} {own:?}");
}

/// The confusion matrices add up to the accuracies that were measured, and every flip is one.
#[test]
fn what_int8_changes_is_told_image_by_image_and_layer_by_layer() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Convert));
    apply(&mut session, &mut view, Command::Save(dir.path().join("a"))).expect("saved");
    let Some(Stage::Saved { measured, before, graph, .. }) = view.stage().map(AsRef::as_ref) else { panic!("saved") };
    let float = view.stage_of(Step::Fuse).expect("fused").graph().clone();
    let pair = Pair { opened: before.opened.clone(), float, converted: graph.clone() };
    let mut last = None;
    pair.verdicts(usize::MAX, &mut |so_far| {
        last = Some(so_far);
        ControlFlow::Continue(())
    })
    .expect("both run");
    let all = last.expect("labels");
    assert_eq!((all.seen, all.of), (measured.images, measured.images));
    let found = all.found;
    let share = |c: &Confusion| f64::from(c.right()) / f64::from(c.total());
    assert!((share(&found.int8) - measured.int8.accuracy.expect("labels")).abs() < 1e-12);
    // Fusing may turn a tie.
    assert!((share(&found.float) - measured.float.accuracy.expect("labels")).abs() < 1e-3);
    let lost = found.flipped.len() as i64 - found.gained as i64;
    assert_eq!(i64::from(found.float.right()) - i64::from(found.int8.right()), lost);
    for flip in &found.flipped {
        assert_eq!(before.opened.dataset.valid.label(flip.image), Some(flip.label));
        assert!(flip.float.class == flip.label && flip.int8.class != flip.label, "{flip:?}");
    }

    let mut errors = Vec::new();
    pair.layer_errors(48, &mut |so_far| {
        errors.push((so_far.seen, so_far.found));
        ControlFlow::Continue(())
    })
    .expect("both run");
    assert_eq!(errors.iter().map(|(seen, _)| *seen).collect::<Vec<_>>(), [32, 48]);
    let errors = &errors.last().expect("answers").1;
    assert_eq!(errors[0].name, "quant");
    assert!(errors[0].sqnr_db > 30.0, "one rounding: {:?}", errors[0]);
    let fc = errors.iter().find(|e| e.name == "fc").expect("the last layer");
    assert!(fc.sqnr_db > 10.0 && fc.sqnr_db < errors[0].sqnr_db && fc.cosine > 0.95, "{fc:?}");
    assert!(errors.iter().all(|e| e.cosine <= 1.0 + 1e-9 && !e.sqnr_db.is_nan()));
    let costs = layer_costs(graph, 1).expect("it is planned");
    assert!(costs.iter().any(|c| c.time.name == "fc") && costs.iter().all(|c| c.time.micros >= 0.0));
}

/// fbgemm's kernels would clip sums at 0..255 where trained weights meet real images; at 0..127 they hardly can.
#[test]
fn what_is_saved_says_which_layers_overflow_elsewhere() {
    let dir = TempDir::new().expect("a folder");
    let saturated = |qconfig: &str| {
        let (mut session, mut view) = after(Some(Step::Fuse));
        let qconfig: QConfig = qconfig.parse().expect("a qconfig");
        apply(&mut session, &mut view, Command::Prepare(qconfig)).expect("prepared");
        for step in [Step::Calibrate, Step::Convert] {
            apply(&mut session, &mut view, command_of(step)).expect("forward");
        }
        apply(&mut session, &mut view, Command::Save(dir.path().join("a"))).expect("saved");
        let Some(Stage::Saved { measured, .. }) = view.stage_of(Step::Convert).map(AsRef::as_ref) else {
            panic!("not saved")
        };
        let found = &measured.saturation;
        assert_eq!((found.images, found.layers.len()), (32, 57));
        assert!(found.layers.iter().all(|l| l.pairs > 0 && l.saturated <= l.pairs && l.saturated_outputs <= l.outputs));
        assert_eq!(view.log.iter().any(|l| l.text.contains("overflow 16 bits")), found.overflowing().count() > 0);
        found.layers.iter().map(|l| l.saturated).sum::<u64>()
    };
    let (x86, onednn) = (saturated("x86"), saturated("onednn"));
    println!("sums outside 16 bits: x86 {x86}, onednn {onednn}");
    assert!(onednn > 0 && x86 < onednn);
}

fn kinds(view: &View) -> Vec<(&str, &'static str)> {
    view.warnings().map(|w| (w.node.as_str(), w.kind())).collect()
}

#[test]
fn a_switched_off_fusion_leaves_its_batch_norm_in_float_with_a_warning_and_still_runs() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Weights));
    let disabled = ["conv5.0".to_owned()].into();
    apply(&mut session, &mut view, Command::Fuse(FuseOptions { disabled })).expect("fused but for one");
    assert!(view.stage().expect("fused").graph().find("conv5.1").is_some());
    assert_eq!(view.steps()[Step::Fuse.index()].result.as_deref(), Some("55 fused"));
    apply(&mut session, &mut view, Command::Prepare(QConfig::default())).expect("prepared");
    assert!(kinds(&view).contains(&("conv5.1", "no_kernel")), "{:?}", kinds(&view));
    assert!(view.log.iter().any(|l| l.text.contains("`conv5.1`") && l.text.contains("fuse it")), "it is in the log");
    apply(&mut session, &mut view, Command::Calibrate(Calibration { batches: 4, batch: 32, foresee: false }))
        .expect("calibrated");
    apply(&mut session, &mut view, Command::Convert).expect("a mixed graph");
    apply(&mut session, &mut view, Command::Save(dir.path().join("mixed"))).expect("saved, read back and run");
    let Some(Stage::Saved { measured, .. }) = view.stage().map(AsRef::as_ref) else { panic!("saved") };
    let (float, int8) = (measured.float.accuracy.expect("labels"), measured.int8.accuracy.expect("labels"));
    assert!(int8 > float - 0.02, "float {float}, mixed {int8}");
}

#[test]
fn the_sample_gives_no_warning_and_images_normalized_otherwise_do() {
    let (_, view) = after(Some(Step::Calibrate));
    // The shipped weights have dead channels, which is true and said.
    let other = |view: &View| -> Vec<(String, &'static str)> {
        let all = view.warnings().filter(|w| w.kind() != "zero_channels");
        all.map(|w| (w.node.clone(), w.kind())).collect()
    };
    assert_eq!(other(&view), []);
    for (mean, std) in [([0.0; 3], [1.0; 3]), ([0.5; 3], [0.5; 3]), ([0.0; 3], [1.0 / 255.0; 3])] {
        let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
        let mut recipe = recipe();
        (recipe.preprocess.mean, recipe.preprocess.std) = (Some(mean), Some(std));
        apply(&mut session, &mut view, Command::Open(Box::new(recipe))).expect("the sample opens");
        for step in [Step::Stubs, Step::Weights, Step::Fuse, Step::Prepare] {
            apply(&mut session, &mut view, command_of(step)).expect("it runs");
        }
        assert_eq!(other(&view), [("conv1.1".to_owned(), "normalization")], "{mean:?} {std:?}");
        assert_eq!(session.warnings().count(), view.warnings().count());
    }
}

#[test]
fn every_observer_and_scheme_keeps_the_samples_accuracy() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Prepare));
    let plain = QConfig::default();
    let symmetric = ActivationSpec { scheme: Scheme::Symmetric, ..plain.activation };
    let mut configs: Vec<QConfig> =
        ObserverKind::OF_ACTIVATIONS.into_iter().map(|o| QConfig::default().with_observer(o)).collect();
    configs.push(QConfig { activation: symmetric, ..plain });
    for config in configs {
        let what = format!("{:?}", config.activation);
        apply(&mut session, &mut view, Command::BackTo(Step::Fuse)).expect("back");
        apply(&mut session, &mut view, Command::Prepare(config)).expect("prepared");
        apply(&mut session, &mut view, Command::RunAll(dir.path().join("m"))).expect("saved");
        let Some(Stage::Saved { measured, .. }) = view.stage().map(AsRef::as_ref) else { panic!("saved") };
        let (float, int8) = (measured.float.accuracy.expect("labels"), measured.int8.accuracy.expect("labels"));
        println!("{what}: float {float}, int8 {int8}");
        assert!(int8 > float - 0.03, "{what}: float {float}, int8 {int8}");
    }
}

#[test]
fn fewer_bits_are_measured_in_fake_quantization_and_run_as_int8() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Prepare));
    let mut accuracies = Vec::new();
    for bits in [8, 6, 4] {
        apply(&mut session, &mut view, Command::BackTo(Step::Fuse)).expect("back");
        apply(&mut session, &mut view, Command::Prepare(QConfig::default().with_bits(bits))).expect("prepared");
        apply(&mut session, &mut view, Command::RunAll(dir.path().join("m"))).expect("saved");
        let Some(Stage::Saved { measured, study, graph, .. }) = view.stage().map(AsRef::as_ref) else {
            panic!("saved")
        };
        let int8 = measured.int8.accuracy.expect("labels");
        assert_eq!(study.map(|s| s.study), (bits < 8).then_some(Study::FewerBits { bits }));
        if let Some(fake) = study.and_then(|s| s.accuracy) {
            println!("{bits} bits: fake-quantized {fake}, int8 {int8}");
            assert!((fake - int8).abs() < 0.03, "{bits} bits: fake-quantized {fake}, int8 {int8}");
            let most = graph.nodes.iter().filter_map(|n| n.numeric.qparams()).map(|q| q.qmax).max();
            assert_eq!(most, Some((1 << bits) - 1));
        }
        accuracies.push(int8);
    }
    assert!(accuracies[0] > accuracies[2], "4 bits cost something: {accuracies:?}");
}

#[test]
fn affine_weights_are_measured_and_have_no_file() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Fuse));
    let plain = QConfig::default();
    let weight = WeightSpec { scheme: Scheme::Affine, ..plain.weight };
    apply(&mut session, &mut view, Command::Prepare(QConfig { weight, ..plain })).expect("prepared");
    apply(&mut session, &mut view, Command::RunAll(dir.path().join("m"))).expect("it ends with the measurement");
    let stage = view.stage().expect("converted").clone();
    let Stage::Converted { before, graph, study: Some(study), .. } = stage.as_ref() else {
        panic!("{:?}", stage.done())
    };
    assert_eq!(study.study, Study::AffineWeights);
    assert!(study.accuracy.expect("labels") > before.accuracy.expect("labels") - 0.03);
    check(graph).expect("a sound graph");
    assert!(!view.allows(CommandKind::Save) && std::fs::read_dir(dir.path()).expect("a folder").next().is_none());
    let error = apply(&mut session, &mut view, Command::Save(dir.path().join("m"))).expect_err("no int8 file");
    assert!(error.to_string().contains("affine"), "{error}");
}

/// Every batch norm with statistics as training would leave them, so that folding has something to do.
fn trained(graph: &Graph) -> Graph {
    let mut state = 1_u64;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    let mut values = std::collections::HashMap::new();
    for param in graph.params() {
        let (low, high) = match (param.part, &graph.node(param.node).op) {
            ("running_mean", _) => (-0.2, 0.2),
            ("running_var", _) => (0.5, 1.5),
            ("weight", Op::BatchNorm2d(_)) => (0.5, 1.0),
            ("bias", _) => (-0.1, 0.1),
            (_, _) => continue,
        };
        let data: Vec<f32> = (0..param.tensor.len()).map(|_| low + (high - low) * unit()).collect();
        values.insert(graph.key(&param), Tensor::new(param.tensor.shape.clone(), data));
    }
    graph.with_params(&values)
}

#[test]
fn fusing_moves_the_output_of_no_model_by_more_than_rounding() {
    for model in ModelId::ALL {
        let graph = octet::zoo::build(model, ModelConfig { classes: 10, size: 64 }).expect("a valid size");
        let graph = trained(&octet::zoo::init(&graph, 3));
        let (graph, _) = octet::quant::insert_stubs(&graph).expect("a float model");
        let (fused, _) = octet::quant::fuse(&graph, &FuseOptions::default()).expect("a float model");
        let images: Vec<f32> = (0..2 * 3 * 64 * 64).map(|i| ((i * 7919 % 1013) as f32 / 253.0) - 2.0).collect();
        let run = |graph: &Graph| Model::new(graph, &Device::Cpu).expect("float").run(&images, 2).expect("it runs");
        let (before, after) = (run(&graph), run(&fused));
        let largest = before.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let moved = before.iter().zip(&after).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        println!("{model}: moved by {:e} of the largest logit", moved / largest);
        assert!(moved > 0.0 && octet::quant::fusion_warning(&fused, moved / largest).is_none(), "{model}: {moved}");
    }
}

/// Sends a command to the worker and waits for its end, at most a minute.
fn run(worker: &Worker, view: &mut View, command: Command) {
    let kind = command.kind();
    view.finished = None;
    assert!(worker.send(command));
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        worker.drain(view);
        if view.running.is_none() && view.finished == Some(kind) {
            return;
        }
        assert!(Instant::now() < end, "{kind:?} did not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_worker_and_a_direct_run_give_the_same_view() {
    let dir = TempDir::new().expect("a folder");
    let worker = Worker::spawn(Device::Cpu, || {}).expect("a thread");
    let (mut window, mut direct) = (View::default(), View::default());
    run(&worker, &mut window, Command::Open(Box::new(recipe())));
    run(&worker, &mut window, Command::RunAll(dir.path().join("a")));
    let mut session = Session::new(Device::Cpu);
    apply(&mut session, &mut direct, Command::Open(Box::new(recipe()))).expect("opened");
    apply(&mut session, &mut direct, Command::RunAll(dir.path().join("b"))).expect("run");
    for (a, b) in window.stages.iter().zip(&direct.stages) {
        let (a, b) = (a.as_ref().expect("a stage"), b.as_ref().expect("a stage"));
        assert_eq!(a.graph(), b.graph(), "{:?}", a.done());
    }
    assert_eq!(window.observers, direct.observers);
    assert_eq!(window.recipe, direct.recipe);
    let accuracy = |view: &View| match view.stage().map(AsRef::as_ref) {
        Some(Stage::Saved { measured, .. }) => (measured.float.accuracy, measured.int8.accuracy, measured.int8.bytes),
        other => panic!("not saved: {other:?}"),
    };
    assert_eq!(accuracy(&window), accuracy(&direct));
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("a file");
    assert!(read("a") == read("b"));
}

/// Cancels as soon as `begun` says so; how long the worker then took.
fn cancelled_after(worker: &Worker, view: &mut View, command: Command, begun: impl Fn(&View) -> bool) -> Duration {
    let kind = command.kind();
    view.finished = None;
    assert!(worker.send(command));
    let end = Instant::now() + Duration::from_secs(60);
    while !begun(view) {
        worker.drain(view);
        assert!(Instant::now() < end, "{kind:?} did not begin");
    }
    let start = Instant::now();
    worker.control().cancel();
    while view.finished != Some(kind) {
        worker.drain(view);
        assert!(Instant::now() < end, "{kind:?} was not cancelled");
    }
    start.elapsed()
}

#[test]
fn cancel_ends_calibration_and_training_within_a_second() {
    let worker = Worker::spawn(Device::Cpu, || {}).expect("a thread");
    let mut view = View::default();
    let mut recipe = Recipe::new(ModelId::ResNet18);
    recipe.train = TrainConfig { epochs: 100, ..TrainConfig::default() };
    let train = recipe.train;
    run(&worker, &mut view, Command::Open(Box::new(recipe)));
    run(&worker, &mut view, Command::InsertStubs);
    let took = cancelled_after(&worker, &mut view, Command::Train(train), |v| !v.training.is_empty());
    assert!(took < Duration::from_secs(1), "training took {took:?} to stop");
    // Not one epoch was finished: nothing is kept but what was there.
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Stubs));

    let short = TrainConfig { epochs: 1, batch: 500, ..train };
    run(&worker, &mut view, Command::Train(short));
    let Some(Stage::Weighted { origin, accuracy, .. }) = view.stage().map(AsRef::as_ref) else { panic!("untrained") };
    assert_eq!(*origin, WeightsOrigin::Trained { epochs: 1, stopped: false });
    assert!(accuracy.is_some_and(|a| a > 0.2), "{accuracy:?}");

    run(&worker, &mut view, Command::Fuse(FuseOptions::default()));
    run(&worker, &mut view, Command::Prepare(QConfig::default()));
    let calibration = Calibration { batches: 187, batch: 32, foresee: false };
    let begun = |v: &View| v.observed_images > 0;
    let took = cancelled_after(&worker, &mut view, Command::Calibrate(calibration), begun);
    assert!(took < Duration::from_secs(1), "calibration took {took:?} to stop");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Prepare));
    assert!(view.allows(CommandKind::Calibrate));
}

#[test]
fn a_cancelled_training_keeps_the_best_weights_so_far() {
    let (mut session, mut view) = after(Some(Step::Weights));
    let control = Control::default();
    let config = TrainConfig { epochs: 50, ..TrainConfig::default() };
    let watch = &mut |event: Event| {
        if matches!(event, Event::Training(octet::session::TrainEvent::Epoch(_))) {
            control.cancel();
        }
        view.apply(event);
    };
    session.apply(Command::Train(config), watch, &control).expect("the first epoch's weights are kept");
    let Some(Stage::Weighted { origin, accuracy, .. }) = view.stage().map(AsRef::as_ref) else { panic!("no weights") };
    assert_eq!(*origin, WeightsOrigin::Trained { epochs: 1, stopped: true });
    assert!(accuracy.is_some_and(|a| a > 0.5), "{accuracy:?}");
}

/// Trains to `stop` epochs at most, keeping checkpoints; what the stage holds in numbers.
fn trained_by(method: Method, file: &CheckpointFile, stop: usize) -> Vec<Tensor> {
    let (mut session, mut view) = after(Some(Step::Weights));
    let set_up = [
        Command::KeepCheckpoints(Some(file.clone())),
        Command::ChooseMethod(method),
        Command::Fuse(FuseOptions::default()),
        Command::Prepare(QConfig::default()),
    ];
    let config = TrainConfig { epochs: 3, ..TrainConfig::for_qat(3) };
    let train = match method {
        Method::Ptq => Command::Train(config),
        Method::Qat(training) => Command::TrainQat(QatTraining { train: config, ..training }),
    };
    let steps = if method.is_ptq() { 1 } else { set_up.len() };
    for command in set_up.into_iter().take(steps) {
        apply(&mut session, &mut view, command).expect("allowed");
    }
    let control = Control::default();
    let watch = &mut |event: Event| {
        if matches!(&event, Event::Training(octet::session::TrainEvent::Epoch(e)) if e.epoch + 1 == stop) {
            control.cancel();
        }
        view.apply(event);
    };
    session.apply(train, watch, &control).expect("whole epochs are kept");
    let stage = view.stage().expect("trained");
    stage.graph().params().into_iter().map(|p| p.tensor.clone()).collect()
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_weights() {
    let folder = TempDir::new().expect("a folder");
    for method in [Method::Ptq, Method::Qat(QatTraining::default())] {
        let file = |name: &str, resume| CheckpointFile {
            path: folder.path().join(format!("{name}.{}", method.name())),
            resume,
        };
        let whole = trained_by(method, &file("whole", false), 9);
        let half = trained_by(method, &file("half", false), 1);
        assert!(half != whole, "{}: the later epochs did nothing", method.name());
        assert!(trained_by(method, &file("half", true), 9) == whole, "{}: not where it would have been", method.name());
    }
}

#[test]
fn the_second_method_trains_in_the_place_of_calibration() {
    let (mut session, mut view) = after(Some(Step::Fuse));
    let mut training = QatTraining::default();
    training.train.epochs = 1;
    apply(&mut session, &mut view, Command::ChooseMethod(Method::Qat(training))).expect("a model is open");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Weights), "the other method's fusion is undone");
    apply(&mut session, &mut view, Command::Fuse(FuseOptions::default())).expect("weights are there");
    apply(&mut session, &mut view, Command::Prepare(QConfig::default())).expect("fused");
    assert!(view.allows(CommandKind::TrainQat) && !view.allows(CommandKind::Calibrate));
    let folder = TempDir::new().expect("a folder");
    let out = folder.path().join("a.octet.safetensors");
    apply(&mut session, &mut view, Command::RunAll(out)).expect("the rest runs");
    let Some(Stage::Saved { qat: Some(qat), measured, .. }) = view.stage().map(AsRef::as_ref) else {
        panic!("not saved")
    };
    let (fake, int8) = (qat.accuracy.expect("labels"), measured.int8.accuracy.expect("labels"));
    assert!((fake - int8).abs() <= 0.002, "fake-quantized {fake}, int8 {int8}");
    assert!(qat.as_pytorch.is_some() && qat.epochs == 1);
    let ranges = view.qat.iter().filter(|e| matches!(e, octet::session::TrainEvent::Ranges(r) if r.ranges.len() == 74));
    assert!(ranges.count() > 2, "the window has no ranges to draw");
    assert!(view.training.is_empty(), "float training is another curve");
    assert_eq!(view.stages[5].as_ref().and_then(|s| s.title()), Some("Train"));
}

#[test]
fn pause_halts_and_resume_goes_on() {
    let worker = Worker::spawn(Device::Cpu, || {}).expect("a thread");
    let mut view = View::default();
    run(&worker, &mut view, Command::Open(Box::new(recipe())));
    for step in [Step::Stubs, Step::Weights, Step::Fuse, Step::Prepare] {
        run(&worker, &mut view, command_of(step));
    }
    view.finished = None;
    assert!(worker.send(Command::Calibrate(Calibration { batches: 150, batch: 32, foresee: false })));
    while view.observed_images == 0 {
        worker.drain(&mut view);
    }
    worker.control().pause();
    std::thread::sleep(Duration::from_millis(300));
    worker.drain(&mut view);
    let halted = view.observed_images;
    std::thread::sleep(Duration::from_millis(200));
    worker.drain(&mut view);
    assert_eq!(view.observed_images, halted, "it went on while paused");
    assert!(halted < 4800, "too quick to be paused");
    worker.control().resume();
    let end = Instant::now() + Duration::from_secs(60);
    while view.finished.is_none() {
        worker.drain(&mut view);
        assert!(Instant::now() < end, "it did not go on");
    }
    assert_eq!(view.observed_images, 4800);
}

/// Time that this thread has spent on a processor, which other tests on the same machine do not lengthen.
#[cfg(target_os = "linux")]
fn busy() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's time");
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

#[cfg(target_os = "linux")]
#[test]
fn taking_events_in_costs_a_frame_next_to_nothing() {
    let worker = Worker::spawn(Device::Cpu, || {}).expect("a thread");
    let mut view = View::default();
    run(&worker, &mut view, Command::Open(Box::new(recipe())));
    for step in [Step::Stubs, Step::Weights, Step::Fuse, Step::Prepare] {
        run(&worker, &mut view, command_of(step));
    }
    view.finished = None;
    assert!(worker.send(Command::Calibrate(Calibration { batches: 180, batch: 32, foresee: false })));
    let mut longest = Duration::ZERO;
    while view.finished.is_none() {
        // As often as a screen draws.
        std::thread::sleep(Duration::from_millis(16));
        let start = busy();
        worker.drain(&mut view);
        longest = longest.max(busy() - start);
    }
    assert_eq!(view.observed_images, 5760);
    assert!(longest < Duration::from_millis(50), "a frame waited {longest:?} for the worker");
}
