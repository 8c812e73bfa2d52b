use std::ops::ControlFlow;

use rayon::prelude::*;

use super::{
    SweepScore,
    error::Sums,
    score::{largest, margin},
    statistics::spearman,
};
use crate::{
    exec::{
        ExecError,
        float::{Kept, Parts, Twins},
    },
    graph::{Graph, NodeId},
};

/// Layers between two looks at whether to go on.
const LAYERS: usize = 8;

/// Images as the sweeps take them.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// `[images, channels, height, width]`, normalized.
    pub images: &'a [f32],
    /// One an image; empty where there are none: then what float names an image is right.
    pub labels: &'a [usize],
    /// Which images of the split these are.
    pub indices: &'a [usize],
}

/// Which sweeps to run: each computes the model about once for every two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweeps {
    /// All in float, but for one layer at a time.
    pub one_quantized: bool,
    /// All quantized, but for one layer at a time.
    pub one_float: bool,
}

impl Sweeps {
    /// Both.
    pub const ALL: Self = Self { one_quantized: true, one_float: true };
}

/// What one layer does to the model. A layer is a node whose output or weight is quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSensitivity {
    /// Its name.
    pub name: String,
    /// [`crate::graph::Op::name`].
    pub op: &'static str,
    /// Whether it has a weight that is quantized.
    pub has_weight: bool,
    /// The model in float with this layer alone quantized.
    pub quantized: SweepScore,
    /// The model quantized with this layer alone left in float.
    pub left_float: SweepScore,
    /// How far its output is from float with everything before it quantized too.
    pub accumulated: Sums,
    /// The same with everything before it in float.
    pub alone: Sums,
}

/// An image that float names rightly and the quantized model does not, and the layer that it is owed to: the one that,
/// left in float, gives the right class the most over all others.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// Which image of the split.
    pub image: usize,
    /// What it is, or what float says where there are no labels.
    pub label: usize,
    /// What the quantized model says.
    pub named: usize,
    /// Position of the layer in [`Sensitivity::layers`]; `None` before the sweep came to one.
    pub layer: Option<usize>,
    /// The logit of the right class over the largest other, with that layer in float: above zero where that alone helps.
    pub margin: f32,
}

/// Where a quantized model loses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sensitivity {
    /// Whether right is what a label says; else it is what float says.
    pub labelled: bool,
    /// All in float.
    pub float: SweepScore,
    /// All quantized.
    pub int8: SweepScore,
    /// Weights alone quantized.
    pub weights: SweepScore,
    /// Outputs alone quantized.
    pub activations: SweepScore,
    /// In the order of the graph.
    pub layers: Vec<LayerSensitivity>,
    /// In the order of the images.
    pub flips: Vec<Owed>,
}

impl Sensitivity {
    /// Positions of the layers, the most suspect first: by what each alone does to the logits (MSE), and where that sweep
    /// was not run by how much leaving it in float helps.
    pub fn suspects(&self) -> Vec<usize> {
        let gain = |l: &LayerSensitivity| match l.quantized.images {
            0 => self.int8.logit_mse() - l.left_float.logit_mse(),
            _ => l.quantized.logit_mse(),
        };
        let mut order: Vec<usize> = (0..self.layers.len()).collect();
        order.sort_by(|a, b| gain(&self.layers[*b]).total_cmp(&gain(&self.layers[*a])));
        order
    }

    /// How well the order by logit MSE agrees with the order by top-1 (Spearman), of the sweep of one layer quantized and
    /// of the one of one layer left in float: 1 is the same order, `None` where top-1 is the same for all layers.
    pub fn agreement(&self) -> [Option<f64>; 2] {
        [|l: &LayerSensitivity| l.quantized, |l: &LayerSensitivity| l.left_float].map(|of| {
            let swept = || self.layers.iter().map(of).filter(|s| s.images > 0);
            let wrong: Vec<f64> = swept().map(|s| 1.0 - s.top1()).collect();
            spearman(&swept().map(|s| s.logit_mse()).collect::<Vec<_>>(), &wrong)
        })
    }

    /// How many flips are owed to each layer, the layer with most first.
    pub fn owed(&self) -> Vec<(usize, usize)> {
        let mut counts = vec![0; self.layers.len()];
        self.flips.iter().filter_map(|f| f.layer).for_each(|layer| counts[layer] += 1);
        let mut owed: Vec<(usize, usize)> = counts.into_iter().enumerate().filter(|(_, count)| *count > 0).collect();
        owed.sort_by_key(|(layer, count)| (std::cmp::Reverse(*count), *layer));
        owed
    }
}

/// Runs the sweeps, batch by batch. From one layer to the next only what follows the layer is computed again.
#[derive(Debug)]
pub struct SensitivityMeter {
    twins: Twins,
    sweeps: Sweeps,
    sites: Vec<NodeId>,
    found: Sensitivity,
}

/// What is heard while a batch is swept: what was found so far, layers done of all in this batch; `Break` ends it.
pub type Hear<'a> = dyn FnMut(&Sensitivity, usize, usize) -> ControlFlow<()> + 'a;

