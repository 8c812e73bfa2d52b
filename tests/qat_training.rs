//! Training with fake quantization from end to end on a problem that is easy to learn: freezing, going on after an
//! interruption, learnt step sizes, and int8 that does what was trained.

#[path = "common/sides.rs"]
mod sides;

use std::{collections::BTreeMap, ops::ControlFlow};

use octet::{
    exec::{
        float::{Device, Model},
        int8::{Plan, PlanOptions},
    },
    graph::{Activation, Builder, ConvSpec, FakeQuants, Graph, Op, QatLevels, Shape, StepSize},
    quant::{self, Backend, FuseOptions, QConfig},
    train::{Frozen, Optimizer, QatConfig, TrainConfig, TrainError, TrainEvent, TrainOutcome, TrainState, Training},
    zoo::init,
};
use sides::{SIZE, Sides};

const ON: fn() -> ControlFlow<()> = || ControlFlow::Continue(());

/// Every kind of site: with batch norm, depthwise, squeeze-excitation, a sum, a fixed range, a linear layer.
fn qat_form() -> Graph {
    let (mut b, x) = Builder::new("tiny", Shape::new(3, SIZE, SIZE));
    let y = b.conv("conv", x, ConvSpec::new(8, 3).stride(2));
    let y = b.bn("bn", y, 1e-5, 0.1);
    let stem = b.act("act", y, Activation::Hardswish);
    let y = b.conv("depthwise", stem, ConvSpec::new(8, 3).depthwise());
    let y = b.bn("depthwise_bn", y, 1e-5, 0.1);
    let y = b.act("relu", y, Activation::Relu);
    let gate = b.push("pool", Op::AdaptiveAvgPool2d, &[y]);
    let gate = b.conv("fc1", gate, ConvSpec::new(8, 1).bias());
    let gate = b.act("gate", gate, Activation::Hardsigmoid);
    let y = b.push("mul", Op::Mul, &[y, gate]);
    let y = b.push("add", Op::Add { relu: false }, &[stem, y]);
    let y = b.push("flatten", Op::Flatten, &[y]);
    b.linear("fc", y, 2);
    let (graph, _) = quant::insert_stubs(&init(&b.finish(), 1)).expect("a float graph");
    let (graph, _) = quant::fuse_qat(&graph, &FuseOptions::default()).expect("it fuses");
    quant::prepare_qat(&graph, &QConfig::qat(Backend::X86)).expect("it has stubs").0
}

fn config(epochs: usize) -> TrainConfig {
    TrainConfig { epochs, batch: 16, learning_rate: 3e-3, ..TrainConfig::default() }
}

struct Trained {
    outcome: TrainOutcome,
    events: Vec<TrainEvent>,
    states: Vec<TrainState>,
}

fn go(config: &TrainConfig, qat: &QatConfig, resume: Option<&TrainState>) -> Result<Trained, TrainError> {
    let (source, valid, graph) = (Sides { count: 70 }, Sides { count: 40 }, qat_form());
    let training = Training {
        graph: &graph,
        source: &source,
        valid: Some(&valid),
        config,
        qat: Some(qat),
        device: &Device::Cpu,
        resume,
    };
    let (mut events, mut states) = (Vec::new(), Vec::new());
    let outcome = training.run(&mut |e| events.push(e), Some(&mut |s: &TrainState| states.push(s.clone())), &ON)?;
    Ok(Trained { outcome, events, states })
}

#[test]
fn it_learns_and_int8_does_what_was_trained() {
    for step in [StepSize::MovingAverage, StepSize::Learned] {
        let qat = QatConfig { step, ..QatConfig::for_epochs(6) };
        let trained = go(&config(6), &qat, None).expect("it trains").outcome;
        assert_eq!(trained.valid.map(|s| s.correct), Some(40), "{step:?}");
        let state = trained.fake_quants.expect("it learnt levels");
        let (fake, _) = quant::fake_quantize_qat(&trained.graph, &state, QatLevels::Int8).expect("all were seen");
        let (int8, _) = quant::convert_qat(&trained.graph, &state, QatLevels::Int8).expect("all were seen");
        let images: Vec<f32> = (0..40).flat_map(sides::image).collect();
        let fake = Model::new(&fake, &Device::Cpu).and_then(|m| m.run(&images, 40)).expect("it runs");
        let mut plan = Plan::new(&int8, &PlanOptions { isa: None, threads: 1 }).expect("it runs");
        let int8 = plan.run(&images, 40);
        let head = state.activations["fc"].clone();
        let level = if step == StepSize::Learned { head.step[0] } else { (head.max[0] - head.min[0]) / 127.0 };
        let worst = fake.iter().zip(&int8).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Sums of float32 round otherwise than int32's; a level of difference where one falls near a tie is all it makes.
        assert!(worst <= 1.01 * level, "{step:?}: {worst} apart, a level is {level}");
        let moved = fake.iter().zip(&int8).filter(|(a, b)| (*a - *b).abs() > 0.5 * level).count();
        assert!(moved <= 2, "{step:?}: {moved} of {} logits on another level", fake.len());
    }
}

