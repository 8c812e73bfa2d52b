use std::collections::BTreeMap;

use super::{
    ConvertReport, QConfig, QuantError,
    convert::{self, missing, unit},
    fake_quantize_weight,
    prepare::{Source, source},
    stubs,
};
use crate::graph::{self, Conv2d, Graph, Linear, Numeric, Op, QParams, Tensor, Weight};

/// The same graph computing in float on int8's levels: every observed output and every weight moved to the nearest level.
/// It is what training with fake quantization runs, and the one way to run what the int8 engine does not: affine
/// weights. `qparams` are those that [`super::convert`] takes. Pools and the like keep float precision, as in PyTorch's
/// fake quantization: the one thing that [`super::convert`] rounds and this does not.
///
/// # Errors
/// Those of [`super::convert`], but for affine weights.
pub fn fake_quantize(
    prepared: &Graph,
    qparams: &BTreeMap<String, QParams>,
    config: &QConfig,
) -> Result<(Graph, ConvertReport), QuantError> {
    missing(prepared, qparams)?;
    let inside = stubs::inside(prepared);
    let mut next = prepared.clone();
    let mut report = ConvertReport::default();
    for (node, _) in next.nodes.iter_mut().zip(inside).filter(|(_, inside)| *inside) {
        node.numeric = match source(&node.op) {
            Source::Observer => Numeric::FakeQuantized(qparams[&node.name]),
            Source::Unit => Numeric::FakeQuantized(unit(config.activation)),
            Source::Input | Source::Removed | Source::Float => Numeric::Float,
            Source::Refused(remedy) => {
                return Err(QuantError::Unquantizable { op: node.op.name(), node: node.name.clone(), remedy });
            }
        };
        let (Op::Conv2d(Conv2d { weight, bias, .. }) | Op::Linear(Linear { weight, bias, .. })) = &mut node.op else {
            continue;
        };
        if let (Weight::Float(float), Some(spec)) = (&*weight, config.weight_of(&node.name)) {
            let (fake, scales) = fake_quantize_weight(&node.name, float, spec)?;
            let biases = bias.as_ref().map_or(0, Tensor::len);
            report.layers.push(convert::report(&node.name, float, fake.data.iter().copied(), &scales, biases));
            *weight = Weight::Float(fake);
        }
    }
    graph::check(&next)?;
    Ok((next, report))
}
