//! The worker thread: the same view as a direct run, cancel, pause, and what its events cost a frame.

use std::time::{Duration, Instant};

use octet::session::{
    Calibration, Command, CommandKind, Device, FuseOptions, ModelId, QConfig, Recipe, Session, Stage, Step,
    TrainConfig, View, WeightsOrigin, Worker,
};
use tempfile::TempDir;

use crate::{apply, command_of, recipe};

/// Sends a command to the worker and waits for its end, at most five minutes: other work may have the processor.
fn run(worker: &Worker, view: &mut View, command: Command) {
    let kind = command.kind();
    view.finished = None;
    assert!(worker.send(command));
    let end = Instant::now() + Duration::from_secs(300);
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

/// Cancels after `units` of work, as `done` counts them: how long the worker then took, and how long it may: a second, or
/// where other work has the processor, what the longest three units took.
fn cancelled_after(
    worker: &Worker,
    view: &mut View,
    command: Command,
    units: usize,
    done: impl Fn(&View) -> usize,
) -> (Duration, Duration) {
    let kind = command.kind();
    view.finished = None;
    assert!(worker.send(command));
    let end = Instant::now() + Duration::from_secs(120);
    let (mut seen, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    while done(view) < units {
        worker.drain(view);
        if done(view) > seen {
            // The first one is also all that comes before it.
            if seen > 0 {
                longest = longest.max(since.elapsed());
            }
            (seen, since) = (done(view), Instant::now());
        }
        assert!(Instant::now() < end, "{kind:?} does not get on");
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    worker.control().cancel();
    while view.finished != Some(kind) {
        worker.drain(view);
        assert!(Instant::now() < end, "{kind:?} was not cancelled");
        std::thread::sleep(Duration::from_millis(1));
    }
    (start.elapsed(), (3 * longest).max(Duration::from_secs(1)))
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
    let (took, may) = cancelled_after(&worker, &mut view, Command::Train(train), 6, |v| v.training.len());
    assert!(took < may, "training took {took:?} to stop, {may:?} at most");
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
    let batches = |v: &View| v.observed_images / 32;
    let (took, may) = cancelled_after(&worker, &mut view, Command::Calibrate(calibration), 6, batches);
    assert!(took < may, "calibration took {took:?} to stop, {may:?} at most");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Prepare));
    assert!(view.allows(CommandKind::Calibrate));
}

#[test]
fn what_is_sent_behind_a_cancel_does_not_lift_it() {
    let worker = Worker::spawn(Device::Cpu, || {}).expect("a thread");
    let mut view = View::default();
    run(&worker, &mut view, Command::Open(Box::new(recipe())));
    for step in [Step::Stubs, Step::Weights, Step::Fuse, Step::Prepare] {
        run(&worker, &mut view, command_of(step));
    }
    let ended = view.ended;
    assert!(worker.send(Command::Calibrate(Calibration { batches: 187, batch: 32, foresee: false })));
    while view.observed_images == 0 {
        worker.drain(&mut view);
    }
    worker.control().cancel();
    assert!(worker.send(Command::KeepCheckpoints(None)));
    let end = Instant::now() + Duration::from_secs(60);
    while view.ended < ended + 2 {
        worker.drain(&mut view);
        assert!(Instant::now() < end, "one of the two does not end");
    }
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Prepare), "it was cancelled");
    // The next is not.
    run(&worker, &mut view, command_of(Step::Calibrate));
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Calibrate));
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
