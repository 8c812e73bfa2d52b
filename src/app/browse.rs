//! The system's file dialogs, on a thread of their own so that the window never waits for one.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::choices::Choices;

/// Which field a dialog fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Weights,
    Data,
    Out,
}

/// A dialog that is open.
#[derive(Debug)]
pub(super) struct Browsing {
    field: Field,
    picked: Receiver<Option<PathBuf>>,
}

impl Browsing {
    /// Opens the dialog; `wake` is called when it closes. `None` where the system gives no thread.
    pub fn open(field: Field, wake: impl FnOnce() + Send + 'static) -> Option<Self> {
        let (sender, picked) = channel();
        let dialog = move || {
            let dialog = rfd::FileDialog::new();
            let path = match field {
                Field::Weights => dialog.add_filter("State dict", &["pth", "pt", "safetensors"]).pick_file(),
                Field::Data => dialog.pick_folder(),
                Field::Out => dialog.set_file_name("model.octet.safetensors").save_file(),
            };
            // The window may be gone by now.
            if sender.send(path).is_ok() {
                wake();
            }
        };
        std::thread::Builder::new().name("octet-dialog".to_owned()).spawn(dialog).ok()?;
        Some(Self { field, picked })
    }

    /// Fills the field once something was picked; whether the dialog is closed.
    pub fn finish(&self, choices: &mut Choices) -> bool {
        match self.picked.try_recv() {
            Ok(Some(path)) => {
                let path = path.display().to_string();
                match self.field {
                    Field::Weights => choices.weights = path,
                    Field::Data => choices.data = path,
                    Field::Out => choices.out = path,
                }
                true
            }
            Ok(None) | Err(TryRecvError::Disconnected) => true,
            Err(TryRecvError::Empty) => false,
        }
    }
}
