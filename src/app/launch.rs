use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eframe::egui::{self, Ui};

use super::browse::Dialog;
use super::choices::Choices;
use super::frame::workbench_ui;
use super::memory::{self, Memory};
use super::workbench::{Request, Workbench};
use super::{fonts, theme};
use crate::session::{Device, Project, Session, View, Worker};

/// Why there is no window. Each message names the command that does the same without one.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A machine without a display.
    #[error(
        "the window needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set: `octet ptq` does the same job without a window"
    )]
    NoDisplay,
    /// A display that cannot be drawn on: no OpenGL, a library missing, a refused connection.
    #[error("the window cannot be opened ({0}): `octet ptq` does the same job without a window")]
    CannotOpen(String),
    /// It opened, and then failed.
    #[error("the window failed ({0}): `octet ptq` does the same job without a window")]
    Failed(String),
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// [`AppError`], also where a library below panics.
pub fn run() -> Result<(), AppError> {
    if cfg!(all(unix, not(target_os = "macos"))) && !has_display(|name| std::env::var_os(name)) {
        return Err(AppError::NoDisplay);
    }
    let opened = Arc::new(AtomicBool::new(false));
    quiet_until(opened.clone());
    let flag = opened.clone();
    let memory = memory::place().map(|path| Memory::load(&path)).unwrap_or_default();
    let size = memory.size;
    let result = catch_unwind(AssertUnwindSafe(|| {
        eframe::run_native(
            "Octet",
            options(size),
            Box::new(move |cc| {
                flag.store(true, Ordering::Relaxed);
                cc.egui_ctx.set_fonts(fonts::with_system_fallback());
                theme::install(&cc.egui_ctx);
                let ctx = cc.egui_ctx.clone();
                let mut window =
                    Window::new(Choices::new(folder(memory.project.as_deref())), move || ctx.request_repaint())?;
                window.remember(&cc.egui_ctx, memory, memory::place());
                Ok(Box::new(window))
            }),
        )
    }));
    let reason = match result {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(e)) => reason(&e),
        Err(panic) => said(&*panic),
    };
    let reason = one_line(&reason);
    Err(if opened.load(Ordering::Relaxed) { AppError::Failed(reason) } else { AppError::CannotOpen(reason) })
}

/// What eframe ran into, without its lists of settings.
fn reason(error: &eframe::Error) -> String {
    match error {
        eframe::Error::NoGlutinConfigs(..) => {
            "no OpenGL was found: install the system's libGL and libEGL, on Debian libgl1 and libegl1".to_owned()
        }
        other => other.to_string(),
    }
}

fn options(size: Option<[f32; 2]>) -> eframe::NativeOptions {
    eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("Octet")
            .with_app_id("octet")
            .with_inner_size(size.unwrap_or([1280.0, 820.0]))
            .with_min_inner_size([560.0, 340.0]),
        ..Default::default()
    }
}

/// Where results go: the folder that was chosen last, else the system's for data, else the working folder.
fn folder(chosen: Option<&Path>) -> PathBuf {
    if let Some(chosen) = chosen.filter(|f| f.is_dir()) {
        return chosen.to_owned();
    }
    let folder = directories::ProjectDirs::from("", "", "octet").map(|dirs| dirs.data_dir().to_owned());
    folder.filter(|f| std::fs::create_dir_all(f).is_ok()).unwrap_or_default()
}

fn has_display(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| var(name).is_some_and(|v| !v.is_empty()))
}

/// Until the window is open a panic of the libraries below becomes one sentence of ours; its trace would bury it.
fn quiet_until(opened: Arc<AtomicBool>) {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if opened.load(Ordering::Relaxed) {
            loud(info);
        }
    }));
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a reason").to_owned()
}

/// The first line, without a full stop and without the source file that some libraries name: it stands inside a
/// sentence.
fn one_line(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let said = match line.rsplit_once(".rs:") {
        Some((_, rest)) => rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':'),
        None => line,
    };
    said.trim().trim_end_matches('.').to_owned()
}

/// The window's contents: the worker, what it told, and what the user looks at.
#[derive(Debug)]
pub struct Window {
    worker: Worker,
    view: View,
    bench: Workbench,
    /// Where what is remembered is written, and what is there.
    memory_file: Option<PathBuf>,
    remembered: Memory,
}

