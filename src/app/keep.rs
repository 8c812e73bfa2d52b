//! Charts and tables that were asked to be saved: painted and written beside the frame, each under a name of its own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use eframe::egui::Context;

use super::fonts;
use super::plot::{Keepsake, Kind, take_keepsakes};
use super::workbench::Workbench;
use crate::chart;
use crate::session::{Probe, write_new_file};

/// Pixels a point of a picture.
const DENSITY: f32 = 2.0;
/// Files of one name in one folder; the next is refused.
const MOST: usize = 1000;

/// What is being written; the answer says where, or why not.
pub(super) type Keeping = Probe<Result<PathBuf, String>>;

/// Writes what was asked for, and says what was written.
pub(super) fn keep_ui(ctx: &Context, bench: &mut Workbench) {
    for keepsake in take_keepsakes(ctx) {
        let (folder, model) = (bench.charts_folder(), bench.choices.model.to_string());
        let wake = ctx.clone();
        let job = move |emit: &mut dyn FnMut(Result<PathBuf, String>) -> ControlFlow<()>| {
            // Nobody listens any more where that breaks.
            let _ = emit(write(&folder, &model, &keepsake));
        };
        match Probe::start(move || wake.request_repaint(), job) {
            Ok(probe) => bench.keeping.push(probe),
            Err(e) => bench.notice = Some(format!("the system gives no thread to save on: {e}")),
        }
    }
    let (mut said, mut wrong) = (None, None);
    bench.keeping.retain(|probe| {
        probe.drain(|answer| match answer {
            Ok(path) => said = Some(format!("Saved {}.", path.display())),
            Err(why) => wrong = Some(why),
        })
    });
    if let Some(said) = said {
        bench.said = Some((said, ctx.input(|i| i.time)));
    }
    if let Some(wrong) = wrong {
        bench.notice = Some(wrong);
    }
}

fn write(folder: &Path, model: &str, keepsake: &Keepsake) -> Result<PathBuf, String> {
    let bytes = match keepsake.kind {
        Kind::Csv | Kind::Svg => keepsake.text.clone().into_bytes(),
        Kind::Png => {
            let faces = [fonts::WORDS[0], fonts::WORDS[1], fonts::NUMBERS];
            chart::png(&keepsake.text, DENSITY, &faces).map_err(|e| e.to_string())?
        }
    };
    std::fs::create_dir_all(folder)
        .map_err(|e| format!("{}: cannot be made: {e}; name another folder", folder.display()))?;
    let name = format!("{model}-{}", slug(&keepsake.title));
    for i in 1..=MOST {
        let again = if i == 1 { String::new() } else { format!("-{i}") };
        let path = folder.join(format!("{name}{again}.{}", keepsake.kind.extension()));
        let wrong = |e: std::io::Error| format!("{}: cannot be written: {e}", path.display());
        // What was saved before stays.
        match write_new_file(&path, &bytes) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(wrong(e)),
        }
    }
    Err(format!("{}: has {MOST} files of the name {name}: remove some", folder.display()))
}

/// A title as a file is named: letters, digits and dashes.
fn slug(title: &str) -> String {
    let words: String = title.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    words.split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_a_name_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"8\" height=\"4\"/>".to_owned();
        let keepsake = |kind| Keepsake { title: "Loss, train & test".to_owned(), kind, text: text.clone() };
        for (kind, name) in [
            (Kind::Svg, "resnet18-loss-train-test.svg"),
            (Kind::Svg, "resnet18-loss-train-test-2.svg"),
            (Kind::Png, "resnet18-loss-train-test.png"),
        ] {
            let path = write(folder.path(), "resnet18", &keepsake(kind)).expect("written");
            assert_eq!(path, folder.path().join(name));
        }
        let png = image::open(folder.path().join("resnet18-loss-train-test.png")).expect("a picture");
        assert_eq!((png.width(), png.height()), (16, 8));
        let file = folder.path().join("resnet18-loss-train-test.svg");
        let refused = write(&file, "resnet18", &keepsake(Kind::Csv)).expect_err("a file is no folder");
        assert!(refused.contains("name another folder"), "{refused}");
    }
}
