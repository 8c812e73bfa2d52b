use prost::Message;

use super::{OPSET, proto, tensor};
use crate::{
    export::ExportError,
    graph::{
        Activation, BatchNorm2d, Conv2d, Graph, Int32Bias, Linear, Node, Numeric, Op, QParams, Tensor, Weight, check,
    },
};

/// The first version of the file format that knows opset 17.
const IR_VERSION: i64 = 8;

/// `graph`, float or int8, as the bytes of an ONNX model; `metadata` goes in as key and value. The image is `input`,
/// `[batch, channels, height, width]`; the result `logits`, `[batch, classes]`. The same input gives the same bytes.
///
/// # Errors
/// [`ExportError::Numeric`] for a graph that is observed, fake-quantized or in training.
pub fn encode(graph: &Graph, metadata: &[(&str, &str)]) -> Result<Vec<u8>, ExportError> {
    check(graph)?;
    let mut writer = Writer { graph, nodes: Vec::new(), initializers: Vec::new(), values: Vec::new() };
    for node in &graph.nodes {
        let value = writer.node(node)?;
        writer.values.push(value);
    }
    let last = writer.values[graph.output().index()].clone();
    let last = writer.flat("logits.flatten", &last);
    writer.push("logits", "Identity", &[&last], "logits", Vec::new());
    let shape = graph.input_shape();
    let text = |s: &str| Some(s.to_owned());
    let model = proto::Model {
        ir_version: Some(IR_VERSION),
        producer_name: text("octet"),
        producer_version: text(env!("CARGO_PKG_VERSION")),
        graph: Some(proto::Graph {
            node: writer.nodes,
            name: Some(graph.name.clone()),
            initializer: writer.initializers,
            input: vec![value_info("input", &[shape.c, shape.h, shape.w])],
            output: vec![value_info("logits", &[graph.classes()])],
        }),
        opset_import: vec![proto::OperatorSet { domain: text(""), version: Some(OPSET) }],
        metadata_props: metadata
            .iter()
            .map(|(key, value)| proto::StringEntry { key: text(key), value: text(value) })
            .collect(),
    };
    Ok(model.encode_to_vec())
}

/// float32, a batch of any size.
fn value_info(name: &str, dims: &[usize]) -> proto::ValueInfo {
    let batch = proto::Dim { value: None, param: Some("batch".to_owned()) };
    let rest = dims.iter().map(|d| proto::Dim { value: Some(*d as i64), param: None });
    let shape = proto::Dims { dim: std::iter::once(batch).chain(rest).collect() };
    let tensor = proto::TensorType { elem_type: Some(tensor::FLOAT), shape: Some(shape) };
    proto::ValueInfo { name: Some(name.to_owned()), r#type: Some(proto::Type { tensor: Some(tensor) }) }
}

/// Where a node's output is found as float32.
#[derive(Clone)]
struct Value {
    name: String,
    /// `[batch, c]` rather than `[batch, c, h, w]`.
    flat: bool,
}

struct Writer<'a> {
    graph: &'a Graph,
    nodes: Vec<proto::Node>,
    initializers: Vec<proto::Tensor>,
    /// By node.
    values: Vec<Value>,
}

