use crate::{
    graph::{Graph, NodeId, Numeric, Op, Shape},
    kernels::{cuda, fake_average},
};

/// An average that keeps its input's levels, rounded as the int8 engine does.
#[derive(Debug)]
pub(super) struct LevelAverage {
    from: Shape,
    scale: f32,
    /// Whether the engine sums values, or integers.
    values: bool,
}

impl LevelAverage {
    /// `None` for any other node.
    pub(super) fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id);
        let Numeric::FakeQuantized(q) = node.numeric else { return None };
        let values = matches!(node.op, Op::MeanHw);
        if !values && !matches!(node.op, Op::AdaptiveAvgPool2d) {
            return None;
        }
        Some(Self { from: graph.node(node.inputs[0]).shape, scale: q.scale, values })
    }

    /// Of images with their channels innermost.
    pub(super) fn run(&self, x: &[f32], y: &mut [f32]) {
        fake_average(x, self.from.c, self.from.pixels(), self.scale, self.values, y);
    }

    /// The same on a GPU.
    pub(super) fn program(&self, batch: usize) -> cuda::Program {
        cuda::fake_average(batch, self.from.c, self.from.pixels(), self.scale, self.values)
    }
}
