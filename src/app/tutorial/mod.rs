//! The tutorial: two paths and three finales beside the real workbench, as tasks on the learner's own model.
//!
//! The text is in `assets/tutorial`, one Markdown file a lesson, and says which [`check`] ends it. A check looks at the
//! session's `View` alone: a lesson is done when its work *is* done. What is pressed for the learner are the same
//! `Command`s as everywhere; numbers in formulas are those of the model that is open.

mod check;
mod finale;
mod formula;
mod guess;
mod learn;
mod lessons;
mod measure;
mod panel;
mod play;
mod progress;
mod prose;
mod todo;

pub use check::{Check, Verdict};
pub use finale::Setup;
pub use lessons::{Lesson, Path, lessons};
pub use progress::Progress;

pub(super) use learn::learn_ui;
pub(super) use panel::{Tutorial, lesson_ui};
