use candle_core::Tensor;

use super::{
    Activation,
    ops::map1,
    tensor_model::{TensorModel, average_on_levels, fake_quantized, on_cpu_only},
    walk::{last_use, upload},
};
use crate::{
    exec::ExecError,
    graph::{Graph, NodeId, Shape},
    kernels::float::in_pool,
};

/// Which parts of a node come from the second of two forms of a network; the rest comes from the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parts {
    /// Weight and bias.
    pub weight: bool,
    /// The levels that its output is moved to.
    pub output: bool,
}

impl Parts {
    /// All of the first.
    pub const FIRST: Self = Self { weight: false, output: false };
    /// All of the second.
    pub const SECOND: Self = Self { weight: true, output: true };
}

/// Hears a layer's output in both forms and says what to add to each channel of the second.
pub type Correct<'a> = dyn FnMut(NodeId, &[f32], &[f32]) -> Option<Vec<f32>> + 'a;

/// Two forms of one network, the same node for node: as it was trained, and with weights and outputs on int8's levels.
/// Runs any mixture of them, and from one run to the next only what a change can reach.
#[derive(Debug)]
pub struct Twins {
    first: TensorModel,
    second: TensorModel,
    last_use: Vec<NodeId>,
}

/// What every node computed of a batch, in one mixture.
#[derive(Debug)]
pub struct Kept {
    parts: Vec<Parts>,
    values: Vec<Tensor>,
}

impl Twins {
    /// Packs both, for the CPU.
    ///
    /// # Errors
    /// Those of [`super::Model::new`]; [`ExecError::Unsupported`] naming the first node in which the two differ by more than
    /// weights and levels.
    pub fn new(first: &Graph, second: &Graph) -> Result<Self, ExecError> {
        let same = |(a, b): &(&crate::graph::Node, &crate::graph::Node)| {
            a.name == b.name && a.inputs == b.inputs && a.shape == b.shape && a.op.name() == b.op.name()
        };
        let odd = first.nodes.iter().zip(&second.nodes).find(|pair| !same(pair)).map(|(_, b)| b);
        let longer = second.nodes.get(first.nodes.len()).or(first.nodes.get(second.nodes.len()));
        if let Some(node) = odd.or(longer) {
            return Err(ExecError::Unsupported {
                node: node.name.clone(),
                op: node.op.name(),
                detail: "the float and the quantized form of the network differ here: make both from the same model"
                    .to_owned(),
            });
        }
        let packed = |graph| TensorModel::new(graph, candle_core::Device::Cpu);
        let (first, second) = (packed(first)?, packed(second)?);
        Ok(Self { last_use: last_use(first.graph()), first, second })
    }

    /// The first form.
    pub fn graph(&self) -> &Graph {
        self.first.graph()
    }

    /// Runs `batch` images, `[batch, channels, height, width]`, with these parts of each node, and keeps what each node
    /// computed.
    ///
    /// # Errors
    /// [`ExecError::Input`] where `images` is not that long.
    pub fn run(&self, images: &[f32], batch: usize, parts: impl Fn(NodeId) -> Parts + Sync) -> Result<Kept, ExecError> {
        let graph = self.graph();
        let input = upload(graph, images, batch, &candle_core::Device::Cpu)?;
        let parts: Vec<Parts> = graph.iter().map(|(id, _)| parts(id)).collect();
        let values = in_pool(|| -> Result<Vec<Tensor>, ExecError> {
            let mut values: Vec<Tensor> = Vec::with_capacity(graph.nodes.len());
            for (id, node) in graph.iter() {
                let inputs: Vec<&Tensor> = node.inputs.iter().map(|i| &values[i.index()]).collect();
                let value = if inputs.is_empty() { input.clone() } else { self.node(id, &inputs, parts[id.index()])? };
                values.push(value);
            }
            Ok(values)
        })?;
        Ok(Kept { parts, values })
    }

