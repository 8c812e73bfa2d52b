//! The golden pairs `NAME.qat.json` and `NAME.qat.safetensors`.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use octet::{
    graph::{FakeQuants, Graph, LearnedRange, Numeric},
    zoo::ModelId,
};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, de::DeserializeOwned};

/// The golden files that come with the tests.
pub const ORIGINAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// The folder of the golden files.
pub fn folder() -> PathBuf {
    env::var_os("OCTET_GOLDEN").map_or_else(|| PathBuf::from(ORIGINAL), PathBuf::from)
}

/// `Err` with `message()` where `holds` is false.
pub fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

/// How a run was trained.
#[derive(Clone, Copy, Deserialize)]
pub struct Recipe {
    pub seed: u64,
    pub steps: usize,
    pub lr: f64,
    pub momentum: f32,
    pub weight_decay: f32,
}

/// A whole network.
#[derive(Deserialize)]
pub struct Network {
    pub model: String,
    #[serde(flatten)]
    pub recipe: Recipe,
    pub classes: usize,
    pub batch: usize,
    pub size: usize,
    pub params: Vec<Key>,
    pub bn_buffers: Vec<Key>,
    pub act_fake_quants: Vec<Module>,
    pub weight_fake_quants: Vec<WeightModule>,
    pub plain_int8_weights: BTreeMap<String, LayerRecord>,
    pub still_int8_weights: BTreeMap<String, LayerRecord>,
    #[serde(skip)]
    pub tensors: Tensors,
}

#[derive(Deserialize)]
pub struct Key {
    pub key: String,
}

#[derive(Deserialize)]
pub struct Module {
    pub module: String,
    pub fixed: bool,
}

#[derive(Deserialize)]
pub struct WeightModule {
    pub module: String,
    pub channels: usize,
}

/// One int8 weight.
#[derive(Deserialize)]
pub struct LayerRecord {
    pub int8_sha256: String,
    pub first_int8: Vec<i8>,
    pub scales_first: Vec<f32>,
    pub scales_sum: f64,
}

/// The single layers.
#[derive(Deserialize)]
pub struct Units {
    #[serde(flatten)]
    pub recipe: Recipe,
    pub units: BTreeMap<String, UnitRecord>,
    #[serde(skip)]
    pub tensors: Tensors,
}

#[derive(Deserialize)]
pub struct UnitRecord {
    pub inputs: Vec<Vec<usize>>,
    pub params: BTreeMap<String, Vec<usize>>,
    pub act_fake_quants: Vec<String>,
    pub weight_fake_quants: Vec<String>,
}

/// Tensors by name; every type of the files fits in float64.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, Vec<f64>>);

impl Tensors {
    fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        let values = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                Dtype::I32 => data.as_chunks().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
                Dtype::I8 => data.iter().map(|b| f64::from(*b as i8)).collect(),
                other => return Err(format!("{}: `{name}` is {other:?}", path.display())),
            };
            Ok((name.to_owned(), values))
        };
        Ok(Self(file.iter().map(values).collect::<Result<_, String>>()?))
    }

    /// The values of that name.
    pub fn get(&self, name: &str) -> Result<&[f64], String> {
        self.0.get(name).map(Vec::as_slice).ok_or_else(|| format!("no tensor `{name}`"))
    }

    /// The same as the float32 numbers that they are.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, String> {
        Ok(self.get(name)?.iter().map(|v| *v as f32).collect())
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))
}

impl Network {
    /// The pair of a model.
    pub fn read(folder: &Path, model: &str) -> Result<Self, String> {
        let mut golden: Self = read_json(&folder.join(format!("{model}.qat.json")))?;
        ensure(golden.model == model, || format!("{model}.qat.json is of {}", golden.model))?;
        golden.tensors = Tensors::read(&folder.join(format!("{model}.qat.safetensors")))?;
        Ok(golden)
    }

    /// Of the zoo.
    pub fn id(&self) -> Result<ModelId, String> {
        self.model.parse().map_err(|_| format!("`{}` is not a model of the zoo", self.model))
    }

    /// PyTorch's ranges of the outputs in the run that `prefix` names, for a graph in the QAT form.
    pub fn output_ranges(&self, prefix: &str, graph: &Graph) -> Result<FakeQuants, String> {
        let mut state = FakeQuants::default();
        let of = |what: &str| self.tensors.f32(&format!("{prefix}{what}"));
        let (min, max) = (of("act_min")?, of("act_max")?);
        for (i, module) in self.act_fake_quants.iter().enumerate() {
            let node = graph.node(graph.require(&module.module).map_err(|e| e.to_string())?);
            if matches!(node.numeric, Numeric::Learned(_)) {
                let range = LearnedRange { min: vec![min[i]], max: vec![max[i]], step: Vec::new() };
                state.activations.insert(node.name.clone(), range);
            }
        }
        Ok(state)
    }

    /// The same, and of the weights.
    pub fn ranges(&self, prefix: &str, graph: &Graph) -> Result<FakeQuants, String> {
        let mut state = self.output_ranges(prefix, graph)?;
        let of = |what: &str| self.tensors.f32(&format!("{prefix}{what}"));
        let (min, max) = (of("weight_min")?, of("weight_max")?);
        let mut first = 0;
        for WeightModule { module, channels } in &self.weight_fake_quants {
            let of = |all: &[f32]| all[first..first + channels].to_vec();
            state.weights.insert(module.clone(), LearnedRange { min: of(&min), max: of(&max), step: Vec::new() });
            first += channels;
        }
        Ok(state)
    }
}

impl Units {
    /// The pair of all units.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut golden: Self = read_json(&folder.join("units.qat.json"))?;
        golden.tensors = Tensors::read(&folder.join("units.qat.safetensors"))?;
        Ok(golden)
    }
}

/// Whether the folder has a pair of this name: all are there in ours, perhaps fewer in that of `OCTET_GOLDEN`.
pub fn is_there(name: &str) -> bool {
    env::var_os("OCTET_GOLDEN").is_none() || folder().join(format!("{name}.qat.json")).exists()
}

/// Compares a model's pair, and fails with the first difference.
pub fn compare_model(model: &str, compare: fn(&Network) -> Result<(), String>) {
    if is_there(model) {
        let result = Network::read(&folder(), model).and_then(|golden| compare(&golden));
        assert!(result.is_ok(), "{model}: {}", result.expect_err("just seen"));
    }
}

#[test]
fn the_folder_has_golden_pairs() {
    let names = ["units", "resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small"];
    assert!(names.into_iter().any(is_there), "{}: no golden pair", folder().display());
}
