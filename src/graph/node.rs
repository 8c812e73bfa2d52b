use std::collections::HashMap;

use super::{BatchNorm2d, Conv2d, GraphError, Linear, Numeric, Op, Shape, Tensor, Weight};

/// Position of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// As an index into [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operation and its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// torchvision's module path: `layer1.0.conv1`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Where its operands come from, in order.
    pub inputs: Vec<NodeId>,
    /// Shape of the output of one image.
    pub shape: Shape,
    /// What the output is made of.
    pub numeric: Numeric,
    /// The nodes of the unfused graph that this one stands for, itself first; empty where nothing was fused.
    pub fused: Vec<String>,
}

/// A network: nodes in topological order, the first the input, the last the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// torchvision's builder: `resnet18`.
    pub name: String,
    /// Every node after all of its inputs.
    pub nodes: Vec<Node>,
}

/// One float parameter of a graph, with its key in a state dict.
#[derive(Clone, Copy, Debug)]
pub struct ParamRef<'a> {
    /// The node that owns it.
    pub node: NodeId,
    /// `weight`, `bias`, `running_mean` or `running_var`; after `bn.` those of the batch norm of a QAT convolution.
    pub part: &'static str,
    /// Its values.
    pub tensor: &'a Tensor,
}

impl ParamRef<'_> {
    /// Whether it is trained (running statistics are not).
    pub fn is_trainable(&self) -> bool {
        !self.part.trim_start_matches("bn.").starts_with("running_")
    }
}

impl Graph {
    /// The node at `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// All nodes with their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }

    /// The node that bears `name`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.iter().find(|(_, n)| n.name == name).map(|(id, _)| id)
    }

    /// As [`Graph::find`], with an error that says which name is missing.
    ///
    /// # Errors
    /// [`GraphError::NoSuchNode`].
    pub fn require(&self, name: &str) -> Result<NodeId, GraphError> {
        self.find(name).ok_or_else(|| GraphError::NoSuchNode(name.to_owned()))
    }

    /// The last node.
    pub fn output(&self) -> NodeId {
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// Shape of the image it takes.
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].shape
    }

    /// Length of the logits.
    pub fn classes(&self) -> usize {
        self.nodes.last().map_or(0, |n| n.shape.c)
    }

    /// For each node, which nodes read it.
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.iter() {
            for input in &node.inputs {
                users[input.index()].push(id);
            }
        }
        users
    }

    /// Every float parameter in the order of the nodes. Its state-dict key is [`Graph::key`].
    pub fn params(&self) -> Vec<ParamRef<'_>> {
        let mut all = Vec::new();
        for (node, n) in self.iter() {
            let mut push = |part, tensor| all.push(ParamRef { node, part, tensor });
            match &n.op {
                Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. }) => {
                    if let Weight::Float(tensor) = weight {
                        push("weight", tensor);
                    }
                    if let Some(tensor) = bias {
                        push("bias", tensor);
                    }
                    if let Some(BatchNorm2d { weight, bias, running_mean, running_var, .. }) = n.op.bn() {
                        push("bn.weight", weight);
                        push("bn.bias", bias);
                        push("bn.running_mean", running_mean);
                        push("bn.running_var", running_var);
                    }
                }
                Op::BatchNorm2d(BatchNorm2d { weight, bias, running_mean, running_var, .. }) => {
                    push("weight", weight);
                    push("bias", bias);
                    push("running_mean", running_mean);
                    push("running_var", running_var);
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
                | Op::StochasticDepth { .. } => {}
            }
        }
        all
    }

    /// The state-dict key of a parameter: `layer1.0.conv1.weight`. The keys of the QAT form are those of PyTorch's QAT
    /// modules: `layer1.0.conv1.bn.weight`.
    pub fn key(&self, param: &ParamRef<'_>) -> String {
        format!("{}.{}", self.node(param.node).name, param.part)
    }

    /// The same graph with other values for its float parameters: `values` maps state-dict keys to tensors; keys that
    /// it lacks keep their values. Shapes must fit, which [`super::check`] verifies.
    pub fn with_params(&self, values: &HashMap<String, Tensor>) -> Self {
        let mut next = self.clone();
        for node in &mut next.nodes {
            let replace = |part: &str, slot: &mut Tensor| {
                if let Some(value) = values.get(&format!("{}.{part}", node.name)) {
                    *slot = value.clone();
                }
            };
            if let Op::Conv2d(Conv2d { bn: Some(b), .. }) = &mut node.op {
                replace("bn.weight", &mut b.weight);
                replace("bn.bias", &mut b.bias);
                replace("bn.running_mean", &mut b.running_mean);
                replace("bn.running_var", &mut b.running_var);
            }
            match &mut node.op {
                Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. }) => {
                    if let Weight::Float(tensor) = weight {
                        replace("weight", tensor);
                    }
                    if let Some(tensor) = bias {
                        replace("bias", tensor);
                    }
                }
                Op::BatchNorm2d(b) => {
                    replace("weight", &mut b.weight);
                    replace("bias", &mut b.bias);
                    replace("running_mean", &mut b.running_mean);
                    replace("running_var", &mut b.running_var);
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
                | Op::StochasticDepth { .. } => {}
            }
        }
        next
    }

    /// Number of trained values (running statistics not counted), as `sum(p.numel() for p in model.parameters())`.
    pub fn param_count(&self) -> usize {
        self.params().iter().filter(|p| p.is_trainable()).map(|p| p.tensor.len()).sum()
    }

    /// Multiply-accumulates of convolutions and linear layers for one image.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|n| n.op.macs(n.shape)).sum()
    }
}
