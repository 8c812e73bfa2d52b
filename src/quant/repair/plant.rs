use std::collections::HashMap;

use super::scaling::{Scalable, readers};
use crate::{
    graph::{self, Graph, GraphError, NodeId, Op, Tensor},
    quant::QuantError,
};

/// Spoils the ranges of a float model without changing what it computes, as trained models are found in the wild: the
/// output channels of each of `layers` (convolutions of an unfused graph) are multiplied by `scale(channel)` in the batch
/// norm behind it, and the weights that read them divided by it. One scale per tensor then fits no channel; equalization
/// takes it back.
///
/// # Errors
/// [`QuantError::Graph`] for a layer that is not there; [`QuantError::NotScalable`] for one whose readers cannot divide.
pub fn spoil_ranges(graph: &Graph, layers: &[&str], scale: &dyn Fn(usize) -> f32) -> Result<Graph, QuantError> {
    let users = graph.users();
    let mut weights = Scalable::new(graph);
    let mut norms: HashMap<NodeId, Vec<f32>> = HashMap::new();
    for name in layers {
        let id = graph.require(name)?;
        let channels = graph.node(id).shape.c;
        let scales: Vec<f32> = (0..channels).map(scale).collect();
        let norm = match users[id.index()][..] {
            [next] if matches!(graph.node(next).op, Op::BatchNorm2d(_)) => Some(next),
            _ => None,
        };
        let refuse = |why: String| QuantError::NotScalable { node: (*name).to_owned(), why };
        if !weights.has(id) {
            return Err(refuse("it is no float convolution or linear layer".to_owned()));
        }
        let found = readers(graph, &users, norm.unwrap_or(id)).map_err(|why| refuse(why.to_string()))?;
        if let Some(relu6) = found.relu6.first() {
            return Err(refuse(format!("ReLU6 (`{}`) would clip elsewhere", graph.node(*relu6).name)));
        }
        for (i, s) in scales.iter().enumerate() {
            if norm.is_none() {
                weights.scale_output(id, i, *s);
            }
            found.layers.iter().for_each(|reader| weights.scale_input(*reader, i, 1.0 / s));
        }
        if let Some(norm) = norm {
            norms.insert(norm, scales);
        }
    }
    let mut next = weights.write(graph);
    for (id, scales) in norms {
        let Op::BatchNorm2d(norm) = &mut next.nodes[id.index()].op else {
            return Err(GraphError::NoSuchNode(graph.node(id).name.clone()).into());
        };
        let scaled = |t: &Tensor| {
            Tensor::new(t.shape.clone(), t.data.iter().zip(&scales).map(|(v, s)| v * s).collect::<Vec<f32>>())
        };
        (norm.weight, norm.bias) = (scaled(&norm.weight), scaled(&norm.bias));
    }
    graph::check(&next)?;
    Ok(next)
}
