use std::{ops::ControlFlow, sync::Mutex};

use super::{
    Activation,
    layer::{Conv, Layer},
    level_average::LevelAverage,
    walk::{check_input, last_use, refuse_int8, refuse_training},
};
use crate::{
    exec::ExecError,
    graph::{Graph, NodeId, Numeric, Op},
    kernels::{
        fake_quantize,
        float::{self as kernel, Threads, to_nhwc},
    },
};

/// A float graph on the CPU, its weights packed, over buffers that it keeps from run to run.
#[derive(Debug)]
pub(super) struct HostModel {
    graph: Graph,
    works: Vec<Work>,
    /// For each node, the one whose values are its own: itself, or before it what it passes on.
    sources: Vec<NodeId>,
    /// For each source, the last node that reads its values.
    last_use: Vec<NodeId>,
    /// For each convolution, the node that can be computed along with it, being its only reader.
    tails: Vec<Option<NodeId>>,
    threads: Threads,
    /// Buffers of the run before, those of each part that ran beside others.
    spare: Mutex<Vec<Vec<Vec<f32>>>>,
}

/// Pixels of images that go through the layers together. More would push a layer's values out of the cache before the next
/// one reads them; with fewer, deep layers of small images would read their weights for a handful of pixels.
const TOGETHER: usize = 224 * 224;

/// How a node is computed.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a node, made once")]
enum Work {
    Image,
    /// Its values are its input's.
    Nothing,
    Layer(Layer),
    Average(LevelAverage),
    /// One layer for each input, each a part of the output.
    Parts(Vec<Layer>),
}

/// What is shown each node's output.
type Visit<'a> = dyn FnMut(NodeId, &Activation<'_>) -> ControlFlow<()> + 'a;

impl HostModel {
    /// Packs the parameters, to run on `threads` threads, the caller's included; 0 counts as 1.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] for an int8 node or one in the QAT form.
    pub(super) fn new(graph: &Graph, threads: usize) -> Result<Self, ExecError> {
        refuse_int8(graph)?;
        refuse_training(graph)?;
        let works = graph.iter().map(|(id, _)| Work::new(graph, id)).collect::<Result<Vec<_>, _>>()?;
        let sources = sources(graph, &works);
        let mut last = last_use(graph);
        for (id, source) in sources.iter().enumerate() {
            last[source.index()] = last[source.index()].max(last[id]);
        }
        Ok(Self {
            tails: tails(graph, &works, &sources),
            graph: graph.clone(),
            works,
            sources,
            last_use: last,
            threads: Threads::new(threads),
            spare: Mutex::default(),
        })
    }

    /// The graph that it runs.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// See [`super::Model::run`]. Parts of the batch run side by side, each on one thread; the rest shares the threads.
    pub(super) fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, ExecError> {
        check_input(&self.graph, images, batch)?;
        let (shape, threads) = (self.graph.input_shape(), self.threads.count());
        let part = (TOGETHER / shape.pixels()).clamp(1, batch.div_ceil(threads).max(1));
        let beside = batch / part / threads * threads;
        let (first, rest) = images.split_at(beside * part * shape.len());
        let first: Vec<&[f32]> = first.chunks_exact(part * shape.len()).collect();
        let alone = Threads::new(1);
        let done = self.threads.map(first.len(), |i| self.run_together(first[i], part, &alone));
        let mut logits = done.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        for rest in rest.chunks(part * shape.len()) {
            logits.extend(self.run_together(rest, rest.len() / shape.len(), &self.threads)?);
        }
        Ok(logits)
    }

    fn run_together(&self, images: &[f32], batch: usize, threads: &Threads) -> Result<Vec<f32>, ExecError> {
        let mut logits = Vec::new();
        let output = self.graph.output();
        self.walk(images, batch, threads, &|id| id == output, &mut |_, values| {
            logits.extend_from_slice(values.as_slice());
            ControlFlow::Continue(())
        })?;
        Ok(logits)
    }

    /// Evaluates node by node, in buffers that are used again after a value's last reader; see
    /// [`super::Model::run_traced`].
    pub(super) fn run_traced(
        &self,
        images: &[f32],
        batch: usize,
        wanted: &dyn Fn(NodeId) -> bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), ExecError> {
        self.walk(images, batch, &self.threads, wanted, visit)
    }

    fn walk(
        &self,
        images: &[f32],
        batch: usize,
        threads: &Threads,
        wanted: &dyn Fn(NodeId) -> bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), ExecError> {
        check_input(&self.graph, images, batch)?;
        let spare = self.spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
        let mut buffers = Buffers { spare, of: self.graph.iter().map(|_| None).collect() };
        for (id, node) in self.graph.iter() {
            let source = self.sources[id.index()];
            if source == id && buffers.of[id.index()].is_none() {
                let tail = self.tails[id.index()].filter(|_| !wanted(id));
                threads.run(|| self.compute(images, batch, id, tail, &mut buffers));
            }
            if wanted(id) {
                let values = buffers.values(source, batch * node.shape.len());
                if visit(id, &Activation::new(values, node.shape)).is_break() {
                    break;
                }
            }
            let read = node.inputs.iter().map(|i| self.sources[i.index()]);
            read.chain([source]).filter(|s| self.last_use[s.index()] <= id).for_each(|s| buffers.free(s));
        }
        buffers.of.iter_mut().for_each(|buffer| buffers.spare.extend(buffer.take()));
        if let Ok(mut spare) = self.spare.lock() {
            spare.push(buffers.spare);
        }
        Ok(())
    }

