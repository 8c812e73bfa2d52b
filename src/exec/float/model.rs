use std::ops::ControlFlow;

use candle_core::Tensor;

use super::{
    Activation, Device,
    forward::{conv_geometry, dims, evaluate, linear_geometry},
    ops::{in_pool_of, map1, runs_programs},
    parameters::Parameters,
};
use crate::{
    exec::ExecError,
    graph::{self, Conv2d, Graph, Linear, NodeId, Numeric, Op, Shape},
    kernels::{
        cuda, fake_average, fake_quantize,
        float::{PackedConv, SumOrder, to_nhwc},
    },
};

/// What is shown each node's output.
type Visit<'a> = dyn FnMut(NodeId, &Tensor) -> Result<ControlFlow<()>, ExecError> + 'a;

/// A float graph, its parameters uploaded, ready to run.
#[derive(Debug)]
pub struct Model {
    graph: Graph,
    /// Of the nodes that are not packed.
    params: Parameters,
    /// The dense convolutions and linear layers, on the CPU.
    packed: Vec<Option<PackedConv>>,
    device: candle_core::Device,
    /// For each node, the last one that reads it.
    last_use: Vec<NodeId>,
}

impl Model {
    /// Uploads the parameters of a float graph: plain, stubbed, fused, observed or fake-quantized.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] for an int8 node or one in the QAT form, [`ExecError::Device`] for a device that is not
    /// there.
    pub fn new(graph: &Graph, device: &Device) -> Result<Self, ExecError> {
        refuse_int8(graph)?;
        refuse_training(graph)?;
        let device = device.open()?;
        let on_cpu = !runs_programs(&device);
        let pack = |(id, _)| if on_cpu { pack(graph, id) } else { Ok(None) };
        let packed = graph.iter().map(pack).collect::<Result<Vec<_>, _>>()?;
        let params = Parameters::of(graph, &device, |id| packed[id.index()].is_none())?;
        Ok(Self { graph: graph.clone(), params, packed, device, last_use: last_use(graph) })
    }

    /// Logits, `[batch, classes]`, of `batch` images, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// [`ExecError::Input`] where `images` is not that long.
    pub fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, ExecError> {
        let input = upload(&self.graph, images, batch, &self.device)?;
        let logits = in_pool_of(&self.device, || self.walk(input, &mut |_, _| Ok(ControlFlow::Continue(()))))?;
        Ok(logits.map_or_else(|| Ok(Vec::new()), |l| l.flatten_all()?.to_vec1())?)
    }

    /// Runs a batch and shows the output of every observed node to `visit`, in order; stops at once when it says so.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn run_observed(
        &self,
        images: &[f32],
        batch: usize,
        visit: &mut dyn FnMut(NodeId, &Activation<'_>) -> ControlFlow<()>,
    ) -> Result<(), ExecError> {
        let observed = |id: NodeId| matches!(self.graph.node(id).numeric, Numeric::Observed(_));
        self.run_traced(images, batch, &observed, visit)
    }

    /// As [`Model::run_observed`] for the nodes that `wanted` picks.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn run_traced(
        &self,
        images: &[f32],
        batch: usize,
        wanted: &dyn Fn(NodeId) -> bool,
        visit: &mut dyn FnMut(NodeId, &Activation<'_>) -> ControlFlow<()>,
    ) -> Result<(), ExecError> {
        let input = upload(&self.graph, images, batch, &self.device)?;
        self.walk(input, &mut |id, value| {
            if !wanted(id) {
                return Ok(ControlFlow::Continue(()));
            }
            Activation::of(value, self.graph.node(id).shape, |a| visit(id, a))
        })?;
        Ok(())
    }

    /// What a node computes of its inputs, before it is moved to its levels.
    pub(super) fn compute(&self, id: NodeId, inputs: &[&Tensor]) -> Result<Tensor, ExecError> {
        match &self.packed[id.index()] {
            Some(conv) => {
                let batch = inputs[0].dim(0)?;
                let shape = dims(batch, self.graph.node(id).shape);
                Ok(map1("convolution", inputs[0], shape, |x, y| conv.run(batch, x, y), on_cpu_only)?)
            }
            None => evaluate(&self.graph, id, inputs, &self.params),
        }
    }

    /// The graph that it runs.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Evaluates node by node, freeing each value after its last reader; `None` where `visit` broke off.
    fn walk(&self, input: Tensor, visit: &mut Visit<'_>) -> Result<Option<Tensor>, ExecError> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.graph.nodes.len()];
        for (id, node) in self.graph.iter() {
            let value = if node.inputs.is_empty() {
                input.clone()
            } else {
                let inputs: Vec<&Tensor> = node.inputs.iter().map(|i| live(&values, *i)).collect();
                match average_on_levels(&self.graph, id, inputs[0])? {
                    Some(average) => average,
                    None => fake_quantized(&node.numeric, self.compute(id, &inputs)?)?,
                }
            };
            if visit(id, &value)?.is_break() {
                return Ok(None);
            }
            values[id.index()] = Some(value);
            for i in &node.inputs {
                if self.last_use[i.index()] == id {
                    values[i.index()] = None;
                }
            }
        }
        Ok(values[self.graph.output().index()].take())
    }
}

