use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::error::TRAINING;
use super::{PublishedWeights, Recipe, SessionError, WeightsChoice};
use crate::data::{Dataset, Fit, Preprocess, Skipped, Source};
use crate::graph::Graph;
use crate::weights;
use crate::zoo::{self, ModelConfig};

/// How images become numbers, with what is not said left to the data's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PreprocessChoice {
    /// Height and width: 32 for the sample, 224 for folders.
    pub size: Option<usize>,
    /// How a rectangle becomes a square: as it is for the sample, cropped for folders.
    pub fit: Option<Fit>,
    /// The shorter side before a crop: the weights' own where they are torchvision's, `size * 256 / 224` else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// Subtracted from each channel in 0..1; ImageNet's.
    pub mean: Option<[f32; 3]>,
    /// Divides each channel; ImageNet's.
    pub std: Option<[f32; 3]>,
}

impl PreprocessChoice {
    /// What it means where `default` is the data's own.
    pub fn resolve(&self, default: Preprocess) -> Preprocess {
        let (size, fit) = (self.size.unwrap_or(default.size), self.fit.unwrap_or(default.fit));
        // A default belongs to its own size and crop.
        let same = (size, fit) == (default.size, default.fit);
        Preprocess {
            size,
            fit,
            resize: self.resize.or(default.resize.filter(|_| same)),
            mean: self.mean.unwrap_or(default.mean),
            std: self.std.unwrap_or(default.std),
        }
    }

    /// Exactly this, whatever the data's default.
    pub fn exactly(p: Preprocess) -> Self {
        Self { size: Some(p.size), fit: Some(p.fit), resize: p.resize, mean: Some(p.mean), std: Some(p.std) }
    }
}