    /// Computes a node, along with the one that reads it alone where `tail` names it.
    fn compute(&self, images: &[f32], batch: usize, id: NodeId, tail: Option<NodeId>, buffers: &mut Buffers) {
        let node = self.graph.node(id);
        let len = batch * node.shape.len();
        let mut out = buffers.take(len);
        let y = &mut out[..len];
        let value = |i: &NodeId| buffers.values(self.sources[i.index()], batch * self.graph.node(*i).shape.len());
        match (&self.works[id.index()], tail) {
            (Work::Image, _) => to_nhwc(images, node.shape.c, node.shape.pixels(), y),
            (Work::Layer(Layer::Conv(conv)), Some(tail)) => {
                let x = value(&node.inputs[0]);
                let reader = self.graph.node(tail);
                let other = reader.inputs.iter().find(|i| self.sources[i.index()] != id);
                run_with_tail(conv, batch, x, &self.works[tail.index()], other.map(value), y);
            }
            (Work::Layer(layer), _) => {
                let inputs: Vec<&[f32]> = node.inputs.iter().map(value).collect();
                layer.run(batch, &inputs, y);
            }
            (Work::Parts(parts), _) => {
                parts.iter().zip(&node.inputs).for_each(|(part, input)| part.run(batch, &[value(input)], y));
            }
            (Work::Average(average), _) => average.run(value(&node.inputs[0]), y),
            // Only where its values are moved to levels.
            (Work::Nothing, _) => y.copy_from_slice(value(&node.inputs[0])),
        }
        let id = tail.unwrap_or(id);
        let on_levels = matches!(self.works[id.index()], Work::Average(_));
        if let Numeric::FakeQuantized(q) = &self.graph.node(id).numeric
            && !on_levels
        {
            let mut levels = buffers.take(len);
            fake_quantize(&out[..len], q.scale, q.zero_point, q.qmax, &mut levels[..len]);
            buffers.spare.push(std::mem::replace(&mut out, levels));
        }
        buffers.of[id.index()] = Some(out);
    }
}

/// A convolution, and in each part of its output the function or the sum that reads it.
fn run_with_tail(conv: &Conv, batch: usize, x: &[f32], tail: &Work, other: Option<&[f32]>, y: &mut [f32]) {
    match (tail, other) {
        (Work::Layer(Layer::Apply(f)), None) => conv.run_then(batch, x, y, &|_, part| kernel::apply_to(part, *f)),
        (Work::Layer(Layer::Add { relu }), Some(other)) => conv.run_then(batch, x, y, &|first, part| {
            kernel::add_to(part, &other[first..first + part.len()], *relu);
        }),
        (tail, _) => unreachable!("{tail:?} is no tail"),
    }
}

impl Work {
    fn new(graph: &Graph, id: NodeId) -> Result<Self, ExecError> {
        let node = graph.node(id);
        if node.inputs.is_empty() {
            return Ok(Self::Image);
        }
        if let Some(average) = LevelAverage::of(graph, id) {
            return Ok(Self::Average(average));
        }
        Ok(match &node.op {
            Op::Cat => Self::Parts((0..node.inputs.len()).map(|i| Layer::cat(graph, node, i)).collect()),
            Op::Flatten if graph.node(node.inputs[0]).shape.pixels() == 1 => Self::Nothing,
            _ => match Layer::new(graph, id)? {
                Layer::Identity => Self::Nothing,
                layer => Self::Layer(layer),
            },
        })
    }
}

/// See [`HostModel::sources`].
fn sources(graph: &Graph, works: &[Work]) -> Vec<NodeId> {
    let mut sources: Vec<NodeId> = Vec::new();
    for (id, node) in graph.iter() {
        let moved = matches!(node.numeric, Numeric::FakeQuantized(_));
        let passes = matches!(works[id.index()], Work::Nothing) && !moved;
        sources.push(if passes { sources[node.inputs[0].index()] } else { id });
    }
    sources
}

/// See [`HostModel::tails`].
fn tails(graph: &Graph, works: &[Work], sources: &[NodeId]) -> Vec<Option<NodeId>> {
    let mut readers = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.iter() {
        node.inputs.iter().for_each(|i| readers[i.index()].push(id));
    }
    let tail = |(id, node): (NodeId, &crate::graph::Node)| {
        let moved = matches!(node.numeric, Numeric::FakeQuantized(_));
        let (Work::Layer(Layer::Conv(_)), [reader], false) = (&works[id.index()], &readers[id.index()][..], moved)
        else {
            return None;
        };
        let before = graph.node(*reader).inputs.iter().all(|i| *i == id || sources[i.index()] < id && *i < id);
        let fits = match &works[reader.index()] {
            Work::Layer(Layer::Apply(_)) => true,
            Work::Layer(Layer::Add { .. }) => before,
            Work::Layer(_) | Work::Average(_) | Work::Image | Work::Nothing | Work::Parts(_) => false,
        };
        fits.then_some(*reader)
    };
    graph.iter().map(tail).collect()
}

/// Values of nodes, each at the start of a buffer at least as long.
struct Buffers {
    spare: Vec<Vec<f32>>,
    of: Vec<Option<Vec<f32>>>,
}

impl Buffers {
    /// A buffer for `len` values, holding what it held: the smallest that will do.
    fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = (0..self.spare.len()).filter(|i| self.spare[*i].len() >= len).min_by_key(|i| self.spare[*i].len());
        fits.map_or_else(|| crate::buffers::zeroed(len), |i| self.spare.swap_remove(i))
    }

    /// The first `len` values of a node, which the order of the nodes guarantees.
    fn values(&self, id: NodeId, len: usize) -> &[f32] {
        let values = self.of[id.index()].as_ref().expect("a value lives until its last reader has run");
        &values[..len]
    }

    fn free(&mut self, id: NodeId) {
        self.spare.extend(self.of[id.index()].take());
    }
}
