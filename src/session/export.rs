//! Files that other tools open, and the self-check after each: what was written is read back and run.

use std::path::{Path, PathBuf};

use super::measure::Inputs;
use super::torch_model::{self, TorchModel};
use super::{PreprocessChoice, SessionError};
use crate::data::{Dataset, Preprocess, Source};
use crate::exec::float::{Device, Model};
use crate::exec::int8::{Plan, PlanOptions};
use crate::export::{ExportError, onnx};
use crate::graph::Graph;
use crate::int8_model::Int8Model;
use crate::weights::{
    self,
    octet::{self, Meta},
};
use crate::zoo::{self, ModelConfig, ModelId};

/// Why an ONNX file of an int8 model may give other logits than the model.
pub const ROUNDED: &str = "ONNX rounds biases to int32";

/// Images of the sample that a self-check runs.
const CHECKED: usize = 64;

/// What other tools open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// ONNX in QDQ form, from an int8 model.
    Onnx,
    /// PyTorch's quantized state dict, from an int8 model.
    Torch,
    /// Octet's int8 file, from a quantized state dict or a checkpoint of quantization-aware training.
    Octet,
    /// ONNX in float32, from a state dict.
    OnnxFloat,
    /// PyTorch's `.pt` of float weights, from a state dict.
    TorchFloat,
    /// safetensors of float weights, from a state dict.
    Safetensors,
}

/// What a state dict does not say of itself, and how to run the check.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The architecture of a state dict; `None` for an int8 file.
    pub model: Option<ModelId>,
    /// Must agree with the file where it is said.
    pub classes: Option<usize>,
    /// How images become numbers; an int8 file remembers its own.
    pub preprocess: PreprocessChoice,
    /// Threads of the check; 0 means one a core.
    pub threads: usize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Its path.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How what was read back agrees with what was exported.
    pub check: SelfCheck,
}

/// Logits of the file as it was read back, beside those of what was exported, on images of the sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelfCheck {
    /// How many.
    pub images: usize,
    /// Fraction whose likeliest class is the same.
    pub top1: f64,
    /// The largest difference of a logit.
    pub worst: f64,
    /// Of an int8 model whose last layer is int8: fraction of logits within two levels of the last layer, and the most
    /// levels that one is away.
    pub levels: Option<(f64, f64)>,
}

/// Writes `file` as `format` to `out`, reads it back and runs both.
///
/// # Errors
/// Those of reading, writing and running; [`SessionError::ExportKind`] where the file is not what the format takes;
/// [`SessionError::SelfCheck`] where a format that loses nothing did.
pub fn export(
    file: &Path,
    format: ExportFormat,
    out: &Path,
    options: &ExportOptions,
) -> Result<Exported, SessionError> {
    let exported = match format {
        ExportFormat::Onnx | ExportFormat::Torch | ExportFormat::Octet => int8(file, format, out, options)?,
        ExportFormat::OnnxFloat | ExportFormat::TorchFloat | ExportFormat::Safetensors => {
            float(file, format, out, options)?
        }
    };
    let lossless = !matches!(format, ExportFormat::Onnx | ExportFormat::OnnxFloat);
    if lossless && exported.check.worst != 0.0 {
        let (path, worst) = (out.display().to_string(), exported.check.worst);
        return Err(SessionError::SelfCheck { path, worst });
    }
    Ok(exported)
}

/// An int8 model, its labels, and how images become its input.
struct Int8 {
    graph: Graph,
    labels: Vec<String>,
    preprocess: Preprocess,
}

/// An int8 file, or what PyTorch quantized.
fn open_int8(file: &Path, options: &ExportOptions) -> Result<Int8, SessionError> {
    let Some(model) = options.model else {
        let model = Int8Model::open(file)?;
        let (preprocess, labels) = (*model.preprocess(), model.labels().to_vec());
        return Ok(Int8 { graph: model.into_parts().0, labels, preprocess });
    };
    if octet::is_octet(file) {
        return Err(kind(file, "--model is for state dicts; an int8 file knows its own: leave it out"));
    }
    let preprocess = preprocess(options)?;
    match torch_model::read(file, model, options.classes, preprocess.size)? {
        TorchModel::Int8(graph) => {
            let labels = (0..graph.classes()).map(|i| i.to_string()).collect();
            Ok(Int8 { graph, labels, preprocess })
        }
        TorchModel::Float(_) => {
            Err(kind(file, "it has float weights: quantize them with octet ptq, or export a float format"))
        }
    }
}

/// As `options` say, at 224 pixels where they do not.
fn preprocess(options: &ExportOptions) -> Result<Preprocess, SessionError> {
    let default = Dataset::open(&Source::Sample, 0)?.preprocess();
    let size = options.preprocess.size.unwrap_or(224);
    let preprocess = PreprocessChoice { size: Some(size), ..options.preprocess.clone() }.resolve(default);
    preprocess.check()?;
    Ok(preprocess)
}

