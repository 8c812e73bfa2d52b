use super::{
    arena::{self, Need},
    layout::{LARGEST, Layout, Role, is_border, is_int8, reads_image},
    step::{Layer, Place, Step, StepOp},
};
use crate::{
    exec::{ExecError, float},
    graph::{BatchNorm2d, Conv2d, Graph, Linear, Node, NodeId, Numeric, Op, QParams, QTensor, Tensor, Weight},
    kernels::{
        Add, Affine, ConvGeometry, Depthwise, Gemm, Grouped, Kernels, Levels, Map, MaxPool, Mul, Requant, SLACK, Table,
    },
};

/// The steps of a graph in order, and the bytes of the arena they work in.
pub(super) fn lower(graph: &Graph, layout: &Layout, kernels: &Kernels) -> Result<(Vec<Step>, usize), ExecError> {
    let (places, bytes) = places(graph, layout);
    let all = bytes.saturating_add(tables(graph));
    if all > LARGEST {
        let Some(largest) = graph.nodes.iter().max_by_key(|n| n.shape.len()) else { return Ok((Vec::new(), 0)) };
        let detail =
            format!("the network takes {all} bytes for one image, more than this engine's 4 GiB: give it smaller ones");
        return Err(refuse(largest, &detail));
    }
    let mut steps: Vec<Step> = Vec::new();
    for (id, node) in graph.iter() {
        match layout.roles[id.index()] {
            Role::Step => lower_node(&Context { graph, layout, kernels, places: &places }, id, &mut steps)?,
            Role::View => {
                let place = places[id.index()].clone();
                let owner = layout.owner[id.index()];
                if is_int8(node)
                    && let Some(step) = steps.iter_mut().rev().find(|s| s.node == owner)
                {
                    step.completes.push((id, place));
                }
            }
            Role::Image | Role::Within(_) => debug_assert!(!node.name.is_empty()),
        }
    }
    let output = graph.output();
    if !is_border(graph, graph.node(output)) {
        let place = places[output.index()].clone();
        let inputs = vec![place.clone()];
        let (op, completes) = (StepOp::Logits, Vec::new());
        steps.push(Step { node: output, computes: output, op, inputs, output: place, zero_point: 0, completes });
    }
    Ok((steps, bytes))
}

/// Bytes that say where the windows of a layer start and its outputs go: `kernels::Gemm` keeps 8 a pixel, and makes 24 of
/// the largest.
fn tables(graph: &Graph) -> usize {
    let layers = graph.nodes.iter().filter(|n| is_int8(n) && n.op.weight().is_some());
    layers.map(|n| 24 * n.shape.pixels()).fold(0, usize::saturating_add)
}

/// Where the levels of every node lie; a buffer lives from its owner to the last node that reads it or a view of it.
fn places(graph: &Graph, layout: &Layout) -> (Vec<Place>, usize) {
    let mut needs: Vec<Need> = graph
        .iter()
        .map(|(id, _)| {
            let owns = layout.owner[id.index()] == id && layout.roles[id.index()] == Role::Step;
            let node = graph.node(id);
            let bytes = match owns {
                true if is_int8(node) => layout.maps[id.index()].bytes() + SLACK,
                // The logits go straight to the caller.
                true if id == graph.output() && is_border(graph, node) => 0,
                true => size_of::<f32>() * node.shape.len(),
                false => 0,
            };
            Need { bytes, first: id.index(), last: id.index() }
        })
        .collect();
    for (id, node) in graph.iter() {
        // A node within its user's step is read when that step runs.
        let reader = match layout.roles[id.index()] {
            Role::Within(user) => user,
            Role::Image | Role::Step | Role::View => id,
        };
        for input in &node.inputs {
            let need = &mut needs[layout.owner[input.index()].index()];
            need.last = need.last.max(reader.index());
        }
    }
    let (ranges, bytes) = arena::assign(&needs);
    let place =
        |id: NodeId| Place { range: ranges[layout.owner[id.index()].index()].clone(), map: layout.maps[id.index()] };
    (graph.iter().map(|(id, _)| place(id)).collect(), bytes)
}

