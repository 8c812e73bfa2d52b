use std::collections::{HashMap, HashSet};

use prost::Message;

use super::{OPSET, attribute, fields, proto, tensor};
use crate::{
    export::ExportError,
    graph::{
        Activation, BatchNorm2d, Conv2d, Graph, Linear, MaxPool2d, Node, NodeId, Numeric, Op, QParams, QTensor, Shape,
        Tensor, Weight, check,
    },
};

/// More than any network has.
const MAX_NODES: usize = 1 << 16;
/// The same of channels, height, width, kernels and strides.
pub(super) const MAX_EXTENT: usize = 1 << 20;
const MAX_ACTIVATION: usize = 1 << 28;

/// Reads an ONNX model that [`super::encode`] wrote back into a graph, and verifies all of it. In QDQ form the graph is
/// int8, its biases what the int32 ones stand for; dropout and what was named but moved no value are gone.
///
/// # Errors
/// Damaged bytes, and any node, attribute or form that Octet does not write, by its name.
pub fn decode(bytes: &[u8]) -> Result<Graph, ExportError> {
    fields::require_few(bytes).map_err(ExportError::Decode)?;
    let model = proto::Model::decode(bytes).map_err(|e| ExportError::Decode(e.to_string()))?;
    let opset = model.opset_import.iter().find(|o| o.domain.as_deref().unwrap_or("").is_empty());
    let version = opset.and_then(|o| o.version);
    if version != Some(OPSET) {
        return Err(ExportError::Decode(format!("opset {version:?}, expected {OPSET}")));
    }
    let graph = model.graph.ok_or_else(|| ExportError::Decode("it has no graph".to_owned()))?;
    if graph.node.len() > MAX_NODES {
        return Err(ExportError::Decode(format!("{} nodes, expected at most {MAX_NODES}", graph.node.len())));
    }
    if let Some(odd) = names(&graph).find(|name| name.chars().any(char::is_control)) {
        return Err(ExportError::Decode(format!("the name {odd:?} has control characters")));
    }
    let mut reader = Reader::new(&graph)?;
    for node in &graph.node {
        reader.node(node).map_err(|detail| ExportError::Foreign {
            node: label(&node.name),
            op: label(&node.op_type),
            detail,
        })?;
    }
    let output = graph.output.first().and_then(|o| o.name.as_deref()).unwrap_or("");
    reader.finish(output)
}

/// Every name that a message may hold.
fn names(graph: &proto::Graph) -> impl Iterator<Item = &String> {
    let nodes = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output).chain(&n.name).chain(&n.op_type));
    let values = graph.input.iter().chain(&graph.output).filter_map(|v| v.name.as_ref());
    nodes.chain(values).chain(graph.initializer.iter().filter_map(|t| t.name.as_ref())).chain(&graph.name)
}

