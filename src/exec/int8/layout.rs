use crate::{
    exec::ExecError,
    graph::{Activation, Conv2d, Graph, Linear, MaxPool2d, Node, NodeId, Op, QParams},
    kernels::Map,
};

/// How a node's levels come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It has no levels: the float image.
    Image,
    /// A step of its own, into a buffer of its own.
    Step,
    /// Its input's levels, all or some channels of them, where they lie.
    View,
    /// Computed within its only user's step, which writes that user's levels at once.
    Within(NodeId),
}

/// Where every node's levels lie.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) roles: Vec<Role>,
    /// The node whose step writes the buffer that this node's levels are in.
    pub(super) owner: Vec<NodeId>,
    /// In the owner's buffer.
    pub(super) maps: Vec<Map>,
}

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
                _ => role(graph, node),
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
            if let Op::Conv2d(conv) = &node.op {
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

fn role(graph: &Graph, node: &Node) -> Role {
    match &node.op {
        Op::Input => Role::Image,
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

/// Whether `user`'s step does `node`'s work as well.
fn fuses(graph: &Graph, node: &Node, user: &Node) -> bool {
    match (&node.op, &user.op) {
        (Op::Conv2d(_) | Op::Linear(_), Op::Activation(_)) => true,
        (Op::Cat, Op::ChannelShuffle { groups: 2 }) => {
            node.inputs.len() == 2 && node.inputs.iter().all(|i| 2 * graph.node(*i).shape.c == node.shape.c)
        }
        _ => false,
    }
}

/// Refuses what has no int8 step.
fn check(graph: &Graph, id: NodeId, node: &Node) -> Result<(), ExecError> {
    let refuse = |detail: &str| {
        Err(ExecError::Unsupported { node: node.name.clone(), op: node.op.name(), detail: detail.to_owned() })
    };
    let is_output = id == graph.output();
    let float = node.numeric.qparams().is_none();
    match &node.op {
        Op::Input => return Ok(()),
        Op::DeQuantStub if !is_output => {
            return refuse("float layers behind a dequantize do not run in this engine yet");
        }
        Op::DeQuantStub => return Ok(()),
        _ if is_output => return refuse("the last node must be a DeQuantStub: insert stubs before converting"),
        _ if float => {
            return refuse("its output is float: convert the graph, without float layers, to run it on integers");
        }
        Op::QuantStub if graph.node(node.inputs[0]).op != Op::Input => {
            return refuse("only the image itself can be quantized by this engine");
        }
        _ => {}
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
        Op::BatchNorm2d(_) => return refuse("batch norm has no int8 kernel: fuse it first"),
        Op::Conv2d(Conv2d { .. })
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
