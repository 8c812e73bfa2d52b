//! The golden pairs: `MODEL.QCONFIG.json` and `MODEL.QCONFIG.safetensors`.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use octet::{
    graph::{Activation, Graph, Node, Op, QParams},
    quant::{self, QConfig},
    zoo::{self, ModelConfig, ModelId},
};
use safetensors::SafeTensors;
use serde::{Deserialize, de::DeserializeOwned};

use crate::synth;

/// The models with golden files.
pub const MODELS: [ModelId; 6] = [
    ModelId::ResNet18,
    ModelId::ResNet50,
    ModelId::ShuffleNetV2X05,
    ModelId::MobileNetV3Small,
    ModelId::MobileNetV3Large,
    ModelId::EfficientNetV2S,
];

/// The qconfigs with golden files.
const ENGINES: [&str; 2] = ["x86", "onednn"];

/// What one run of PyTorch left behind; `default` is the qconfig's own observer, `minmax` a MinMaxObserver.
#[derive(Deserialize)]
pub struct Golden {
    pub model: ModelName,
    pub engine: String,
    pub seed: u64,
    pub classes: usize,
    pub size: usize,
    pub calibration_batches: usize,
    pub calibration_batch: usize,
    pub default_qparams: BTreeMap<String, ObserverRecord>,
    pub minmax_qparams: BTreeMap<String, ObserverRecord>,
    pub default_weights: BTreeMap<String, LayerRecord>,
    pub minmax_weights: BTreeMap<String, LayerRecord>,
    /// By name, each `[images, classes]`.
    #[serde(skip)]
    logits: BTreeMap<String, Vec<f32>>,
}

/// A model by torchvision's name.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct ModelName(pub ModelId);

impl TryFrom<String> for ModelName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse().map(Self).map_err(|_| format!("`{name}` is not a model of the zoo"))
    }
}

/// One observer; `min` and `max` are null where it never ran.
#[derive(Clone, Deserialize)]
pub struct ObserverRecord {
    pub observer: String,
    pub scale: Vec<f32>,
    pub zero_point: Vec<i32>,
    pub quant_min: i32,
    pub quant_max: u8,
    pub min: Option<f32>,
    pub max: Option<f32>,
}

impl ObserverRecord {
    /// Scale and zero point per tensor, as activations have them.
    pub fn qparams(&self, name: &str) -> Result<QParams, String> {
        match (self.scale.as_slice(), self.zero_point.as_slice()) {
            ([scale], [zero_point]) => {
                let zero_point = u8::try_from(*zero_point).map_err(|e| format!("`{name}`: zero point: {e}"))?;
                Ok(QParams::new(*scale, zero_point))
            }
            _ => Err(format!("observer `{name}` is not per tensor")),
        }
    }
}

/// One quantized layer.
#[derive(Deserialize)]
pub struct LayerRecord {
    pub shape: Vec<usize>,
    pub int8_sha256: String,
    pub first_int8: Vec<i8>,
    pub scales_first: Vec<f32>,
    pub scales_sum: f64,
    pub bias_sum: f64,
    pub scale: f32,
    pub zero_point: u8,
}

/// The golden files that come with the tests.
pub const ORIGINAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// The folder of the golden files.
pub fn folder() -> PathBuf {
    env::var_os("OCTET_GOLDEN").map_or_else(|| PathBuf::from(ORIGINAL), PathBuf::from)
}

pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// `Err` with `message()` where `holds` is false.
pub fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

/// The qconfigs that the folder has a pair of the model for: both in ours, perhaps fewer in that of `OCTET_GOLDEN`.
pub fn engines(model: ModelId) -> Vec<&'static str> {
    let folder = folder();
    let there = |engine: &&str| {
        let stem = folder.join(format!("{model}.{engine}"));
        ["json", "safetensors"].iter().any(|extension| stem.with_added_extension(extension).exists())
    };
    ENGINES.into_iter().filter(|engine| env::var_os("OCTET_GOLDEN").is_none() || there(engine)).collect()
}

#[test]
fn the_folder_has_golden_pairs() {
    assert!(MODELS.into_iter().any(|model| !engines(model).is_empty()), "{}: no golden pair", folder().display());
}

/// Compares the pairs of a model, and fails with all that is wrong.
pub fn compare_pairs(model: ModelId, compare: fn(&Golden) -> Result<(), String>) {
    let failures: Vec<String> = engines(model)
        .into_iter()
        .filter_map(|engine| {
            let difference = Golden::read(&folder(), model, engine).and_then(|golden| compare(&golden)).err()?;
            Some(format!("{model} {engine}: {difference}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

impl Golden {
    /// The pair of a model and a qconfig.
    pub fn read(folder: &Path, model: ModelId, engine: &str) -> Result<Self, String> {
        let stem = folder.join(format!("{model}.{engine}"));
        let mut golden: Self = read_json(&stem.with_added_extension("json"))?;
        ensure(golden.model.0 == model && golden.engine == engine, || {
            format!("{}.json: it is of {} {}", stem.display(), golden.model.0, golden.engine)
        })?;
        golden.logits = read_logits(&stem.with_added_extension("safetensors"))?;
        Ok(golden)
    }

    /// As `octet` has it.
    pub fn config(&self) -> Result<QConfig, String> {
        self.engine.parse().map_err(|e| format!("{e}"))
    }

    /// PyTorch's logits of that name, of all probe images.
    pub fn logits(&self, name: &str) -> Result<&[f32], String> {
        let logits = self.logits.get(name).ok_or_else(|| format!("no tensor `{name}`"))?;
        ensure(!logits.is_empty() && logits.len().is_multiple_of(self.classes), || {
            format!("`{name}` has {} values, not rows of {} classes", logits.len(), self.classes)
        })?;
        Ok(logits)
    }

    /// The float model of the run, stubs and synthetic weights in.
    pub fn float(&self) -> Result<Graph, String> {
        let graph = zoo::build(self.model.0, ModelConfig { classes: self.classes, size: self.size });
        let graph = graph.map_err(|e| e.to_string())?;
        let (graph, _) = quant::insert_stubs(&graph).map_err(|e| e.to_string())?;
        Ok(synth::weights(&graph, self.seed))
    }

    /// The same, fused.
    pub fn fused(&self) -> Result<Graph, String> {
        let (graph, _) = quant::fuse(&self.float()?, &quant::FuseOptions::default()).map_err(|e| e.to_string())?;
        Ok(graph)
    }

    /// `count` synthetic images of that number: 0, 1, … are calibration batches, 1000 the probe.
    pub fn images(&self, number: usize, count: usize) -> Vec<f32> {
        synth::images(&format!("images/{number}"), self.seed, count * 3 * self.size * self.size)
    }

    /// The probe images for logits of that length.
    pub fn probe(&self, logits: &[f32]) -> (Vec<f32>, usize) {
        let count = logits.len() / self.classes;
        (self.images(1000, count), count)
    }
}

fn read_logits(path: &Path) -> Result<BTreeMap<String, Vec<f32>>, String> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let values = |data: &[u8]| data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok(file.iter().map(|(name, view)| (name.to_owned(), values(view.data()))).collect())
}

/// The name of a node's observer in the golden files: PyTorch's SiLU is quantized by a stub of its own.
pub fn observer_name(node: &Node) -> String {
    match node.op {
        Op::Activation(Activation::Silu) => format!("{}.quant", node.name),
        _ => node.name.clone(),
    }
}
