//! Runs a converted graph on integers: uint8 activations times int8 weights into int32, requantized, as PyTorch does it.
//! Layers that were left in float run in float32 where they stand, between a dequantize and a quantize.
//!
//! A [`Plan`] is made once from a graph: `layout` says where each activation lies (channels innermost, with the border
//! that a convolution's padding reads), `arena` lets activations that do not live at the same time share memory, `lower`
//! turns nodes into steps with packed weights. Running it allocates nothing large but the result, and for its first batch
//! one arena a thread. The integers are the same for every instruction set, number of threads and way to split images into
//! batches.
//!
//! This room knows graphs and kernels, and nothing of candle: a file runs without it.

mod arena;
mod float_step;
mod layout;
mod lower;
mod step;

use std::{ops::Range, time::Instant};

use step::{Step, StepOp};

use super::ExecError;
use crate::{
    graph::{Graph, NodeId, Shape},
    kernels::{Isa, Kernels, dequantize, float::Threads, quantize_image},
};

/// How to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Which kernels; the fastest that this CPU has where it is `None` and `OCTET_ISA` is not set.
    pub isa: Option<Isa>,
    /// Threads that compute, the caller's included; 0 counts as 1.
    pub threads: usize,
}

impl Default for PlanOptions {
    /// The fastest kernels on the caller's thread.
    fn default() -> Self {
        Self { isa: None, threads: 1 }
    }
}

/// What one node costs.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// The node; one that was fused into it is not listed.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// [`crate::graph::Op::name`].
    pub op: &'static str,
    /// Multiply-adds of one image, with those of layers fused into it.
    pub macs: u64,
    /// Median for one image.
    pub micros: f64,
}

/// A converted graph, ready to run.
#[derive(Debug)]
pub struct Plan {
    graph: Graph,
    kernels: Kernels,
    options: PlanOptions,
    /// Those of float layers.
    threads: Threads,
    steps: Vec<Step>,
    /// Bytes, held as what float layers need them to be aligned for; one, and one for each thread that runs images beside it.
    arenas: Vec<Vec<f32>>,
    levels: Vec<u8>,
    /// The same without fusing steps across nodes, once every node's levels were asked for.
    traced: Option<Box<Self>>,
}

impl Plan {
    /// Plans `graph`: int8 layers between stubs, and float ones anywhere else. The last node is float: a `dequant`, or a
    /// layer that was left so.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] naming the node that cannot run, [`ExecError::Isa`] where the CPU lacks the instruction
    /// set.
    pub fn new(graph: &Graph, options: &PlanOptions) -> Result<Self, ExecError> {
        Self::with_fusing(graph, options, true)
    }

    fn with_fusing(graph: &Graph, options: &PlanOptions, fusing: bool) -> Result<Self, ExecError> {
        let kernels = Kernels::new(options.isa, options.threads)?;
        let layout = layout::Layout::new(graph, fusing)?;
        let (steps, bytes) = lower::lower(graph, &layout, &kernels)?;
        Ok(Self {
            graph: graph.clone(),
            threads: kernels.float_threads(),
            kernels,
            options: *options,
            steps,
            arenas: vec![crate::buffers::zeroed(bytes.div_ceil(size_of::<f32>()))],
            levels: Vec::new(),
            traced: None,
        })
    }

    /// The logits, `[batch, classes]` row-major, of `batch` images of normalized float32, `[batch, c, h, w]` row-major.
    /// As many images as there are threads run side by side, each on one; those that are left over share the threads.
    ///
    /// # Panics
    /// If `images` does not hold `batch` images of the graph's input shape.
    pub fn run(&mut self, images: &[f32], batch: usize) -> Vec<f32> {
        self.check(images, batch);
        let threads = self.kernels.threads();
        let beside = if threads == 1 { 0 } else { batch - batch % threads };
        let (first, rest) = images.split_at(beside * self.graph.input_shape().len());
        let mut output = self.run_beside(first);
        self.run_in_turn(rest, &mut output, |_, _| {});
        self.finish(output)
    }

    /// Each image on one thread, which waits for no other until the end.
    fn run_beside(&mut self, images: &[f32]) -> Output {
        if images.is_empty() {
            return Output::default();
        }
        let (bytes, threads) = (self.arenas[0].len(), self.kernels.threads());
        self.arenas.resize_with(threads, || crate::buffers::zeroed(bytes));
        let images: Vec<&[f32]> = images.chunks_exact(self.graph.input_shape().len()).collect();
        let (kernels, threads) = (self.kernels.alone(), Threads::new(1));
        let steps = Running { steps: &self.steps, kernels: &kernels, threads: &threads };
        let outputs = self.kernels.map(&mut self.arenas, images.len(), |arena, i| {
            let mut output = Output::default();
            steps.run(images[i], bytemuck::cast_slice_mut(arena), &mut output, &mut |_, _| {});
            output
        });
        Output {
            logits: outputs.iter().flat_map(|o| &o.logits).copied().collect(),
            levels: outputs.iter().flat_map(|o| &o.levels).copied().collect(),
        }
    }

