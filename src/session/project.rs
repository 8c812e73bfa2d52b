use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Measured, Recipe, Side, Stage};
use crate::weights::{self, WeightsError};

/// A run's file is a few kilobytes; what is larger is none.
const LARGEST: u64 = 1 << 20;
/// How a run's file begins, so that no other JSON is taken for one.
const FORMAT: &str = "octet-run";
const VERSION: u32 = 1;
/// A file with a greater number in its name is none of ours.
const MOST_RUNS: usize = 1 << 40;

/// A folder in which every saved run is kept: `runs/0001-resnet18.json` and so on, one JSON file each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    folder: PathBuf,
}

/// What was chosen, what was written, what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    format: String,
    version: u32,
    /// Everything that was chosen.
    pub recipe: Recipe,
    /// The int8 file. A later run may have written another one under the same name.
    pub file: PathBuf,
    /// Length of the logits.
    pub classes: usize,
    /// Where the weights came from, in words.
    pub weights: String,
    /// Held-out images that accuracy was measured on; 0 where there were no labels.
    pub images: usize,
    /// float32.
    pub float: Side,
    /// Accuracy of the fake-quantized model, where it was measured.
    #[serde(default)]
    pub fake: Option<f64>,
    /// int8.
    pub int8: Side,
    /// `float.bytes / int8.bytes`.
    pub shrink: f64,
    /// The processor that it was timed on.
    pub cpu: String,
}

/// A run in a project.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRun {
    /// From 1, in the order in which they were kept.
    pub number: usize,
    /// Its JSON file.
    pub path: PathBuf,
    /// When that was written.
    pub when: Option<SystemTime>,
    /// What it holds.
    pub run: Run,
    /// Whether its int8 file is still there, and still its own: no later run wrote the same path.
    pub has_file: bool,
}

/// Why a run was not kept, or is not listed. Each message names the file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum ProjectError {
    /// A folder or file that cannot be written.
    #[error("{}: the run cannot be kept: {source}; choose another project folder", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A folder or file that cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file that holds no run.
    #[error("{}: is nothing that this Octet can read: {detail}; remove it, or move it elsewhere", path.display())]
    Format { path: PathBuf, detail: String },
}

impl Run {
    /// What a saved stage says, with the recipe that led there.
    pub(super) fn new(recipe: &Recipe, weights: String, measured: &Measured, fake: Option<f64>, stage: &Stage) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            recipe: recipe.clone(),
            file: std::path::absolute(&measured.file).unwrap_or_else(|_| measured.file.clone()),
            classes: stage.opened().classes,
            weights,
            images: measured.images,
            float: measured.float,
            fake,
            int8: measured.int8,
            shrink: measured.shrink,
            cpu: crate::kernels::cpu_name(),
        }
    }
}

impl Project {
    /// The project in this folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn runs_folder(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// Keeps a run under the next free number; the file and the number.
    ///
    /// # Errors
    /// [`ProjectError::Write`].
    pub fn keep(&self, run: &Run) -> Result<(usize, PathBuf), ProjectError> {
        let folder = self.runs_folder();
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| ProjectError::Write { path, source }
        };
        fs::create_dir_all(&folder).map_err(wrong(&folder))?;
        weights::clear_folder(&folder);
        let taken = numbered(&folder).map_err(wrong(&folder))?.into_iter().map(|(n, _)| n).max().unwrap_or(0);
        let mut number = taken + 1;
        loop {
            let path = folder.join(format!("{number:04}-{}.json", run.recipe.model));
            // Two programs at work in one folder never write the same file, and a name is there once its file is whole.
            match weights::write_new_file(&path, &json(run).map_err(wrong(&path))?) {
                Ok(()) => return Ok((number, path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(wrong(&path)(e)),
            }
        }
    }

    /// Every run, the oldest first, and what is wrong with files that hold none. A folder that does not exist yet has none.
    ///
    /// # Errors
    /// [`ProjectError::Read`], where the folder cannot be listed.
    pub fn runs(&self) -> Result<(Vec<KeptRun>, Vec<ProjectError>), ProjectError> {
        let folder = self.runs_folder();
        let mut found = match numbered(&folder) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ProjectError::Read { path: folder, source }),
        };
        found.sort();
        let (mut runs, mut wrong) = (Vec::<KeptRun>::new(), Vec::new());
        for (number, path) in found {
            match read(&path) {
                Ok(run) => {
                    let when = fs::metadata(&path).and_then(|m| m.modified()).ok();
                    let has_file = run.file.exists();
                    for earlier in runs.iter_mut().filter(|r| r.run.file == run.file) {
                        earlier.has_file = false;
                    }
                    runs.push(KeptRun { number, path, when, run, has_file });
                }
                Err(e) => wrong.push(e),
            }
        }
        Ok((runs, wrong))
    }
}

