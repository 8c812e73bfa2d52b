use std::path::{Path, PathBuf};
use std::time::SystemTime;

use eframe::egui::{Context, RichText, Ui};

use crate::app::theme;
use crate::app::workbench::Workbench;
use crate::session::{
    ExportFormat, ExportOptions, Exported, LayerError, PreprocessChoice, Probe, ROUNDED, ReportJob, Stage, Step, View,
    export, save_recipe,
};

/// What can be written beside the int8 file, under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// What was done and what came out, as one HTML page.
    Report,
    /// Every choice, as TOML.
    Recipe,
    /// QDQ form.
    Onnx,
    /// PyTorch's quantized state dict.
    Torch,
}

impl Beside {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Report, Self::Recipe, Self::Onnx, Self::Torch];

    /// As its button says.
    pub fn title(self) -> &'static str {
        match self {
            Self::Report => "Report (HTML)",
            Self::Recipe => "Recipe (TOML)",
            Self::Onnx => "ONNX",
            Self::Torch => "PyTorch",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Report => "html",
            Self::Recipe => "toml",
            Self::Onnx => "onnx",
            Self::Torch => "pt",
        }
    }

    /// Beside `int8`, under its name.
    fn path(self, int8: &Path) -> PathBuf {
        let name = int8.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = name.strip_suffix(".octet.safetensors").or(name.strip_suffix(".safetensors")).unwrap_or(&name);
        int8.with_file_name(format!("{stem}.{}", self.ending()))
    }
}

type Told = Result<String, String>;

/// The newest of them: being written, written, or why not.
#[derive(Debug, Default)]
pub struct Written {
    probe: Option<Probe<Told>>,
    told: Option<Told>,
}

impl Written {
    /// Whether there is an int8 file, and nothing is being written.
    pub fn can(&self, view: &View) -> bool {
        self.probe.is_none() && view.running.is_none() && saved(view).is_some()
    }

    /// Writes it while the window goes on.
    pub fn start(&mut self, what: Beside, view: &View, errors: Option<&[LayerError]>, ctx: &Context) {
        let Some(job) = job(what, view, errors).filter(|_| self.can(view)) else { return };
        self.told = None;
        let ctx = ctx.clone();
        let run = move |emit: &mut dyn FnMut(Told) -> std::ops::ControlFlow<()>| {
            // A window that is gone wants no word.
            let _ = emit(job());
        };
        match Probe::start(move || ctx.request_repaint(), run) {
            Ok(probe) => self.probe = Some(probe),
            Err(e) => self.told = Some(Err(format!("the system gives no thread to write on: {e}"))),
        }
    }

    /// Takes what has come.
    pub fn take(&mut self) {
        let told = &mut self.told;
        let more = self.probe.as_ref().is_some_and(|p| p.drain(|found| *told = Some(found)));
        if !more && let Some(why) = self.probe.take().and_then(|p| p.failure().map(str::to_owned)) {
            self.told = Some(Err(why));
        }
    }
}

fn saved(view: &View) -> Option<&Path> {
    match view.stage_of(Step::Convert).map(AsRef::as_ref) {
        Some(Stage::Saved { measured, .. }) => Some(&measured.file),
        Some(_) | None => None,
    }
}

fn job(what: Beside, view: &View, errors: Option<&[LayerError]>) -> Option<Box<dyn FnOnce() -> Told + Send>> {
    let int8 = saved(view)?.to_owned();
    let out = what.path(&int8);
    let threads = view.recipe.as_ref().map_or(0, |r| r.threads);
    let exported = |format| -> Box<dyn FnOnce() -> Told + Send> {
        let (int8, out) = (int8.clone(), out.clone());
        let options = ExportOptions { model: None, classes: None, preprocess: PreprocessChoice::default(), threads };
        Box::new(move || export(&int8, format, &out, &options).map(|e| agreement(&e)).map_err(|e| e.to_string()))
    };
    Some(match what {
        Beside::Report => {
            let report = ReportJob::of_view(view, errors)?;
            Box::new(move || {
                report.write(&out, SystemTime::now()).map_err(|e| e.to_string())?;
                Ok(format!("{}: one page, nothing fetched.", out.display()))
            })
        }
        Beside::Recipe => {
            let recipe = view.recipe.clone()?;
            Box::new(move || {
                save_recipe(&out, &recipe).map_err(|e| e.to_string())?;
                Ok(format!("{}: octet run makes the same file of it.", out.display()))
            })
        }
        Beside::Onnx => exported(ExportFormat::Onnx),
        Beside::Torch => exported(ExportFormat::Torch),
    })
}

/// How what was read back agrees.
fn agreement(exported: &Exported) -> String {
    let (file, check) = (exported.file.display(), &exported.check);
    if check.worst == 0.0 {
        return format!("{file}: read back, every logit is equal on {} images.", check.images);
    }
    let near = check.levels.map_or(String::new(), |(near, worst)| {
        let near = format!(", {:.1} % of the logits within 2 levels, the worst {worst} away", near * 100.0);
        format!("{near}: {ROUNDED}, as step 4 can from the start")
    });
    format!("{file}: read back, top 1 agrees on {:.1} % of {} images{near}.", check.top1 * 100.0, check.images)
}

/// The buttons, and what became of the last one.
pub(super) fn beside_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    bench.result.written.take();
    let p = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("Beside it").color(p.weak));
        for what in Beside::ALL {
            let can = bench.result.written.can(view);
            if ui.add_enabled(can, eframe::egui::Button::new(what.title())).clicked() {
                bench.write_beside(what, view, ui.ctx());
            }
        }
        if bench.result.written.probe.is_some() {
            ui.spinner();
        }
    });
    match &bench.result.written.told {
        Some(Ok(text)) => super::prose(ui, text),
        Some(Err(why)) => crate::app::controls::banner_ui(ui, theme::Tone::Trouble, why),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stand_beside_the_int8_file_under_its_name() {
        for (what, expected) in [(Beside::Report, "a/net.html"), (Beside::Torch, "a/net.pt")] {
            assert_eq!(what.path(Path::new("a/net.octet.safetensors")), Path::new(expected));
        }
        assert_eq!(Beside::Recipe.path(Path::new("net.safetensors")), Path::new("net.toml"));
    }
}
