use super::QuantError;
use crate::graph::{self, Graph, Node, NodeId, Numeric, Op, Rewrite};

/// Where the stubs went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StubsReport {
    /// The node that becomes "quantize".
    pub quant: String,
    /// The node that becomes "dequantize".
    pub dequant: String,
}

/// Marks what becomes int8: `quant` right after the image, `dequant` behind the logits.
///
/// # Errors
/// [`QuantError::AlreadyStubbed`]; [`QuantError::Graph`] where a node bears one of the two names.
pub fn insert_stubs(graph: &Graph) -> Result<(Graph, StubsReport), QuantError> {
    if let Some(stub) = graph.nodes.iter().find(|n| matches!(n.op, Op::QuantStub | Op::DeQuantStub)) {
        return Err(QuantError::AlreadyStubbed { node: stub.name.clone() });
    }
    let mut next = Rewrite::new(graph);
    for (id, node) in graph.iter() {
        let new = next.replace(id, node.clone());
        if matches!(node.op, Op::Input) {
            let quant = next.insert(stub("quant", Op::QuantStub, new, node));
            next.alias(id, quant);
        }
    }
    let output = graph.output();
    let dequant = stub("dequant", Op::DeQuantStub, next.moved(output), graph.node(output));
    next.insert(dequant);
    let next = next.finish();
    graph::check(&next)?;
    Ok((next, StubsReport { quant: "quant".to_owned(), dequant: "dequant".to_owned() }))
}

fn stub(name: &str, op: Op, input: NodeId, before: &Node) -> Node {
    Node {
        name: name.to_owned(),
        op,
        inputs: vec![input],
        shape: before.shape,
        numeric: Numeric::Float,
        fused: Vec::new(),
    }
}

/// For each node, whether its output lies between the stubs: it depends on a `QuantStub`, and no `DeQuantStub` stands
/// between.
pub(super) fn inside(graph: &Graph) -> Vec<bool> {
    let mut inside = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter() {
        inside[id.index()] = match node.op {
            Op::QuantStub => true,
            Op::DeQuantStub => false,
            Op::Input
            | Op::Conv2d(_)
            | Op::BatchNorm2d(_)
            | Op::Linear(_)
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
            | Op::StochasticDepth { .. } => node.inputs.iter().any(|i| inside[i.index()]),
        };
    }
    inside
}