/// A node's output as its [`Numeric`] wants it: moved to its levels where it is fake-quantized.
pub(super) fn fake_quantized(numeric: &Numeric, value: Tensor) -> Result<Tensor, ExecError> {
    match numeric {
        Numeric::Float | Numeric::Observed(_) | Numeric::Learned(_) | Numeric::Int8(_) => Ok(value),
        Numeric::FakeQuantized(q) => {
            let run = |x: &[f32], y: &mut [f32]| fake_quantize(x, q.scale, q.zero_point, q.qmax, y);
            let program = || cuda::fake_quantize(value.elem_count(), q.scale, q.zero_point, q.qmax);
            Ok(map1("fake quantize", &value, value.shape(), run, program)?)
        }
    }
}

/// An average that keeps its input's levels, rounded as the int8 engine does; `None` for any other node.
pub(super) fn average_on_levels(graph: &Graph, id: NodeId, x: &Tensor) -> Result<Option<Tensor>, ExecError> {
    let node = graph.node(id);
    let Numeric::FakeQuantized(q) = node.numeric else { return Ok(None) };
    let values = matches!(node.op, Op::MeanHw);
    if !values && !matches!(node.op, Op::AdaptiveAvgPool2d) {
        return Ok(None);
    }
    let from = graph.node(node.inputs[0]).shape;
    let average = |x: &[f32], y: &mut [f32]| fake_average(x, from.c, from.pixels(), q.scale, values, y);
    let batch = x.dim(0)?;
    let program = || cuda::fake_average(batch, from.c, from.pixels(), q.scale, values);
    Ok(Some(map1("mean", x, dims(batch, node.shape), average, program)?))
}

/// A dense convolution or a linear layer, packed; `None` for any other node.
fn pack(graph: &Graph, id: NodeId) -> Result<Option<PackedConv>, ExecError> {
    let node = graph.node(id);
    let values = |bias: &Option<graph::Tensor>| bias.as_ref().map(|b| b.data.clone());
    let (geometry, order, weight, bias, relu) = match &node.op {
        Op::Conv2d(c @ Conv2d { weight, bias, relu, .. }) if !c.is_depthwise() => {
            let geometry = conv_geometry(c, node, graph.node(node.inputs[0]).shape, 1)?;
            (geometry, SumOrder::conv(&geometry), weight, bias, *relu)
        }
        Op::Linear(Linear { weight, bias, relu, .. }) => {
            let geometry = linear_geometry(1, graph.node(node.inputs[0]).shape, node.shape);
            (geometry, SumOrder::linear(), weight, bias, *relu)
        }
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::Conv2d(_)
        | Op::BatchNorm2d(_)
        | Op::Activation(_)
        | Op::MaxPool2d(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Add { .. }
        | Op::Mul
        | Op::Cat
        | Op::Chunk { .. }
        | Op::ChannelShuffle { .. }
        | Op::Flatten
        | Op::Dropout { .. }
        | Op::StochasticDepth { .. } => return Ok(None),
    };
    // An int8 weight was refused before.
    let Some(weight) = weight.float() else { return Ok(None) };
    Ok(Some(PackedConv::new(&geometry, order, &weight.data, values(bias).as_deref(), relu)))
}

/// The program of what is packed, which is nothing on a GPU.
pub(super) fn on_cpu_only() -> cuda::Program {
    unreachable!("layers are packed for the CPU")
}

/// A value that the order of the nodes guarantees.
pub(super) fn live(values: &[Option<Tensor>], id: NodeId) -> &Tensor {
    values[id.index()].as_ref().expect("a value lives until its last reader has run")
}

/// For each node the last one that reads it (the output: itself).
pub(super) fn last_use(graph: &Graph) -> Vec<NodeId> {
    let mut last: Vec<NodeId> = graph.iter().map(|(id, _)| id).collect();
    for (id, node) in graph.iter() {
        for input in &node.inputs {
            last[input.index()] = id;
        }
    }
    last
}

/// An error that names the first int8 node.
pub(super) fn refuse_int8(graph: &Graph) -> Result<(), ExecError> {
    match graph.nodes.iter().find(|n| n.numeric.qparams().is_some()) {
        Some(node) => Err(ExecError::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            detail: "its output is int8: run a converted model with the int8 engine".to_owned(),
        }),
        None => Ok(()),
    }
}

/// An error that names the first node that only a [`super::Trainable`] runs.
pub(super) fn refuse_training(graph: &Graph) -> Result<(), ExecError> {
    let in_training = |n: &&graph::Node| matches!(n.numeric, Numeric::Learned(_)) || n.op.bn().is_some();
    match graph.nodes.iter().find(in_training) {
        Some(node) => Err(ExecError::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            detail: "it is in the form for training with fake quantization: evaluate what `fake_quantize_qat` or \
                     `convert_qat` makes of it"
                .to_owned(),
        }),
        None => Ok(()),
    }
}

/// Images to the input's tensor, channels innermost.
pub(super) fn upload(
    graph: &Graph,
    images: &[f32],
    batch: usize,
    device: &candle_core::Device,
) -> Result<Tensor, ExecError> {
    let Shape { c, h, w } = graph.input_shape();
    let image = c * h * w;
    if images.len() != batch * image {
        return Err(ExecError::Input { found: images.len(), batch, image, expected: batch * image });
    }
    let uploaded = Tensor::from_slice(images, (batch, c, h, w), device)?;
    let program = || cuda::to_nhwc(images.len(), c, h * w);
    Ok(map1("upload", &uploaded, (batch, h, w, c), |x, y| to_nhwc(x, c, h * w, y), program)?)
}
