use crate::{
    exec::ExecError,
    graph::{Activation, Conv2d, Graph, Linear, MaxPool2d, Node, NodeId, Numeric, Op, QParams},
    kernels::Map,
};

/// How a node's levels come about, or its values where it is float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The float image, which nothing but a quantize reads: it is read where the caller has it.
    Image,
    /// A step of its own, into a buffer of its own.
    Step,
    /// Its input's levels, all or some channels of them, or all of its values, where they lie.
    View,
    /// Computed within its only user's step, which writes that user's levels at once.
    Within(NodeId),
}

/// Where every node's levels lie, or its values: dense float32, NHWC.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) roles: Vec<Role>,
    /// The node whose step writes the buffer that this node's levels are in.
    pub(super) owner: Vec<NodeId>,
    /// In the owner's buffer.
    pub(super) maps: Vec<Map>,
}

/// The kernels count an activation's bytes in 32 bits.
pub(super) const LARGEST: usize = u32::MAX as usize;

impl Layout {
    /// With `fusing`, a layer whose only user is a point-wise function, and a concatenation whose only user is a channel
    /// shuffle, have no levels of their own.
    pub(super) fn new(graph: &Graph, fusing: bool) -> Result<Self, ExecError> {
        let users = graph.users();
        let mut roles = Vec::with_capacity(graph.nodes.len());
        for (id, node) in graph.iter() {
            check(graph, id, node)?;
            roles.push(match users[id.index()][..] {
                [user] if fusing && fuses(graph, node, graph.node(user)) => Role::Within(user),
                ref users => role(graph, node, users),
            });
        }
        let mut owner: Vec<NodeId> = Vec::with_capacity(roles.len());
        for (id, node) in graph.iter() {
            owner.push(match roles[id.index()] {
                Role::View => owner[node.inputs[0].index()],
                Role::Image | Role::Step => id,
                Role::Within(user) => user,
            });
        }
        let mut borders = vec![0; roles.len()];
        for node in &graph.nodes {
            if let (Op::Conv2d(conv), true) = (&node.op, is_int8(node)) {
                let border = &mut borders[owner[node.inputs[0].index()].index()];
                *border = conv.padding.max(*border);
            }
        }
        let mut maps: Vec<Map> = Vec::with_capacity(roles.len());
        for (id, node) in graph.iter() {
            maps.push(match roles[id.index()] {
                Role::View => view(node, maps[node.inputs[0].index()]),
                Role::Image | Role::Step | Role::Within(_) => {
                    Map::bordered(node.shape.h, node.shape.w, node.shape.c, borders[id.index()])
                }
            });
            let bytes = maps[id.index()].bytes();
            if bytes > LARGEST {
                let detail = format!("with its padding it takes {bytes} bytes, more than the 4 GiB of this engine");
                return Err(ExecError::Unsupported { node: node.name.clone(), op: node.op.name(), detail });
            }
        }
        Ok(Self { roles, owner, maps })
    }
}

fn view(node: &Node, map: Map) -> Map {
    match node.op {
        Op::Chunk { index, .. } => map.channels(index * node.shape.c, node.shape.c),
        _ => map,
    }
}

fn role(graph: &Graph, node: &Node, users: &[NodeId]) -> Role {
    match &node.op {
        Op::Input if users.iter().all(|u| reads_image(graph.node(*u))) => Role::Image,
        Op::Input => Role::Step,
        // Fake quantization changes what would only move.
        _ if matches!(node.numeric, Numeric::FakeQuantized(_)) => Role::Step,
        // A stub that was not converted, or reads what is float already.
        Op::QuantStub | Op::DeQuantStub if !is_border(graph, node) => Role::View,
        // Float kernels read whole rows.
        Op::Chunk { .. } if !is_int8(node) => Role::Step,
        Op::Chunk { .. } | Op::Dropout { .. } | Op::StochasticDepth { .. } => Role::View,
        Op::Flatten if graph.node(node.inputs[0]).shape.pixels() == 1 => Role::View,
        Op::QuantStub
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
        | Op::ChannelShuffle { .. }
        | Op::Flatten => Role::Step,
    }
}

/// Whether its output is uint8.
pub(super) fn is_int8(node: &Node) -> bool {
    node.numeric.qparams().is_some()
}

/// Whether one side of it is float and the other int8.
pub(super) fn is_border(graph: &Graph, node: &Node) -> bool {
    node.inputs.iter().any(|i| is_int8(graph.node(*i)) != is_int8(node))
}

/// Whether its step reads the image where the caller has it, should its input be the image.
pub(super) fn reads_image(node: &Node) -> bool {
    matches!(node.op, Op::QuantStub) && is_int8(node)
}

/// Whether `user`'s step does `node`'s work as well.
fn fuses(graph: &Graph, node: &Node, user: &Node) -> bool {
    if !is_int8(node) || !is_int8(user) {
        return false;
    }
    match (&node.op, &user.op) {
        (Op::Conv2d(_) | Op::Linear(_), Op::Activation(_)) => true,
        (Op::Cat, Op::ChannelShuffle { groups: 2 }) => {
            node.inputs.len() == 2 && node.inputs.iter().all(|i| 2 * graph.node(*i).shape.c == node.shape.c)
        }
        _ => false,
    }
}

/// Refuses what has no step.
fn check(graph: &Graph, id: NodeId, node: &Node) -> Result<(), ExecError> {
    let refuse = |detail: &str| {
        Err(ExecError::Unsupported { node: node.name.clone(), op: node.op.name(), detail: detail.to_owned() })
    };
    let stub = matches!(node.op, Op::QuantStub | Op::DeQuantStub);
    match &node.numeric {
        Numeric::Observed(_) => return refuse("an observer is on it: convert the graph to run it"),
        Numeric::Learned(_) => return refuse("its levels are still being learnt: convert the QAT graph to run it"),
        _ if node.op.bn().is_some() => return refuse("its batch norm is not folded: convert the QAT graph to run it"),
        Numeric::Int8(_) if id == graph.output() => {
            return refuse("the last node must be a DeQuantStub: insert stubs before converting");
        }
        _ if is_border(graph, node) && !stub => {
            return refuse("one side of it is float, the other int8: a quantize or dequantize is missing");
        }
        Numeric::Float | Numeric::FakeQuantized(_) => return Ok(()),
        Numeric::Int8(_) => {}
    }
    let inherits = match &node.op {
        Op::MaxPool2d(MaxPool2d { .. })
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Chunk { .. }
        | Op::ChannelShuffle { .. }
        | Op::Flatten
        | Op::Dropout { .. }
        | Op::StochasticDepth { .. } => true,
        Op::Conv2d(Conv2d { .. })
        | Op::BatchNorm2d(_)
        | Op::Linear(Linear { .. })
        | Op::Activation(
            Activation::Relu
            | Activation::Relu6
            | Activation::Hardswish
            | Activation::Hardsigmoid
            | Activation::Sigmoid
            | Activation::Silu,
        )
        | Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::Add { .. }
        | Op::Mul
        | Op::Cat => false,
    };
    if inherits && !same_levels(node.numeric.qparams(), graph.node(node.inputs[0]).numeric.qparams()) {
        return refuse("it moves levels without changing them, so its scale and zero point must be its input's");
    }
    Ok(())
}

fn same_levels(a: Option<QParams>, b: Option<QParams>) -> bool {
    a.zip(b).is_some_and(|(a, b)| (a.scale, a.zero_point) == (b.scale, b.zero_point))
}
