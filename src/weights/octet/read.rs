use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{
    ACTIVATION_SCALES, BATCH_NORM, BIASES, Document, ENTRY, FORMAT, Meta, WEIGHT_SCALES,
    rows::{FakeRow, NumericRow, OpRow, Row, lengthen},
};
use crate::{
    graph::{
        BatchNorm2d, Conv2d, Graph, Linear, MAX_NODES, Node, NodeId, Numeric, Op, QParams, QTensor, Shape, Tensor,
        Weight, check,
    },
    weights::{WeightsError, file::read_all, require_unique_keys, safe::parse, torch::format_error},
};

/// More than any network has; what a hostile file claims beyond is refused before it is computed with.
const MAX_EXTENT: usize = 1 << 20;
/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
const MAX_ACTIVATION: usize = 1 << 28;

/// Reads an int8 file and verifies all of it: lengths, shapes, `graph::check`.
///
/// # Errors
/// A missing, damaged or newer file; what does not fit is named.
pub fn read(path: &Path) -> Result<(Graph, Meta), WeightsError> {
    let data = read_all(path)?;
    let file = parse(path, &data)?;
    decode(&data, &file).map_err(|detail| format_error(path, detail)).and_then(|(graph, meta)| {
        check(&graph).map_err(|source| WeightsError::Graph { path: path.display().to_string(), source })?;
        Ok((graph, meta))
    })
}

/// Whether `path` is a safetensors file with Octet's metadata, whatever else may be wrong with it. Reads the header alone.
pub fn is_octet(path: &Path) -> bool {
    header(path).is_some_and(|h| h.metadata.contains_key(ENTRY))
}

/// Of a safetensors file, what stands beside its tensors.
#[derive(serde::Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<String, String>,
}

fn header(path: &Path) -> Option<Header> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut json = Vec::new();
    // No more is read than there is, whatever the file claims.
    file.take(u64::from_le_bytes(length).min(MAX_HEADER)).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

fn decode(data: &[u8], file: &SafeTensors<'_>) -> Result<(Graph, Meta), String> {
    let (_, header) = SafeTensors::read_metadata(data).map_err(|e| e.to_string())?;
    let json = header.metadata().as_ref().and_then(|m| m.get(ENTRY)).ok_or(
        "is a safetensors file without Octet's metadata: not an int8 file of ours; load it as weights with --weights",
    )?;
    require_unique_keys(json).map_err(|e| format!("its metadata is damaged: {e}"))?;
    let document: Document = serde_json::from_str(json).map_err(|e| version_error(json, &e))?;
    if document.format != FORMAT {
        return Err(format!("is of format {}, expected {FORMAT}; a newer Octet wrote it", document.format));
    }
    if document.nodes.is_empty() || document.nodes.len() > MAX_NODES {
        return Err(format!("has {} nodes, expected 1 to {MAX_NODES}", document.nodes.len()));
    }
    let mut reader = Reader {
        file,
        weight_scales: vector(file, WEIGHT_SCALES)?,
        biases: vector(file, BIASES)?,
        activation_scales: vector(file, ACTIVATION_SCALES)?,
        batch_norm: vector(file, BATCH_NORM)?,
        graph: Graph { name: document.model, nodes: Vec::with_capacity(document.nodes.len()) },
        weights: 0,
    };
    for row in document.nodes {
        reader.node(row)?;
    }
    let graph = reader.finish()?;
    let out = graph.node(graph.output()).shape;
    if out.pixels() != 1 {
        return Err(format!("its last node has an output of {out}, expected one number a class"));
    }
    let labels = document.meta.labels.len();
    if labels != 0 && labels != graph.classes() {
        return Err(format!("has {labels} labels for {} classes", graph.classes()));
    }
    Ok((graph, document.meta))
}

/// A later format may differ in anything but `format` itself: say the version rather than what did not parse.
fn version_error(json: &str, error: &serde_json::Error) -> String {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    match serde_json::from_str::<Version>(json) {
        Ok(Version { format }) if format != FORMAT => {
            format!("is of format {format}, expected {FORMAT}; a newer Octet wrote it")
        }
        Ok(_) | Err(_) => format!("its metadata is damaged: {error}"),
    }
}

/// Values that nodes take one after the other.
struct Vector {
    name: &'static str,
    values: Vec<f32>,
    taken: usize,
}