struct Context<'a> {
    graph: &'a Graph,
    layout: &'a Layout,
    kernels: &'a Kernels,
    places: &'a [Place],
}

impl Context<'_> {
    fn place(&self, id: NodeId) -> &Place {
        &self.places[id.index()]
    }

    fn map(&self, id: NodeId) -> Map {
        self.place(id).map
    }

    /// The quantization of a node that `layout::check` found to be int8.
    fn qparams(&self, id: NodeId) -> Result<QParams, ExecError> {
        let node = self.graph.node(id);
        node.numeric.qparams().ok_or_else(|| refuse(node, "its output is float, and an int8 layer reads it"))
    }

    /// The node that `id`'s step starts with: itself, or the one that was fused into it.
    fn computed(&self, id: NodeId) -> NodeId {
        match self.graph.node(id).inputs[..] {
            [input] if self.layout.roles[input.index()] == Role::Within(id) => input,
            _ => id,
        }
    }
}

fn refuse(node: &Node, detail: &str) -> ExecError {
    ExecError::Unsupported { node: node.name.clone(), op: node.op.name(), detail: detail.to_owned() }
}

fn lower_node(cx: &Context<'_>, id: NodeId, steps: &mut Vec<Step>) -> Result<(), ExecError> {
    let node = cx.graph.node(id);
    let is_last = id == cx.graph.output() && is_border(cx.graph, node);
    if !is_int8(node) && !is_last {
        return lower_float(cx, id, steps);
    }
    let computes = cx.computed(id);
    let operands = &cx.graph.node(computes).inputs;
    let mut push = |op: StepOp, inputs: &[NodeId], output: Place, zero_point: u8, whole: bool| {
        let inputs = inputs.iter().map(|i| cx.place(*i).clone()).collect();
        let completes = if whole { vec![(id, cx.place(id).clone())] } else { Vec::new() };
        steps.push(Step { node: id, computes, op, inputs, output, zero_point, completes });
    };
    let place = cx.place(id).clone();
    match &node.op {
        Op::QuantStub => {
            let q = cx.qparams(id)?;
            let levels = Levels::new(q.zero_point, q.qmax, false);
            if cx.graph.node(node.inputs[0]).op == Op::Input && reads_image(node) {
                push(StepOp::Quantize { scale: q.scale, levels }, &[], place, q.zero_point, true);
            } else {
                push(StepOp::QuantizeValues { scale: q.scale, levels }, operands, place, q.zero_point, true);
            }
        }
        Op::DeQuantStub => {
            let q = cx.qparams(node.inputs[0])?;
            push(StepOp::Dequantize { scale: q.scale }, operands, place, q.zero_point, false);
        }
        Op::Cat => {
            let q = cx.qparams(id)?;
            let mut first = 0;
            for (i, input) in node.inputs.iter().enumerate() {
                let channels = cx.graph.node(*input).shape.c;
                let part = Place { map: place.map.channels(first, channels), ..place.clone() };
                first += channels;
                let op = StepOp::Layer(Box::new(Layer::Table(requantize(cx.qparams(*input)?, q))));
                push(op, &[*input], part, q.zero_point, i + 1 == node.inputs.len());
            }
        }
        _ => {
            let layer = lower_layer(cx, id, computes)?;
            push(StepOp::Layer(Box::new(layer)), operands, place, cx.qparams(id)?.zero_point, true);
        }
    }
    Ok(())
}

