use std::ops::ControlFlow;

use candle_core::Tensor;

use super::{
    Activation,
    forward::{dims, evaluate},
    layer::Layer,
    level_average::LevelAverage,
    ops::{in_pool_of, map1, runs_programs},
    parameters::Parameters,
    walk::{last_use, live, refuse_int8, refuse_training, upload},
};
use crate::{
    exec::ExecError,
    graph::{Graph, NodeId, Numeric},
    kernels::{cuda, fake_quantize},
};

/// What is shown each node's output.
type Visit<'a> = dyn FnMut(NodeId, &Tensor) -> Result<ControlFlow<()>, ExecError> + 'a;

/// A float graph whose values are tensors: on a GPU, and wherever nodes are computed one at a time.
#[derive(Debug)]
pub(super) struct TensorModel {
    graph: Graph,
    /// Of the nodes that are not packed.
    params: Parameters,
    /// The convolutions and linear layers, on the CPU.
    packed: Vec<Option<Layer>>,
    device: candle_core::Device,
    /// For each node, the last one that reads it.
    last_use: Vec<NodeId>,
}

impl TensorModel {
    /// Packs the parameters, or uploads them.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] for an int8 node or one in the QAT form.
    pub(super) fn new(graph: &Graph, device: candle_core::Device) -> Result<Self, ExecError> {
        refuse_int8(graph)?;
        refuse_training(graph)?;
        let on_cpu = !runs_programs(&device);
        let pack = |id: NodeId| (on_cpu && graph.node(id).op.weight().is_some()).then(|| Layer::new(graph, id));
        let packed = graph.iter().map(|(id, _)| pack(id).transpose()).collect::<Result<Vec<_>, _>>()?;
        let params = Parameters::of(graph, &device, |id| packed[id.index()].is_none())?;
        Ok(Self { graph: graph.clone(), params, packed, device, last_use: last_use(graph) })
    }

    /// See [`super::Model::run`].
    pub(super) fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, ExecError> {
        let input = upload(&self.graph, images, batch, &self.device)?;
        let logits = in_pool_of(&self.device, || self.walk(input, &mut |_, _| Ok(ControlFlow::Continue(()))))?;
        Ok(logits.map_or_else(|| Ok(Vec::new()), |l| l.flatten_all()?.to_vec1())?)
    }

    /// See [`super::Model::run_traced`].
    pub(super) fn run_traced(
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
            Some(layer) => {
                let batch = inputs[0].dim(0)?;
                let shape = dims(batch, self.graph.node(id).shape);
                Ok(map1("convolution", inputs[0], shape, |x, y| layer.run(batch, &[x], y), on_cpu_only)?)
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

/// See [`LevelAverage`]; `None` for any other node.
pub(super) fn average_on_levels(graph: &Graph, id: NodeId, x: &Tensor) -> Result<Option<Tensor>, ExecError> {
    let Some(average) = LevelAverage::of(graph, id) else { return Ok(None) };
    let batch = x.dim(0)?;
    let (run, program) = (|x: &[f32], y: &mut [f32]| average.run(x, y), || average.program(batch));
    Ok(Some(map1("mean", x, dims(batch, graph.node(id).shape), run, program)?))
}

/// The program of what is packed, which is nothing on a GPU.
pub(super) fn on_cpu_only() -> cuda::Program {
    unreachable!("layers are packed for the CPU")
}
