use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::event::Gpus;
use super::priority::work_behind_the_window;
use super::recover::said;
use super::{Command, Control, Event, Session, View};
use crate::exec::float::Device;

/// Commands that may wait; a window sends one at a time.
const COMMANDS: usize = 8;
/// Events that may wait for the window to draw; the worker blocks beyond, so memory is bounded.
const EVENTS: usize = 1024;

/// The one thread that owns a [`Session`]. The window sends commands, drains events into its [`View`] and never waits.
#[derive(Debug)]
pub struct Worker {
    commands: Option<SyncSender<Command>>,
    events: Option<Receiver<Event>>,
    control: Arc<Control>,
    /// Commands that were sent and have not ended.
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; `wake` is called after each event, so that a sleeping window draws again.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn spawn(device: Device, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        Self::with(Session::new(device), wake)
    }

    /// The same for a session that was set up already.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn with(mut session: Session, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (commands, inbox) = sync_channel::<Command>(COMMANDS);
        let (outbox, events) = sync_channel(EVENTS);
        let control = Arc::new(Control::default());
        let shared = control.clone();
        let open = Arc::new(AtomicUsize::new(0));
        let left = open.clone();
        let thread = std::thread::Builder::new().name("octet-session".to_owned()).spawn(move || {
            work_behind_the_window();
            if outbox.send(Event::Gpus(Gpus::of_this_machine())).is_ok() {
                wake();
            }
            for command in inbox {
                let kind = command.kind();
                let mut ended = false;
                let mut emit = |event| {
                    // Before it is told: whoever hears it may send the next.
                    let ends = matches!(event, Event::Finished(_) | Event::Cancelled(_) | Event::Failed { .. });
                    if ends && !std::mem::replace(&mut ended, true) {
                        left.fetch_sub(1, Ordering::SeqCst);
                    }
                    // A closed window wants no more events.
                    if outbox.send(event).is_ok() {
                        wake();
                    }
                };
                let run = AssertUnwindSafe(|| session.apply(command, &mut emit, &shared));
                // A failure was emitted as an event already; a panic was not.
                if let Err(panic) = catch_unwind(run) {
                    let message = said(&*panic);
                    emit(Event::Failed { kind, message });
                }
            }
        })?;
        Ok(Self { commands: Some(commands), events: Some(events), control, open, thread: Some(thread) })
    }

    /// Sends a command; `false` where too many wait already. A pause or cancel of before is over, unless something still
    /// runs: then it holds for that, and for what waits behind it.
    pub fn send(&self, command: Command) -> bool {
        if self.open.fetch_add(1, Ordering::SeqCst) == 0 {
            self.control.resume();
        }
        match self.commands.as_ref().map(|c| c.try_send(command)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                self.open.fetch_sub(1, Ordering::SeqCst);
                false
            }
        }
    }

    /// Takes what has happened into the view, without waiting; whether anything had.
    pub fn drain(&self, view: &mut View) -> bool {
        let Some(events) = &self.events else { return false };
        let mut any = false;
        loop {
            match events.try_recv() {
                Ok(event) => view.apply(event),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return any,
            }
            any = true;
        }
    }

    /// To pause, resume or cancel what runs.
    pub fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.control.cancel();
        self.commands = None;
        self.events = None;
        if let Some(thread) = self.thread.take() {
            // It ends at its next checkpoint; a panic there was reported already.
            let _ = thread.join();
        }
    }
}