fn label(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

/// What a tensor of the model is.
#[derive(Clone, Debug)]
enum Value {
    /// float32 of this node.
    Float(NodeId),
    /// uint8 levels of this node.
    Levels(NodeId),
    /// The same as float32.
    Real(NodeId),
    /// Computed from int8 values; becomes int8 at the `QuantizeLinear` that must follow.
    Pending(NodeId),
    /// A pending value clipped at this largest one.
    Clipped(NodeId, f32),
    /// A weight, int8 with its scales.
    Weight(QTensor),
    /// A bias, int32 with its scales, as float32.
    Bias(Tensor),
    /// In the middle of a channel shuffle of so many groups: split, then transposed.
    Split(NodeId, usize),
    Swapped(NodeId, usize),
    /// The gate of a SiLU on the other factor.
    Gate,
}

struct Reader<'a> {
    constants: HashMap<&'a str, &'a proto::Tensor>,
    /// Who reads a tensor, by its name.
    users: HashMap<&'a str, Vec<&'a proto::Node>>,
    values: HashMap<String, Value>,
    /// For each int8 node, the float one behind it where a float layer reads it.
    borders: HashMap<NodeId, NodeId>,
    graph: Graph,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a proto::Graph) -> Result<Self, ExportError> {
        let refuse = |detail: &str| ExportError::Decode(detail.to_owned());
        let [input] = graph.input.as_slice() else { return Err(refuse("expected one input")) };
        let dims = input.r#type.as_ref().and_then(|t| t.tensor.as_ref()).and_then(|t| t.shape.as_ref());
        let dims: Vec<usize> = dims
            .map(|s| s.dim.iter().skip(1).map(|d| d.value.and_then(|v| usize::try_from(v).ok()).unwrap_or(0)).collect())
            .unwrap_or_default();
        let [c, h, w] = dims[..] else { return Err(refuse("its input is not [batch, channels, height, width]")) };
        if [c, h, w].iter().any(|d| *d == 0 || *d > MAX_EXTENT)
            || c.saturating_mul(h).saturating_mul(w) > MAX_ACTIVATION
        {
            return Err(refuse("its input has no size, or one that no network has"));
        }
        let name = label(&input.name);
        let node = Node {
            name: name.clone(),
            op: Op::Input,
            inputs: Vec::new(),
            shape: Shape::new(c, h, w),
            numeric: Numeric::Float,
            fused: Vec::new(),
        };
        let mut users: HashMap<&str, Vec<&proto::Node>> = HashMap::new();
        for node in &graph.node {
            for input in &node.input {
                users.entry(input).or_default().push(node);
            }
        }
        Ok(Self {
            constants: graph.initializer.iter().map(|t| (t.name.as_deref().unwrap_or(""), t)).collect(),
            users,
            values: HashMap::from([(name, Value::Float(NodeId(0)))]),
            borders: HashMap::new(),
            graph: Graph { name: label(&graph.name), nodes: vec![node] },
        })
    }

    fn node(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let [output] = node.output.as_slice() else { return Err("expected one output".to_owned()) };
        let value = match node.op_type.as_deref().unwrap_or("") {
            "DequantizeLinear" => self.dequantize(node)?,
            "QuantizeLinear" => self.quantize(node)?,
            "Conv" => self.layer(node, 4)?,
            "Gemm" => self.layer(node, 2)?,
            "BatchNormalization" => self.batch_norm(node)?,
            "Relu" => self.relu(node)?,
            "Clip" => self.clip(node)?,
            "HardSwish" => self.compute(node, Op::Activation(Activation::Hardswish), 1)?,
            "HardSigmoid" => {
                let slope = (attribute::float(node, "alpha")?, attribute::float(node, "beta")?);
                if slope != (1.0 / 6.0, 0.5) {
                    return Err(format!("slope and offset {slope:?}, expected 1/6 and 0.5"));
                }
                self.compute(node, Op::Activation(Activation::Hardsigmoid), 1)?
            }
            "Sigmoid" if self.is_gate(node, output) => Value::Gate,
            "Sigmoid" => self.compute(node, Op::Activation(Activation::Sigmoid), 1)?,
            "MaxPool" => {
                let window = (
                    attribute::square(node, "kernel_shape", 2)?,
                    attribute::square(node, "strides", 2)?,
                    attribute::square(node, "pads", 4)?,
                );
                let (kernel, stride, padding) = window;
                if kernel == 0 || stride == 0 || padding >= kernel {
                    return Err(format!("a window of {kernel} with stride {stride} and padding {padding}"));
                }
                self.compute(node, Op::MaxPool2d(MaxPool2d { kernel, stride, padding }), 1)?
            }
            "GlobalAveragePool" => self.compute(node, Op::AdaptiveAvgPool2d, 1)?,
            "ReduceMean" if attribute::integers(node, "axes")? == [2, 3] => self.compute(node, Op::MeanHw, 1)?,
            "Add" => self.compute(node, Op::Add { relu: false }, 2)?,
            "Mul" if matches!(self.value(node, 1)?, Value::Gate) => {
                self.compute(node, Op::Activation(Activation::Silu), 1)?
            }
            "Mul" => self.compute(node, Op::Mul, 2)?,
            "Concat" if attribute::integer(node, "axis")? == 1 => self.compute(node, Op::Cat, node.input.len())?,
            "Slice" => self.chunk(node)?,
            "Reshape" => self.reshape(node)?,
            "Transpose" if attribute::integers(node, "perm")? == [0, 2, 1, 3, 4] => match self.value(node, 0)? {
                Value::Split(of, groups) => Value::Swapped(*of, *groups),
                _ => return Err("expected a channel shuffle around it".to_owned()),
            },
            "Flatten" => self.flatten(node)?,
            "Identity" => self.value(node, 0)?.clone(),
            _ => return Err("is not an operation of ours in this form".to_owned()),
        };
        if self.values.insert(output.clone(), value).is_some() {
            return Err(format!("writes `{output}`, which is there already"));
        }
        Ok(())
    }

    fn name(node: &proto::Node, index: usize) -> Result<&str, String> {
        node.input.get(index).map(String::as_str).ok_or_else(|| format!("has no input {index}"))
    }

    fn value(&self, node: &proto::Node, index: usize) -> Result<&Value, String> {
        let name = Self::name(node, index)?;
        self.values.get(name).ok_or_else(|| format!("reads `{name}`, which does not come before it"))
    }

    fn constant(&self, node: &proto::Node, index: usize) -> Result<&'a proto::Tensor, String> {
        let name = Self::name(node, index)?;
        self.constants.get(name).copied().ok_or_else(|| format!("reads `{name}`, which is no initializer"))
    }

    /// The operations that read a tensor of this name.
    fn readers(&self, name: &str) -> impl Iterator<Item = &'a proto::Node> {
        self.users.get(name).into_iter().flatten().copied()
    }

    /// Whether the value goes into a `QuantizeLinear` alone, perhaps through ReLU and Clip.
    fn is_quantized_next(&self, output: &str) -> bool {
        let mut name = output;
        // ReLU and Clip at most; the bound also ends a hostile circle.
        for _ in 0..3 {
            let mut readers = self.readers(name);
            let (Some(only), None) = (readers.next(), readers.next()) else { return false };
            match (only.op_type.as_deref(), only.output.first()) {
                (Some("QuantizeLinear"), _) => return true,
                (Some("Relu" | "Clip"), Some(next)) => name = next,
                _ => return false,
            }
        }
        false
    }

    /// Whether a sigmoid is half of `x * sigmoid(x)`.
    fn is_gate(&self, node: &proto::Node, output: &str) -> bool {
        let mut readers = self.readers(output);
        let (Some(only), None) = (readers.next(), readers.next()) else { return false };
        only.op_type.as_deref() == Some("Mul") && only.input.first() == node.input.first()
    }

    /// The node whose float32 value this is, behind a border of its own where it is int8.
    fn as_float(&mut self, value: &Value) -> Result<NodeId, String> {
        match value {
            Value::Float(id) => Ok(*id),
            Value::Real(id) => {
                if let Some(border) = self.borders.get(id) {
                    return Ok(*border);
                }
                let name = format!("{}.dequant", self.graph.node(*id).name);
                let border = self.push(&name, Op::DeQuantStub, vec![*id], Numeric::Float)?;
                self.borders.insert(*id, border);
                Ok(border)
            }
            Value::Levels(_)
            | Value::Pending(_)
            | Value::Clipped(..)
            | Value::Weight(_)
            | Value::Bias(_)
            | Value::Split(..)
            | Value::Swapped(..)
            | Value::Gate => Err("reads what is no activation in float32".to_owned()),
        }
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>, numeric: Numeric) -> Result<NodeId, String> {
        let shapes: Vec<Shape> = inputs.iter().map(|i| self.graph.node(*i).shape).collect();
        let shape = op.infer_shape(name, &shapes).map_err(|e| e.to_string())?;
        if shape.len() > MAX_ACTIVATION {
            return Err(format!("has an output of {shape}, which no machine holds"));
        }
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs, shape, numeric, fused: Vec::new() });
        Ok(self.graph.output())
    }

    /// An operation on its first `count` inputs: on integers where they all are and its result becomes int8 again.
    fn compute(&mut self, node: &proto::Node, op: Op, count: usize) -> Result<Value, String> {
        let inputs: Vec<Value> = (0..count).map(|i| self.value(node, i).cloned()).collect::<Result<_, _>>()?;
        let real = |v: &Value| if let Value::Real(id) = v { Some(*id) } else { None };
        let name = node.name.as_deref().unwrap_or("");
        let int8_weight = op.weight().is_none_or(|w| w.int8().is_some());
        let levels: Option<Vec<NodeId>> = inputs.iter().map(real).collect();
        match levels.filter(|_| int8_weight && self.is_quantized_next(&node.output[0])) {
            Some(levels) => Ok(Value::Pending(self.push(name, op, levels, Numeric::Float)?)),
            None => {
                let inputs = inputs.iter().map(|v| self.as_float(v)).collect::<Result<_, _>>()?;
                Ok(Value::Float(self.push(name, op, inputs, Numeric::Float)?))
            }
        }
    }

    /// Scale and zero point of an activation.
    fn qparams(&self, node: &proto::Node) -> Result<QParams, String> {
        let (_, scale) = tensor::floats(self.constant(node, 1)?)?;
        let (_, zero_point) = tensor::bytes(self.constant(node, 2)?, tensor::UINT8)?;
        match (&scale[..], zero_point) {
            ([scale], [zero_point]) if scale.is_finite() && *scale > 0.0 => Ok(QParams::new(*scale, *zero_point)),
            _ => Err("expected one scale above zero and one zero point".to_owned()),
        }
    }

    fn quantize(&mut self, node: &proto::Node) -> Result<Value, String> {
        let q = self.qparams(node)?;
        let value = self.value(node, 0)?.clone();
        let (id, qmax) = match &value {
            Value::Pending(id) => (*id, u8::MAX),
            Value::Clipped(id, most) => (*id, q.quantize(*most)),
            value => {
                let from = self.as_float(value)?;
                let name = node.name.as_deref().unwrap_or("");
                (self.push(name.trim_end_matches(".quantize"), Op::QuantStub, vec![from], Numeric::Float)?, u8::MAX)
            }
        };
        self.graph.nodes[id.index()].numeric = Numeric::Int8(QParams { qmax, ..q });
        Ok(Value::Levels(id))
    }

    fn dequantize(&mut self, node: &proto::Node) -> Result<Value, String> {
        if let Some(Value::Levels(id)) = self.values.get(Self::name(node, 0)?).cloned() {
            let (found, said) = (self.graph.node(id).numeric.qparams(), self.qparams(node)?);
            return match found {
                Some(q) if (q.scale, q.zero_point) == (said.scale, said.zero_point) => Ok(Value::Real(id)),
                Some(_) | None => Err("its scale or zero point is not that of the QuantizeLinear before it".to_owned()),
            };
        }
        let levels = self.constant(node, 0)?;
        let (_, scales) = tensor::floats(self.constant(node, 1)?)?;
        if let Some(odd) = scales.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            return Err(format!("has the scale {odd}, expected more than 0"));
        }
        if levels.data_type == Some(tensor::INT32) {
            let levels = tensor::ints(levels)?;
            if levels.len() != scales.len() {
                return Err(format!("{} scales for {} biases", scales.len(), levels.len()));
            }
            let data: Vec<f32> = levels.iter().zip(&scales).map(|(q, s)| *q as f32 * s).collect();
            return Ok(Value::Bias(Tensor::new([data.len()], data)));
        }
        let (shape, bytes) = tensor::bytes(levels, tensor::INT8)?;
        if shape.first() != Some(&scales.len()) {
            return Err(format!("{} scales for a weight of {shape:?}", scales.len()));
        }
        let data = bytes.iter().map(|b| *b as i8).collect();
        Ok(Value::Weight(QTensor { shape, data, scales: scales.into() }))
    }

    /// A convolution or linear layer; `rank` is its weight's.
    fn layer(&mut self, node: &proto::Node, rank: usize) -> Result<Value, String> {
        let weight = match self.values.get(Self::name(node, 1)?) {
            Some(Value::Weight(w)) => Weight::Int8(w.clone()),
            Some(_) | None => Weight::Float(finite(self.constant(node, 1)?)?),
        };
        let bias = match node.input.get(2).map(|name| self.values.get(name)) {
            None => None,
            Some(Some(Value::Bias(b))) => Some(b.clone()),
            Some(_) => Some(finite(self.constant(node, 2)?)?),
        };
        if weight.shape().len() != rank || weight.shape().iter().any(|d| *d == 0 || *d > MAX_EXTENT) {
            return Err(format!("its weight is {:?}, expected {rank} dimensions", weight.shape()));
        }
        let op = if rank == 2 {
            if attribute::integer(node, "transB")? != 1 {
                return Err("expected its weight as [out, in]".to_owned());
            }
            Op::Linear(Linear { weight, bias, relu: false, fake: None })
        } else {
            let groups = usize::try_from(attribute::integer(node, "group")?).unwrap_or(0);
            let (stride, padding) = (attribute::square(node, "strides", 2)?, attribute::square(node, "pads", 4)?);
            if groups == 0 || groups > MAX_EXTENT || stride == 0 {
                return Err(format!("has {groups} groups and a stride of {stride}"));
            }
            Op::Conv2d(Conv2d { weight, bias, stride, padding, groups, bn: None, relu: false, fake: None })
        };
        self.compute(node, op, 1)
    }

    fn batch_norm(&mut self, node: &proto::Node) -> Result<Value, String> {
        let part = |index| finite(self.constant(node, index)?);
        let op = Op::BatchNorm2d(BatchNorm2d {
            weight: part(1)?,
            bias: part(2)?,
            running_mean: part(3)?,
            running_var: part(4)?,
            eps: attribute::float(node, "epsilon")?,
            momentum: 1.0 - attribute::float(node, "momentum")?,
        });
        self.compute(node, op, 1)
    }

    /// Fused into an int8 layer or sum before it, else a node of its own.
    fn relu(&mut self, node: &proto::Node) -> Result<Value, String> {
        let value = self.value(node, 0)?.clone();
        let fused = match value {
            Value::Pending(id) => Some(id),
            // Left in float: its name says that it was fused.
            Value::Float(id) => {
                let name = format!("{}.relu", self.graph.node(id).name);
                let alone = self.readers(Self::name(node, 0)?).count() == 1;
                (alone && node.name.as_deref() == Some(name.as_str())).then_some(id)
            }
            _ => None,
        };
        let Some(id) = fused else { return self.compute(node, Op::Activation(Activation::Relu), 1) };
        match &mut self.graph.nodes[id.index()].op {
            Op::Conv2d(Conv2d { relu, .. }) | Op::Linear(Linear { relu, .. }) | Op::Add { relu } if !*relu => {
                *relu = true;
                Ok(value)
            }
            _ => Err("stands behind what no ReLU is fused with".to_owned()),
        }
    }

    /// ReLU6, or the largest level of the `QuantizeLinear` behind it.
    fn clip(&mut self, node: &proto::Node) -> Result<Value, String> {
        let (_, most) = tensor::floats(self.constant(node, 2)?)?;
        let value = self.value(node, 0)?.clone();
        match (Self::name(node, 1)?, &most[..], &value) {
            ("", [most], Value::Pending(id)) => Ok(Value::Clipped(*id, *most)),
            ("", [most], value) if most.is_finite() => {
                // Before a border: the stub takes the largest level.
                let id = self.as_float(value)?;
                let name = node.name.as_deref().unwrap_or("").trim_end_matches(".clip");
                let stub = self.push(name, Op::QuantStub, vec![id], Numeric::Float)?;
                Ok(Value::Clipped(stub, *most))
            }
            (_, [6.0], _) if tensor::floats(self.constant(node, 1)?)?.1 == [0.0] => {
                self.compute(node, Op::Activation(Activation::Relu6), 1)
            }
            _ => Err("clips at other values than ReLU6's 0 and 6 or a largest level".to_owned()),
        }
    }

    fn chunk(&mut self, node: &proto::Node) -> Result<Value, String> {
        let at = |index| tensor::longs(self.constant(node, index)?);
        let (Value::Float(id) | Value::Real(id)) = self.value(node, 0)? else {
            return Err("cuts what is no activation".to_owned());
        };
        let channels = self.graph.node(*id).shape.c;
        let (starts, ends, axes) = (at(1)?, at(2)?, at(3)?);
        let bounds = match (&starts[..], &ends[..], &axes[..]) {
            ([start], [end], [1]) => usize::try_from(*start).ok().zip(usize::try_from(*end).ok()),
            _ => None,
        };
        match bounds.and_then(|(start, end)| end.checked_sub(start).map(|len| (start, len))) {
            Some((start, len)) if len > 0 && start.is_multiple_of(len) && channels.is_multiple_of(len) => {
                self.compute(node, Op::Chunk { index: start / len, chunks: channels / len }, 1)
            }
            _ => Err("is not one of equal parts of the channels".to_owned()),
        }
    }

    /// The two ends of a channel shuffle.
    fn reshape(&mut self, node: &proto::Node) -> Result<Value, String> {
        let dims = tensor::longs(self.constant(node, 1)?)?;
        match (self.value(node, 0)?.clone(), &dims[..]) {
            (Value::Swapped(of, groups), [0, c, h, w]) => {
                let shape = self.graph.node(of).shape;
                if [*c, *h, *w] != [shape.c, shape.h, shape.w].map(|d| d as i64) {
                    return Err(format!("reshapes {shape} to {dims:?}"));
                }
                let int8 = self.graph.node(of).numeric.qparams().is_some() && self.is_quantized_next(&node.output[0]);
                let name = node.name.as_deref().unwrap_or("");
                let op = Op::ChannelShuffle { groups };
                if int8 {
                    return Ok(Value::Pending(self.push(name, op, vec![of], Numeric::Float)?));
                }
                let input =
                    if self.graph.node(of).numeric.qparams().is_some() { Value::Real(of) } else { Value::Float(of) };
                let input = self.as_float(&input)?;
                Ok(Value::Float(self.push(name, op, vec![input], Numeric::Float)?))
            }
            (Value::Float(of) | Value::Real(of), [0, groups, part, h, w]) => {
                let shape = self.graph.node(of).shape;
                let fits = [*h, *w] == [shape.h as i64, shape.w as i64]
                    && groups.checked_mul(*part) == Some(shape.c as i64)
                    && *groups > 0;
                if fits { Ok(Value::Split(of, *groups as usize)) } else { Err(format!("reshapes {shape} to {dims:?}")) }
            }
            _ => Err("is no part of a channel shuffle".to_owned()),
        }
    }

    /// A node of ours, unless it only brings a vector to the form that `Gemm` or the output wants.
    fn flatten(&mut self, node: &proto::Node) -> Result<Value, String> {
        let ours = !node.name.as_deref().unwrap_or("").ends_with(".flatten");
        let value = self.value(node, 0)?.clone();
        match &value {
            Value::Float(id) | Value::Real(id) if !ours && self.graph.node(*id).shape.pixels() == 1 => Ok(value),
            _ => self.compute(node, Op::Flatten, 1),
        }
    }

    fn finish(mut self, output: &str) -> Result<Graph, ExportError> {
        let refuse = |detail: String| ExportError::Decode(detail);
        let value = self.values.get(output).cloned().ok_or_else(|| refuse(format!("no node writes `{output}`")))?;
        let last = self.as_float(&value).map_err(refuse)?;
        if last != self.graph.output() {
            return Err(refuse(format!("`{output}` is not what its last node computes")));
        }
        // Every name of ours is free for a node; a hostile file may take one twice, which `check` says.
        let mut seen = HashSet::new();
        if let Some(double) = self.graph.nodes.iter().find(|n| !seen.insert(n.name.clone())) {
            return Err(refuse(format!("two nodes are named `{}`", double.name)));
        }
        check(&self.graph)?;
        Ok(self.graph)
    }
}

/// A float32 parameter without NaN or infinity.
fn finite(tensor: &proto::Tensor) -> Result<Tensor, String> {
    let (shape, data) = tensor::floats(tensor)?;
    match data.iter().find(|v| !v.is_finite()) {
        Some(odd) => Err(format!("`{}` holds {odd}", label(&tensor.name))),
        None => Ok(Tensor::new(shape, data)),
    }
}
