use std::collections::BTreeMap;

use crate::{
    graph::{self, Conv2d, Graph, Linear, Op, Tensor},
    quant::QuantError,
};

/// What [`correct_bias`] did, layer by layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BiasReport {
    /// The layer, and the largest magnitude that was added to one of its biases.
    pub layers: Vec<(String, f32)>,
}

/// Empirical bias correction (Nagel et al. 2019, section 4.2): rounding a weight moves the mean of what the layer gives,
/// and that mean can be taken back in the bias, which stays float32. `corrections` are what to add to each output channel,
/// by layer: the mean over images and pixels of float's output before its ReLU, minus the quantized one's, with the layers
/// before it corrected already ([`crate::exec::float::Twins::correct`] measures it).
///
/// # Errors
/// [`QuantError::Graph`] for a layer that is not there; [`QuantError::NotFinite`] for a correction that is no number.
pub fn correct_bias(
    converted: &Graph,
    corrections: &BTreeMap<String, Vec<f32>>,
) -> Result<(Graph, BiasReport), QuantError> {
    let mut next = converted.clone();
    let mut report = BiasReport::default();
    for (name, add) in corrections {
        let id = next.require(name)?;
        if let Some(channel) = add.iter().position(|v| !v.is_finite()) {
            return Err(QuantError::NotFinite { node: name.clone(), what: "bias correction", channel });
        }
        if let Op::Conv2d(Conv2d { bias, .. }) | Op::Linear(Linear { bias, .. }) = &mut next.nodes[id.index()].op {
            let old = bias.as_ref().map_or_else(|| vec![0.0; add.len()], |b| b.data.to_vec());
            let new: Vec<f32> = old.iter().zip(add).map(|(b, a)| b + a).collect();
            *bias = Some(Tensor::new([new.len()], new));
            report.layers.push((name.clone(), add.iter().fold(0.0, |m: f32, v| m.max(v.abs()))));
        }
    }
    graph::check(&next)?;
    Ok((next, report))
}
