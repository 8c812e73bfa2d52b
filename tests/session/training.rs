//! Both trainings: cancelled, interrupted and gone on with.

use octet::graph::{Graph, Tensor, Weight};
use octet::session::{
    CheckpointFile, Command, CommandKind, Control, Event, FuseOptions, Method, Pair, QConfig, QatTraining, Stage, Step,
    TrainConfig, View, WeightsOrigin,
};
use tempfile::TempDir;

use crate::{after, apply};

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

/// What int8 is compared with layer by layer are the weights that int8's were rounded from, and not those that training
/// began with.
fn assert_layers_are_compared_with_what_was_trained(view: &View) {
    let stage = |step| view.stage_of(step).expect("done").clone();
    let (weights, trained, int8) = (stage(Step::Weights), stage(Step::Calibrate), stage(Step::Convert));
    // The share of int8's weights that are the level nearest to a float graph's.
    let rounded = |float: &Graph| {
        let (mut near, mut all) = (0, 0);
        for (_, node) in int8.graph().iter() {
            let Some(Weight::Int8(q)) = node.op.weight() else { continue };
            let float = float.node(float.find(&node.name).expect("the same layers")).op.weight();
            let Some(Weight::Float(w)) = float else { panic!("{} is no float", node.name) };
            let per = w.len() / q.shape[0];
            all += w.len();
            near +=
                (0..w.len()).filter(|i| (f32::from(q.data[*i]) - w.data[*i] / q.scale(i / per)).abs() <= 0.501).count();
        }
        near as f64 / all as f64
    };
    let opened = || int8.opened().clone();
    let pair = Pair::of_training(opened(), trained.graph(), int8.graph().clone()).expect("it folds");
    let recipe = view.recipe.as_deref().expect("it is open");
    let before = Pair::fusing(opened(), weights.graph(), recipe, int8.graph().clone()).expect("it fuses");
    let (now, then) = (rounded(&pair.float), rounded(&before.float));
    assert!(now > 0.98 && then < 0.9, "{now:.3} of the weights are rounded, {then:.3} of the first ones");
    let mut layers = 0;
    let mut take = |so_far: octet::session::SoFar<Vec<octet::session::LayerError>>| {
        layers = so_far.found.iter().filter(|e| e.sqnr_db > 5.0).count();
        std::ops::ControlFlow::Continue(())
    };
    pair.layer_errors(16, &mut take).expect("both run");
    assert!(layers > 70, "{layers} layers are near to float");
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
    assert_layers_are_compared_with_what_was_trained(&view);
    let ranges = view.qat.iter().filter(|e| matches!(e, octet::session::TrainEvent::Ranges(r) if r.ranges.len() == 74));
    assert!(ranges.count() > 2, "the window has no ranges to draw");
    assert!(view.training.is_empty(), "float training is another curve");
    assert_eq!(view.stages[5].as_ref().and_then(|s| s.title()), Some("Train"));
}