/// Ranges by node, of each report.
fn ranges(events: &[TrainEvent], epoch: usize) -> Vec<BTreeMap<String, (f32, f32)>> {
    let of = |event: &TrainEvent| match event {
        TrainEvent::Ranges(r) if r.epoch == epoch => {
            Some(r.ranges.iter().map(|r| (r.node.to_string(), (r.min, r.max))).collect())
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn running(graph: &Graph) -> Vec<Vec<f32>> {
    graph.params().iter().filter(|p| !p.is_trainable()).map(|p| p.tensor.data.to_vec()).collect()
}

#[test]
fn observers_and_batch_norm_freeze_when_they_are_told_to() {
    let qat = QatConfig { freeze_observers: 3, freeze_bn: 2, ranges_every: 1, ..QatConfig::for_epochs(5) };
    let trained = go(&config(5), &qat, None).expect("it trains");
    let frozen: Vec<(usize, Frozen)> = trained
        .events
        .iter()
        .filter_map(|e| match e {
            TrainEvent::Frozen { epoch, what } => Some((*epoch, *what)),
            _ => None,
        })
        .collect();
    assert_eq!(frozen, [(2, Frozen::BatchNorm), (3, Frozen::Observers)]);
    for epoch in 0..5 {
        let reports = ranges(&trained.events, epoch);
        assert_eq!(reports.len(), 4, "one a step");
        assert_eq!(reports[0].len(), 8, "every output that learns: {:?}", reports[0].keys());
        let moved = reports.windows(2).any(|w| w[0] != w[1]);
        assert_eq!(moved, epoch < 3, "ranges in epoch {epoch}");
    }
    for (epoch, pair) in trained.states.windows(2).enumerate() {
        let moved = running(&pair[0].graph) != running(&pair[1].graph);
        assert_eq!(moved, epoch + 1 < 2, "running statistics in epoch {}", epoch + 1);
    }
}

#[test]
fn going_on_after_an_interruption_gives_the_same_bits() {
    let sgd = Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    for (optimizer, step) in
        [(sgd, StepSize::MovingAverage), (Optimizer::AdamW { weight_decay: 0.01 }, StepSize::Learned)]
    {
        let config = TrainConfig { optimizer, ..config(4) };
        let qat = QatConfig { step, ..QatConfig::for_epochs(4) };
        let whole = go(&config, &qat, None).expect("it trains");
        assert_eq!(whole.states.iter().map(|s| s.epochs).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for state in &whole.states {
            let rest = go(&config, &qat, Some(state)).expect("it goes on");
            assert_eq!(rest.outcome.graph, whole.outcome.graph, "{step:?} from epoch {}", state.epochs);
            assert_eq!(rest.outcome.fake_quants, whole.outcome.fake_quants);
            assert_eq!(rest.outcome.valid, whole.outcome.valid);
            assert_eq!(rest.states.last().unwrap_or(state), whole.states.last().expect("four epochs"));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| go(&config(2), &QatConfig::for_epochs(2), None)).expect("it trains").states
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn step_sizes_are_learnt_by_gradient() {
    let qat = QatConfig { step: StepSize::Learned, ..QatConfig::for_epochs(3) };
    let states = go(&config(3), &qat, None).expect("it trains").states;
    let of = |state: &FakeQuants| (state.activations["conv"].clone(), state.weights["conv"].clone());
    let [first, last] = [&states[0], &states[2]].map(|s| of(s.fake_quants.as_ref().expect("it learns levels")));
    assert_eq!((first.0.min, first.0.max), (last.0.min, last.0.max), "the range is the first batch's");
    assert_ne!(first.0.step, last.0.step);
    assert_eq!(last.1.step.len(), 8, "one a channel");
    assert!(last.1.step.iter().chain(&last.0.step).all(|s| *s > 0.0));
}

#[test]
fn what_cannot_work_is_refused() {
    let qat = QatConfig::for_epochs(1);
    let error = go(&config(1), &QatConfig { freeze_observers: 0, ..qat }, None).err().expect("nothing would be seen");
    assert!(error.to_string().contains("observers"), "{error}");
    let mut state = go(&config(1), &qat, None).expect("it trains").states.remove(0);
    state.optimizer.slots.remove("conv.weight");
    let error = go(&config(2), &qat, Some(&state)).err().expect("a state is missing");
    assert!(error.to_string().contains("conv.weight"), "{error}");
    let (mut b, x) = Builder::new("float", Shape::new(3, SIZE, SIZE));
    let y = b.push("flatten", Op::Flatten, &[x]);
    b.linear("fc", y, 2);
    let (graph, source) = (b.finish(), Sides { count: 20 });
    let training = Training {
        graph: &graph,
        source: &source,
        valid: None,
        config: &config(1),
        qat: Some(&qat),
        device: &Device::Cpu,
        resume: None,
    };
    let error = training.run(&mut |_| (), None, &ON).expect_err("nothing learns levels").to_string();
    assert!(error.contains("prepare it for QAT"), "{error}");
}
