//! Ranges set by hand, the look ahead, every observer and scheme, fewer bits.

use std::ops::ControlFlow;

use octet::graph::check;
use octet::session::{
    ActivationSpec, Calibration, Command, CommandKind, ObserverKind, ObserverView, QConfig, Range, SampleScore, Scheme,
    SessionError, Stage, Step, Study, View, WeightSpec, WhatIf,
};
use tempfile::TempDir;

use crate::{after, apply, command_of};

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
