use super::{
    Activation, BatchNorm2d, Conv2d, Graph, Linear, MaxPool2d, Node, NodeId, Numeric, Op, Shape, Tensor, Weight,
};

/// Builds a float graph node by node: what a model family's file is written with.
///
/// Parameters start at zero (batch norm at the identity); `zoo::init` or a state dict fills them.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
}

impl Builder {
    /// Starts a graph with its input.
    pub fn new(name: &str, input: Shape) -> (Self, NodeId) {
        let node = Node {
            name: "input".to_owned(),
            op: Op::Input,
            inputs: Vec::new(),
            shape: input,
            numeric: Numeric::Float,
            fused: Vec::new(),
        };
        (Self { graph: Graph { name: name.to_owned(), nodes: vec![node] } }, NodeId(0))
    }

    /// Appends any operation; its shape is inferred.
    ///
    /// # Panics
    /// If the shapes do not fit: a model's file is wrong then, not its user.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = name.into();
        let shapes: Vec<Shape> = inputs.iter().map(|i| self.graph.node(*i).shape).collect();
        let shape = match op.infer_shape(&name, &shapes) {
            Ok(shape) => shape,
            Err(e) => panic!("{}: {e}", self.graph.name),
        };
        self.graph.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
            shape,
            numeric: Numeric::Float,
            fused: Vec::new(),
        });
        self.graph.output()
    }

    /// Channels of a node's output.
    pub fn channels(&self, id: NodeId) -> usize {
        self.graph.node(id).shape.c
    }

    /// A convolution with a square kernel and `torch`'s usual padding of half the kernel.
    pub fn conv(&mut self, name: impl Into<String>, x: NodeId, spec: ConvSpec) -> NodeId {
        let weight = Tensor::zeros([spec.out, self.channels(x) / spec.groups, spec.kernel, spec.kernel]);
        let conv = Conv2d {
            weight: Weight::Float(weight),
            bias: spec.bias.then(|| Tensor::zeros([spec.out])),
            stride: spec.stride,
            padding: spec.kernel / 2,
            groups: spec.groups,
            bn: None,
            relu: false,
            fake: None,
        };
        self.push(name, Op::Conv2d(conv), &[x])
    }

    /// Batch normalization.
    pub fn bn(&mut self, name: impl Into<String>, x: NodeId, eps: f32, momentum: f32) -> NodeId {
        let c = self.channels(x);
        let bn = BatchNorm2d {
            weight: Tensor::full([c], 1.0),
            bias: Tensor::zeros([c]),
            running_mean: Tensor::zeros([c]),
            running_var: Tensor::full([c], 1.0),
            eps,
            momentum,
        };
        self.push(name, Op::BatchNorm2d(bn), &[x])
    }

    /// A point-wise function.
    pub fn act(&mut self, name: impl Into<String>, x: NodeId, activation: Activation) -> NodeId {
        self.push(name, Op::Activation(activation), &[x])
    }

    /// `torch.nn.MaxPool2d(3, stride=2, padding=1)`, the only one in the zoo.
    pub fn max_pool(&mut self, name: impl Into<String>, x: NodeId) -> NodeId {
        self.push(name, Op::MaxPool2d(MaxPool2d { kernel: 3, stride: 2, padding: 1 }), &[x])
    }

    /// A fully connected layer with bias.
    pub fn linear(&mut self, name: impl Into<String>, x: NodeId, out: usize) -> NodeId {
        let linear = Linear {
            weight: Weight::Float(Tensor::zeros([out, self.channels(x)])),
            bias: Some(Tensor::zeros([out])),
            relu: false,
            fake: None,
        };
        self.push(name, Op::Linear(linear), &[x])
    }

    /// The finished graph; the last node pushed is its output.
    pub fn finish(self) -> Graph {
        self.graph
    }
}

/// A square convolution as the zoo writes it.
#[derive(Clone, Copy, Debug)]
pub struct ConvSpec {
    /// Output channels.
    pub out: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Groups; the input's channels for a depthwise one.
    pub groups: usize,
    /// Whether it has a bias.
    pub bias: bool,
}

impl ConvSpec {
    /// Dense, stride 1, no bias.
    pub fn new(out: usize, kernel: usize) -> Self {
        Self { out, kernel, stride: 1, groups: 1, bias: false }
    }

    /// With this stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// One group a channel.
    pub fn depthwise(self) -> Self {
        Self { groups: self.out, ..self }
    }

    /// With a bias.
    pub fn bias(self) -> Self {
        Self { bias: true, ..self }
    }
}
