//! Files that are dropped on the window, or picked in a dialog, each to where it belongs.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use eframe::egui::{Align2, Context, Id, LayerId, Order, Stroke, StrokeKind};

use super::actions::Given;
use super::theme::{self, Tone, Type};
use super::workbench::Workbench;
use crate::session::{Command, CommandKind, Probe, Recipe, Step, View, is_int8_file, read_recipe};

/// A recipe that is being read beside the frame: an int8 file can be large.
pub(super) type Reading = Probe<Result<Box<Recipe>, String>>;

/// What a file is for, by its kind and name.
fn given(path: &Path) -> Result<Given, String> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    let path = path.to_owned();
    if path.is_dir() {
        return Ok(Given::Data(path));
    }
    match extension.as_str() {
        "pth" | "pt" => Ok(Given::Weights(path)),
        "safetensors" if is_int8_file(&path) => Ok(Given::Recipe(path)),
        "safetensors" => Ok(Given::Weights(path)),
        "toml" | "json" => Ok(Given::Recipe(path)),
        "bin" => Ok(Given::Data(path)),
        _ => Err(format!(
            "{}: is nothing that Octet opens: expected a state dict (.pth, .pt, .safetensors), a folder of images, an int8 \
             file or a recipe (.toml, .json)",
            path.display()
        )),
    }
}

/// Takes what was dropped since the last frame, and shows where it goes while it hovers.
pub(super) fn drops_ui(ctx: &Context, bench: &mut Workbench, view: &View) {
    let (hovered, dropped): (Vec<PathBuf>, Vec<PathBuf>) = ctx.input(|i| {
        let hovered = i.raw.hovered_files.iter().map(|f| f.path.clone().unwrap_or_default());
        (hovered.collect(), i.raw.dropped_files.iter().map(|f| f.path().to_owned()).collect())
    });
    if let Some(path) = hovered.first() {
        hint_ui(ctx, path);
    }
    for path in dropped {
        bench.give(&path, view, ctx);
    }
    let Some(reading) = &bench.reading else { return };
    let mut read = None;
    let more = reading.drain(|answer| read = Some(answer));
    if !more {
        read = read.or(reading.failure().map(|why| Err(why.to_owned())));
    }
    if read.is_some() || !more {
        bench.reading = None;
    }
    match read {
        Some(Ok(mut recipe)) => {
            bench.choices.take_recipe(&recipe);
            // No file says whether accuracy is foreseen while calibrating: that is the window's.
            recipe.calibration = bench.choices.calibration;
            bench.ask(Command::Open(recipe));
            bench.go(Step::Stubs);
        }
        Some(Err(why)) => bench.notice = Some(why),
        None => {}
    }
}

/// Over everything: what would become of the file if it were let go.
fn hint_ui(ctx: &Context, path: &Path) {
    let p = theme::palette_of(ctx.theme());
    let (text, ink) = match given(path) {
        Ok(Given::Data(_)) => ("Drop to use these images", p.accent_ink),
        Ok(Given::Weights(_)) => ("Drop to load these weights", p.accent_ink),
        Ok(Given::Recipe(_)) => ("Drop to open what this file was made by", p.accent_ink),
        // Some systems tell the name only when the file is let go.
        Err(_) if path.as_os_str().is_empty() => {
            ("Drop weights, a folder of images, an int8 file or a recipe", p.accent_ink)
        }
        Err(_) => ("Octet does not open files of this kind", Tone::Trouble.ink(p.dark)),
    };
    let painter = ctx.layer_painter(LayerId::new(Order::Tooltip, Id::unique("drop hint")));
    let room = ctx.content_rect();
    painter.rect_filled(room, 0.0, p.ground.gamma_multiply(0.8));
    painter.rect_stroke(room.shrink(theme::GAP), theme::RADIUS, Stroke::new(2.0, ink), StrokeKind::Inside);
    painter.text(room.center(), Align2::CENTER_CENTER, text, Type::Display.strong(), ink);
}

impl Workbench {
    /// Does with a path what is there is for, or says that it is for nothing.
    pub(super) fn give(&mut self, path: &Path, view: &View, ctx: &Context) {
        self.notice = None;
        match given(path) {
            Ok(given) => self.take(given, view, ctx),
            Err(why) => self.notice = Some(why),
        }
    }

    /// Does with a file what it is for.
    pub(super) fn take(&mut self, given: Given, view: &View, ctx: &Context) {
        match given {
            Given::Weights(path) => {
                self.choices.weights = path.display().to_string();
                if view.allows(CommandKind::LoadWeights) {
                    self.go(Step::Weights);
                    self.ask(Command::LoadWeights(path));
                } else if view.stage().is_some() {
                    self.go(Step::Weights);
                    self.notice = Some("The weights are noted; they are loaded in step 2, before fusing.".to_owned());
                } else {
                    self.opening = true;
                }
            }
            Given::Data(path) => {
                self.choices.data = path.display().to_string();
                if view.stage().is_some() {
                    self.notice = Some("The images are noted; Open, above, starts over with them.".to_owned());
                } else {
                    self.opening = true;
                }
            }
            Given::Recipe(path) if view.running.is_none() => {
                let wake = ctx.clone();
                let job = move |emit: &mut dyn FnMut(Result<Box<Recipe>, String>) -> ControlFlow<()>| {
                    // Nobody listens any more where that breaks.
                    let _ = emit(read_recipe(&path).map(Box::new).map_err(|e| e.to_string()));
                };
                self.reading = Probe::start(move || wake.request_repaint(), job).ok();
            }
            Given::Recipe(_) => self.notice = Some("Something runs: cancel it first, then open the file.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_where_they_belong() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "nothing").expect("a file");
            path
        };
        assert_eq!(given(folder.path()), Ok(Given::Data(folder.path().to_owned())));
        for name in ["a.pth", "b.PT", "c.safetensors"] {
            assert!(matches!(given(&file(name)), Ok(Given::Weights(_))), "{name}");
        }
        for name in ["a.toml", "b.json"] {
            assert!(matches!(given(&file(name)), Ok(Given::Recipe(_))), "{name}");
        }
        assert!(given(&file("a.txt")).is_err_and(|why| why.contains("a.txt") && why.contains("expected")));
    }
}