/// Reads a run's file.
///
/// # Errors
/// [`ProjectError`]
pub(super) fn read(path: &Path) -> Result<Run, ProjectError> {
    let run: Run = read_json(path)?;
    if run.format != FORMAT || run.version != VERSION {
        let found = weights::legible(&run.format);
        let detail = format!("it says {found} {}, expected {FORMAT} {VERSION}", run.version);
        return Err(ProjectError::Format { path: path.to_owned(), detail });
    }
    Ok(run)
}

/// Reads a small JSON file of a project.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ProjectError> {
    let unreadable = |source| ProjectError::Read { path: path.to_owned(), source };
    let format = |detail: String| ProjectError::Format { path: path.to_owned(), detail: weights::legible(&detail) };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > LARGEST {
        return Err(format(format!("it has {bytes} bytes, one has a few thousand")));
    }
    let text = String::from_utf8(fs::read(path).map_err(unreadable)?).map_err(|e| format(e.to_string()))?;
    weights::require_unique_keys(&text).map_err(|e| format(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| format(e.to_string()))
}

/// Files that are named as a run's, with their numbers.
fn numbered(folder: &Path) -> io::Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".json").and_then(|n| n.split_once('-')).and_then(|(n, _)| n.parse().ok());
        found.extend(number.filter(|n| *n < MOST_RUNS).map(|n| (n, path)));
    }
    Ok(found)
}

/// Writes a small JSON file, whole or not at all.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    weights::write_file(path, &json(value)?).map(drop).map_err(|e| match e {
        WeightsError::Write { source, .. } => source,
        other => io::Error::other(other.to_string()),
    })
}

fn json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::ModelId;

    fn run(model: ModelId, file: &Path) -> Run {
        let side = |accuracy, bytes, latency_ms| Side { accuracy, bytes, latency_ms };
        Run {
            format: FORMAT.to_owned(),
            version: VERSION,
            recipe: Recipe::new(model),
            file: file.to_owned(),
            classes: 10,
            weights: "shipped".to_owned(),
            images: 2500,
            float: side(Some(0.9), 4000, 2.0),
            fake: None,
            int8: side(None, 1000, 0.5),
            shrink: 4.0,
            cpu: "a CPU".to_owned(),
        }
    }

    #[test]
    fn runs_are_kept_in_order_and_read_back_as_they_were() {
        let folder = tempfile::tempdir().expect("a folder");
        let project = Project::new(folder.path().join("new"));
        assert_eq!(project.runs().expect("an empty list").0, []);
        let file = folder.path().join("a.octet.safetensors");
        fs::write(&file, "int8").expect("a file");
        for (number, model) in [(1, ModelId::ResNet18), (2, ModelId::ResNet50), (3, ModelId::ResNet18)] {
            assert_eq!(project.keep(&run(model, &file)).expect("kept").0, number);
        }
        let (runs, wrong) = project.runs().expect("a list");
        assert!(wrong.is_empty());
        assert_eq!(runs.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(runs[1].run, run(ModelId::ResNet50, &file));
        // All three wrote one path: it is the last one's file.
        assert_eq!(runs.iter().map(|r| r.has_file).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn what_is_no_run_is_named_and_the_others_are_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        let project = Project::new(folder.path());
        let (_, first) = project.keep(&run(ModelId::ResNet18, Path::new("a"))).expect("kept");
        let text = fs::read_to_string(&first).expect("a run");
        let runs = folder.path().join("runs");
        fs::write(runs.join("0002-broken.json"), &text[..text.len() / 2]).expect("a file");
        fs::write(runs.join("0003-later.json"), text.replace("\"version\": 1", "\"version\": 9")).expect("a file");
        fs::write(runs.join("notes.txt"), "no run").expect("a file");
        let (kept, wrong) = project.runs().expect("a list");
        assert_eq!(kept.len(), 1);
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert!(wrong.len() == 2 && wrong[0].contains("0002-broken.json"), "{wrong:?}");
        assert!(wrong[1].contains("octet-run 9, expected octet-run 1"), "{wrong:?}");
        // The next number is free of all of them.
        assert_eq!(project.keep(&run(ModelId::ResNet18, Path::new("a"))).expect("kept").0, 4);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "no folder").expect("a file");
        let error = Project::new(&file).keep(&run(ModelId::ResNet18, Path::new("a"))).expect_err("refused");
        assert!(error.to_string().contains("choose another project folder"), "{error}");
    }
}
