use super::QuantError;
use crate::graph::{self, Graph, Node, NodeId, Numeric, Op, Rewrite, Shape};

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

/// A place where values change between float and int8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The stub.
    pub node: String,
    /// What computes the value.
    pub from: String,
    /// What reads it behind the stub.
    pub readers: Vec<String>,
    /// Its shape, of one image.
    pub shape: Shape,
    /// Whether it becomes int8 here; else it becomes float again.
    pub to_int8: bool,
}

/// Every place where values change between float and int8, in the order of the graph; and for each node, whether its
/// output is int8, or will be.
pub fn crossings(graph: &Graph) -> (Vec<Crossing>, Vec<bool>) {
    let users = graph.users();
    let name = |id: &NodeId| graph.node(*id).name.clone();
    let crossing = |(id, node): (NodeId, &Node)| {
        let to_int8 = match node.op {
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
            | Op::StochasticDepth { .. } => return None,
        };
        let from = node.inputs.first().map(&name).unwrap_or_default();
        let readers = users[id.index()].iter().map(&name).collect();
        Some(Crossing { node: node.name.clone(), from, readers, shape: node.shape, to_int8 })
    };
    (graph.iter().filter_map(crossing).collect(), inside(graph))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, ConvSpec};

    #[test]
    fn values_cross_at_the_stubs() {
        let (mut b, x) = Builder::new("one", Shape::new(3, 8, 8));
        b.conv("conv", x, ConvSpec::new(4, 3));
        let (graph, report) = insert_stubs(&b.finish()).expect("a float graph");
        let (found, int8) = crossings(&graph);
        let said: Vec<_> = found.iter().map(|c| (c.node.as_str(), c.from.as_str(), c.to_int8)).collect();
        assert_eq!(said, [(report.quant.as_str(), "input", true), (report.dequant.as_str(), "conv", false)]);
        assert_eq!((found[0].readers.as_slice(), found[0].shape), (&["conv".to_owned()][..], Shape::new(3, 8, 8)));
        let of = |name: &str| int8[graph.find(name).expect("a node").index()];
        assert!(of("quant") && of("conv") && !of("input") && !of("dequant"));
    }
}
