//! Which button leads on: one of the window's at most, whatever is open.
//!
//! Every button that may be it asks for its own [`Lead`], which is found once a frame, before anything is drawn.

use super::screens::{self, Tab};
use super::tutorial::{Lesson, Path};
use super::workbench::{Place, Workbench};
use crate::session::{Stage, Step, StepState, View};

/// The primary button, by what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lead {
    /// None is.
    #[default]
    Nothing,
    /// The first screen's: go on with what was last worked on.
    Continue,
    /// The first screen's card of the tutorial.
    Tutorial,
    /// The first screen's form: open what is typed.
    Open,
    /// A lesson's: what is asked is guessed.
    Guess,
    /// A finale's: what it needs is set up.
    SetUp,
    /// A lesson's: to the step that it is about.
    ToTask,
    /// A lesson's: what it wants is done.
    DoIt,
    /// A lesson's: the next one.
    NextLesson,
    /// The overview's of lessons.
    Learn,
    /// The step's own, above it: run it, or go on to the next.
    Step,
    /// The range that is tried is kept.
    Range,
    /// The images are opened with what was set.
    Reopen,
    /// Every step is run, where there is no run to compare.
    FirstRun,
    /// Every step is run, from the bar.
    RunAll,
}

impl Lead {
    /// What leads on in this state: a lesson that is open before the screen, the screen before the bar.
    pub fn of(bench: &Workbench, view: &View) -> Self {
        if view.stage().is_none() {
            return match (bench.opening, &bench.unfinished) {
                (true, _) => Self::Open,
                (false, Some(_)) => Self::Continue,
                (false, None) => Self::Tutorial,
            };
        }
        let lesson = bench.tutorial.lesson().and_then(|lesson| Self::of_lesson(lesson, bench, view));
        lesson.unwrap_or_else(|| Self::of_place(bench, view))
    }

    /// `None` where the lesson's next deed is what the screen leads to.
    fn of_lesson(lesson: &Lesson, bench: &Workbench, view: &View) -> Option<Self> {
        let progress = &bench.memory.tutorial;
        if progress.done.contains(&lesson.key()) {
            return Some(Self::NextLesson);
        }
        if lesson.unguessed(progress).is_some() {
            return Some(Self::Guess);
        }
        if lesson.setup.is_some_and(|setup| !setup.is_done(view, progress)) {
            return Some(Self::SetUp);
        }
        match lesson.path {
            // Several steps make a finale: each of them leads on.
            Path::Break | Path::Budget | Path::Range => (bench.place != Place::Step).then_some(Self::ToTask),
            Path::Ptq | Path::Qat => {
                if bench.place != Place::Step || bench.step != lesson.check.step() {
                    return Some(Self::ToTask);
                }
                let method = lesson.check.by_qat().is_none_or(|by_qat| by_qat == bench.choices.by_qat);
                (!method || !runs(bench.step, view)).then_some(Self::DoIt)
            }
        }
    }

    fn of_place(bench: &Workbench, view: &View) -> Self {
        let left = !matches!(view.stage().map(AsRef::as_ref), Some(Stage::Saved { .. }));
        let bar = if left { Self::RunAll } else { Self::Nothing };
        match bench.place {
            Place::Step if bench.step == Step::Calibrate && bench.tab == Tab::Picture => {
                if bench.calibrate.is_tried(view) { Self::Range } else { Self::Step }
            }
            Place::Step => Self::Step,
            Place::Images => {
                let opened = view.recipe.as_ref().is_none_or(|r| r.preprocess == bench.choices.preprocess);
                if opened { bar } else { Self::Reopen }
            }
            Place::Compare if !bench.compare.shows_sizes() && bench.runs.runs().is_empty() => Self::FirstRun,
            Place::Compare => bar,
            Place::Learn => Self::Learn,
        }
    }
}

/// Whether a step's own button runs it now: it is its turn, or it is not finished.
fn runs(step: Step, view: &View) -> bool {
    match view.steps()[step.index()].state {
        StepState::Ready => true,
        StepState::Stale => view.stage_before(step).is_some(),
        StepState::Done => !screens::is_finished(step, view),
        StepState::Locked | StepState::Running => false,
    }
}
