use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::session::{
    Command, Control, EpochReport, Event, Frozen, Recipe, Session, SessionError, Severity, TrainConfig, TrainEvent,
    Transfer,
};

/// Runs one command of a session, telling standard error how it goes.
pub fn apply(session: &mut Session, command: Command) -> Result<(), SessionError> {
    let mut line = Line::new();
    session.apply(command, &mut |event| line.show(&event), &Control::default())
}

/// Trains, and gives every epoch's report.
pub fn train(session: &mut Session, config: TrainConfig) -> Result<Vec<EpochReport>, SessionError> {
    let terminal = std::io::stderr().is_terminal();
    let mut line = Line { terminal, open: false };
    let mut epochs = Vec::new();
    let mut hear = |event| {
        line.show(&event);
        if let Event::Training(TrainEvent::Epoch(report)) = event {
            epochs.push(report);
        }
    };
    session.apply(Command::Train(config), &mut hear, &Control::default())?;
    Ok(epochs)
}

/// Opens a recipe's model and inserts its stubs.
pub fn open(session: &mut Session, recipe: Recipe) -> Result<(), SessionError> {
    apply(session, Command::Open(Box::new(recipe)))?;
    apply(session, Command::InsertStubs)
}

/// That the folder of an output file exists, before any work is done for it.
pub fn require_folder(out: &Path) -> anyhow::Result<()> {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        anyhow::bail!("{}: its folder does not exist: create it, or name another file", out.display());
    }
    if out.is_dir() {
        anyhow::bail!("{}: is a folder: name a file", out.display());
    }
    Ok(())
}

/// The line of standard error that tells how it goes, on a terminal.
pub struct Line {
    terminal: bool,
    open: bool,
}

impl Line {
    /// Nothing is told yet.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), open: false }
    }

    /// How far a download is.
    pub fn transfer(&mut self, t: Transfer) {
        let mb = |bytes: f64| bytes / 1e6;
        let rate = t.bytes_per_second.map_or(String::new(), |r| format!(", {:.1} MB/s", mb(r)));
        let left = t.seconds_left.map_or(String::new(), |s| format!(", {s:.0} s left"));
        self.draw(&format!("{:.1} of {:.1} MB{rate}{left}", mb(t.bytes as f64), mb(t.total as f64)));
    }

    /// What happened.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Transfer(transfer) => self.transfer(*transfer),
            Event::Progress(p) => self.draw(&format!("{} {}/{}", p.what, p.done, p.total)),
            Event::Training(TrainEvent::Epoch(e)) => {
                let held_out =
                    e.valid.map_or(String::new(), |score| format!(", held-out {:.2} %", score.accuracy() * 100.0));
                self.say(&format!(
                    "epoch {}: loss {:.4}, training {:.2} %{held_out}, {:.1} s",
                    e.epoch + 1,
                    e.train.loss,
                    e.train.accuracy() * 100.0,
                    e.seconds
                ));
            }
            Event::Training(TrainEvent::Step { step, steps, loss, images_per_second, .. }) => {
                self.draw(&format!("step {}/{steps}: loss {loss:.4}, {images_per_second:.0} images/s", step + 1));
            }
            Event::Training(TrainEvent::Ranges(_)) => {}
            Event::Training(TrainEvent::Frozen { epoch, what }) => {
                let what = match what {
                    Frozen::Observers => "the ranges of fake quantization stand still",
                    Frozen::BatchNorm => "batch norm keeps its running statistics",
                };
                self.say(&format!("from epoch {} on {what}", epoch + 1));
            }
            Event::Log(log) => match log.severity {
                Severity::Info => self.say(&log.text),
                Severity::Warning => self.say(&format!("warning: {}", log.text)),
                Severity::Error => self.say(&format!("error: {}", log.text)),
            },
            Event::Entered { stage, seconds } => {
                if let (Some(step), Some(title)) = (stage.done(), stage.title()) {
                    self.say(&format!("{} {title}: {} ({seconds:.1} s)", step.index() + 1, stage.in_a_word()));
                }
            }
            // The sentence of a failure is printed once, at the end.
            Event::Failed { .. } | Event::Cancelled(_) | Event::Finished(_) => self.clear(),
            Event::Repaired(r) => {
                let percent = |a: Option<f64>| a.map_or("-".to_owned(), |a| format!("{:.2} %", a * 100.0));
                self.say(&format!(
                    "{}: {} before, {} after ({:.1} s)",
                    r.title,
                    percent(r.before),
                    percent(r.after),
                    r.seconds
                ));
            }
            Event::Started(_)
            | Event::Gpus(_)
            | Event::Device(_)
            | Event::Recipe(_)
            | Event::WentBack { .. }
            | Event::Redone(_)
            | Event::Restored(_)
            | Event::RepairUndone
            | Event::Observed { .. }
            | Event::IfConverted(_) => {}
        }
    }

    /// Text that the next one replaces, on a terminal.
    pub fn draw(&mut self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[K{text}");
            // Progress is a courtesy: a closed standard error is no failure.
            let _ = std::io::stderr().flush();
            self.open = true;
        }
    }

    /// Takes the line away, before something else is printed.
    pub fn clear(&mut self) {
        if self.open {
            eprint!("\r\x1b[K");
            self.open = false;
        }
    }

    /// A line that stays.
    pub fn say(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
    }
}
