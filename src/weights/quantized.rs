//! The quantized state dict of a model that PyTorch converted in eager mode: what is where, and what of it a graph takes.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use super::{KeyErrors, StateDict, WeightsError, load, torch::format_error};
use crate::graph::{Activation, BatchNorm2d, Graph, Node, Op, QParams, QTensor, Tensor};

/// A state dict of any kind that PyTorch saves.
#[derive(Clone, Debug)]
pub enum AnyDict {
    /// Float weights.
    Float(StateDict),
    /// Of a model prepared for quantization-aware training: float weights, and what fake quantization learnt.
    Qat(StateDict),
    /// Of a converted model.
    Quantized(QuantizedDict),
}

/// The state dict of a converted model. A linear layer's packed weight and bias are found under `X.weight` and `X.bias`,
/// as a convolution's are.
#[derive(Clone, Debug)]
pub struct QuantizedDict {
    /// Scales, zero points, biases, batch norm.
    pub plain: StateDict,
    /// int8 weights by their keys.
    pub weights: BTreeMap<String, QTensor>,
}

/// What a converted model is made of, by the names of the nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Int8State {
    /// Scale and zero point of each output that has its own.
    pub qparams: BTreeMap<String, QParams>,
    /// Weight and bias of convolutions and linear layers.
    pub layers: BTreeMap<String, (QTensor, Option<Tensor>)>,
}

impl From<StateDict> for AnyDict {
    fn from(dict: StateDict) -> Self {
        if dict.iter().any(|(key, _)| key.contains(".weight_fake_quant.")) {
            Self::Qat(dict)
        } else {
            Self::Float(dict)
        }
    }
}

impl From<QuantizedDict> for AnyDict {
    fn from(dict: QuantizedDict) -> Self {
        if dict.weights.is_empty() { dict.plain.into() } else { Self::Quantized(dict) }
    }
}

/// Whether a converted module of PyTorch's keeps `scale` and `zero_point` of its output: the others have their input's, or
/// a known one.
pub(super) fn keeps_levels(op: &Op) -> bool {
    match op {
        Op::QuantStub
        | Op::Conv2d(_)
        | Op::BatchNorm2d(_)
        | Op::Linear(_)
        | Op::Add { .. }
        | Op::Mul
        | Op::Cat
        | Op::Activation(Activation::Hardswish | Activation::Silu) => true,
        Op::Input
        | Op::DeQuantStub
        | Op::Activation(Activation::Relu | Activation::Relu6 | Activation::Hardsigmoid | Activation::Sigmoid)
        | Op::MaxPool2d(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Chunk { .. }
        | Op::ChannelShuffle { .. }
        | Op::Flatten
        | Op::Dropout { .. }
        | Op::StochasticDepth { .. } => false,
    }
}

impl QuantizedDict {
    /// The file it came from.
    pub fn source(&self) -> &str {
        self.plain.source()
    }

    /// Rows of the head; `None` where none is found.
    pub fn classes(&self) -> Option<usize> {
        load::head(|key| self.weights.get(key).map(|w| w.shape.as_slice()))
    }

    /// Layers of the float `graph`, between stubs, whose batch norm was quantized apart instead of folded into them.
    pub fn apart(&self, graph: &Graph) -> Vec<String> {
        let prefix = self.prefix(graph);
        let norms = graph.nodes.iter().filter(|n| matches!(n.op, Op::BatchNorm2d(_)));
        let apart = norms.filter(|n| self.plain.get(&format!("{prefix}{}.running_mean", n.name)).is_some());
        apart.map(|n| graph.node(n.inputs[0]).name.clone()).collect()
    }

    /// What the nodes of `graph` take, which is float, between stubs, and fused as the file's model was; and `graph` with
    /// the batch norms that the file has apart.
    ///
    /// # Errors
    /// [`WeightsError::Keys`] listing every missing, surplus and misshapen key; a scale or a zero point that is none.
    pub fn take(&self, graph: &Graph) -> Result<(Graph, Int8State), WeightsError> {
        let mut taker = Taker {
            dict: self,
            path: Path::new(self.source()),
            prefix: self.prefix(graph),
            errors: KeyErrors::default(),
            used: HashSet::new(),
            state: Int8State::default(),
            norms: Vec::new(),
        };
        for node in &graph.nodes {
            taker.node(node)?;
        }
        taker.surplus();
        let Taker { errors, state, norms, .. } = taker;
        if !errors.is_empty() {
            let (path, model) = (self.source().to_owned(), graph.name.clone());
            return Err(WeightsError::Keys { path, model, keys: Box::new(errors) });
        }
        Ok((graph.with_params(&norms.into_iter().collect()), state))
    }

    fn prefix(&self, graph: &Graph) -> &'static str {
        let layers: Vec<&Node> = graph.nodes.iter().filter(|n| n.op.weight().is_some()).collect();
        load::likeliest_prefix(|prefix| {
            layers.iter().filter(|n| self.weights.contains_key(&format!("{prefix}{}.weight", n.name))).count()
        })
    }
}

