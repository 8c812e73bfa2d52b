//! What the user has set but not yet asked for: the drafts behind the fields.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::session::{
    Backend, Calibration, Catalog, FuseOptions, ModelId, ObserverKind, Place, PublishedWeights, QConfig, Recipe,
    Source, TrainConfig, WeightsChoice, catalog,
};

/// Drafts of everything that a command carries.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Which architecture.
    pub model: ModelId,
    /// A folder of images; empty for the embedded sample.
    pub data: String,
    /// A state dict; may be empty.
    pub weights: String,
    /// torchvision's weights; or why their table cannot be read.
    pub catalog: Result<Catalog, String>,
    /// The entry of it that was picked; torchvision's default where the model has none of that name.
    pub entry: String,
    /// Where downloaded weights are kept.
    pub place: Place,
    /// How to train.
    pub train: TrainConfig,
    /// Fusions that are switched off, by the layer's name.
    pub unfused: BTreeSet<String>,
    /// Whose defaults.
    pub backend: Backend,
    /// What watches activations.
    pub observer: ObserverKind,
    /// How many images.
    pub calibration: Calibration,
    /// Where the int8 file goes.
    pub out: String,
    folder: PathBuf,
}

impl Choices {
    /// The defaults; files go to `folder`.
    pub fn new(folder: PathBuf) -> Self {
        let recipe = Recipe::new(ModelId::ShuffleNetV2X05);
        let mut choices = Self {
            model: recipe.model,
            data: String::new(),
            weights: String::new(),
            catalog: catalog().cloned().map_err(|e| e.to_string()),
            entry: String::new(),
            place: Place::from_env(),
            train: recipe.train,
            unfused: BTreeSet::new(),
            backend: recipe.qconfig.name,
            observer: recipe.qconfig.activation.observer,
            calibration: recipe.calibration,
            out: String::new(),
            folder,
        };
        choices.name_the_file();
        choices
    }

    /// The int8 file is named after the model.
    pub fn name_the_file(&mut self) {
        self.out = self.folder.join(format!("{}.octet.safetensors", self.model)).display().to_string();
    }

    /// Where the int8 file goes.
    pub fn out(&self) -> PathBuf {
        PathBuf::from(self.out.trim())
    }

    /// The state dict, if one was named.
    pub fn weights(&self) -> Option<PathBuf> {
        let path = self.weights.trim();
        (!path.is_empty()).then(|| PathBuf::from(path))
    }

    /// What is published for `model`, and which of it was picked.
    pub fn published(&self, model: ModelId) -> (Vec<&PublishedWeights>, Option<&PublishedWeights>) {
        let all: Vec<_> = self.catalog.iter().flat_map(|c| c.of(model)).collect();
        let picked = all.iter().find(|row| row.entry == self.entry).or(all.first()).copied();
        (all, picked)
    }

    /// The qconfig as chosen.
    pub fn qconfig(&self) -> QConfig {
        QConfig::new(self.backend).with_observer(self.observer)
    }

    /// The fusions as chosen.
    pub fn fuse(&self) -> FuseOptions {
        FuseOptions { disabled: self.unfused.clone() }
    }

    /// All of it as a recipe.
    pub fn recipe(&self) -> Recipe {
        let data = self.data.trim();
        Recipe {
            weights: self.weights().map_or(WeightsChoice::Automatic, WeightsChoice::File),
            data: if data.is_empty() { Source::Sample } else { Source::Path(PathBuf::from(data)) },
            unfused: self.unfused.clone(),
            qconfig: self.qconfig(),
            calibration: self.calibration,
            train: self.train,
            ..Recipe::new(self.model)
        }
    }

    /// Whether opening would give another model or other data than `recipe` has.
    pub fn reopens(&self, recipe: &Recipe) -> bool {
        let own = self.recipe();
        own.model != recipe.model || own.data != recipe.data
    }
}
