//! What the walks over a graph share, forward and in training.

use candle_core::Tensor;

use super::ops::map1;
use crate::{
    exec::ExecError,
    graph::{self, Graph, NodeId, Numeric, Shape},
    kernels::{cuda, float::to_nhwc},
};

/// A value that the order of the nodes guarantees.
pub(super) fn live(values: &[Option<Tensor>], id: NodeId) -> &Tensor {
    values[id.index()].as_ref().expect("a value lives until its last reader has run")
}

/// For each node the last one that reads it (the output: itself).
pub(super) fn last_use(graph: &Graph) -> Vec<NodeId> {
    let mut last: Vec<NodeId> = graph.iter().map(|(id, _)| id).collect();
    for (id, node) in graph.iter() {
        for input in &node.inputs {
            last[input.index()] = id;
        }
    }
    last
}

/// An error that names the first int8 node.
pub(super) fn refuse_int8(graph: &Graph) -> Result<(), ExecError> {
    match graph.nodes.iter().find(|n| n.numeric.qparams().is_some()) {
        Some(node) => Err(ExecError::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            detail: "its output is int8: run a converted model with the int8 engine".to_owned(),
        }),
        None => Ok(()),
    }
}

/// An error that names the first node that only a [`super::Trainable`] runs.
pub(super) fn refuse_training(graph: &Graph) -> Result<(), ExecError> {
    let in_training = |n: &&graph::Node| matches!(n.numeric, Numeric::Learned(_)) || n.op.bn().is_some();
    match graph.nodes.iter().find(in_training) {
        Some(node) => Err(ExecError::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            detail: "it is in the form for training with fake quantization: evaluate what `fake_quantize_qat` or \
                     `convert_qat` makes of it"
                .to_owned(),
        }),
        None => Ok(()),
    }
}

/// The values of an image.
///
/// # Errors
/// [`ExecError::Input`] where `images` is not as long as `batch` images.
pub(super) fn check_input(graph: &Graph, images: &[f32], batch: usize) -> Result<Shape, ExecError> {
    let shape = graph.input_shape();
    let image = shape.len();
    if images.len() == batch * image {
        Ok(shape)
    } else {
        Err(ExecError::Input { found: images.len(), batch, image, expected: batch * image })
    }
}

/// Images to the input's tensor, channels innermost.
pub(super) fn upload(
    graph: &Graph,
    images: &[f32],
    batch: usize,
    device: &candle_core::Device,
) -> Result<Tensor, ExecError> {
    let Shape { c, h, w } = check_input(graph, images, batch)?;
    let uploaded = Tensor::from_slice(images, (batch, c, h, w), device)?;
    let program = || cuda::to_nhwc(images.len(), c, h * w);
    Ok(map1("upload", &uploaded, (batch, h, w, c), |x, y| to_nhwc(x, c, h * w, y), program)?)
}