impl Window {
    /// Starts the worker; `wake` is called whenever there is something new to draw.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn new(choices: Choices, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let project = Project::new(choices.folder());
        let mut bench = Workbench::new(choices);
        bench.look_into(&project);
        let worker = Worker::with(Session::new(Device::Cpu).in_project(project).autosaving(), wake)?;
        Ok(Self { worker, view: View::default(), bench, memory_file: None, remembered: Memory::default() })
    }

    /// Asks for files by these dialogs in place of the system's.
    pub fn asking(mut self, dialog: Dialog) -> Self {
        self.bench.dialog = dialog;
        self
    }

    /// Looks as it did when it was closed, and writes to `file` what changes from now on.
    pub fn remember(&mut self, ctx: &egui::Context, memory: Memory, file: Option<PathBuf>) {
        // Ctrl and plus are ours, to stay within the limits and to be remembered.
        ctx.options_mut(|options| options.zoom_with_keyboard = false);
        if let Some(theme) = memory.theme {
            ctx.set_theme(theme);
        }
        if let Some(zoom) = memory.zoom {
            ctx.set_zoom_factor(zoom);
        }
        self.remembered = memory.clone();
        self.bench.memory = memory;
        self.memory_file = file;
    }

    /// Writes what changed, once the pointer rests: a window that is being resized would write all the time.
    fn write_memory(&mut self, ctx: &egui::Context) {
        let (down, size) = ctx.input(|i| (i.pointer.any_down(), i.viewport().inner_rect.map(|r| r.size())));
        if let Some(size) = size {
            self.bench.memory.size = Some([size.x.round(), size.y.round()]);
        }
        if down || self.bench.memory == self.remembered {
            return;
        }
        self.remembered = self.bench.memory.clone();
        if let Some(file) = &self.memory_file {
            // A folder that cannot be written costs the next start its memory, and this one nothing.
            let _ = self.remembered.save(file);
        }
    }

    /// What the session has told.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What the user looks at.
    pub fn bench(&self) -> &Workbench {
        &self.bench
    }

    /// Takes in what the worker told since the last frame; never waits.
    pub fn logic(&mut self) {
        self.worker.drain(&mut self.view);
        self.bench.paused = self.worker.control().is_paused();
    }

    /// Draws a frame and passes on what was asked for.
    pub fn ui(&mut self, ui: &mut Ui) {
        workbench_ui(ui, &mut self.bench, &self.view);
        self.write_memory(ui.ctx());
        for request in self.bench.take_requests() {
            match request {
                Request::Command(command) => {
                    let kind = command.kind();
                    // Until it ends it counts as running, so that nothing is asked for twice in the moment before it begins.
                    match self.worker.send(command) {
                        true => self.view.expect(kind),
                        false => self.bench.notice = Some(format!("Too much waits already to {}.", kind.verb())),
                    }
                }
                Request::Cancel => self.worker.control().cancel(),
                Request::Pause => self.worker.control().pause(),
                Request::Resume => self.worker.control().resume(),
            }
        }
    }
}

impl eframe::App for Window {
    fn logic(&mut self, _ctx: &egui::Context, _frame: &mut eframe::Frame) {
        Window::logic(self);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        Window::ui(self, ui);
    }

    /// What shows where two panels meet between pixels.
    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_no_display() {
        assert!(!has_display(|_| None));
        assert!(!has_display(|_| Some("".into())));
        assert!(has_display(|name| (name == "WAYLAND_DISPLAY").then(|| "wayland-0".into())));
    }

    #[test]
    fn a_reason_loses_the_source_file_of_a_library() {
        let reason = "os error at /somewhere/winit/src/mod.rs:788: Failed to open connection to X server";
        assert_eq!(one_line(reason), "Failed to open connection to X server");
    }

    #[test]
    fn every_message_is_one_sentence_that_names_the_command() {
        let reason = one_line("libGL.so.1: cannot open shared object file.\n  backtrace");
        for error in [AppError::NoDisplay, AppError::CannotOpen(reason.clone()), AppError::Failed(reason)] {
            let text = error.to_string();
            assert!(text.contains("`octet ptq`") && text.lines().count() == 1, "{text}");
        }
    }
}
