//! What a panic in a command may not leave halfway.

use std::any::Any;
use std::sync::Arc;

use super::state::Reporter;
use super::{CheckpointFile, Control, Event, Project, Recipe, Session, Stage};
use crate::buffers::refusal;

/// What a session was before a command.
pub(super) struct Standing {
    stages: (Recipe, Vec<Arc<Stage>>),
    project: Option<Project>,
    autosaves: bool,
    checkpoint: Option<CheckpointFile>,
}

impl Session {
    /// What a command may not leave halfway where it ends in a panic.
    pub(super) fn standing(&self) -> Standing {
        let stages = (self.recipe.clone(), self.stages().to_vec());
        Standing {
            stages,
            project: self.project.clone(),
            autosaves: self.autosaves,
            checkpoint: self.checkpoint.clone(),
        }
    }

    /// Goes on after a panic: steps that were done stay, a repair that was halfway is taken back.
    pub(super) fn recover(&mut self, before: Standing, emit: &mut dyn FnMut(Event)) {
        (self.autosaves, self.checkpoint) = (before.autosaves, before.checkpoint);
        // Going on with a session takes the project away for as long as it lasts.
        if self.project.is_none() {
            self.project = before.project;
        }
        if std::mem::replace(&mut self.repairing, false) {
            self.restore(before.stages, &mut Reporter { emit, control: &Control::default() });
        }
    }
}

/// What a panic said of itself, as a sentence for the user.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    if let Some(refused) = refusal(panic) {
        return refused.to_string();
    }
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("Octet itself failed ({}); your work up to here is kept", text.unwrap_or("without a reason"))
}