impl Writer<'_> {
    /// Writes one node of ours; where its output is.
    fn node(&mut self, node: &Node) -> Result<Value, ExportError> {
        let int8 = quantized(node)?;
        let inputs: Vec<Value> = node.inputs.iter().map(|i| self.values[i.index()].clone()).collect();
        let name = node.name.as_str();
        let first = inputs.first().map_or("", |v| v.name.as_str());
        let mut flat = inputs.first().is_some_and(|v| v.flat);
        let computed = match &node.op {
            Op::Input => return Ok(Value { name: "input".to_owned(), flat: false }),
            // A border: the DequantizeLinear before it gives float already.
            Op::DeQuantStub | Op::Dropout { .. } | Op::StochasticDepth { .. } => return Ok(inputs[0].clone()),
            Op::QuantStub if int8.is_none() => return Ok(inputs[0].clone()),
            Op::QuantStub => first.to_owned(),
            Op::Conv2d(c) => self.conv(node, c, first),
            Op::Linear(l) => {
                let x = self.flat(&format!("{name}.flatten"), &inputs[0]);
                flat = true;
                self.linear(node, l, &x)
            }
            Op::BatchNorm2d(b) => self.batch_norm(name, b, first),
            Op::Activation(a) => self.activation(name, *a, first),
            Op::MaxPool2d(p) => {
                let (k, s, p) = (p.kernel as i64, p.stride as i64, p.padding as i64);
                let window = vec![ints("kernel_shape", &[k, k]), ints("strides", &[s, s]), ints("pads", &[p; 4])];
                self.push(name, "MaxPool", &[first], name, window)
            }
            Op::AdaptiveAvgPool2d => self.push(name, "GlobalAveragePool", &[first], name, Vec::new()),
            Op::MeanHw => {
                flat = true;
                self.push(name, "ReduceMean", &[first], name, vec![ints("axes", &[2, 3]), int("keepdims", 0)])
            }
            Op::Add { relu } => {
                let sum = self.push(name, "Add", &names(&inputs), name, Vec::new());
                self.relu(name, *relu, sum)
            }
            Op::Mul => self.push(name, "Mul", &names(&inputs), name, Vec::new()),
            Op::Cat => self.push(name, "Concat", &names(&inputs), name, vec![int("axis", 1)]),
            Op::Chunk { index, .. } => {
                let c = node.shape.c as i64;
                let start = *index as i64 * c;
                let mut operands = vec![first.to_owned()];
                for (part, at) in [("starts", start), ("ends", start + c), ("axes", 1)] {
                    operands.push(self.constant(tensor::int64(&format!("{name}.{part}"), &[at])));
                }
                let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
                self.push(name, "Slice", &operands, name, Vec::new())
            }
            Op::ChannelShuffle { groups } => self.shuffle(node, *groups, first),
            Op::Flatten => {
                let x = self.flat(name, &inputs[0]);
                flat = true;
                x
            }
        };
        let name = match int8 {
            Some(q) => self.quantize(&node.name, q, &computed),
            None => computed,
        };
        Ok(Value { name, flat })
    }

    /// One ONNX node with one output; returns the output's name.
    fn push(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<proto::Attribute>,
    ) -> String {
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(name.to_owned()),
            op_type: Some(op.to_owned()),
            attribute,
        });
        output.to_owned()
    }

    /// Keeps an initializer; returns its name.
    fn constant(&mut self, tensor: proto::Tensor) -> String {
        let name = tensor.name.clone().unwrap_or_default();
        self.initializers.push(tensor);
        name
    }

    /// The value as `[batch, c]`.
    fn flat(&mut self, name: &str, value: &Value) -> String {
        if value.flat {
            value.name.clone()
        } else {
            self.push(name, "Flatten", &[&value.name], name, vec![int("axis", 1)])
        }
    }

    /// `QuantizeLinear`, `DequantizeLinear`; returns the dequantized value's name.
    fn quantize(&mut self, name: &str, q: QParams, x: &str) -> String {
        let mut x = x.to_owned();
        if q.qmax < u8::MAX {
            let most = self.constant(tensor::float(&format!("{name}.most"), &[], &[q.dequantize(q.qmax)]));
            let clipped = format!("{name}.clip");
            x = self.push(&clipped, "Clip", &[&x, "", &most], &clipped, Vec::new());
        }
        let scale = self.constant(tensor::float(&format!("{name}.scale"), &[], &[q.scale]));
        let zero_point = self.constant(tensor::uint8(&format!("{name}.zero_point"), q.zero_point));
        let (levels, real) = (format!("{name}.quantize"), format!("{name}.dequantize"));
        let levels = self.push(&levels, "QuantizeLinear", &[&x, &scale, &zero_point], &levels, Vec::new());
        self.push(&real, "DequantizeLinear", &[&levels, &scale, &zero_point], &real, Vec::new())
    }

    fn relu(&mut self, name: &str, relu: bool, x: String) -> String {
        let fused = format!("{name}.relu");
        if relu { self.push(&fused, "Relu", &[&x], &fused, Vec::new()) } else { x }
    }

    fn conv(&mut self, node: &Node, c: &Conv2d, x: &str) -> String {
        let (name, [kh, kw]) = (node.name.as_str(), c.kernel().map(|k| k as i64));
        let attributes = vec![
            ints("kernel_shape", &[kh, kw]),
            ints("strides", &[c.stride as i64; 2]),
            ints("pads", &[c.padding as i64; 4]),
            int("group", c.groups as i64),
        ];
        let operands = self.operands(node, &c.weight, c.bias.as_ref(), x);
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let sum = self.push(name, "Conv", &operands, name, attributes);
        self.relu(name, c.relu, sum)
    }

    fn linear(&mut self, node: &Node, l: &Linear, x: &str) -> String {
        let name = node.name.as_str();
        let operands = self.operands(node, &l.weight, l.bias.as_ref(), x);
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let sum = self.push(name, "Gemm", &operands, name, vec![int("transB", 1)]);
        self.relu(name, l.relu, sum)
    }

    /// Input, weight and, where there is one, bias of a layer, int8 ones behind a `DequantizeLinear`.
    fn operands(&mut self, node: &Node, weight: &Weight, bias: Option<&Tensor>, x: &str) -> Vec<String> {
        let mut operands = vec![x.to_owned()];
        let (weight_name, bias_name) = (format!("{}.weight", node.name), format!("{}.bias", node.name));
        match weight {
            Weight::Float(w) => {
                operands.push(self.constant(tensor::float(&weight_name, &w.shape, &w.data)));
                operands.extend(bias.map(|b| self.constant(tensor::float(&bias_name, &b.shape, &b.data))));
            }
            Weight::Int8(w) => {
                let input = self.graph.node(node.inputs[0]).numeric.qparams();
                let si = input.expect("an int8 layer reads int8, as `check` holds").scale;
                let integers = bias.map(|bias| Int32Bias::of(w, bias, si));
                let w = integers.as_ref().map_or(w, |i| &i.weight);
                let levels = tensor::int8(&weight_name, &w.shape, &w.data);
                let scales: Vec<f32> = (0..w.shape[0]).map(|c| w.scale(c)).collect();
                let zeros = tensor::int8(&format!("{weight_name}_zero_point"), &[w.shape[0]], &vec![0; w.shape[0]]);
                operands.push(self.dequantized(levels, &scales, zeros));
                if let Some(integers) = &integers {
                    let zeros = tensor::int32(&format!("{bias_name}_zero_point"), &vec![0; integers.levels.len()]);
                    let levels = tensor::int32(&bias_name, &integers.levels);
                    operands.push(self.dequantized(levels, &integers.scales, zeros));
                }
            }
        }
        operands
    }

    /// A parameter behind a `DequantizeLinear`, one scale a channel.
    fn dequantized(&mut self, levels: proto::Tensor, scales: &[f32], zeros: proto::Tensor) -> String {
        let levels = self.constant(levels);
        let scales = self.constant(tensor::float(&format!("{levels}_scale"), &[scales.len()], scales));
        let zeros = self.constant(zeros);
        let real = format!("{levels}.dequantize");
        self.push(&real, "DequantizeLinear", &[&levels, &scales, &zeros], &real, vec![int("axis", 0)])
    }

    fn batch_norm(&mut self, name: &str, b: &BatchNorm2d, x: &str) -> String {
        let parts = [
            ("weight", &b.weight),
            ("bias", &b.bias),
            ("running_mean", &b.running_mean),
            ("running_var", &b.running_var),
        ];
        let mut operands = vec![x.to_owned()];
        for (part, t) in parts {
            operands.push(self.constant(tensor::float(&format!("{name}.{part}"), &t.shape, &t.data)));
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        // PyTorch's momentum is the new batch's share, ONNX's the old average's.
        let attributes = vec![float("epsilon", b.eps), float("momentum", 1.0 - b.momentum)];
        self.push(name, "BatchNormalization", &operands, name, attributes)
    }

    fn activation(&mut self, name: &str, activation: Activation, x: &str) -> String {
        let third = 1.0 / 6.0;
        match activation {
            Activation::Relu => self.push(name, "Relu", &[x], name, Vec::new()),
            Activation::Relu6 => {
                let least = self.constant(tensor::float(&format!("{name}.min"), &[], &[0.0]));
                let most = self.constant(tensor::float(&format!("{name}.max"), &[], &[6.0]));
                self.push(name, "Clip", &[x, &least, &most], name, Vec::new())
            }
            Activation::Hardswish => self.push(name, "HardSwish", &[x], name, Vec::new()),
            Activation::Hardsigmoid => {
                let slope = vec![float("alpha", third), float("beta", 0.5)];
                self.push(name, "HardSigmoid", &[x], name, slope)
            }
            Activation::Sigmoid => self.push(name, "Sigmoid", &[x], name, Vec::new()),
            Activation::Silu => {
                let gate = format!("{name}.sigmoid");
                let gate = self.push(&gate, "Sigmoid", &[x], &gate, Vec::new());
                self.push(name, "Mul", &[x, &gate], name, Vec::new())
            }
        }
    }

    fn shuffle(&mut self, node: &Node, groups: usize, x: &str) -> String {
        let (name, shape) = (node.name.as_str(), node.shape);
        let [c, h, w, g] = [shape.c, shape.h, shape.w, groups].map(|d| d as i64);
        let apart = self.constant(tensor::int64(&format!("{name}.groups"), &[0, g, c / g, h, w]));
        let joined = self.constant(tensor::int64(&format!("{name}.channels"), &[0, c, h, w]));
        let (split, swapped) = (format!("{name}.split"), format!("{name}.transpose"));
        self.push(&split, "Reshape", &[x, &apart], &split, Vec::new());
        self.push(&swapped, "Transpose", &[&split], &swapped, vec![ints("perm", &[0, 2, 1, 3, 4])]);
        self.push(name, "Reshape", &[&swapped, &joined], name, Vec::new())
    }
}

