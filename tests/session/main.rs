//! The session as both faces drive it: the six steps, undo, refusal, cancel, and the worker thread.

mod autosave;
mod choices;
mod results;
mod steps;
mod training;
mod warnings;
mod worker;

use octet::session::{
    Calibration, Command, Control, Device, FuseOptions, ModelId, QConfig, Recipe, Session, SessionError, Step, View,
};

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