fn int8(file: &Path, format: ExportFormat, out: &Path, options: &ExportOptions) -> Result<Exported, SessionError> {
    let Int8 { graph, labels, preprocess } = open_int8(file, options)?;
    if let Some(expected) = options.classes.filter(|expected| *expected != graph.classes()) {
        return Err(SessionError::Classes { found: graph.classes(), expected });
    }
    if graph.nodes.iter().all(|n| n.numeric.qparams().is_none()) {
        return Err(kind(file, "none of its layers is int8: export its float weights in a float format"));
    }
    let (bytes, back) = match format {
        ExportFormat::Torch => {
            let bytes = weights::write_torch_int8(out, &graph)?;
            let model: ModelId = graph.name.parse()?;
            match torch_model::read(out, model, Some(graph.classes()), preprocess.size)? {
                TorchModel::Int8(back) => (bytes, back),
                TorchModel::Float(_) => return Err(kind(out, "was read back as float weights")),
            }
        }
        ExportFormat::Octet => {
            let preprocess = serde_json::to_value(preprocess).expect("plain numbers and names become JSON");
            let meta = Meta { labels, preprocess, recipe: serde_json::Value::Null };
            (octet::write(out, &graph, &meta)?, octet::read(out)?.0)
        }
        ExportFormat::Onnx | ExportFormat::OnnxFloat | ExportFormat::TorchFloat | ExportFormat::Safetensors => {
            let remembered = serde_json::to_string(&preprocess).expect("plain numbers and names become JSON");
            let labels = serde_json::to_string(&labels).expect("names become JSON");
            let metadata = [("octet.labels", labels.as_str()), ("octet.preprocess", remembered.as_str())];
            (write_onnx(out, &graph, &metadata)?, read_onnx(out)?)
        }
    };
    let plan = PlanOptions { isa: None, threads: options.threads };
    let (mut before, mut after) = (Plan::new(&graph, &plan)?, Plan::new(&back, &plan)?);
    let inputs = sample(&preprocess)?;
    let scale = last_scale(&graph);
    let (one, two) = (before.run(&inputs.images, inputs.count), after.run(&inputs.images, inputs.count));
    Ok(Exported { file: out.to_owned(), bytes, check: compare(&one, &two, inputs.count, scale) })
}

fn float(file: &Path, format: ExportFormat, out: &Path, options: &ExportOptions) -> Result<Exported, SessionError> {
    let Some(model) = options.model else {
        return Err(kind(file, "a float format needs the architecture of its state dict: say --model"));
    };
    if octet::is_octet(file) {
        return Err(kind(
            file,
            "it is an int8 file, which has no float weights: export the state dict it was made from",
        ));
    }
    let dict = weights::read(file)?;
    let preprocess = preprocess(options)?;
    let classes = weights::classes(&dict).or(options.classes).unwrap_or(1000);
    if let Some(expected) = options.classes.filter(|expected| *expected != classes) {
        return Err(SessionError::Classes { found: classes, expected });
    }
    let blank = zoo::build(model, ModelConfig { classes, size: preprocess.size })?;
    let graph = weights::load(&blank, &dict)?;
    let (bytes, back) = match format {
        ExportFormat::OnnxFloat => (write_onnx(out, &graph, &[])?, read_onnx(out)?),
        ExportFormat::TorchFloat => {
            let bytes = weights::write_torch(out, &graph)?;
            (bytes, weights::load(&blank, &weights::read(out)?)?)
        }
        ExportFormat::Safetensors | ExportFormat::Onnx | ExportFormat::Torch | ExportFormat::Octet => {
            let bytes = weights::write_safetensors(out, &graph, false)?;
            (bytes, weights::load(&blank, &weights::read(out)?)?)
        }
    };
    let inputs = sample(&preprocess)?;
    let run = |graph: &Graph| Model::new(graph, &Device::Cpu)?.run(&inputs.images, inputs.count);
    let check = compare(&run(&graph)?, &run(&back)?, inputs.count, None);
    Ok(Exported { file: out.to_owned(), bytes, check })
}

fn kind(file: &Path, detail: &str) -> SessionError {
    SessionError::ExportKind { path: file.display().to_string(), detail: detail.to_owned() }
}

fn export_error(path: &Path, source: ExportError) -> SessionError {
    SessionError::Export { path: path.display().to_string(), source: Box::new(source) }
}

fn write_onnx(out: &Path, graph: &Graph, metadata: &[(&str, &str)]) -> Result<u64, SessionError> {
    let bytes = onnx::encode(graph, metadata).map_err(|e| export_error(out, e))?;
    Ok(weights::write_file(out, &bytes)?)
}

fn read_onnx(path: &Path) -> Result<Graph, SessionError> {
    let bytes = std::fs::read(path).map_err(|e| kind(path, &format!("cannot be read back: {e}")))?;
    onnx::decode(&bytes).map_err(|e| export_error(path, e))
}

/// Held-out images of the sample as the network takes them.
fn sample(preprocess: &Preprocess) -> Result<Inputs, SessionError> {
    let dataset = Dataset::open(&Source::Sample, 0)?;
    Inputs::first(&dataset.valid, CHECKED, preprocess, "the sample")
}

/// Width of one level of the logits, where the last layer is int8.
fn last_scale(graph: &Graph) -> Option<f32> {
    let last = graph.node(graph.output());
    last.inputs.first().and_then(|i| graph.node(*i).numeric.qparams()).map(|q| q.scale)
}

fn compare(before: &[f32], after: &[f32], images: usize, scale: Option<f32>) -> SelfCheck {
    let classes = before.len() / images.max(1);
    let best = |row: &[f32]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let rows = before.chunks_exact(classes.max(1)).zip(after.chunks_exact(classes.max(1)));
    let same = rows.filter(|(a, b)| best(a) == best(b)).count();
    // A NaN on either side must not pass for agreement.
    let apart = |a: &f32, b: &f32| if (a - b).is_nan() { f64::INFINITY } else { f64::from((a - b).abs()) };
    let apart: Vec<f64> = before.iter().zip(after).map(|(a, b)| apart(a, b)).collect();
    let worst = apart.iter().copied().fold(0.0, f64::max);
    let levels = scale.map(|scale| {
        let levels = |d: f64| (d / f64::from(scale)).round();
        let near = apart.iter().filter(|d| levels(**d) <= 2.0).count();
        (near as f64 / apart.len().max(1) as f64, levels(worst))
    });
    SelfCheck { images, top1: same as f64 / images.max(1) as f64, worst, levels }
}