impl Vector {
    fn take(&mut self, len: usize, node: &str) -> Result<&[f32], String> {
        let end = self.taken.checked_add(len).filter(|end| *end <= self.values.len());
        let end =
            end.ok_or_else(|| format!("`{}` has {} values, too few for `{node}`", self.name, self.values.len()))?;
        let part = &self.values[self.taken..end];
        self.taken = end;
        if let Some(odd) = part.iter().find(|v| !v.is_finite()) {
            return Err(format!("`{}` holds {odd} for `{node}`", self.name));
        }
        Ok(part)
    }

    fn tensor(&mut self, len: usize, node: &str) -> Result<Tensor, String> {
        Ok(Tensor::new([len], self.take(len, node)?))
    }
}

fn vector(file: &SafeTensors<'_>, name: &'static str) -> Result<Vector, String> {
    let values = match file.tensor(name) {
        Ok(view) if view.dtype() == Dtype::F32 && view.shape().len() == 1 => floats(&view),
        Ok(view) => {
            return Err(format!("`{name}` is {:?} {:?}, expected one dimension of F32", view.dtype(), view.shape()));
        }
        Err(_) => Vec::new(),
    };
    Ok(Vector { name, values, taken: 0 })
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

struct Reader<'a> {
    file: &'a SafeTensors<'a>,
    weight_scales: Vector,
    biases: Vector,
    activation_scales: Vector,
    batch_norm: Vector,
    graph: Graph,
    weights: usize,
}