    /// Logits of the batch of `kept` with other parts of some nodes: computes these and what follows from them.
    ///
    /// # Errors
    /// Candle's.
    pub fn rerun(&self, kept: &Kept, changed: &[(NodeId, Parts)]) -> Result<Vec<f32>, ExecError> {
        let graph = self.graph();
        let mut parts = kept.parts.clone();
        changed.iter().for_each(|(id, new)| parts[id.index()] = *new);
        let differs = |id: NodeId| parts[id.index()] != kept.parts[id.index()];
        let logits = in_pool(|| -> Result<Tensor, ExecError> {
            // `None` where the value is still what was kept.
            let mut values: Vec<Option<Tensor>> = vec![None; graph.nodes.len()];
            for (id, node) in graph.iter() {
                if node.inputs.is_empty() || !(differs(id) || node.inputs.iter().any(|i| values[i.index()].is_some())) {
                    continue;
                }
                let of = |i: &NodeId| values[i.index()].as_ref().unwrap_or(&kept.values[i.index()]);
                let inputs: Vec<&Tensor> = node.inputs.iter().map(of).collect();
                let value = self.node(id, &inputs, parts[id.index()])?;
                for i in node.inputs.iter().filter(|i| self.last_use[i.index()] == id) {
                    // Nobody reads it again; a reader to come would have been the last.
                    values[i.index()] = None;
                }
                values[id.index()] = Some(value);
            }
            let output = graph.output().index();
            Ok(values[output].take().unwrap_or_else(|| kept.values[output].clone()))
        })?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    /// What one node computes with these parts, of the inputs that were kept: `[batch, height, width, channels]`.
    ///
    /// # Errors
    /// Candle's.
    pub fn alone(&self, kept: &Kept, id: NodeId, parts: Parts) -> Result<Vec<f32>, ExecError> {
        let inputs: Vec<&Tensor> = self.graph().node(id).inputs.iter().map(|i| &kept.values[i.index()]).collect();
        if inputs.is_empty() {
            return Ok(kept.values[id.index()].flatten_all()?.to_vec1()?);
        }
        Ok(in_pool(|| self.node(id, &inputs, parts))?.flatten_all()?.to_vec1()?)
    }

    /// Runs both forms at once and lets `correct` add to each output channel of the second one's layers, before its output
    /// is moved to its levels and before anything reads it. It is shown the node and what both forms compute,
    /// `[batch, height, width, channels]`; the layers before were corrected already.
    ///
    /// # Errors
    /// [`ExecError::Input`] where `images` is not that long.
    pub fn correct(&self, images: &[f32], batch: usize, correct: &mut Correct<'_>) -> Result<(), ExecError> {
        let graph = self.graph();
        let input = upload(graph, images, batch, &candle_core::Device::Cpu)?;
        let mut values: Vec<[Option<Tensor>; 2]> = vec![[None, None]; graph.nodes.len()];
        for (id, node) in graph.iter() {
            values[id.index()] = if node.inputs.is_empty() {
                [Some(input.clone()), Some(input.clone())]
            } else {
                let of = |form: usize| -> Vec<&Tensor> {
                    let live = |i: &NodeId| values[i.index()][form].as_ref();
                    node.inputs.iter().map(|i| live(i).expect("a value lives until its last reader has run")).collect()
                };
                let (first, second) = (of(0), of(1));
                let first = in_pool(|| self.first.compute(id, &first))?;
                let mut second = in_pool(|| self.second.compute(id, &second))?;
                let shape = node.shape;
                let show = |a: &Activation<'_>, b: &Activation<'_>| correct(id, a.as_slice(), b.as_slice());
                if node.op.weight().is_some()
                    && let Some(add) = shown(&first, &second, shape, show)?
                {
                    let run = |x: &[f32], y: &mut [f32]| {
                        for (y, x) in y.chunks_exact_mut(add.len()).zip(x.chunks_exact(add.len())) {
                            y.iter_mut().zip(x).zip(&add).for_each(|((y, x), add)| *y = x + add);
                        }
                    };
                    second = map1("bias correction", &second, second.shape(), run, on_cpu_only)?;
                }
                let second = fake_quantized(&self.second.graph().node(id).numeric, second)?;
                [Some(first), Some(second)]
            };
            for i in node.inputs.iter().filter(|i| self.last_use[i.index()] == id) {
                values[i.index()] = [None, None];
            }
        }
        Ok(())
    }

    /// Whether a node has something to choose: other weights, or an output on other levels.
    pub fn choices(&self, id: NodeId) -> Parts {
        let (a, b) = (self.first.graph().node(id), self.second.graph().node(id));
        Parts { weight: a.op.weight().is_some() && a.op != b.op, output: a.numeric != b.numeric }
    }

    fn node(&self, id: NodeId, inputs: &[&Tensor], parts: Parts) -> Result<Tensor, ExecError> {
        let computes = if parts.weight { &self.second } else { &self.first };
        let levels = if parts.output { &self.second } else { &self.first }.graph();
        match average_on_levels(levels, id, inputs[0])? {
            Some(average) => Ok(average),
            None => fake_quantized(&levels.node(id).numeric, computes.compute(id, inputs)?),
        }
    }
}

/// Calls `f` with what two tensors of one shape hold.
fn shown<R>(
    a: &Tensor,
    b: &Tensor,
    shape: Shape,
    f: impl FnOnce(&Activation<'_>, &Activation<'_>) -> R,
) -> Result<R, ExecError> {
    Activation::of(a, shape, |a| Activation::of(b, shape, |b| f(a, b)))?
}

impl Kept {
    /// Calls `f` with what a node computed.
    ///
    /// # Errors
    /// Candle's.
    pub fn value<R>(&self, twins: &Twins, id: NodeId, f: impl FnOnce(&Activation<'_>) -> R) -> Result<R, ExecError> {
        Activation::of(&self.values[id.index()], twins.graph().node(id).shape, f)
    }

    /// Logits, `[batch, classes]`.
    ///
    /// # Errors
    /// Candle's.
    pub fn logits(&self) -> Result<Vec<f32>, ExecError> {
        let last = self.values.last().expect("a graph has an output");
        Ok(last.flatten_all()?.to_vec1()?)
    }
}
