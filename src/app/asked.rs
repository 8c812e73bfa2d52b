//! Something that a screen asked a probe for: under way, there, or failed.

use std::ops::ControlFlow;

use eframe::egui::Ui;

use crate::session::Probe;

/// The newest answer of a probe, and the probe while it runs.
#[derive(Debug)]
pub(super) struct Asked<T> {
    probe: Option<Probe<Result<T, String>>>,
    answer: Option<T>,
    failure: Option<String>,
    asked: bool,
}

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self { probe: None, answer: None, failure: None, asked: false }
    }
}

impl<T: Send + 'static> Asked<T> {
    /// Starts the job, the first time that this is called.
    pub fn once(
        &mut self,
        ui: &Ui,
        job: impl FnOnce(&mut dyn FnMut(T) -> ControlFlow<()>) -> Result<(), String> + Send + 'static,
    ) {
        if self.asked {
            return;
        }
        self.asked = true;
        let ctx = ui.ctx().clone();
        let run = move |emit: &mut dyn FnMut(Result<T, String>) -> ControlFlow<()>| {
            if let Err(why) = job(&mut |answer| emit(Ok(answer))) {
                // A screen that is gone wants no reason.
                let _ = emit(Err(why));
            }
        };
        match Probe::start(move || ctx.request_repaint(), run) {
            Ok(probe) => self.probe = Some(probe),
            Err(e) => self.failure = Some(format!("the system gives no thread to measure on: {e}")),
        }
    }

    /// Takes what has come.
    pub fn take(&mut self) {
        let Self { probe, answer, failure, .. } = self;
        let more = probe.as_ref().is_some_and(|p| {
            p.drain(|found| match found {
                Ok(found) => *answer = Some(found),
                Err(why) => *failure = Some(why),
            })
        });
        if !more {
            let ended = probe.take();
            *failure = ended.and_then(|p| p.failure().map(str::to_owned)).or(failure.take());
        }
    }

    /// Ends the job; what it has answered stays.
    pub fn cancel(&mut self) {
        self.probe = None;
    }

    /// The newest answer.
    pub fn answer(&self) -> Option<&T> {
        self.answer.as_ref()
    }

    /// Why there is none.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether it is still under way.
    pub fn is_busy(&self) -> bool {
        self.probe.is_some()
    }
}
