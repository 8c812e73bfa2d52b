//! The golden files: `MODEL.QCONFIG.json`.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use octet::{
    graph::{Activation, Graph, Node, Op},
    quant,
    zoo::{self, ModelConfig, ModelId},
};
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

/// What one run of PyTorch left behind; `default` is the qconfig's own observer, `minmax` a MinMaxObserver.
#[derive(Deserialize)]
pub struct Golden {
    pub model: String,
    pub engine: String,
    pub seed: u64,
    pub classes: usize,
    pub size: usize,
    pub default_qparams: BTreeMap<String, ObserverRecord>,
    pub minmax_qparams: BTreeMap<String, ObserverRecord>,
    pub default_weights: BTreeMap<String, LayerRecord>,
    pub minmax_weights: BTreeMap<String, LayerRecord>,
}

/// One observer; `min` and `max` are null where it never ran.
#[derive(Clone, Deserialize)]
pub struct ObserverRecord {
    pub scale: Vec<f32>,
    pub zero_point: Vec<i32>,
    pub quant_min: i32,
    pub quant_max: u8,
    pub min: Option<f32>,
    pub max: Option<f32>,
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

/// The folder of the golden files.
pub fn folder() -> PathBuf {
    env::var_os("OCTET_GOLDEN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

pub fn read_json<T: DeserializeOwned>(path: PathBuf) -> T {
    let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Golden {
    pub fn read(model: ModelId, engine: &str) -> Self {
        let golden: Self = read_json(folder().join(format!("{model}.{engine}.json")));
        assert_eq!((golden.model.as_str(), golden.engine.as_str()), (model.name(), engine));
        golden
    }

    /// The float model of the run, stubs and synthetic weights in.
    pub fn float(&self) -> Graph {
        let model = self.model.parse().expect("a model of the zoo");
        let graph = zoo::build(model, ModelConfig { classes: self.classes, size: self.size }).expect("a valid size");
        let (graph, _) = quant::insert_stubs(&graph).expect("a float model");
        synth::weights(&graph, self.seed)
    }

    /// The same, fused.
    pub fn fused(&self) -> Graph {
        quant::fuse(&self.float(), &quant::FuseOptions::default()).expect("a float model").0
    }
}

/// The name of a node's observer in the golden files: PyTorch's SiLU is quantized by a stub of its own.
pub fn observer_name(node: &Node) -> String {
    match node.op {
        Op::Activation(Activation::Silu) => format!("{}.quant", node.name),
        _ => node.name.clone(),
    }
}
