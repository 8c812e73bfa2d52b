//! A graph node by node for one image: int8 nodes by PyTorch's formulas in plain loops, float ones by the float executor,
//! one node at a time. Every value is NHWC.

use octet::{
    exec::float::{Device, Model},
    graph::{Graph, Node, NodeId, Numeric, Op, QParams, Shape},
};

pub enum Value {
    Levels(Vec<u8>),
    Floats(Vec<f32>),
}

impl Value {
    pub fn levels(self) -> Option<Vec<u8>> {
        match self {
            Self::Levels(q) => Some(q),
            Self::Floats(_) => None,
        }
    }

    fn q(&self) -> &[u8] {
        match self {
            Self::Levels(q) => q,
            Self::Floats(_) => panic!("float where int8 is expected"),
        }
    }

    fn f(&self) -> &[f32] {
        match self {
            Self::Floats(f) => f,
            Self::Levels(_) => panic!("int8 where float is expected"),
        }
    }
}

/// Every node's value and the logits.
pub fn run(graph: &Graph, image: &[f32]) -> (Vec<(NodeId, Value)>, Vec<f32>) {
    let mut values: Vec<(NodeId, Value)> = Vec::new();
    for (id, node) in graph.iter() {
        let inputs: Vec<&Value> = node.inputs.iter().map(|i| &values[i.index()].1).collect();
        let value = match (&node.op, node.numeric) {
            (Op::Input, _) => Value::Floats(to_hwc(image, node.shape)),
            (Op::QuantStub, Numeric::Int8(q)) => Value::Levels(inputs[0].f().iter().map(|x| q.quantize(*x)).collect()),
            (Op::DeQuantStub, _) if matches!(inputs[0], Value::Levels(_)) => {
                let q = qparams(graph, node.inputs[0]);
                Value::Floats(inputs[0].q().iter().map(|l| q.dequantize(*l)).collect())
            }
            (_, Numeric::Int8(q)) => Value::Levels(int8(graph, node, q, &inputs)),
            (_, Numeric::Float) => Value::Floats(float(graph, node, &inputs)),
            (_, Numeric::Observed(_) | Numeric::Learned(_) | Numeric::FakeQuantized(_)) => {
                panic!("{}: not converted", node.name)
            }
        };
        values.push((id, value));
    }
    let logits = to_chw(values[graph.output().index()].1.f(), graph.node(graph.output()).shape);
    (values, logits)
}

fn qparams(graph: &Graph, id: NodeId) -> QParams {
    graph.node(id).numeric.qparams().expect("an int8 node")
}

pub fn to_hwc(x: &[f32], s: Shape) -> Vec<f32> {
    (0..s.len()).map(|i| x[i % s.c * s.pixels() + i / s.c]).collect()
}

pub fn to_chw(x: &[f32], s: Shape) -> Vec<f32> {
    (0..s.len()).map(|i| x[i % s.pixels() * s.c + i / s.pixels()]).collect()
}

