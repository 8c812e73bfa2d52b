//! Training from end to end on a problem that is easy to learn.

#[path = "common/sides.rs"]
mod sides;

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
};

use octet::{
    exec::float::Device,
    graph::{Activation, Builder, ConvSpec, Graph, Op, Shape},
    train::{Optimizer, TrainConfig, TrainError, TrainEvent, TrainOutcome, train},
    zoo::init,
};
use sides::{SIZE, Sides};

fn tiny() -> Graph {
    let (mut b, x) = Builder::new("tiny", Shape::new(3, SIZE, SIZE));
    let y = b.conv("conv", x, ConvSpec::new(8, 3).stride(2));
    let y = b.bn("bn", y, 1e-5, 0.1);
    let y = b.act("relu", y, Activation::Relu);
    let y = b.push("flatten", Op::Flatten, &[y]);
    let y = b.push("dropout", Op::Dropout { p: 0.1 }, &[y]);
    b.linear("fc", y, 2);
    init(&b.finish(), 1)
}

fn config(epochs: usize) -> TrainConfig {
    TrainConfig { epochs, batch: 16, learning_rate: 1e-2, ..TrainConfig::default() }
}

fn go(config: &TrainConfig, checkpoint: &(dyn Fn() -> ControlFlow<()> + Sync)) -> Result<TrainOutcome, TrainError> {
    let (data, held_out) = (Sides { count: 70 }, Sides { count: 20 });
    train(&tiny(), &data, Some(&held_out), config, &Device::Cpu, &mut |_| (), checkpoint)
}

const ON: fn() -> ControlFlow<()> = || ControlFlow::Continue(());

#[test]
fn learns_what_is_easy_to_learn() {
    for optimizer in
        [Optimizer::AdamW { weight_decay: 0.01 }, Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: true }]
    {
        let outcome = go(&TrainConfig { optimizer, ..config(6) }, &ON).expect("it trains");
        assert_eq!(outcome.valid.map(|s| s.correct), Some(20), "{optimizer:?}");
        assert!(!outcome.stopped && outcome.epochs == 6);
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let on = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| go(&TrainConfig { seed, ..config(2) }, &ON)).expect("it trains").graph
    };
    let one = on(1, 7);
    assert_eq!(one, on(3, 7));
    assert_ne!(one, on(1, 8), "another seed, another order and dropout");
}

#[test]
fn stopping_keeps_the_best_so_far() {
    let early = go(&config(6), &|| ControlFlow::Break(())).expect("stopping is no error");
    assert!(early.stopped && early.epochs == 0 && early.graph == tiny());

    let (data, held_out) = (Sides { count: 70 }, Sides { count: 20 });
    let epochs = AtomicUsize::new(0);
    let mut count = |event| {
        if matches!(event, TrainEvent::Epoch(_)) {
            epochs.fetch_add(1, Ordering::Relaxed);
        }
    };
    let enough = || {
        if epochs.load(Ordering::Relaxed) == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let late = train(&tiny(), &data, Some(&held_out), &config(6), &Device::Cpu, &mut count, &enough)
        .expect("stopping is no error");
    assert!(late.stopped && late.epochs == 2 && late.valid.is_some());
}

#[test]
fn an_absurd_rate_is_a_clear_error() {
    let optimizer = Optimizer::Sgd { momentum: 0.9, weight_decay: 0.0, nesterov: false };
    let error = go(&TrainConfig { learning_rate: 1e38, optimizer, ..config(6) }, &ON).expect_err("it diverges");
    assert!(error.to_string().contains("try a smaller one"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for bad in [
        TrainConfig { epochs: 0, ..config(1) },
        TrainConfig { batch: 1, ..config(1) },
        TrainConfig { learning_rate: f64::NAN, ..config(1) },
        TrainConfig { label_smoothing: 1.0, ..config(1) },
    ] {
        assert!(matches!(go(&bad, &ON), Err(TrainError::Config { .. })), "{bad:?}");
    }
}
