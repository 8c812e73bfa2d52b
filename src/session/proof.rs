//! Step 3: that fusing changed nothing but roundings.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::measure::Inputs;
use super::state::Reporter;
use super::{FusionProof, Session, SessionError, SiteProof, Weighted};
use crate::exec::float::Model;
use crate::graph::{Graph, NodeId};
use crate::quant::{FUSION_TOLERANCE, FuseReport, FuseSite, Warning, fusion_warning};

/// Images on which fusion is proved to change nothing.
const PROOF_IMAGES: usize = 8;

impl Session {
    /// Runs both graphs on the same real images.
    pub(super) fn prove(
        &self,
        before: &Weighted,
        (fused, report): (&Graph, &FuseReport),
        to: &mut Reporter<'_>,
    ) -> Result<FusionProof, SessionError> {
        let inputs = self.proof_images(before, PROOF_IMAGES)?;
        let models = (Model::new(&before.graph, &self.device)?, Model::new(fused, &self.device)?);
        let ends = Ends::of(&before.graph, fused, report);
        let mut moved = Moved::default();
        let mut sites = vec![Moved::default(); report.sites.len()];
        // Image by image: what every site computes of one is held at a time.
        for (i, image) in inputs.images.chunks_exact(inputs.images.len() / inputs.count).enumerate() {
            to.progress("Proving the fusion", i, inputs.count);
            to.checkpoint()?;
            let old = outputs(&models.0, &before.graph, &ends.old, image)?;
            to.checkpoint()?;
            let new = outputs(&models.1, fused, &ends.new, image)?;
            for (site, (a, b)) in sites.iter_mut().zip(&ends.sites) {
                if let Some((a, b)) = old.get(a).zip(new.get(b)) {
                    site.add(a, b);
                }
            }
            if let Some((a, b)) = old.get(&before.graph.output()).zip(new.get(&fused.output())) {
                moved.add(a, b);
            }
        }
        let sites = report.sites.iter().zip(sites);
        Ok(FusionProof {
            images: inputs.count,
            max_abs: moved.max_abs,
            relative: moved.relative(),
            sites: sites
                .map(|(site, m)| SiteProof { name: site.name.clone(), max_abs: m.max_abs, relative: m.relative() })
                .collect(),
        })
    }

    fn proof_images(&self, before: &Weighted, count: usize) -> Result<Inputs, SessionError> {
        let opened = &before.opened;
        Inputs::first(&opened.dataset.train, count, &opened.preprocess, &opened.source)
    }
}

impl FusionProof {
    /// The warning where the proof failed, naming the first site that moved its own output; where no single one did, the
    /// model's output.
    pub(super) fn warning(&self, fused: &Graph) -> Option<Warning> {
        let warning = fusion_warning(fused, self.relative)?;
        // Not a number is no proof either.
        let site = self.sites.iter().find(|site| !site.is_rounding());
        Some(Warning { node: site.map_or(warning.node, |site| site.name.clone()), ..warning })
    }
}

impl SiteProof {
    /// Whether its output moved by no more than rounding does.
    pub fn is_rounding(&self) -> bool {
        self.relative <= FUSION_TOLERANCE
    }
}

/// Which nodes are compared: each site's fused node with the last of those that it replaces, and the outputs.
struct Ends {
    old: Vec<NodeId>,
    new: Vec<NodeId>,
    /// Of each site, in both graphs.
    sites: Vec<(NodeId, NodeId)>,
}

impl Ends {
    fn of(before: &Graph, fused: &Graph, report: &FuseReport) -> Self {
        let pair = |site: &FuseSite| {
            let last = site.nodes.last().and_then(|last| before.find(last));
            // A site's nodes are in both graphs; the outputs stand in for what is not.
            (last.unwrap_or(before.output()), fused.find(&site.name).unwrap_or(fused.output()))
        };
        let sites: Vec<_> = report.sites.iter().map(pair).collect();
        let old = sites.iter().map(|(a, _)| *a).chain([before.output()]).collect();
        let new = sites.iter().map(|(_, b)| *b).chain([fused.output()]).collect();
        Self { old, new, sites }
    }
}