/// A float node: several inputs are one addition, multiplication or copy; the rest runs as a graph of its own.
fn float(graph: &Graph, node: &Node, inputs: &[&Value]) -> Vec<f32> {
    match &node.op {
        Op::Add { relu } => {
            let sum = inputs[0].f().iter().zip(inputs[1].f()).map(|(a, b)| a + b);
            sum.map(|v| if *relu { v.max(0.0) } else { v }).collect()
        }
        Op::Mul => {
            let factor = inputs[1].f();
            inputs[0].f().iter().enumerate().map(|(i, x)| x * factor[i % factor.len()]).collect()
        }
        Op::Cat => joined(graph, node, inputs.iter().map(|v| v.f()).collect()),
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::Conv2d(_)
        | Op::BatchNorm2d(_)
        | Op::Linear(_)
        | Op::Activation(_)
        | Op::MaxPool2d(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Chunk { .. }
        | Op::ChannelShuffle { .. }
        | Op::Flatten
        | Op::Dropout { .. }
        | Op::StochasticDepth { .. } => {
            let from = graph.node(node.inputs[0]).shape;
            let input = Node { name: "x".into(), op: Op::Input, inputs: vec![], shape: from, ..node.clone() };
            let alone = Node { inputs: vec![NodeId(0)], ..node.clone() };
            let graph = Graph { name: "alone".into(), nodes: vec![input, alone] };
            let model = Model::new(&graph, &Device::Cpu).expect("a float node");
            // What comes out is NHWC: the executor hands over its rows as they are.
            model.run(&to_chw(inputs[0].f(), from), 1).expect("it runs")
        }
    }
}

fn joined<T: Copy>(graph: &Graph, node: &Node, parts: Vec<&[T]>) -> Vec<T> {
    let mut out = Vec::with_capacity(node.shape.len());
    for pixel in 0..node.shape.pixels() {
        for (part, id) in parts.iter().zip(&node.inputs) {
            let c = graph.node(*id).shape.c;
            out.extend_from_slice(&part[pixel * c..(pixel + 1) * c]);
        }
    }
    out
}

/// `clamp(rne(x) + zero point)`.
fn level(x: f32, q: QParams, relu: bool) -> u8 {
    let least = if relu { q.zero_point } else { 0 };
    (x.round_ties_even() + f32::from(q.zero_point)).clamp(f32::from(least), f32::from(q.qmax)) as u8
}

fn int8(graph: &Graph, node: &Node, q: QParams, inputs: &[&Value]) -> Vec<u8> {
    let x = inputs[0].q();
    let from = graph.node(node.inputs[0]).shape;
    let qx = qparams(graph, node.inputs[0]);
    let each = |f: &dyn Fn(f32) -> f32| x.iter().map(|l| q.quantize(f(qx.dequantize(*l)))).collect();
    let to = node.shape;
    match &node.op {
        Op::Conv2d(c) => {
            let weight = c.weight.int8().expect("an int8 weight");
            let [kh, kw] = c.kernel();
            let (channels, outputs) = (from.c / c.groups, to.c / c.groups);
            let mut out = Vec::with_capacity(to.len());
            for (y, column, o) in places(to) {
                let mut acc = 0;
                for (ky, kx, i) in places(Shape::new(channels, kh, kw)) {
                    let (at_y, at_x) = (y * c.stride + ky, column * c.stride + kx);
                    let inside = |at: usize, size: usize| (c.padding..c.padding + size).contains(&at);
                    if inside(at_y, from.h) && inside(at_x, from.w) {
                        let pixel = (at_y - c.padding) * from.w + at_x - c.padding;
                        let l = i32::from(x[pixel * from.c + o / outputs * channels + i]);
                        let w = weight.data[((o * channels + i) * kh + ky) * kw + kx];
                        acc += (l - i32::from(qx.zero_point)) * i32::from(w);
                    }
                }
                let bias = c.bias.as_ref().map_or(0.0, |b| b.data[o]);
                out.push(requantized(acc, qx.scale * weight.scale(o), bias, q, c.relu));
            }
            out
        }
        Op::Linear(l) => {
            let weight = l.weight.int8().expect("an int8 weight");
            let sum = |row: &[i8]| -> i32 {
                x.iter().zip(row).map(|(l, w)| (i32::from(*l) - i32::from(qx.zero_point)) * i32::from(*w)).sum()
            };
            let rows = weight.data.chunks_exact(from.c).enumerate();
            rows.map(|(o, row)| {
                let bias = l.bias.as_ref().map_or(0.0, |b| b.data[o]);
                requantized(sum(row), qx.scale * weight.scale(o), bias, q, l.relu)
            })
            .collect()
        }
        Op::Activation(a) => each(&|v| a.apply(v)),
        Op::MaxPool2d(p) => {
            let mut out = vec![0; to.len()];
            for (y, column, c) in places(to) {
                for (ky, kx, _) in places(Shape::new(1, p.kernel, p.kernel)) {
                    let at = [y * p.stride + ky, column * p.stride + kx].map(|v| v.wrapping_sub(p.padding));
                    if at[0] < from.h && at[1] < from.w {
                        let best = &mut out[(y * to.w + column) * to.c + c];
                        *best = x[(at[0] * from.w + at[1]) * from.c + c].max(*best);
                    }
                }
            }
            out
        }
        Op::AdaptiveAvgPool2d => (0..from.c)
            .map(|c| {
                let sum: i32 = x.iter().skip(c).step_by(from.c).map(|l| i32::from(*l) - i32::from(q.zero_point)).sum();
                level(sum as f32 / from.pixels() as f32, q, false)
            })
            .collect(),
        Op::MeanHw => (0..from.c)
            .map(|c| {
                let sum: f32 = x.iter().skip(c).step_by(from.c).map(|l| q.dequantize(*l)).fold(0.0, |a, b| a + b);
                q.quantize(sum / from.pixels() as f32)
            })
            .collect(),
        Op::Add { relu } => {
            let qy = qparams(graph, node.inputs[1]);
            let value = |l: u8, q: QParams| f32::from(l).mul_add(q.scale, -f32::from(q.zero_point) * q.scale);
            let sums = x.iter().zip(inputs[1].q()).map(|(a, b)| value(*a, qx) + value(*b, qy));
            sums.map(|s| level(s * (1.0 / q.scale), q, *relu)).collect()
        }
        Op::Mul => {
            let (factor, qy) = (inputs[1].q(), qparams(graph, node.inputs[1]));
            let product =
                |a: u8, b: u8| (i32::from(a) - i32::from(qx.zero_point)) * (i32::from(b) - i32::from(qy.zero_point));
            let multiplier = qx.scale * qy.scale / q.scale;
            let all = x.iter().enumerate().map(|(i, a)| product(*a, factor[i % factor.len()]));
            all.map(|p| level(p as f32 * multiplier, q, false)).collect()
        }
        Op::Cat => {
            let parts: Vec<Vec<u8>> = inputs
                .iter()
                .zip(&node.inputs)
                .map(|(v, id)| v.q().iter().map(|l| q.quantize(qparams(graph, *id).dequantize(*l))).collect())
                .collect();
            joined(graph, node, parts.iter().map(Vec::as_slice).collect())
        }
        Op::Chunk { index, .. } => {
            x.chunks_exact(from.c).flat_map(|p| p[index * to.c..(index + 1) * to.c].to_vec()).collect()
        }
        Op::ChannelShuffle { groups } => {
            let source = |i: usize| i % groups * (from.c / groups) + i / groups;
            x.chunks_exact(from.c).flat_map(|p| (0..from.c).map(|i| p[source(i)]).collect::<Vec<u8>>()).collect()
        }
        Op::Flatten => (0..from.len()).map(|i| x[i % from.pixels() * from.c + i / from.pixels()]).collect(),
        Op::Dropout { .. } | Op::StochasticDepth { .. } => x.to_vec(),
        Op::Input | Op::QuantStub | Op::DeQuantStub | Op::BatchNorm2d(_) => panic!("{}: no int8 node", node.name),
    }
}

/// Row, column, channel in the order of NHWC.
fn places(s: Shape) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..s.len()).map(move |i| (i / s.c / s.w, i / s.c % s.w, i % s.c))
}

fn requantized(acc: i32, scale: f32, bias: f32, q: QParams, relu: bool) -> u8 {
    level((acc as f32 + bias / scale) * (scale / q.scale), q, relu)
}