struct Taker<'a> {
    dict: &'a QuantizedDict,
    path: &'a Path,
    prefix: &'static str,
    errors: KeyErrors,
    /// Keys that were taken, as the file spells them.
    used: HashSet<String>,
    state: Int8State,
    norms: Vec<(String, Tensor)>,
}

impl Taker<'_> {
    fn node(&mut self, node: &Node) -> Result<(), WeightsError> {
        if keeps_levels(&node.op) {
            self.levels(node)?;
        }
        if let Some(expected) = node.op.weight() {
            self.layer(&node.name, expected.shape());
        }
        if let Op::BatchNorm2d(BatchNorm2d { weight, .. }) = &node.op {
            for part in ["weight", "bias", "running_mean", "running_var"] {
                let key = format!("{}.{part}", node.name);
                if let Some(tensor) = self.plain(&key, &weight.shape) {
                    self.norms.push((key, tensor));
                }
            }
        }
        Ok(())
    }

    fn levels(&mut self, node: &Node) -> Result<(), WeightsError> {
        let [scale, zero_point] = ["scale", "zero_point"].map(|part| format!("{}.{part}", node.name));
        let (Some(scale), Some(zero)) = (self.number(&scale), self.number(&zero_point)) else { return Ok(()) };
        let name = &node.name;
        if !(scale.is_finite() && scale > 0.0) {
            return Err(format_error(self.path, format!("`{name}.scale` is {scale}, expected a finite one above 0")));
        }
        if !(0.0..=255.0).contains(&zero) || zero.fract() != 0.0 {
            return Err(format_error(self.path, format!("`{name}.zero_point` is {zero}, expected 0 to 255 (quint8)")));
        }
        self.state.qparams.insert(name.clone(), QParams::new(scale, zero as u8));
        Ok(())
    }

    fn layer(&mut self, name: &str, expected: &[usize]) {
        let key = format!("{name}.weight");
        // A convolution before a batch norm that was quantized apart has none.
        let bias_key = format!("{name}.bias");
        let bias = self.spelled(&bias_key).and_then(|_| self.plain(&bias_key, &expected[..1]));
        let Some((spelled, weight)) = self.find(&key, &self.dict.weights) else {
            self.errors.missing.push(key);
            return;
        };
        let weight = weight.clone();
        self.used.insert(spelled);
        if weight.shape != expected {
            self.errors.misshapen.push((key, weight.shape, expected.to_vec()));
            return;
        }
        self.state.layers.insert(name.to_owned(), (weight, bias));
    }

    /// A tensor of the expected shape; else it is noted what is wrong.
    fn plain(&mut self, key: &str, expected: &[usize]) -> Option<Tensor> {
        let Some(spelled) = self.spelled(key) else {
            self.errors.missing.push(key.to_owned());
            return None;
        };
        let tensor = self.dict.plain.get(&spelled)?.clone();
        self.used.insert(spelled);
        if tensor.shape != expected {
            self.errors.misshapen.push((key.to_owned(), tensor.shape, expected.to_vec()));
            return None;
        }
        Some(tensor)
    }

    fn number(&mut self, key: &str) -> Option<f32> {
        let Some(spelled) = self.spelled(key) else {
            self.errors.missing.push(key.to_owned());
            return None;
        };
        let tensor = self.dict.plain.get(&spelled)?;
        self.used.insert(spelled);
        if let [value] = tensor.data[..] {
            return Some(value);
        }
        self.errors.misshapen.push((key.to_owned(), tensor.shape.clone(), Vec::new()));
        None
    }

    /// A key of `plain` as the file spells it; a wrapper has its stubs beside what it wraps.
    fn spelled(&self, key: &str) -> Option<String> {
        [format!("{}{key}", self.prefix), key.to_owned()].into_iter().find(|k| self.dict.plain.get(k).is_some())
    }

    fn find<'m>(&self, key: &str, map: &'m BTreeMap<String, QTensor>) -> Option<(String, &'m QTensor)> {
        let spelled = format!("{}{key}", self.prefix);
        map.get(&spelled).map(|weight| (spelled, weight))
    }

    /// Notes what no node took, but for counters and for sums that PyTorch declares and never runs.
    fn surplus(&mut self) {
        let idle = |key: &str| {
            let one = |part: &str, value: f32| {
                let tensor =
                    key.rsplit_once('.').and_then(|(module, _)| self.dict.plain.get(&format!("{module}.{part}")));
                tensor.is_some_and(|t| t.data[..] == [value])
            };
            load::is_counter(key) || (one("scale", 1.0) && one("zero_point", 0.0))
        };
        let plain = self.dict.plain.iter().map(|(key, _)| key).filter(|key| !idle(key));
        let weights = self.dict.weights.keys().map(String::as_str);
        let left: Vec<String> =
            plain.chain(weights).filter(|key| !self.used.contains(*key)).map(str::to_owned).collect();
        self.errors.surplus.extend(left);
    }
}