impl Reader<'_> {
    fn node(&mut self, row: Row) -> Result<(), String> {
        let Row(name, op, numeric, inputs, fused) = row;
        let inputs: Vec<NodeId> = inputs.into_iter().map(NodeId).collect();
        if let Some(late) = inputs.iter().find(|i| i.index() >= self.graph.nodes.len()) {
            return Err(format!("node `{name}` reads node {}, which does not come before it", late.index()));
        }
        let shapes: Vec<Shape> = inputs.iter().map(|i| self.graph.node(*i).shape).collect();
        let given = if let OpRow::Input(c, h, w) = &op { Some([*c, *h, *w]) } else { None };
        let op = self.op(&name, op, shapes.first().map_or(0, |s| s.c))?;
        let shape = match given {
            Some([c, h, w]) => {
                bounded(&name, &[c, h, w])?;
                Shape::new(c, h, w)
            }
            None => op.infer_shape(&name, &shapes).map_err(|e| e.to_string())?,
        };
        bounded(&name, &[shape.c, shape.h, shape.w])?;
        if shape.len() > MAX_ACTIVATION {
            return Err(format!("node `{name}` has an output of {shape}, which no machine holds"));
        }
        let numeric = self.numeric(&name, numeric)?;
        let fused = fused.iter().map(|short| lengthen(short, &name)).collect();
        self.graph.nodes.push(Node { name, op, inputs, shape, numeric, fused });
        Ok(())
    }

    fn numeric(&mut self, node: &str, row: Option<NumericRow>) -> Result<Numeric, String> {
        let (zero_point, qmax, fake) = match row {
            None => return Ok(Numeric::Float),
            Some(NumericRow::Observed(spec)) => return Ok(Numeric::Observed(spec)),
            Some(NumericRow::Int8(zero_point)) => (zero_point, 255, false),
            Some(NumericRow::Clamped(zero_point, qmax)) => (zero_point, qmax, false),
            Some(NumericRow::Fake(FakeRow { fake: (zero_point, qmax) })) => (zero_point, qmax, true),
        };
        let scale = self.activation_scales.take(1, node)?[0];
        let q = QParams { scale, zero_point, qmax };
        Ok(if fake { Numeric::FakeQuantized(q) } else { Numeric::Int8(q) })
    }

    /// The operation with its parameters; `channels` are those of its first input.
    fn op(&mut self, node: &str, row: OpRow, channels: usize) -> Result<Op, String> {
        Ok(match row {
            OpRow::Input(..) => Op::Input,
            OpRow::Quant => Op::QuantStub,
            OpRow::Dequant => Op::DeQuantStub,
            OpRow::Conv(stride, padding, groups, relu, bias, scales) => {
                bounded(node, &[stride, groups, padding.saturating_add(1)])?;
                let weight = self.weight(node, 4, scales)?;
                let bias = self.bias(node, bias, weight.shape()[0])?;
                Op::Conv2d(Conv2d { weight, bias, stride, padding, groups, bn: None, relu, fake: None })
            }
            OpRow::BatchNorm => self.norm(node, channels)?,
            OpRow::Linear(relu, bias, scales) => {
                let weight = self.weight(node, 2, scales)?;
                let bias = self.bias(node, bias, weight.shape()[0])?;
                Op::Linear(Linear { weight, bias, relu, fake: None })
            }
            OpRow::Act(a) => Op::Activation(a),
            OpRow::MaxPool(p) => {
                bounded(node, &[p.kernel, p.stride, p.padding.saturating_add(1)])?;
                Op::MaxPool2d(p)
            }
            OpRow::AvgPool => Op::AdaptiveAvgPool2d,
            OpRow::Mean => Op::MeanHw,
            OpRow::Add => Op::Add { relu: false },
            OpRow::AddRelu => Op::Add { relu: true },
            OpRow::Mul => Op::Mul,
            OpRow::Cat => Op::Cat,
            OpRow::Chunk(index, chunks) => Op::Chunk { index, chunks },
            OpRow::Shuffle(groups) => Op::ChannelShuffle { groups },
            OpRow::Flatten => Op::Flatten,
            OpRow::Dropout(p) => Op::Dropout { p: p as f32 },
            OpRow::StochasticDepth(p) => Op::StochasticDepth { p: p as f32 },
        })
    }

    fn norm(&mut self, node: &str, channels: usize) -> Result<Op, String> {
        let v = &mut self.batch_norm;
        Ok(Op::BatchNorm2d(BatchNorm2d {
            weight: v.tensor(channels, node)?,
            bias: v.tensor(channels, node)?,
            running_mean: v.tensor(channels, node)?,
            running_var: v.tensor(channels, node)?,
            eps: v.take(1, node)?[0],
            momentum: v.take(1, node)?[0],
        }))
    }

    fn weight(&mut self, node: &str, rank: usize, scales: usize) -> Result<Weight, String> {
        let key = format!("{node}.weight");
        let view = self.file.tensor(&key).map_err(|_| format!("`{key}` is missing"))?;
        let (shape, expected) = (view.shape().to_vec(), if scales == 0 { Dtype::F32 } else { Dtype::I8 });
        if shape.len() != rank || view.dtype() != expected {
            return Err(format!("`{key}` is {:?} {shape:?}, expected {expected:?} of {rank} dimensions", view.dtype()));
        }
        bounded(&key, &shape)?;
        self.weights += 1;
        if scales == 0 {
            let tensor = Tensor::new(shape, floats(&view));
            return match tensor.data.iter().find(|v| !v.is_finite()) {
                Some(odd) => Err(format!("`{key}` holds {odd}")),
                None => Ok(Weight::Float(tensor)),
            };
        }
        if scales != 1 && scales != shape[0] {
            return Err(format!("`{key}` has {scales} scales for {} channels", shape[0]));
        }
        let data = view.data().iter().map(|b| *b as i8).collect();
        let scales = self.weight_scales.take(scales, node)?;
        if let Some(odd) = scales.iter().find(|s| **s <= 0.0) {
            return Err(format!("`{key}` has the scale {odd}, expected more than 0"));
        }
        Ok(Weight::Int8(QTensor { shape, data, scales: scales.into() }))
    }

    fn bias(&mut self, node: &str, present: bool, len: usize) -> Result<Option<Tensor>, String> {
        present.then(|| self.biases.tensor(len, node)).transpose()
    }

    /// Nothing may be left over: a reader that ignores half a file would not notice that it is the wrong one.
    fn finish(self) -> Result<Graph, String> {
        let vectors = [&self.weight_scales, &self.biases, &self.activation_scales, &self.batch_norm];
        if let Some(v) = vectors.iter().find(|v| v.taken != v.values.len()) {
            return Err(format!("`{}` has {} values, the graph takes {}", v.name, v.values.len(), v.taken));
        }
        let expected = self.weights + vectors.iter().filter(|v| !v.values.is_empty()).count();
        if self.file.len() != expected {
            return Err(format!("has {} tensors, the graph takes {expected}", self.file.len()));
        }
        Ok(self.graph)
    }
}

/// Refuses zero and what no layer has.
fn bounded(what: &str, extents: &[usize]) -> Result<(), String> {
    match extents.iter().find(|e| **e == 0 || **e > MAX_EXTENT) {
        Some(odd) => Err(format!("`{what}` has the extent {odd}, expected 1 to {MAX_EXTENT}")),
        None => Ok(()),
    }
}
