use std::ops::Range;

use super::float_layer::FloatLayer;
use crate::{
    graph::{NodeId, QParams},
    kernels::{
        Add, Affine, Depthwise, Gemm, Grouped, Kernels, Levels, Map, MaxPool, Mul, Table, average_pool, flatten,
        interleave, mean, shuffle,
    },
};

/// Where a node's levels lie in the arena, or its values: dense float32 from the range's start on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// The buffer.
    pub(super) range: Range<usize>,
    /// Within the buffer.
    pub(super) map: Map,
}

/// One thing to do.
#[derive(Debug)]
pub(super) struct Step {
    /// Whose levels it writes.
    pub(super) node: NodeId,
    /// The node that costs most of it: the layer where a point-wise function was fused.
    pub(super) computes: NodeId,
    pub(super) op: StepOp,
    pub(super) inputs: Vec<Place>,
    pub(super) output: Place,
    /// Of the output (of the input for a dequantize).
    pub(super) zero_point: u8,
    /// Nodes whose levels are whole once it ran: its own and views of it.
    pub(super) completes: Vec<(NodeId, Place)>,
}

#[derive(Debug)]
pub(super) enum StepOp {
    /// Float image to levels.
    Quantize { scale: f32, levels: Levels },
    /// Levels to logits.
    Dequantize { scale: f32 },
    /// Levels to levels.
    Layer(Box<Layer>),
    /// Float image to values.
    Image,
    /// Values to levels.
    QuantizeValues { scale: f32, levels: Levels },
    /// Levels to values.
    DequantizeValues { scale: f32, zero_point: u8 },
    /// Values to values.
    Float(Box<FloatLayer>),
    /// Values moved to levels, where they lie.
    FakeQuantize(QParams),
    /// Values to logits.
    Logits,
}

#[derive(Debug)]
pub(super) enum Layer {
    Gemm(Gemm, Option<Table>),
    Depthwise(Depthwise, Option<Table>),
    Grouped(Grouped, Option<Table>),
    MaxPool(MaxPool),
    AveragePool(Levels),
    Mean { scale: f32, levels: Levels },
    Add(Add),
    Affine(Affine),
    Mul(Mul),
    Table(Table),
    Interleave([Table; 2]),
    Shuffle { groups: usize },
    Flatten,
}

impl Step {
    /// Runs a layer between buffers of the arena.
    pub(super) fn run_layer(&self, layer: &Layer, kernels: &Kernels, arena: &mut [u8]) {
        const APART: &str = "the arena keeps buffers of one step apart";
        let map = self.output.map;
        let out = match &self.inputs[..] {
            [x] => {
                let [a, out] = arena.get_disjoint_mut([x.range.clone(), self.output.range.clone()]).expect(APART);
                unary(layer, kernels, (a, x.map), (out, map));
                out
            }
            [x, y] if x.range == y.range => {
                let [a, out] = arena.get_disjoint_mut([x.range.clone(), self.output.range.clone()]).expect(APART);
                binary(layer, kernels, (a, x.map), (a, y.map), (out, map));
                out
            }
            [x, y] => {
                let ranges = [x.range.clone(), y.range.clone(), self.output.range.clone()];
                let [a, b, out] = arena.get_disjoint_mut(ranges).expect(APART);
                binary(layer, kernels, (a, x.map), (b, y.map), (out, map));
                out
            }
            inputs => unreachable!("a step of {} inputs", inputs.len()),
        };
        if let Some((_, whole)) = self.completes.first() {
            whole.map.fill_border(out, self.zero_point);
        }
    }
}

fn unary(layer: &Layer, kernels: &Kernels, x: (&[u8], Map), out: (&mut [u8], Map)) {
    let map = out.1;
    let then = |table: &Option<Table>, out: &mut [u8]| {
        if let Some(table) = table {
            table.run_in_place(kernels, out, map);
        }
    };
    match layer {
        Layer::Gemm(gemm, table) => {
            gemm.run(kernels, x.0, out.0);
            then(table, out.0);
        }
        Layer::Depthwise(depthwise, table) => {
            depthwise.run(kernels, x.0, out.0);
            then(table, out.0);
        }
        Layer::Grouped(grouped, table) => {
            grouped.run(kernels, x.0, out.0);
            then(table, out.0);
        }
        Layer::MaxPool(pool) => pool.run(kernels, x, out),
        Layer::AveragePool(levels) => average_pool(kernels, x, *levels, out),
        Layer::Mean { scale, levels } => mean(kernels, x, *scale, *levels, out),
        Layer::Affine(affine) => affine.run(kernels, x, out),
        Layer::Table(table) => table.run(kernels, x, out),
        Layer::Shuffle { groups } => shuffle(x, *groups, out),
        Layer::Flatten => flatten(x, out),
        Layer::Add(_) | Layer::Mul(_) | Layer::Interleave(_) => unreachable!("a step of two inputs"),
    }
}

fn binary(layer: &Layer, kernels: &Kernels, a: (&[u8], Map), b: (&[u8], Map), out: (&mut [u8], Map)) {
    match layer {
        Layer::Add(add) => add.run(kernels, a, b, out),
        Layer::Mul(mul) => mul.run(kernels, a, b, out),
        Layer::Interleave([first, second]) => interleave(kernels, a, b, [first, second], out),
        Layer::Gemm(..)
        | Layer::Depthwise(..)
        | Layer::Grouped(..)
        | Layer::MaxPool(_)
        | Layer::AveragePool(_)
        | Layer::Mean { .. }
        | Layer::Affine(_)
        | Layer::Table(_)
        | Layer::Shuffle { .. }
        | Layer::Flatten => unreachable!("a step of one input"),
    }
}
