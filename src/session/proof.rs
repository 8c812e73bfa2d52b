//! Step 3: that fusing changed nothing but roundings.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::measure::Inputs;
use super::state::Reporter;
use super::{FusionProof, Session, SessionError, Weighted};
use crate::exec::float::{Device, Model};
use crate::graph::{Graph, NodeId};
use crate::quant::{FUSION_TOLERANCE, FuseReport, Warning, fusion_warning};

/// Images on which fusion is proved to change nothing.
const PROOF_IMAGES: usize = 8;

impl Session {
    /// Runs both graphs on the same real images.
    pub(super) fn prove(
        &self,
        before: &Weighted,
        fused: &Graph,
        to: &mut Reporter<'_>,
    ) -> Result<FusionProof, SessionError> {
        let inputs = self.proof_images(before, PROOF_IMAGES)?;
        to.progress("Proving the fusion", 0, 2);
        let old = Model::new(&before.graph, &self.device)?.run(&inputs.images, inputs.count)?;
        to.checkpoint()?;
        to.progress("Proving the fusion", 1, 2);
        let new = Model::new(fused, &self.device)?.run(&inputs.images, inputs.count)?;
        let (max_abs, relative) = difference(&old, &new);
        Ok(FusionProof { images: inputs.count, max_abs, relative })
    }

    /// The warning where the proof failed, with the first site that moved its own output.
    pub(super) fn moved(
        &self,
        before: &Weighted,
        (fused, report): (&Graph, &FuseReport),
        proof: &FusionProof,
    ) -> Result<Option<Warning>, SessionError> {
        let Some(warning) = fusion_warning(fused, proof.relative) else { return Ok(None) };
        let inputs = self.proof_images(before, 1)?;
        let site = first_moved(&before.graph, (fused, report), &inputs.images, &self.device)?;
        Ok(Some(Warning { node: site.unwrap_or(warning.node), ..warning }))
    }

    fn proof_images(&self, before: &Weighted, count: usize) -> Result<Inputs, SessionError> {
        let opened = &before.opened;
        Inputs::first(&opened.dataset.train, count, &opened.preprocess, &opened.source)
    }
}

/// The first site whose output on one image differs by more than [`FUSION_TOLERANCE`] from that of the last node it
/// replaces; `None` where no single one does.
fn first_moved(
    before: &Graph,
    (fused, report): (&Graph, &FuseReport),
    image: &[f32],
    device: &Device,
) -> Result<Option<String>, SessionError> {
    let lasts = report.sites.iter().filter_map(|s| before.find(s.nodes.last()?)).collect();
    let heads = report.sites.iter().filter_map(|s| fused.find(&s.name)).collect();
    let (old, new) = (outputs(before, lasts, image, device)?, outputs(fused, heads, image, device)?);
    let moved = report.sites.iter().find(|site| {
        let pair = site.nodes.last().and_then(|last| old.get(last)).zip(new.get(&site.name));
        pair.is_some_and(|(old, new)| difference(old, new).1 > FUSION_TOLERANCE)
    });
    Ok(moved.map(|site| site.name.clone()))
}

/// What these nodes compute of one image, by name.
fn outputs(
    graph: &Graph,
    nodes: Vec<NodeId>,
    image: &[f32],
    device: &Device,
) -> Result<HashMap<String, Vec<f32>>, SessionError> {
    let mut outputs = HashMap::new();
    Model::new(graph, device)?.run_traced(image, 1, &|id| nodes.contains(&id), &mut |id, values| {
        outputs.insert(graph.node(id).name.clone(), values.as_slice().to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(outputs)
}

/// The largest difference, and the same over the largest value.
fn difference(old: &[f32], new: &[f32]) -> (f32, f32) {
    let max_abs = old.iter().zip(new).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let largest = old.iter().map(|a| a.abs()).fold(f32::MIN_POSITIVE, f32::max);
    (max_abs, max_abs / largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, ConvSpec, Shape, Tensor};
    use crate::quant::{FuseOptions, fuse};

    /// Two pairs, the second with a bias and a running mean of `offset`: they cancel, exactly only where they are folded.
    fn site_that_moved(offset: f32) -> Option<String> {
        let (mut b, x) = Builder::new("two", Shape::new(1, 8, 8));
        let x = b.conv("calm", x, ConvSpec::new(2, 1).bias());
        let x = b.bn("calm_bn", x, 1e-5, 0.1);
        let x = b.conv("steep", x, ConvSpec::new(2, 1).bias());
        b.bn("steep_bn", x, 1e-5, 0.1);
        let full = |v| Tensor::full([2], v);
        let ones = |shape: [usize; 4]| Tensor::full(shape, 0.7);
        let values = [
            ("calm.weight", ones([2, 1, 1, 1])),
            ("steep.weight", ones([2, 2, 1, 1])),
            ("calm.bias", full(0.1)),
            ("steep.bias", full(offset)),
            ("steep_bn.running_mean", full(offset)),
        ];
        let graph = b.finish().with_params(&values.map(|(key, value)| (key.to_owned(), value)).into());
        let (fused, report) = fuse(&graph, &FuseOptions::default()).expect("a float graph");
        let image: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        first_moved(&graph, (&fused, &report), &image, &Device::Cpu).expect("float runs")
    }

    #[test]
    fn the_site_that_moved_is_named() {
        assert_eq!(site_that_moved(0.2), None, "rounding alone");
        assert_eq!(site_that_moved(5000.0).as_deref(), Some("steep"));
    }
}
