//! What repairs need to know of the activations: means for bias correction, moments for AdaRound.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::{
    exec::{
        ExecError,
        float::{Parts, Twins},
    },
    graph::{Graph, NodeId, Op},
    quant::{self, Moments, QuantError},
};

/// Windows of one layer that a batch adds at most: more tell little more, and take long.
const WINDOWS: usize = 16_384;

/// Weights of a filter beyond which a layer's moments are not gathered: the matrix has the square of it.
pub const LARGEST_WINDOW: usize = 1_280;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum RepairError {
    #[error(transparent)]
    Quant(#[from] QuantError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(
        "layer `{layer}` has {found} weights a filter, expected {LARGEST_WINDOW} or fewer for AdaRound: leave it out, or \
         leave it in float"
    )]
    Window { layer: String, found: usize },
}

/// For each layer of a converted graph with int8 weights, by how much float's output before its ReLU is above the
/// converted one's on average, channel by channel, over `batch` images and all pixels; the layers before it corrected
/// already. `float` is the fused graph that it was made from.
///
/// # Errors
/// Those of making both forms and of running them.
pub fn bias_corrections(
    float: &Graph,
    converted: &Graph,
    images: &[f32],
    batch: usize,
) -> Result<BTreeMap<String, Vec<f32>>, RepairError> {
    let (first, second) = quant::twins(float, converted)?;
    let (first, second) = (quant::part_relus(&first)?, quant::part_relus(&second)?);
    let twins = Twins::new(&first, &second)?;
    let mut corrections = BTreeMap::new();
    twins.correct(images, batch, &mut |id, a, b| {
        if !twins.choices(id).weight {
            return None;
        }
        let channels = first.node(id).shape.c;
        let mut add = vec![0.0_f64; channels];
        for (a, b) in a.chunks_exact(channels).zip(b.chunks_exact(channels)) {
            add.iter_mut().zip(a).zip(b).for_each(|((add, a), b)| *add += f64::from(a - b));
        }
        let pixels = (a.len() / channels).max(1) as f64;
        let add: Vec<f32> = add.into_iter().map(|sum| (sum / pixels) as f32).collect();
        corrections.insert(first.node(id).name.clone(), add.clone());
        Some(add)
    })?;
    Ok(corrections)
}

/// Second moments of what a few layers of a converted graph read, for [`quant::round_weights`].
#[derive(Debug)]
pub struct MomentMeter {
    twins: Twins,
    layers: Vec<(NodeId, Moments)>,
}

impl MomentMeter {
    /// For the layers of these names.
    ///
    /// # Errors
    /// Those of making both forms; [`RepairError::Window`] for a layer with too large a filter; [`QuantError::Graph`] for
    /// one that is not there.
    pub fn new(float: &Graph, converted: &Graph, layers: &[String]) -> Result<Self, RepairError> {
        let (first, second) = quant::twins(float, converted)?;
        let mut found = Vec::new();
        for layer in layers {
            let id = first.require(layer).map_err(QuantError::from)?;
            let Some(weight) = first.node(id).op.weight() else {
                return Err(QuantError::OtherModel { node: layer.clone() }.into());
            };
            let window = weight.shape()[1..].iter().product();
            if window > LARGEST_WINDOW {
                return Err(RepairError::Window { layer: layer.clone(), found: window });
            }
            let groups = if let Op::Conv2d(conv) = &first.node(id).op { conv.groups } else { 1 };
            found.push((id, Moments::new(window, groups)));
        }
        Ok(Self { twins: Twins::new(&first, &second)?, layers: found })
    }

    /// Takes in `batch` images.
    ///
    /// # Errors
    /// Those of running.
    pub fn add(&mut self, images: &[f32], batch: usize) -> Result<(), RepairError> {
        let kept = self.twins.run(images, batch, |_| Parts::SECOND)?;
        let graph = self.twins.graph();
        for (id, moments) in &mut self.layers {
            let input = graph.node(*id).inputs[0];
            kept.value(&self.twins, input, |value| gather(graph, *id, value.as_slice(), moments))?;
        }
        Ok(())
    }

    /// The moments, in the order of the layers.
    pub fn moments(&self) -> impl Iterator<Item = &Moments> {
        self.layers.iter().map(|(_, moments)| moments)
    }
}

/// Adds the windows that a layer reads of `values`, NHWC, in the order of its filters.
fn gather(graph: &Graph, id: NodeId, values: &[f32], moments: &mut Moments) {
    let node = graph.node(id);
    let from = graph.node(node.inputs[0]).shape;
    let (kernel, stride, padding) = match &node.op {
        Op::Conv2d(c) => (c.kernel(), c.stride, c.padding),
        _ => ([1, 1], 1, 0),
    };
    let groups = moments.sums.len();
    let per_group = from.c / groups;
    let places = values.len() / from.len() * node.shape.pixels();
    let every = places.div_ceil(WINDOWS);
    let window = moments.window;
    // [windows][groups * window]
    let mut windows = Vec::with_capacity(places.div_ceil(every) * groups * window);
    for place in (0..places).step_by(every) {
        let (image, pixel) = (place / node.shape.pixels(), place % node.shape.pixels());
        let (oy, ox) = (pixel / node.shape.w, pixel % node.shape.w);
        for c in 0..groups * per_group {
            for ky in 0..kernel[0] {
                for kx in 0..kernel[1] {
                    let (y, x) = ((oy * stride + ky).wrapping_sub(padding), (ox * stride + kx).wrapping_sub(padding));
                    let inside = y < from.h && x < from.w;
                    let at = image * from.len() + (y.min(from.h - 1) * from.w + x.min(from.w - 1)) * from.c + c;
                    windows.push(if inside { values[at] } else { 0.0 });
                }
            }
        }
    }
    let row = groups * window;
    moments.count += (windows.len() / row) as u64;
    for (group, sums) in moments.sums.iter_mut().enumerate() {
        let at = group * window;
        sums.par_chunks_exact_mut(window).enumerate().for_each(|(i, sums)| {
            for x in windows.chunks_exact(row).map(|r| &r[at..at + window]).filter(|x| x[i] != 0.0) {
                let x_i = f64::from(x[i]);
                sums.iter_mut().zip(x).for_each(|(s, x)| *s += x_i * f64::from(*x));
            }
        });
    }
}
