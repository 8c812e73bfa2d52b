use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::learned::{OUTPUT_STEP, WEIGHT_STEP};
use crate::{
    exec::ExecError,
    graph::{self, Graph, NodeId},
};

/// One float parameter on its device, laid out as the kernels read it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its state-dict key: `layer1.0.conv1.weight`.
    pub key: String,
    /// The node that owns it.
    pub node: NodeId,
    /// `weight`, `bias`, `running_mean` or `running_var`; after `bn.` those of the batch norm of a QAT convolution.
    pub part: &'static str,
    /// `[kh, kw, in, out]` for a convolution's weight, `[1, 1, in, out]` for a linear one, `[channels]` for the rest.
    pub tensor: Tensor,
    /// As the graph has it.
    shape: Vec<usize>,
}

impl Parameter {
    /// Whether it is trained (running statistics are not).
    pub fn is_trainable(&self) -> bool {
        !self.part.trim_start_matches("bn.").starts_with("running_")
    }

    /// Whether it is a learnt step size (LSQ) rather than a weight.
    pub fn is_step_size(&self) -> bool {
        self.part == OUTPUT_STEP || self.part == WEIGHT_STEP
    }
}

/// Every float parameter of a graph.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    pub list: Vec<Parameter>,
    index: HashMap<(NodeId, &'static str), usize>,
}

impl Parameters {
    /// Uploads them.
    pub fn new(graph: &Graph, device: &Device) -> Result<Self, ExecError> {
        Self::of(graph, device, |_| true)
    }

    /// Uploads those of the nodes that `wanted` picks.
    pub fn of(graph: &Graph, device: &Device, wanted: impl Fn(NodeId) -> bool) -> Result<Self, ExecError> {
        let (mut list, mut index) = (Vec::new(), HashMap::new());
        for p in graph.params().into_iter().filter(|p| wanted(p.node)) {
            index.insert((p.node, p.part), list.len());
            list.push(Parameter {
                key: graph.key(&p),
                node: p.node,
                part: p.part,
                tensor: to_kernel_layout(p.tensor, device)?,
                shape: p.tensor.shape.clone(),
            });
        }
        Ok(Self { list, index })
    }

    /// Adds a parameter that the graph does not hold: the last of the list.
    pub fn push(&mut self, node: NodeId, part: &'static str, key: String, tensor: Tensor) {
        self.index.insert((node, part), self.list.len());
        self.list.push(Parameter { key, node, part, shape: tensor.dims().to_vec(), tensor });
    }

    /// Where a parameter is in the list, if the node has it.
    pub fn position(&self, node: NodeId, part: &'static str) -> Option<usize> {
        self.index.get(&(node, part)).copied()
    }

    /// A parameter that the node must have.
    pub fn get(&self, node: NodeId, part: &'static str) -> &Tensor {
        self.find(node, part).expect("the graph's own parameters were all uploaded")
    }

    /// A parameter that the node may lack.
    pub fn find(&self, node: NodeId, part: &'static str) -> Option<&Tensor> {
        self.position(node, part).map(|i| &self.list[i].tensor)
    }

    /// The values in the graph's layout, by key.
    pub fn download(&self) -> Result<HashMap<String, graph::Tensor>, ExecError> {
        self.list.iter().map(|p| Ok((p.key.clone(), from_kernel_layout(&p.tensor, &p.shape)?))).collect()
    }
}

/// `[out, in, kh, kw]` to `[kh, kw, in, out]`: rows of a matrix product, output channels innermost.
fn to_kernel_layout(tensor: &graph::Tensor, device: &Device) -> Result<Tensor, ExecError> {
    let uploaded = Tensor::from_slice(&tensor.data, tensor.shape.as_slice(), device)?;
    Ok(match tensor.shape.len() {
        4 => uploaded.permute((2, 3, 1, 0))?.contiguous()?,
        2 => uploaded.t()?.contiguous()?.unsqueeze(0)?.unsqueeze(0)?,
        _ => uploaded,
    })
}

fn from_kernel_layout(tensor: &Tensor, shape: &[usize]) -> Result<graph::Tensor, ExecError> {
    let tensor = match shape.len() {
        4 => tensor.permute((3, 2, 0, 1))?,
        2 => tensor.squeeze(0)?.squeeze(0)?.t()?,
        _ => tensor.clone(),
    };
    Ok(graph::Tensor::new(shape, tensor.flatten_all()?.to_vec1::<f32>()?))
}
