use super::{
    QuantError,
    prepare::{Source, source},
};
use crate::graph::{self, Activation, Conv2d, Graph, Linear, Node, Numeric, Op, Rewrite, Weight};

/// A converted graph in two float forms, node for node the same: with the weights and biases of `float`, the fused graph
/// that it was made from, and no levels at all; and as it is, with int8 weights as the values that they stand for and
/// outputs moved to their levels in float. The second computes what the int8 engine does, but for float's rounding.
///
/// # Errors
/// [`QuantError::OtherModel`] naming a layer that `float` lacks or has in another shape.
pub fn twins(float: &Graph, converted: &Graph) -> Result<(Graph, Graph), QuantError> {
    let (mut first, mut second) = (converted.clone(), converted.clone());
    for (a, b) in first.nodes.iter_mut().zip(&mut second.nodes) {
        a.numeric = Numeric::Float;
        b.numeric = fake(b);
        if b.op.weight().is_none() {
            continue;
        }
        let other = || QuantError::OtherModel { node: b.name.clone() };
        let trained = float.find(&b.name).map(|id| &float.node(id).op).ok_or_else(other)?;
        let shape = |op: &Op| op.weight().map(|w| w.shape().to_vec());
        if trained.name() != b.op.name() || shape(trained) != shape(&b.op) {
            return Err(other());
        }
        a.op = trained.clone();
        if let Op::Conv2d(Conv2d { weight, .. }) | Op::Linear(Linear { weight, .. }) = &mut b.op
            && let Some(values) = weight.int8().map(graph::QTensor::dequantized)
        {
            *weight = Weight::Float(values);
        }
    }
    graph::check(&first)?;
    graph::check(&second)?;
    Ok((first, second))
}

/// The same graph with each fused ReLU as a node of its own behind its layer, bearing its levels: what the layer computes
/// before its ReLU can then be looked at under the layer's name.
///
/// # Errors
/// [`QuantError::Graph`] where a node bears the name `LAYER.relu`.
pub fn part_relus(graph: &Graph) -> Result<Graph, QuantError> {
    let mut next = Rewrite::new(graph);
    for (id, node) in graph.iter() {
        let mut node = node.clone();
        let fused = match &mut node.op {
            Op::Conv2d(Conv2d { relu, .. }) | Op::Linear(Linear { relu, .. }) => std::mem::replace(relu, false),
            _ => false,
        };
        if !fused {
            next.replace(id, node);
            continue;
        }
        let numeric = std::mem::replace(&mut node.numeric, Numeric::Float);
        let (name, shape) = (format!("{}.relu", node.name), node.shape);
        let layer = next.replace(id, node);
        let op = Op::Activation(Activation::Relu);
        let relu = next.insert(Node { name, op, inputs: vec![layer], shape, numeric, fused: Vec::new() });
        next.alias(id, relu);
    }
    let next = next.finish();
    graph::check(&next)?;
    Ok(next)
}

/// Levels that a float form moves a node's output to. What only moves levels about needs none; an average does.
fn fake(node: &Node) -> Numeric {
    match (node.numeric, source(&node.op)) {
        (Numeric::Int8(_), Source::Input) if !matches!(node.op, Op::AdaptiveAvgPool2d | Op::MeanHw) => Numeric::Float,
        (Numeric::Int8(q), _) => Numeric::FakeQuantized(q),
        (other, _) => other,
    }
}