/// What writes the values of `id`: a float layer, or a dequantize that is not the last node.
fn lower_float(cx: &Context<'_>, id: NodeId, steps: &mut Vec<Step>) -> Result<(), ExecError> {
    let node = cx.graph.node(id);
    let mut push = |op: StepOp, inputs: &[NodeId]| {
        let inputs = inputs.iter().map(|i| cx.place(*i).clone()).collect();
        let output = cx.place(id).clone();
        steps.push(Step { node: id, computes: id, op, inputs, output, zero_point: 0, completes: Vec::new() });
    };
    match &node.op {
        Op::Input => push(StepOp::Image, &[]),
        Op::DeQuantStub if is_border(cx.graph, node) => {
            let q = cx.qparams(node.inputs[0])?;
            push(StepOp::DequantizeValues { scale: q.scale, zero_point: q.zero_point }, &node.inputs);
        }
        Op::Cat => {
            for (i, input) in node.inputs.iter().enumerate() {
                push(StepOp::Float(Box::new(float::Layer::cat(cx.graph, node, i))), &[*input]);
            }
        }
        _ => push(StepOp::Float(Box::new(float::Layer::new(cx.graph, id)?)), &node.inputs),
    }
    match node.numeric {
        Numeric::FakeQuantized(q) => push(StepOp::FakeQuantize(q), &[]),
        Numeric::Float | Numeric::Observed(_) | Numeric::Learned(_) | Numeric::Int8(_) => {}
    }
    Ok(())
}

/// What writes the levels of `id`, starting from the operands of `computes`.
fn lower_layer(cx: &Context<'_>, id: NodeId, computes: NodeId) -> Result<Layer, ExecError> {
    let node = cx.graph.node(id);
    let q = cx.qparams(id)?;
    let input = |i: usize| cx.qparams(node.inputs[i]);
    let levels = |relu: bool| Levels::new(q.zero_point, q.qmax, relu);
    Ok(match &node.op {
        Op::Conv2d(conv) => lower_conv(cx, id, conv, cx.map(id), None)?,
        Op::Linear(linear) => lower_linear(cx, id, linear, cx.map(id), None)?,
        Op::Activation(f) => {
            let from = input(0)?;
            let table = Table::new(|level| q.quantize(f.apply(from.dequantize(level))));
            match &cx.graph.node(computes).op {
                Op::Conv2d(conv) => lower_conv(cx, computes, conv, cx.map(id), Some(table))?,
                Op::Linear(linear) => lower_linear(cx, computes, linear, cx.map(id), Some(table))?,
                _ => Layer::Table(table),
            }
        }
        Op::BatchNorm2d(bn) => {
            let affine = affine(bn, input(0)?, q);
            if let Some(odd) = affine.multiplier.iter().chain(&affine.offset).find(|v| !v.is_finite()) {
                return Err(refuse(node, &format!("its variances and scales give {odd}")));
            }
            Layer::Affine(affine)
        }
        Op::MaxPool2d(p) => Layer::MaxPool(MaxPool { kernel: p.kernel, stride: p.stride, padding: p.padding }),
        Op::AdaptiveAvgPool2d => Layer::AveragePool(levels(false)),
        Op::MeanHw => Layer::Mean { scale: q.scale, levels: levels(false) },
        Op::Add { relu } => {
            let term = |q: QParams| (q.scale, -f32::from(q.zero_point) * q.scale);
            let inputs = [term(input(0)?), term(input(1)?)];
            Layer::Add(Add { inputs, inverse_scale: 1.0 / q.scale, levels: levels(*relu) })
        }
        Op::Mul => {
            let (a, b) = (input(0)?, input(1)?);
            let (zero_points, multiplier) = ([a.zero_point, b.zero_point], a.scale * b.scale / q.scale);
            if !multiplier.is_finite() {
                return Err(refuse(node, &format!("its scales are too far apart: they give {multiplier}")));
            }
            Layer::Mul(Mul { zero_points, multiplier, levels: levels(false) })
        }
        Op::ChannelShuffle { groups } => match cx.graph.node(computes) {
            Node { op: Op::Cat, inputs, .. } => Layer::Interleave([
                requantize(cx.qparams(inputs[0])?, cx.qparams(computes)?),
                requantize(cx.qparams(inputs[1])?, cx.qparams(computes)?),
            ]),
            _ => Layer::Shuffle { groups: *groups },
        },
        Op::Flatten => Layer::Flatten,
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::Cat
        | Op::Chunk { .. }
        | Op::Dropout { .. }
        | Op::StochasticDepth { .. } => return Err(refuse(node, "it is no layer of the int8 engine")),
    })
}

