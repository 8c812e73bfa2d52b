//! The system's file dialogs, on a thread of their own so that the window never waits for one.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// Which field a dialog fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A state dict.
    Weights,
    /// A folder of images.
    Data,
    /// Where the int8 file goes.
    Out,
    /// An int8 file, a recipe or a kept run.
    Recipe,
    /// Where charts and tables go.
    Charts,
    /// Where runs and the session are kept.
    Project,
}

/// Shows a dialog for a field and says what was picked; called on a thread of its own, where it may wait.
pub type Dialog = fn(Field) -> Option<PathBuf>;

/// The system's dialogs.
pub(super) fn system(field: Field) -> Option<PathBuf> {
    let dialog = rfd::FileDialog::new();
    match field {
        Field::Weights => dialog.add_filter("State dict", &["pth", "pt", "safetensors"]).pick_file(),
        Field::Data | Field::Charts | Field::Project => dialog.pick_folder(),
        Field::Out => dialog.set_file_name("model.octet.safetensors").save_file(),
        Field::Recipe => dialog.add_filter("Int8 file, recipe, run", &["safetensors", "toml", "json"]).pick_file(),
    }
}

impl Field {
    /// As the palette names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Weights => "Choose a weights file\u{2026}",
            Self::Data => "Choose a folder of images\u{2026}",
            Self::Out => "Name the int8 file\u{2026}",
            Self::Recipe => "Open an int8 file, a recipe or a run\u{2026}",
            Self::Charts => "Choose a folder for charts\u{2026}",
            Self::Project => "Choose the project folder\u{2026}",
        }
    }
}

/// How it stands with a dialog.
#[derive(Debug)]
pub(super) enum Finished {
    /// It is still open.
    Open,
    /// It was closed without a choice.
    Nothing,
    /// This was picked.
    Picked(Field, PathBuf),
}

/// A dialog that is open.
#[derive(Debug)]
pub(super) struct Browsing {
    field: Field,
    picked: Receiver<Option<PathBuf>>,
}

impl Browsing {
    /// Opens the dialog; `wake` is called when it closes. `None` where the system gives no thread.
    pub fn open(field: Field, dialog: Dialog, wake: impl FnOnce() + Send + 'static) -> Option<Self> {
        let (sender, picked) = channel();
        let ask = move || {
            let path = dialog(field);
            // The window may be gone by now.
            if sender.send(path).is_ok() {
                wake();
            }
        };
        std::thread::Builder::new().name("octet-dialog".to_owned()).spawn(ask).ok()?;
        Some(Self { field, picked })
    }

    /// What was picked, once the dialog is closed.
    pub fn finish(&self) -> Finished {
        match self.picked.try_recv() {
            Ok(Some(path)) => Finished::Picked(self.field, path),
            Ok(None) | Err(TryRecvError::Disconnected) => Finished::Nothing,
            Err(TryRecvError::Empty) => Finished::Open,
        }
    }
}
