use std::collections::HashSet;

use super::{Graph, GraphError, Node, Numeric, Op, Shape, Tensor, Weight};

/// More than any network has.
pub const MAX_NODES: usize = 1 << 12;

/// Products that an output of an int8 layer may be the sum of. A level less its zero point is 255 at most and a weight 128,
/// so a sum is at most `2^15 * 255 * 128`, and at any moment, with the zero point's share counted apart, twice that:
/// 2,139,095,040, which int32 holds. Winograd's sums, which are larger, wrap around and come out right (`kernels`).
pub const MAX_PRODUCTS: usize = 1 << 15;

/// Pixels that an int8 average pool may sum: 255 each, 2,139,095,040 in all.
pub const MAX_POOLED: usize = 1 << 23;

/// Verifies what every pass must leave true: unique names, topological order, arity, shapes as inferred, parameters of
/// the right shape, and int8 exactly where both sides of an operation agree on it: in a converted graph every border
/// between float and int8 is a stub of its own.
///
/// # Errors
/// The first violation, naming its node.
pub fn check(graph: &Graph) -> Result<(), GraphError> {
    if graph.nodes.is_empty() || graph.nodes.len() > MAX_NODES {
        return Err(GraphError::Length(graph.nodes.len()));
    }
    let mut names = HashSet::new();
    let converted = graph.nodes.iter().any(|n| n.numeric.qparams().is_some());
    for (id, node) in graph.iter() {
        if node.name.is_empty() || !names.insert(node.name.as_str()) {
            return Err(GraphError::Name(node.name.clone()));
        }
        if let Some(late) = node.inputs.iter().find(|i| **i >= id) {
            return Err(GraphError::Order { node: node.name.clone(), input: late.index() });
        }
        let is_input = matches!(node.op, Op::Input);
        if is_input != (id.index() == 0) {
            return Err(shape_error(node, "the input is the first node, and the only one".to_owned()));
        }
        if !is_input {
            let shapes: Vec<Shape> = node.inputs.iter().map(|i| graph.node(*i).shape).collect();
            let inferred = node.op.infer_shape(&node.name, &shapes)?;
            if inferred != node.shape {
                return Err(shape_error(node, format!("it says {}, its inputs give {inferred}", node.shape)));
            }
        }
        check_params(node)?;
        check_numeric(graph, node, converted)?;
    }
    Ok(())
}

fn shape_error(node: &Node, detail: String) -> GraphError {
    GraphError::Shape { node: node.name.clone(), op: node.op.name(), detail }
}

fn check_params(node: &Node) -> Result<(), GraphError> {
    let vector = |param: &'static str, t: &Tensor, c: usize| {
        if t.shape == [c] && t.data.len() == c {
            return Ok(());
        }
        Err(GraphError::Param { node: node.name.clone(), param, found: t.shape.clone(), expected: format!("[{c}]") })
    };
    if let Some(weight) = node.op.weight() {
        let rank = if matches!(node.op, Op::Conv2d(_)) { 4 } else { 2 };
        let (held, scales_fit) = match weight {
            Weight::Float(t) => (t.data.len(), true),
            Weight::Int8(q) => (q.data.len(), q.scales.len() == 1 || q.scales.len() == q.shape[0]),
        };
        let shape = weight.shape();
        if shape.len() != rank || shape.iter().product::<usize>() != held || !scales_fit {
            return Err(GraphError::Param {
                node: node.name.clone(),
                param: "weight",
                found: shape.to_vec(),
                expected: format!("{rank} dimensions holding {held} values, a scale per channel"),
            });
        }
    }
    match &node.op {
        Op::Conv2d(c) => {
            if c.groups == 0 || c.stride == 0 || !c.out_channels().is_multiple_of(c.groups) {
                return Err(shape_error(
                    node,
                    "groups must divide the channels, and the stride be 1 or more".to_owned(),
                ));
            }
            if c.padding >= c.kernel()[0].max(c.kernel()[1]) {
                return Err(shape_error(node, format!("padding {} of a {:?} kernel", c.padding, c.kernel())));
            }
            let channels = c.out_channels();
            if let Some(b) = &c.bn {
                vector("bn.weight", &b.weight, channels)?;
                vector("bn.bias", &b.bias, channels)?;
                vector("bn.running_mean", &b.running_mean, channels)?;
                vector("bn.running_var", &b.running_var, channels)?;
            }
            c.bias.as_ref().map_or(Ok(()), |b| vector("bias", b, channels))
        }
        Op::Linear(l) => l.bias.as_ref().map_or(Ok(()), |b| vector("bias", b, l.weight.shape()[0])),
        Op::BatchNorm2d(b) => {
            let c = node.shape.c;
            vector("weight", &b.weight, c)?;
            vector("bias", &b.bias, c)?;
            vector("running_mean", &b.running_mean, c)?;
            vector("running_var", &b.running_var, c)
        }
        // As `torch.nn.MaxPool2d`: every window sees some of the image.
        Op::MaxPool2d(p) if p.stride == 0 || 2 * p.padding > p.kernel => {
            Err(shape_error(node, format!("stride {}, padding {} of a window of {}", p.stride, p.padding, p.kernel)))
        }
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
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
        | Op::StochasticDepth { .. } => Ok(()),
    }
}

