//! What the window remembers from one start to the next, in a small file of its own. A broken file, or a broken value in
//! it, is as good as none: nothing of it can stop the start.

use std::path::{Path, PathBuf};

use eframe::egui::Theme;
use serde_json::{Value, json};

use super::tutorial::Progress;
use crate::session::write_file;

/// Files of a kind that are remembered.
const RECENT: usize = 6;
/// The file is some hundred bytes; what is larger is not ours.
const LARGEST: u64 = 1 << 16;
/// Sizes that a window may sensibly have, in points.
const SIZES: std::ops::RangeInclusive<f32> = 320.0..=16_384.0;

/// The smallest and the largest scale.
pub const ZOOM: (f32, f32) = (0.9, 2.0);
/// One press of Ctrl and plus or minus.
pub const ZOOM_STEP: f32 = 0.1;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Width and height in points.
    pub size: Option<[f32; 2]>,
    /// Light or dark; the system's where it was never chosen.
    pub theme: Option<Theme>,
    /// Scale, where it is not 1.
    pub zoom: Option<f32>,
    /// Weights files, the newest first.
    pub weights: Vec<String>,
    /// Image folders, the newest first.
    pub data: Vec<String>,
    /// How far the tutorial is.
    pub tutorial: Progress,
    /// The project folder, where one was chosen.
    pub project: Option<PathBuf>,
}

impl Memory {
    /// Reads the file; what is missing or no good is left at its default.
    pub fn load(path: &Path) -> Self {
        let small = std::fs::metadata(path).is_ok_and(|m| m.len() <= LARGEST);
        let text = small.then(|| std::fs::read_to_string(path).ok()).flatten().unwrap_or_default();
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let number = |v: &Value| v.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        let size =
            |v: &Value| Some([number(v.get(0)?)?, number(v.get(1)?)?]).filter(|s| s.iter().all(|x| SIZES.contains(x)));
        let theme = match value.get("theme").and_then(Value::as_str) {
            Some("dark") => Some(Theme::Dark),
            Some("light") => Some(Theme::Light),
            Some(_) | None => None,
        };
        let list = |key: &str| {
            let all = value.get(key).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(|v| v.as_str().map(str::to_owned)).take(RECENT).collect()
        };
        Self {
            size: value.get("size").and_then(size),
            theme,
            zoom: value.get("zoom").and_then(number).map(clamp_zoom),
            weights: list("weights"),
            data: list("data"),
            tutorial: Progress::of(value.get("tutorial")),
            project: value.get("project").and_then(Value::as_str).map(PathBuf::from),
        }
    }

    fn text(&self) -> String {
        let theme = self.theme.map(|theme| match theme {
            Theme::Dark => "dark",
            Theme::Light => "light",
        });
        let value = json!({
            "size": self.size, "theme": theme, "zoom": self.zoom, "weights": self.weights, "data": self.data,
            "tutorial": self.tutorial.value(),
            "project": self.project,
        });
        format!("{value:#}\n")
    }

    /// Writes the file beside its place and moves it there.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        write_file(path, self.text().as_bytes()).map(drop).map_err(std::io::Error::other)
    }

    /// Notes the weights and images of a model that was opened; empty ones are the sample's.
    pub fn note(&mut self, weights: &str, data: &str) {
        for (list, path) in [(&mut self.weights, weights.trim()), (&mut self.data, data.trim())] {
            if !path.is_empty() {
                list.retain(|p| p != path);
                list.insert(0, path.to_owned());
                list.truncate(RECENT);
            }
        }
    }
}

/// A scale within its limits, on a step.
pub fn clamp_zoom(zoom: f32) -> f32 {
    let steps = (zoom / ZOOM_STEP).round();
    (steps * ZOOM_STEP).clamp(ZOOM.0, ZOOM.1)
}

/// Where the file is: the system's folder for settings, if it has one.
pub(super) fn place() -> Option<PathBuf> {
    Some(directories::ProjectDirs::from("", "", "octet")?.config_dir().join("window.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/window.json");
        assert_eq!(Memory::load(&path), Memory::default());
        let mut memory =
            Memory { size: Some([900.0, 700.0]), theme: Some(Theme::Light), zoom: Some(1.5), ..Memory::default() };
        memory.project = Some(folder.path().to_owned());
        for i in 0..9 {
            memory.note(&format!("w{i}.pth"), " images ");
        }
        memory.save(&path).expect("written");
        memory.save(&path).expect("written over");
        assert_eq!(Memory::load(&path), memory);
        assert_eq!((memory.weights.len(), memory.weights[0].as_str(), memory.data.len()), (RECENT, "w8.pth", 1));
    }

    #[test]
    fn a_broken_file_is_as_good_as_none() {
        for text in
            ["", "{", "[1]", "null", "\u{0}", "{\"size\": [1e999, 3], \"theme\": 3, \"zoom\": \"x\", \"data\": {}}"]
        {
            assert_eq!(Memory::parse(text), Memory::default(), "{text}");
        }
        // One bad value costs no other.
        let memory = Memory::parse("{\"size\": [5, 5], \"zoom\": 99, \"theme\": \"dark\", \"weights\": [1, \"a\"]}");
        let expected =
            Memory { theme: Some(Theme::Dark), zoom: Some(2.0), weights: vec!["a".to_owned()], ..Memory::default() };
        assert_eq!(memory, expected);
    }

    #[test]
    fn scales_stand_on_tenths_within_their_limits() {
        for (zoom, expected) in [(0.1, 0.9), (1.04, 1.0), (1.26, 1.3), (5.0, 2.0)] {
            assert!((clamp_zoom(zoom) - expected).abs() < 1e-6, "{zoom}");
        }
    }
}
