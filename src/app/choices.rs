//! What the user has set but not yet asked for: the drafts behind the fields.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::session::{
    ActivationSpec, Backend, Calibration, Catalog, FuseOptions, Method, ModelId, Place, PreprocessChoice,
    PublishedWeights, QConfig, QatTraining, Recipe, Repairs, Source, TrainConfig, WeightSpec, WeightsChoice, catalog,
};

/// Drafts of everything that a command carries.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Which architecture.
    pub model: ModelId,
    /// A folder of images; empty for the embedded sample.
    pub data: String,
    /// How images become numbers, where it is not as the data needs.
    pub preprocess: PreprocessChoice,
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
    /// Whether it is trained with fake quantization: the second method.
    pub by_qat: bool,
    /// And how.
    pub qat: QatTraining,
    /// Fusions that are switched off, by the layer's name.
    pub unfused: BTreeSet<String>,
    /// How activations and weights become int8, layer by layer.
    pub qconfig: QConfig,
    /// What is repaired on the way.
    pub repairs: Repairs,
    /// How many images.
    pub calibration: Calibration,
    /// Where the int8 file goes.
    pub out: String,
    folder: PathBuf,
    /// Whose layers `unfused` and the overrides name.
    layers_of: ModelId,
}

impl Choices {
    /// The defaults; files go to `folder`.
    pub fn new(folder: PathBuf) -> Self {
        let recipe = Recipe::new(ModelId::ShuffleNetV2X05);
        let mut choices = Self {
            model: recipe.model,
            data: String::new(),
            preprocess: recipe.preprocess,
            weights: String::new(),
            catalog: catalog().cloned().map_err(|e| e.to_string()),
            entry: String::new(),
            place: Place::from_env(),
            train: recipe.train,
            by_qat: false,
            qat: QatTraining::default(),
            unfused: BTreeSet::new(),
            qconfig: recipe.qconfig,
            repairs: recipe.repairs,
            calibration: Calibration { foresee: true, ..recipe.calibration },
            out: String::new(),
            folder,
            layers_of: recipe.model,
        };
        choices.name_the_file();
        choices
    }

    /// Where files go unless they are named.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Another folder for files; what was to go into the old one goes there.
    pub fn take_folder(&mut self, folder: PathBuf) {
        if let Ok(rest) = self.out().strip_prefix(&self.folder) {
            self.out = folder.join(rest).display().to_string();
        }
        self.folder = folder;
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

    /// Another backend's defaults for weights and levels; what else was chosen stays.
    pub fn take_backend(&mut self, backend: Backend) {
        let ActivationSpec { observer, scheme, bits, percentile, .. } = self.qconfig.activation;
        let plain = QConfig::new(backend);
        let weight = WeightSpec { observer: plain.weight.observer, ..self.qconfig.weight };
        let activation = ActivationSpec { observer, scheme, percentile, ..plain.activation.with_bits(bits) };
        let (biases, overrides) = (self.qconfig.biases, std::mem::take(&mut self.qconfig.overrides));
        self.qconfig = QConfig { activation, weight, biases, overrides, ..plain };
    }

    /// As many bits for activations and weights; with 8 the levels are the backend's.
    pub fn take_bits(&mut self, bits: u8) {
        let ActivationSpec { observer, scheme, percentile, .. } = self.qconfig.activation;
        let plain = QConfig::new(self.qconfig.name).activation.with_bits(bits);
        self.qconfig.activation = ActivationSpec { observer, scheme, percentile, ..plain };
        self.qconfig.weight.bits = bits;
    }

    /// Another model, without the weights of the one before: a state dict is of one model.
    pub fn take_model(&mut self, model: ModelId) {
        if model != self.model {
            self.weights.clear();
        }
        self.model = model;
    }

    /// Drops what was chosen for the layers of another model than the one that is picked now.
    pub fn forget_other_layers(&mut self) {
        if self.layers_of != self.model {
            self.unfused.clear();
            self.repairs.adaround.clear();
            self.qconfig.overrides.clear();
            self.layers_of = self.model;
        }
    }

    /// The method as chosen.
    pub fn method(&self) -> Method {
        if self.by_qat { Method::Qat(self.qat) } else { Method::Ptq }
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
            preprocess: self.preprocess.clone(),
            unfused: self.unfused.clone(),
            qconfig: self.qconfig.clone(),
            repairs: self.repairs.clone(),
            calibration: self.calibration,
            train: self.train,
            method: self.method(),
            ..Recipe::new(self.model)
        }
    }