/// The largest difference and the largest value so far; not a number where one was not.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    max_abs: f32,
    largest: f32,
}

impl Moved {
    fn add(&mut self, old: &[f32], new: &[f32]) {
        // `f32::max` would pass over what is not a number, and call it proved.
        let max = |a: f32, b: f32| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) };
        self.max_abs = old.iter().zip(new).map(|(a, b)| (a - b).abs()).fold(self.max_abs, max);
        self.largest = old.iter().map(|a| a.abs()).fold(self.largest, max);
    }

    fn relative(self) -> f32 {
        // Two infinities differ by no number.
        if self.largest.is_infinite() { f32::NAN } else { self.max_abs / self.largest.max(f32::MIN_POSITIVE) }
    }
}

/// What these nodes compute of one image.
fn outputs(
    model: &Model,
    graph: &Graph,
    nodes: &[NodeId],
    image: &[f32],
) -> Result<HashMap<NodeId, Vec<f32>>, SessionError> {
    let mut wanted = vec![false; graph.nodes.len()];
    nodes.iter().for_each(|id| wanted[id.index()] = true);
    let mut outputs = HashMap::new();
    model.run_traced(image, 1, &|id| wanted[id.index()], &mut |id, values| {
        outputs.insert(id, values.as_slice().to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::float::Device;
    use crate::graph::{Builder, ConvSpec, Shape, Tensor};
    use crate::quant::{FuseOptions, fuse};

    /// Two pairs, the second with a bias and a running mean of `offset`: they cancel, exactly only where they are folded.
    fn sites(offset: f32) -> Vec<SiteProof> {
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
        let ends = Ends::of(&graph, &fused, &report);
        let run = |graph: &Graph, nodes: &[NodeId]| {
            outputs(&Model::new(graph, &Device::Cpu).expect("a model"), graph, nodes, &image).expect("float runs")
        };
        let (old, new) = (run(&graph, &ends.old), run(&fused, &ends.new));
        let proof = |(site, (a, b)): (&FuseSite, &(NodeId, NodeId))| {
            let mut moved = Moved::default();
            moved.add(&old[a], &new[b]);
            SiteProof { name: site.name.clone(), max_abs: moved.max_abs, relative: moved.relative() }
        };
        report.sites.iter().zip(&ends.sites).map(proof).collect()
    }

    #[test]
    fn the_site_that_moved_is_named() {
        assert!(sites(0.2).iter().all(SiteProof::is_rounding), "rounding alone");
        let moved = sites(5000.0);
        let first = moved.iter().find(|site| !site.is_rounding()).expect("one moved");
        assert_eq!(first.name, "steep");
    }

    #[test]
    fn what_is_not_a_number_proves_nothing() {
        for bad in [f32::NAN, f32::INFINITY] {
            for (old, new) in [([1.0, bad], [1.0, bad]), ([bad, 1.0], [bad, 1.0]), ([2.0, 1.0], [2.0, f32::NAN])] {
                let mut moved = Moved::default();
                moved.add(&[3.0], &[3.0]);
                moved.add(&old, &new);
                moved.add(&[3.0], &[3.0]);
                assert!(moved.relative().is_nan(), "{old:?} {new:?}: {moved:?}");
            }
        }
        let (graph, _) = Builder::new("none", Shape::new(1, 1, 1));
        let proof = FusionProof { images: 1, max_abs: f32::NAN, relative: f32::NAN, sites: Vec::new() };
        let warning = proof.warning(&graph.finish()).expect("nothing is proved");
        assert!(warning.to_string().contains("not a number") && !warning.to_string().contains("NaN"), "{warning}");
    }
}