impl SensitivityMeter {
    /// For the two forms of [`crate::quant::twins`].
    ///
    /// # Errors
    /// Those of [`Twins::new`].
    pub fn new((float, fake): (&Graph, &Graph), sweeps: Sweeps) -> Result<Self, ExecError> {
        let twins = Twins::new(float, fake)?;
        let sites: Vec<NodeId> =
            float.iter().map(|(id, _)| id).filter(|id| twins.choices(*id) != Parts::FIRST).collect();
        let layer = |id: &NodeId| LayerSensitivity {
            name: float.node(*id).name.clone(),
            op: float.node(*id).op.name(),
            has_weight: twins.choices(*id).weight,
            quantized: SweepScore::default(),
            left_float: SweepScore::default(),
            accumulated: Sums::default(),
            alone: Sums::default(),
        };
        let found = Sensitivity { layers: sites.iter().map(layer).collect(), ..Sensitivity::default() };
        Ok(Self { twins, sweeps, sites, found })
    }

    /// Bytes that one image's values take while it is swept, roughly.
    pub fn bytes_per_image(&self) -> usize {
        let values: usize = self.twins.graph().nodes.iter().map(|n| n.shape.len()).sum();
        2 * size_of::<f32>() * values
    }

    /// Sweeps over a batch. Where `hear` breaks off, the layers that were swept keep what was found of them.
    ///
    /// # Errors
    /// Those of running; [`ExecError::Stopped`] where `hear` said so.
    pub fn add(&mut self, batch: &Labelled<'_>, hear: &mut Hear<'_>) -> Result<(), ExecError> {
        let count = batch.indices.len();
        let weight = Parts { weight: true, output: false };
        let output = Parts { weight: false, output: true };
        let float = self.twins.run(batch.images, count, |_| Parts::FIRST)?;
        let int8 = self.twins.run(batch.images, count, |_| Parts::SECOND)?;
        let (a, b) = (float.logits()?, int8.logits()?);
        let classes = a.len() / count.max(1);
        let named: Vec<usize> = a.chunks_exact(classes).map(largest).collect();
        self.found.labelled = !batch.labels.is_empty();
        let right = if batch.labels.is_empty() { &named } else { batch.labels };
        self.found.float.add(&a, &a, right);
        self.found.int8.add(&a, &b, right);
        for (parts, score) in [(weight, &mut self.found.weights), (output, &mut self.found.activations)] {
            score.add(&a, &self.twins.run(batch.images, count, |_| parts)?.logits()?, right);
        }
        let first_flip = self.found.flips.len();
        for (i, (label, row)) in right.iter().zip(b.chunks_exact(classes)).enumerate() {
            if named[i] == *label && largest(row) != *label {
                self.found.flips.push(Owed {
                    image: batch.indices[i],
                    label: *label,
                    named: largest(row),
                    layer: None,
                    margin: f32::NEG_INFINITY,
                });
            }
        }
        let flipped: Vec<usize> = self.found.flips[first_flip..]
            .iter()
            .filter_map(|f| batch.indices.iter().position(|i| *i == f.image))
            .collect();
        for start in (0..self.sites.len()).step_by(LAYERS) {
            let end = (start + LAYERS).min(self.sites.len());
            let rows = (start..end).into_par_iter().map(|i| self.sweep(self.sites[i], &float, &int8));
            for (i, swept) in (start..end).zip(rows.collect::<Vec<_>>()) {
                let swept = swept?;
                let layer = &mut self.found.layers[i];
                layer.accumulated.merge(&swept.accumulated);
                layer.alone.merge(&swept.alone);
                if let Some(logits) = swept.quantized {
                    layer.quantized.add(&a, &logits, right);
                }
                let Some(logits) = swept.left_float else { continue };
                layer.left_float.add(&a, &logits, right);
                for (flip, place) in self.found.flips[first_flip..].iter_mut().zip(&flipped) {
                    let margin = margin(&logits[place * classes..][..classes], flip.label);
                    if margin > flip.margin {
                        (flip.margin, flip.layer) = (margin, Some(i));
                    }
                }
            }
            if hear(&self.found, end, self.sites.len()).is_break() {
                return Err(ExecError::Stopped);
            }
        }
        Ok(())
    }

    /// What was found so far.
    pub fn found(&self) -> &Sensitivity {
        &self.found
    }

    fn sweep(&self, site: NodeId, float: &Kept, int8: &Kept) -> Result<Swept, ExecError> {
        let twins = &self.twins;
        let compare = |other: &[f32]| float.value(twins, site, |value| Sums::of(value.as_slice(), other));
        let accumulated = int8.value(twins, site, |value| compare(value.as_slice()))??;
        let alone = compare(&twins.alone(float, site, Parts::SECOND)?)?;
        let quantized = match self.sweeps.one_quantized {
            true => Some(twins.rerun(float, &[(site, Parts::SECOND)])?),
            false => None,
        };
        let left_float = match self.sweeps.one_float {
            true => Some(twins.rerun(int8, &[(site, Parts::FIRST)])?),
            false => None,
        };
        Ok(Swept { accumulated, alone, quantized, left_float })
    }
}

/// What one layer did to one batch.
struct Swept {
    accumulated: Sums,
    alone: Sums,
    quantized: Option<Vec<f32>>,
    left_float: Option<Vec<f32>>,
}
