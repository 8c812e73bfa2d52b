//! Batch norm folded into one channel, with numbers that may be moved: a graph of one pixel, run before and after the pass.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::{Opened, SessionError};
use crate::exec::float::{Device, Model};
use crate::graph::{Builder, ConvSpec, Graph, Op, Shape, Tensor};
use crate::quant::{self, FuseOptions};

/// One channel of a convolution with batch norm behind it, and what it reads at one pixel of a real image.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldExample {
    /// The convolution.
    pub layer: String,
    /// The output channel.
    pub channel: usize,
    /// Its filter, `[in / groups, k, k]`.
    pub weights: Vec<f32>,
    /// Kernel.
    pub kernel: usize,
    /// What it reads, in the same order.
    pub input: Vec<f32>,
    /// Batch norm's factor.
    pub gamma: f32,
    /// Its shift.
    pub beta: f32,
    /// The running mean.
    pub mean: f32,
    /// The running variance.
    pub var: f32,
    /// Added to the variance.
    pub eps: f32,
}

/// What the channel computes, and what it becomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// The convolution alone.
    pub conv: f32,
    /// With batch norm behind it.
    pub norm: f32,
    /// The fused layer.
    pub fused: f32,
    /// Its filter.
    pub weights: Vec<f32>,
    /// Its bias.
    pub bias: f32,
}

/// Channel `channel` of the convolution `layer` of a float graph, at the middle of its map, on a held-out image. `None`
/// where no batch norm is behind it.
///
/// # Errors
/// Those of reading an image and running the model.
pub fn fold_example(
    opened: &Opened,
    graph: &Graph,
    layer: &str,
    channel: usize,
) -> Result<Option<FoldExample>, SessionError> {
    let id = graph.require(layer).map_err(quant::QuantError::from)?;
    let node = graph.node(id);
    let users = graph.nodes.iter().filter(|n| n.inputs.contains(&id));
    let mut norm = users.filter_map(|n| match &n.op {
        Op::BatchNorm2d(bn) => Some(bn),
        _ => None,
    });
    let (Op::Conv2d(conv), Some(bn)) = (&node.op, norm.next_back()) else { return Ok(None) };
    let (Some(weight), [kh, kw]) = (conv.weight.float(), conv.kernel()) else { return Ok(None) };
    if channel >= conv.out_channels() || kh != kw {
        return Ok(None);
    }
    let image = super::pixels(opened)?;
    let source = node.inputs[0];
    let mut read = Vec::new();
    let model = Model::new(graph, &Device::Cpu)?;
    model.run_traced(&image, 1, &|node| node == source, &mut |_, values| {
        read = values.as_slice().to_vec();
        ControlFlow::Break(())
    })?;
    let (from, to) = (graph.node(source).shape, node.shape);
    if read.len() != from.len() {
        return Ok(None);
    }
    let per_group = weight.shape[1];
    let first = channel / (conv.out_channels() / conv.groups).max(1) * per_group;
    let at = |p: usize, k: usize, most: usize| (p * conv.stride + k).checked_sub(conv.padding).filter(|v| *v < most);
    let mut input = Vec::with_capacity(per_group * kh * kw);
    for c in 0..per_group {
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let place = at(to.h / 2, ky, from.h).zip(at(to.w / 2, kx, from.w));
            input.push(place.map_or(0.0, |(y, x)| read[(y * from.w + x) * from.c + first + c]));
        }
    }
    let per = per_group * kh * kw;
    let of = |t: &Tensor| t.data[channel];
    Ok(Some(FoldExample {
        layer: layer.to_owned(),
        channel,
        weights: weight.data[channel * per..(channel + 1) * per].to_vec(),
        kernel: kh,
        input,
        gamma: of(&bn.weight),
        beta: of(&bn.bias),
        mean: of(&bn.running_mean),
        var: of(&bn.running_var),
        eps: bn.eps,
    }))
}

impl FoldExample {
    /// Runs it unfused and fused, by the pass and the engine that whole models go through.
    ///
    /// # Errors
    /// Those of fusing (numbers that cannot be folded) and running.
    pub fn run(&self) -> Result<Folded, SessionError> {
        let inputs = self.weights.len() / (self.kernel * self.kernel).max(1);
        // A map as large as the kernel with a border: its middle pixel reads exactly what was taken.
        let (mut builder, x) = Builder::new("one channel", Shape::new(inputs, self.kernel, self.kernel));
        let x = builder.conv("conv", x, ConvSpec::new(1, self.kernel));
        builder.bn("bn", x, self.eps, 0.1);
        let one = |v: f32| Tensor::new([1], vec![v]);
        let weight = Tensor::new([1, inputs, self.kernel, self.kernel], self.weights.clone());
        let values: HashMap<String, Tensor> = [
            ("conv.weight", weight),
            ("bn.weight", one(self.gamma)),
            ("bn.bias", one(self.beta)),
            ("bn.running_mean", one(self.mean)),
            ("bn.running_var", one(self.var)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        let graph = builder.finish().with_params(&values);
        let (fused, _) = quant::fuse(&graph, &FuseOptions::default())?;
        let conv = self.middle(&graph, "conv")?;
        let Some(Op::Conv2d(layer)) = fused.find("conv").map(|id| &fused.node(id).op) else {
            return Err(SessionError::NothingOpen);
        };
        let weights = layer.weight.float().map_or(Vec::new(), |w| w.data.to_vec());
        let bias = layer.bias.as_ref().map_or(0.0, |b| b.data[0]);
        Ok(Folded { conv, norm: self.middle(&graph, "bn")?, fused: self.middle(&fused, "conv")?, weights, bias })
    }

    /// What a node computes at the middle pixel.
    fn middle(&self, graph: &Graph, name: &str) -> Result<f32, SessionError> {
        let id = graph.require(name).map_err(quant::QuantError::from)?;
        let mut found = 0.0;
        Model::new(graph, &Device::Cpu)?.run_traced(&self.input, 1, &|node| node == id, &mut |_, values| {
            let at = values.shape();
            found = values.as_slice()[at.h / 2 * at.w + at.w / 2];
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_by_hand_is_folding() {
        let example = FoldExample {
            layer: "conv".to_owned(),
            channel: 0,
            weights: vec![0.5, -1.0, 2.0, 0.25, 1.0, 0.0, -0.5, 0.75, 1.5],
            kernel: 3,
            input: vec![1.0, 2.0, -1.0, 0.5, 3.0, 1.0, 0.0, -2.0, 0.25],
            gamma: 2.0,
            beta: -0.5,
            mean: 0.25,
            var: 3.0,
            eps: 1.0,
        };
        let folded = example.run().expect("it runs");
        let conv: f32 = example.weights.iter().zip(&example.input).map(|(w, x)| w * x).sum();
        assert!((folded.conv - conv).abs() < 1e-6, "{} {conv}", folded.conv);
        // gamma / sqrt(var + eps) = 1.
        assert_eq!((&folded.weights[..], folded.bias), (&example.weights[..], -0.75));
        assert!((folded.norm - (conv - 0.75)).abs() < 1e-6 && (folded.fused - folded.norm).abs() < 1e-6, "{folded:?}");
        let broken = FoldExample { var: -5.0, ..example };
        assert!(broken.run().is_err(), "a variance below zero cannot be folded");
    }
}