    /// Takes over everything that a recipe says; where files go stays.
    pub fn take_recipe(&mut self, recipe: &Recipe) {
        self.model = recipe.model;
        self.weights = match &recipe.weights {
            WeightsChoice::File(path) => path.display().to_string(),
            WeightsChoice::Automatic | WeightsChoice::Train => String::new(),
        };
        self.data = match &recipe.data {
            Source::Sample => String::new(),
            Source::Path(path) => path.display().to_string(),
        };
        self.preprocess = recipe.preprocess.clone();
        self.train = recipe.train;
        self.by_qat = !recipe.method.is_ptq();
        if let Method::Qat(training) = recipe.method {
            self.qat = training;
        }
        self.unfused = recipe.unfused.clone();
        self.qconfig = recipe.qconfig.clone();
        self.repairs = recipe.repairs.clone();
        // Whether accuracy is foreseen while calibrating is the window's, and in no file.
        self.calibration = Calibration { foresee: self.calibration.foresee, ..recipe.calibration };
        self.layers_of = recipe.model;
        self.name_the_file();
    }

    /// Back to the embedded sample, with the weights that come with it.
    pub fn take_sample(&mut self) {
        self.data.clear();
        self.weights.clear();
    }

    /// Whether opening would give another model, other data or other inputs than `recipe` has.
    pub fn reopens(&self, recipe: &Recipe) -> bool {
        let own = self.recipe();
        own.model != recipe.model || own.data != recipe.data || own.preprocess != recipe.preprocess
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{ObserverKind, Override, Scheme};

    #[test]
    fn a_backend_brings_its_levels_and_leaves_the_rest() {
        let mut choices = Choices::new(PathBuf::new());
        choices.qconfig.activation.observer = ObserverKind::Mse;
        choices.qconfig.activation.scheme = Scheme::Symmetric;
        choices.qconfig.overrides.insert("fc".to_owned(), Override::Float);
        choices.take_backend(Backend::Qnnpack);
        let config = &choices.qconfig;
        assert_eq!((config.activation.quant_max, config.activation.observer), (255, ObserverKind::Mse));
        assert_eq!((config.weight.observer, config.overrides.len()), (ObserverKind::MinMax, 1));
        choices.take_backend(Backend::X86);
        choices.qconfig.weight.observer = ObserverKind::MinMax;
        choices.take_bits(5);
        assert_eq!(choices.qconfig.weight.observer, ObserverKind::MinMax, "bits are not granularity");
        assert_eq!((choices.qconfig.activation.quant_max, choices.qconfig.weight.bits), (31, 5));
        choices.take_bits(8);
        assert_eq!(choices.qconfig.activation.quant_max, 127, "x86's own again");
    }

    #[test]
    fn another_model_has_other_layers() {
        let mut choices = Choices::new(PathBuf::new());
        choices.unfused.insert("conv1.0".to_owned());
        choices.qconfig.overrides.insert("fc".to_owned(), Override::Float);
        choices.forget_other_layers();
        assert_eq!((choices.unfused.len(), choices.qconfig.overrides.len()), (1, 1), "the same model");
        choices.model = ModelId::ResNet18;
        choices.forget_other_layers();
        assert!(choices.unfused.is_empty() && choices.qconfig.overrides.is_empty());
    }
}