/// Batch norm that was not folded, as PyTorch's `quantized::batch_norm2d` has it:
///
/// ```text
/// r = 1 / sqrt(var + eps)
/// multiplier = r * g * (si / so)        the quotient in float64
/// offset = (beta - mean * r * g) / so
/// ```
fn affine(bn: &BatchNorm2d, from: QParams, to: QParams) -> Affine {
    let channels = 0..bn.weight.len();
    let root = |c: usize| 1.0 / (bn.running_var.data[c] + bn.eps).sqrt();
    let ratio = f64::from(from.scale) / f64::from(to.scale);
    let multiplier = channels.clone().map(|c| (f64::from(root(c) * bn.weight.data[c]) * ratio) as f32).collect();
    let shift = |c: usize| bn.bias.data[c] - bn.running_mean.data[c] * root(c) * bn.weight.data[c];
    let offset = channels.map(|c| (f64::from(shift(c)) / f64::from(to.scale)) as f32).collect();
    Affine { zero_point: from.zero_point, multiplier, offset, levels: Levels::new(to.zero_point, to.qmax, false) }
}

/// `rne(d(q) * (1 / scale)) + zero point`: what a concatenation does to each input.
fn requantize(from: QParams, to: QParams) -> Table {
    Table::new(|level| to.quantize(from.dequantize(level)))
}

fn lower_conv(
    cx: &Context<'_>,
    id: NodeId,
    conv: &Conv2d,
    output: Map,
    then: Option<Table>,
) -> Result<Layer, ExecError> {
    let node = cx.graph.node(id);
    let weight = int8(node, &conv.weight)?;
    let requant = requant(cx, id, weight, conv.bias.as_ref(), conv.relu)?;
    let geometry = ConvGeometry { kernel: conv.kernel(), stride: conv.stride, padding: conv.padding };
    let input = cx.map(node.inputs[0]);
    Ok(if conv.is_depthwise() {
        Layer::Depthwise(Depthwise::new(cx.kernels, &weight.data, geometry, input, output, requant), then)
    } else if conv.groups == 1 {
        Layer::Gemm(Gemm::new(cx.kernels, &weight.data, geometry, input, output, requant), then)
    } else {
        Layer::Grouped(Grouped::new(&weight.data, conv.groups, geometry, input, output, requant), then)
    })
}

fn lower_linear(
    cx: &Context<'_>,
    id: NodeId,
    linear: &Linear,
    output: Map,
    then: Option<Table>,
) -> Result<Layer, ExecError> {
    let node = cx.graph.node(id);
    let weight = int8(node, &linear.weight)?;
    let requant = requant(cx, id, weight, linear.bias.as_ref(), linear.relu)?;
    let input = cx.map(node.inputs[0]);
    Ok(Layer::Gemm(Gemm::new(cx.kernels, &weight.data, ConvGeometry::POINT, input, output, requant), then))
}

fn int8<'a>(node: &Node, weight: &'a Weight) -> Result<&'a QTensor, ExecError> {
    weight.int8().ok_or_else(|| refuse(node, "its weight is float: convert the graph first"))
}

fn requant(
    cx: &Context<'_>,
    id: NodeId,
    weight: &QTensor,
    bias: Option<&Tensor>,
    relu: bool,
) -> Result<Requant, ExecError> {
    let (from, to) = (cx.qparams(cx.graph.node(id).inputs[0])?, cx.qparams(id)?);
    let scales: Vec<f32> = (0..weight.shape[0]).map(|c| weight.scale(c)).collect();
    let levels = Levels::new(to.zero_point, to.qmax, relu);
    let bias = bias.map(|b| &b.data[..]);
    let requant = Requant::of((from.scale, from.zero_point), &scales, bias, to.scale, levels);
    // Products of scales that are each a number may be none.
    match requant.bias.iter().chain(&requant.multiplier).find(|v| !v.is_finite()) {
        Some(odd) => {
            Err(refuse(cx.graph.node(id), &format!("its scales and biases are too far apart: they give {odd}")))
        }
        None => Ok(requant),
    }
}