    /// The same, handing over every int8 node's levels of one image (NHWC) as soon as they are there; image by image,
    /// and within an image in the order of the nodes. Slower: no step is fused across nodes.
    ///
    /// # Errors
    /// As [`Plan::new`], on the first call.
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn run_traced(
        &mut self,
        images: &[f32],
        batch: usize,
        f: &mut dyn FnMut(NodeId, &[u8]),
    ) -> Result<Vec<f32>, ExecError> {
        let plan = match self.traced.take() {
            Some(plan) => plan,
            None => Box::new(Self::with_fusing(&self.graph, &self.options, false)?),
        };
        let plan = self.traced.insert(plan);
        let logits = plan.run_steps(images, batch, |step, arena| {
            for (node, place) in &step.completes {
                f(*node, &place.map.gather(&arena[place.range.clone()]));
            }
        });
        self.levels.clone_from(&plan.levels);
        Ok(logits)
    }

    /// The last run's logits before they were dequantized, `[batch, classes]`; empty where the last layer is float.
    pub fn output_levels(&self) -> &[u8] {
        &self.levels
    }

    /// Median microseconds of each node over `rounds` runs of one image.
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn time_layers(&mut self, image: &[f32], rounds: usize) -> Vec<LayerTime> {
        let mut times = vec![Vec::with_capacity(rounds); self.steps.len()];
        for _ in 0..rounds.max(1) {
            let (mut before, mut index) = (Instant::now(), 0);
            self.run_steps(image, 1, |_, _| {
                let now = Instant::now();
                times[index].push((now - before).as_secs_f64() * 1e6);
                (before, index) = (now, index + 1);
            });
        }
        let mut layers: Vec<LayerTime> = Vec::new();
        for (step, mut micros) in self.steps.iter().zip(times) {
            micros.sort_by(f64::total_cmp);
            let micros = micros[micros.len() / 2];
            match layers.last_mut() {
                Some(last) if last.node == step.node => last.micros += micros,
                Some(_) | None => layers.push(self.layer_time(step.node, step.computes, micros)),
            }
        }
        layers
    }

    fn layer_time(&self, node: NodeId, computes: NodeId, micros: f64) -> LayerTime {
        let layer = self.graph.node(computes);
        let name = self.graph.node(node).name.clone();
        LayerTime { node, name, op: layer.op.name(), macs: layer.op.macs(layer.shape), micros }
    }

    /// Bytes that activations of one image take.
    pub fn arena_bytes(&self) -> usize {
        size_of_val(&*self.arenas[0])
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Shape of one image.
    pub fn input_shape(&self) -> Shape {
        self.graph.input_shape()
    }

    fn check(&self, images: &[f32], batch: usize) {
        let image = self.graph.input_shape();
        assert_eq!(images.len(), batch * image.len(), "values for {batch} images of {image}");
    }

    /// One image after the other, each on all threads.
    fn run_steps(&mut self, images: &[f32], batch: usize, after: impl FnMut(&Step, &[u8])) -> Vec<f32> {
        self.check(images, batch);
        let mut output = Output::default();
        self.run_in_turn(images, &mut output, after);
        self.finish(output)
    }

    fn run_in_turn(&mut self, images: &[f32], to: &mut Output, mut after: impl FnMut(&Step, &[u8])) {
        let steps = Running { steps: &self.steps, kernels: &self.kernels, threads: &self.threads };
        for image in images.chunks_exact(self.graph.input_shape().len()) {
            steps.run(image, bytemuck::cast_slice_mut(&mut self.arenas[0]), to, &mut after);
        }
    }

    fn finish(&mut self, output: Output) -> Vec<f32> {
        self.levels = output.levels;
        output.logits
    }
}

/// What images gave.
#[derive(Debug, Default)]
struct Output {
    logits: Vec<f32>,
    /// The logits before they were dequantized.
    levels: Vec<u8>,
}

/// What every image needs, and no image changes.
struct Running<'a> {
    steps: &'a [Step],
    kernels: &'a Kernels,
    threads: &'a Threads,
}

impl Running<'_> {
    /// Takes one image through every step; `after` sees the arena after each.
    fn run(&self, image: &[f32], arena: &mut [u8], to: &mut Output, after: &mut impl FnMut(&Step, &[u8])) {
        for step in self.steps {
            let Step { op, inputs, output, .. } = step;
            match op {
                StepOp::Quantize { scale, levels } => {
                    let out = (&mut arena[output.range.clone()], output.map);
                    quantize_image(self.kernels, image, *scale, *levels, out);
                    output.map.fill_border(&mut arena[output.range.clone()], step.zero_point);
                }
                StepOp::Dequantize { scale } => {
                    let x = &arena[range(&inputs[0].range)];
                    to.levels.extend(inputs[0].map.gather(x));
                    dequantize((x, inputs[0].map), *scale, step.zero_point, &mut to.logits);
                }
                StepOp::Layer(layer) => step.run_layer(layer, self.kernels, arena),
                StepOp::Image => step.load_image(image, arena),
                StepOp::QuantizeValues { scale, levels } => step.quantize(*scale, *levels, arena),
                StepOp::DequantizeValues { scale, zero_point } => step.dequantize(*scale, *zero_point, arena),
                StepOp::Float(layer) => step.run_float(layer, self.threads, arena),
                StepOp::FakeQuantize(q) => step.fake_quantize(*q, self.threads, arena),
                StepOp::Logits => step.unload(arena, &mut to.logits),
            }
            after(step, arena);
        }
    }
}

fn range(range: &Range<usize>) -> Range<usize> {
    range.clone()
}
