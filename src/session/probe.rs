use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};

use super::priority::work_behind_the_window;
use super::recover::said;

/// Answers that may wait for the window; the job blocks beyond, so memory is bounded.
const ANSWERS: usize = 64;

/// A read-only job on a thread of its own, beside the [`super::Worker`]: something that a screen wants to know and that
/// takes longer than a frame. Dropping it ends the job at its next answer; nobody waits for it.
#[derive(Debug)]
pub struct Probe<A> {
    answers: Receiver<A>,
    stop: Arc<AtomicBool>,
    failure: Arc<OnceLock<String>>,
}

impl<A: Send + 'static> Probe<A> {
    /// Starts the job. It hands over its answers one by one and should end where that breaks; `wake` is called after each
    /// and at the end, so that a sleeping window draws again.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn start(
        wake: impl Fn() + Send + 'static,
        job: impl FnOnce(&mut dyn FnMut(A) -> ControlFlow<()>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, answers) = sync_channel(ANSWERS);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let failure = Arc::new(OnceLock::new());
        let failed = failure.clone();
        std::thread::Builder::new().name("octet-probe".to_owned()).spawn(move || {
            work_behind_the_window();
            let run = AssertUnwindSafe(|| {
                job(&mut |answer| {
                    if stopped.load(Ordering::Relaxed) || sender.send(answer).is_err() {
                        return ControlFlow::Break(());
                    }
                    wake();
                    ControlFlow::Continue(())
                })
            });
            if let Err(panic) = catch_unwind(run) {
                failed.get_or_init(|| said(&*panic));
            }
            drop(sender);
            wake();
        })?;
        Ok(Self { answers, stop, failure })
    }

    /// What to tell the user of a job that ended in a panic; known once [`Probe::drain`] says that nothing more comes.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Takes the answers that are there, without waiting; whether more may come.
    pub fn drain(&self, mut take: impl FnMut(A)) -> bool {
        loop {
            match self.answers.try_recv() {
                Ok(answer) => take(answer),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }
}

impl<A> Drop for Probe<A> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn answers_come_in_order_and_end() {
        let count = |emit: &mut dyn FnMut(u32) -> ControlFlow<()>| assert!((0..200).all(|i| emit(i).is_continue()));
        let probe = Probe::start(|| {}, count).expect("a thread");
        let mut all = Vec::new();
        while probe.drain(|a| all.push(a)) {
            std::thread::yield_now();
        }
        assert_eq!(all, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_is_told_after_what_was_found_before_it() {
        let job = |emit: &mut dyn FnMut(u32) -> ControlFlow<()>| {
            let _ = emit(7);
            panic!("planted");
        };
        let probe = Probe::start(|| {}, job).expect("a thread");
        let mut all = Vec::new();
        while probe.drain(|a| all.push(a)) {
            std::thread::yield_now();
        }
        assert_eq!(all, [7]);
        assert!(probe.failure().is_some_and(|why| why.contains("planted")), "{:?}", probe.failure());
    }

    #[test]
    fn a_dropped_probe_ends_its_job() {
        let (ended, end) = channel();
        let endless = move |emit: &mut dyn FnMut(u32) -> ControlFlow<()>| {
            while emit(0).is_continue() {}
            // The test may have failed and gone.
            let _ = ended.send(());
        };
        drop(Probe::start(|| {}, endless).expect("a thread"));
        end.recv_timeout(Duration::from_secs(20)).expect("the job ends");
    }
}
