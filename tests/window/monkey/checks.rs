//! What holds after everything that the monkey does.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use eframe::egui::accesskit::Role;
use egui_kittest::kittest::NodeT;
use octet::session::{CommandKind, LogLine, Step, StepState, View};

use super::{FRAME, Monkey, STALLED};

/// What was seen so far.
#[derive(Default)]
pub struct Seen {
    /// Refusals and failures that said why.
    pub failures: usize,
    ended: usize,
    /// How far what runs was, and since when.
    at: Option<(Sign, Instant)>,
}

/// What changes while something runs gets on.
type Sign = (usize, Option<CommandKind>, Option<(&'static str, usize)>, [usize; 5], u64);

/// Panics of any thread.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes every panic of this process from now on.
pub fn listen() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        loud(info);
        let thread = std::thread::current().name().unwrap_or("a thread").to_owned();
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{thread}: {info}"));
    }));
}

/// Those of a seed that failed are told.
pub fn forget() {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// A labelled widget that does something.
struct Widget {
    label: String,
    role: Role,
    enabled: bool,
}

impl Monkey {
    pub(super) fn check(&mut self, i: usize) {
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(panics.is_empty(), "{panics:?}");
        let worst = self.times.borrow().iter().rev().take(30).copied().fold(0.0, f64::max);
        assert!(worst < FRAME.as_secs_f64() * 1e3, "a frame took {worst:.0} ms");
        // What is asked for in a frame runs from the next one on: the buttons are those of what it was drawn of.
        *self.drawn.borrow_mut() = Some(None);
        self.harness.step();
        let drawn = self.drawn.borrow_mut().take().flatten().expect("a frame");
        self.log();
        self.gets_on();
        let widgets = self.widgets();
        self.agree(&widgets, &drawn);
        if i.is_multiple_of(10) {
            let unnamed = self.harness.unnamed_widgets();
            assert!(unnamed.is_empty(), "without a name: {unnamed:?}");
            let leading = crate::lead::leading(&self.harness);
            assert!(leading.len() <= 1, "several buttons lead on: {leading:?}");
            let place = |node: egui_kittest::Node<'_>| node.accesskit_node().raw_bounds();
            for b in self.harness.root().children_recursive().filter_map(place) {
                let finite = [b.x0, b.y0, b.x1, b.y1].iter().all(|v| v.is_finite());
                assert!(finite && b.x1 >= b.x0 && b.y1 >= b.y0, "a widget at {b:?}");
            }
        }
    }

    fn widgets(&self) -> Vec<Widget> {
        let all = self.harness.root().children_recursive().filter_map(|node| {
            let node = node.accesskit_node();
            let role = node.role();
            let acts = matches!(role, Role::Button | Role::CheckBox | Role::RadioButton | Role::ComboBox);
            let label = node.label().filter(|_| acts)?;
            Some(Widget { label, role, enabled: !node.is_disabled() })
        });
        all.collect()
    }

    /// What was refused says why, and nothing that a button offered is refused for being out of turn.
    fn log(&mut self) {
        let view = self.harness.state().view();
        if view.ended > self.seen.ended && view.failure.is_some() {
            self.seen.failures += 1;
        }
        self.seen.ended = view.ended;
        let wrong = |line: &&LogLine| {
            let text = &line.text;
            text.contains("Octet itself failed")
                || (text.starts_with("cannot ") && text.contains(" yet: "))
                || text.starts_with("nothing is undone that could be brought back")
                || text.starts_with("no model is open")
        };
        let found = view.log.iter().rev().take(8).find(wrong);
        assert!(found.is_none(), "{found:?}");
    }

    fn gets_on(&mut self) {
        let view = self.harness.state().view();
        let halted = self.widgets().iter().any(|w| w.label == "Resume");
        if view.running.is_none() || halted {
            self.seen.at = None;
            return;
        }
        let counts =
            [view.training.len(), view.qat.len(), view.observed_images, view.if_converted.len(), view.log.len()];
        let progress = view.progress.as_ref().map(|p| (p.what, p.done));
        let sign = (view.ended, view.running, progress, counts, view.transfer.map_or(0, |t| t.bytes));
        match &self.seen.at {
            Some((same, since)) if *same == sign => {
                assert!(since.elapsed() < STALLED, "{:?} does not get on: {sign:?}", view.running);
            }
            Some(_) | None => self.seen.at = Some((sign, Instant::now())),
        }
    }

    fn agree(&self, widgets: &[Widget], view: &View) {
        let window = self.harness.state();
        let buttons = || widgets.iter().filter(|w| w.role == Role::Button);
        for button in buttons() {
            let (label, enabled) = (button.label.as_str(), button.enabled);
            if let Some(kind) = leads(label, window.bench().step) {
                assert_eq!(enabled, view.allows(kind), "`{label}` is enabled: {enabled}, but {kind:?} of {}", at(view));
            }
            if let Some(kind) = offers(label) {
                assert!(!enabled || view.allows(kind), "`{label}` is enabled, {kind:?} is not allowed of {}", at(view));
            }
            if label == "Pause" {
                assert!(view.running.is_some(), "nothing runs that could be halted");
            }
        }
        if view.running.is_some() {
            let cancels = |w: &Widget| w.enabled && w.label.starts_with("Cancel");
            assert!(buttons().any(cancels), "nothing cancels {:?}", view.running);
        }
        for step in view.steps() {
            let number = format!("{} ", step.step.index() + 1);
            let word = match step.state {
                StepState::Locked => "locked",
                StepState::Ready => "ready",
                StepState::Running => "running",
                StepState::Stale => "run again",
                StepState::Done => continue,
            };
            if view.stage().is_some() {
                let row = |w: &Widget| w.label.starts_with(&number) && w.label.ends_with(word);
                assert!(buttons().any(row), "the rail does not say that {:?} is {word}", step.step);
            }
        }
    }
}

/// Where a session is, for a message.
fn at(view: &View) -> String {
    let done = view.stage().map(|stage| stage.done());
    format!("{done:?}, running {:?}, {} undone", view.running, view.undone())
}

/// The buttons above a step, each enabled exactly where its command is allowed.
fn leads(label: &str, step: Step) -> Option<CommandKind> {
    Some(match label {
        "Insert stubs" | "Insert again" => CommandKind::InsertStubs,
        "Load weights" => CommandKind::LoadWeights,
        "Use shipped weights" => CommandKind::UseShippedWeights,
        "Train on" => CommandKind::Train,
        "Train" if step == Step::Weights => CommandKind::Train,
        "Train" | "Train again" => CommandKind::TrainQat,
        "Fuse" | "Fuse again" => CommandKind::Fuse,
        "Prepare" | "Prepare again" => CommandKind::Prepare,
        "Calibrate" | "Calibrate again" => CommandKind::Calibrate,
        "Convert" => CommandKind::Convert,
        "Save and measure" | "Save again" => CommandKind::Save,
        "Return to here" => CommandKind::BackTo(step),
        "Run all" => CommandKind::RunAll,
        _ => return None,
    })
}

/// Buttons of a screen, which may want more than that their command is allowed.
fn offers(label: &str) -> Option<CommandKind> {
    let begins = |with: &str| label.starts_with(with);
    Some(match label {
        "Use them" => CommandKind::UseShippedWeights,
        "Load file" => CommandKind::LoadWeights,
        "Start training" => CommandKind::Train,
        "Back to the file's own head" => CommandKind::ReinitHead,
        "Use the downloaded file" => CommandKind::DownloadWeights,
        "Keep this range" | "Back to the observer's" => CommandKind::SetRange,
        "Equalize" | "Correct biases" | "AdaRound" | "Leave in float" => CommandKind::Repair,
        "Take this model" | "Take these observers" => CommandKind::Repair,
        "Undo the last repair" => CommandKind::UndoRepair,
        "Run all steps now" => CommandKind::RunAll,
        "Open model" | "Open again with these" => CommandKind::Open,
        "Use this folder" => CommandKind::UseProject,
        _ if begins("New head for ") => CommandKind::ReinitHead,
        _ if begins("Download ") || begins("Resume, ") => CommandKind::DownloadWeights,
        _ => return None,
    })
}