/// A model and its data, opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Images, split into training and held-out ones.
    pub dataset: Arc<Dataset>,
    /// How they become numbers.
    pub preprocess: Preprocess,
    /// Classes of the model, which the data need not have.
    pub classes: usize,
    /// What the data is called in messages.
    pub source: String,
    /// Where it is, if it is in no memory.
    path: Option<PathBuf>,
    /// Files that turned out to be no image, each named once, with the reason.
    unreadable: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Opened {
    /// Opens the recipe's data and builds its model, weights random. The classes come from the recipe, else the head of
    /// the weights file, else the data; the preprocessing from the recipe, else the published weights, else the data.
    ///
    /// # Errors
    /// Those of the data, the weights' file and the zoo; [`SessionError::Head`] where the recipe contradicts the file.
    pub fn open(recipe: &Recipe, published: Option<&PublishedWeights>) -> Result<(Self, Graph), SessionError> {
        let dataset = Dataset::open(&recipe.data, recipe.seed)?;
        let from_file = match &recipe.weights {
            WeightsChoice::File(path) => weights::classes(&weights::read(path)?),
            WeightsChoice::Automatic | WeightsChoice::Train => None,
        };
        if let (Some(found), Some(expected), false) = (from_file, recipe.classes, recipe.reinit_head)
            && found != expected
        {
            return Err(SessionError::Head { found, expected });
        }
        // A new head is for the data's classes; one that is kept brings its own.
        let of_data = (dataset.labelled && recipe.reinit_head).then_some(dataset.labels.len());
        let classes = recipe.classes.or(of_data).or(from_file).unwrap_or(dataset.labels.len());
        // Nothing says how many classes there are: neither weights nor labels.
        if classes == 0 && recipe.classes.is_none() {
            return Err(SessionError::NoLabels { path: source_name(&recipe.data), what: TRAINING });
        }
        let default = dataset.preprocess();
        let preprocess = recipe.preprocess.resolve(published.map_or(default, |weights| weights.preprocess(default)));
        preprocess.check()?;
        Self::new(dataset, preprocess, classes, &recipe.data).build(recipe)
    }

    /// Data as a model of `classes` classes sees it.
    pub(super) fn new(dataset: Dataset, preprocess: Preprocess, classes: usize, source: &Source) -> Self {
        Self {
            dataset: Arc::new(dataset),
            preprocess,
            classes,
            source: source_name(source),
            path: if let Source::Path(path) = source { Some(path.clone()) } else { None },
            unreadable: Arc::default(),
        }
    }

    /// That the images are still there: of a batch, how many were read and which were not. One that is damaged is left
    /// out; where all are gone the disk was unplugged, and what would be measured on the rest tells nothing.
    ///
    /// # Errors
    /// [`SessionError::DataGone`].
    pub(super) fn require_there(&self, read: usize, skipped: &[Skipped]) -> Result<(), SessionError> {
        if skipped.is_empty() {
            return Ok(());
        }
        let gone = || read == 0 && skipped.iter().all(|file| !Path::new(&file.name).exists());
        match &self.path {
            Some(path) if !path.exists() || gone() => Err(SessionError::DataGone { path: self.source.clone() }),
            Some(_) | None => Ok(()),
        }
    }

    /// A line for each file that turned out to be no image and was not named before, with the count so far.
    pub(super) fn unreadable(&self, skipped: &[Skipped]) -> Vec<String> {
        let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        for file in skipped {
            if known.insert(file.name.clone(), file.reason.clone()).is_none() {
                lines.push(format!("Skipped {}: {} ({} skipped so far)", file.name, file.reason, known.len()));
            }
        }
        lines
    }

    /// How many files turned out to be no image, so far.
    pub fn skipped_count(&self) -> usize {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Which, by name.
    pub fn skipped(&self) -> Vec<Skipped> {
        let known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, reason)| Skipped { name: name.clone(), reason: reason.clone() }).collect()
    }

    /// The same data under a model of another class count, or prepared otherwise.
    ///
    /// # Errors
    /// Those of the zoo.
    pub fn with(&self, classes: usize, preprocess: Preprocess, recipe: &Recipe) -> Result<(Self, Graph), SessionError> {
        Self { classes, preprocess, ..self.clone() }.build(recipe)
    }

    fn build(self, recipe: &Recipe) -> Result<(Self, Graph), SessionError> {
        let config = ModelConfig { classes: self.classes, size: self.preprocess.size };
        let graph = zoo::build(recipe.model, config)?;
        Ok((self, zoo::init(&graph, recipe.seed)))
    }

    /// Why accuracy cannot be measured, as a sentence; `None` where it can.
    pub fn why_no_accuracy(&self) -> Option<String> {
        self.require_labels("accuracy").and_then(|()| self.require_held_out()).err().map(|e| e.to_string())
    }

    /// That the data has labels and they are the model's classes.
    ///
    /// # Errors
    /// [`SessionError::NoLabels`], [`SessionError::ClassesOfData`].
    pub fn require_labels(&self, what: &'static str) -> Result<(), SessionError> {
        if !self.dataset.labelled {
            return Err(SessionError::NoLabels { path: self.source.clone(), what });
        }
        if self.dataset.labels.len() != self.classes {
            let mut labels = self.dataset.labels.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
            if self.dataset.labels.len() > 4 {
                labels.push_str(", …");
            }
            return Err(SessionError::ClassesOfData {
                model: self.classes,
                data: self.dataset.labels.len(),
                labels,
                what,
            });
        }
        Ok(())
    }

    /// That there are held-out images.
    ///
    /// # Errors
    /// [`SessionError::NothingHeldOut`].
    pub fn require_held_out(&self) -> Result<(), SessionError> {
        if self.dataset.valid.is_empty() {
            return Err(SessionError::NothingHeldOut { path: self.source.clone() });
        }
        Ok(())
    }

    /// A name for each of the model's classes: the data's where they agree, else the index.
    pub fn labels(&self) -> Vec<String> {
        if self.dataset.labels.len() == self.classes {
            self.dataset.labels.clone()
        } else {
            (0..self.classes).map(|i| i.to_string()).collect()
        }
    }
}

/// What messages call the data.
fn source_name(source: &Source) -> String {
    match source {
        Source::Sample => "the embedded sample".to_owned(),
        Source::Path(path) => path.display().to_string(),
    }
}