/// The parameters of an int8 node, none of a float one.
fn quantized(node: &Node) -> Result<Option<QParams>, ExportError> {
    let refuse = |found| {
        let expected = "convert the graph, or export the float one";
        Err(ExportError::Numeric { node: node.name.clone(), found, expected })
    };
    if node.op.bn().is_some() || node.op.fake().is_some() {
        return refuse("in training with fake quantization");
    }
    match node.numeric {
        Numeric::Float => Ok(None),
        Numeric::Int8(q) => Ok(Some(q)),
        Numeric::Observed(_) => refuse("watched by an observer"),
        Numeric::Learned(_) => refuse("in training with fake quantization"),
        Numeric::FakeQuantized(_) => refuse("fake-quantized"),
    }
}

fn names(values: &[Value]) -> Vec<&str> {
    values.iter().map(|v| v.name.as_str()).collect()
}

fn attribute(name: &str, kind: i32) -> proto::Attribute {
    proto::Attribute { name: Some(name.to_owned()), kind: Some(kind), ..Default::default() }
}

fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute { f: Some(value), ..attribute(name, 1) }
}

fn int(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute { i: Some(value), ..attribute(name, 2) }
}

fn ints(name: &str, values: &[i64]) -> proto::Attribute {
    proto::Attribute { ints: values.to_vec(), ..attribute(name, 7) }
}