/// That no sum of an int8 node leaves 32 bits, whatever its levels and weights are.
fn check_sums(graph: &Graph, node: &Node) -> Result<(), GraphError> {
    let products = node.op.weight().map_or(0, |w| w.shape()[1..].iter().product());
    let pooled = match node.op {
        Op::AdaptiveAvgPool2d => graph.node(node.inputs[0]).shape.pixels(),
        _ => 0,
    };
    let (found, most) = if products > 0 { (products, MAX_PRODUCTS) } else { (pooled, MAX_POOLED) };
    if found <= most {
        return Ok(());
    }
    let detail = format!("its sums of {found} products may leave 32 bits, expected at most {most}: leave it in float");
    Err(GraphError::Numeric { node: node.name.clone(), op: node.op.name(), detail })
}

fn check_numeric(graph: &Graph, node: &Node, converted: bool) -> Result<(), GraphError> {
    let refuse = |detail: &str| {
        Err(GraphError::Numeric { node: node.name.clone(), op: node.op.name(), detail: detail.to_owned() })
    };
    let int8 = node.numeric.qparams().is_some();
    if let Numeric::Int8(q) | Numeric::FakeQuantized(q) = node.numeric
        && !(q.scale.is_finite() && q.scale > 0.0 && (1.0 / q.scale).is_finite())
    {
        return refuse("its scale must be finite and above zero, and its inverse finite too");
    }
    if int8 {
        check_sums(graph, node)?;
    }
    match &node.op {
        Op::Input if int8 => return refuse("an image comes in as float"),
        Op::DeQuantStub if int8 => return refuse("its output is float"),
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
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
        | Op::StochasticDepth { .. } => {}
    }
    let border = matches!(node.op, Op::QuantStub | Op::DeQuantStub);
    if !border && node.inputs.iter().any(|i| graph.node(*i).numeric.qparams().is_some() != int8) {
        return refuse(
            "its inputs and its output must all be float or all be int8: a quantize or dequantize is missing",
        );
    }
    let input_int8 = node.inputs.iter().any(|i| graph.node(*i).numeric.qparams().is_some());
    match node.op {
        Op::QuantStub if input_int8 => return refuse("its input is int8 already"),
        Op::QuantStub if converted && !int8 => return refuse("its output is float in a converted graph"),
        Op::DeQuantStub if converted && !input_int8 => return refuse("its input is float already"),
        _ => {}
    }
    if int8 && (node.op.bn().is_some() || node.op.fake().is_some()) {
        return refuse("its batch norm is not folded, or its weight still fake-quantized: convert the QAT graph");
    }
    match node.op.weight() {
        Some(weight) if weight.int8().is_some() != int8 => {
            refuse("its weight and its output must both be int8 or float")
        }
        Some(_) | None => Ok(()),
    }
}
