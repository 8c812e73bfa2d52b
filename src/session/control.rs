use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError};

/// Run, pause or cancel: set by whoever watches, asked by every loop at least once a batch.
#[derive(Debug, Default)]
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Run,
    Pause,
    Cancel,
}

impl Control {
    /// Goes on, after a pause or for the next command.
    pub fn resume(&self) {
        self.set(State::Run);
    }

    /// Halts at the next checkpoint, keeping everything.
    pub fn pause(&self) {
        self.set(State::Pause);
    }

    /// Stops at the next checkpoint.
    pub fn cancel(&self) {
        self.set(State::Cancel);
    }

    /// Whether [`Control::cancel`] was called since the last [`Control::resume`].
    pub fn is_cancelled(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Cancel
    }

    /// Whether the work is halted.
    pub fn is_paused(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Pause
    }

    /// What loops ask: `Break` once cancelled; blocks while paused.
    pub fn checkpoint(&self) -> ControlFlow<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while *state == State::Pause {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if *state == State::Cancel { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }
}
