//! Models that PyTorch quantized, or trained with fake quantization, as int8 graphs: the same integers as there.

use std::collections::BTreeSet;

use super::SessionError;
use crate::graph::{Graph, QatLevels};
use crate::quant::{self, Backend, FuseOptions, QConfig};
use crate::weights::{self, AnyDict, QuantizedDict, StateDict};
use crate::zoo::{self, ModelConfig, ModelId};

/// What a state dict is, once its architecture is known.
pub(super) enum TorchModel {
    /// Float weights.
    Float(StateDict),
    /// int8, ready to run.
    Int8(Graph),
}

/// Reads a state dict of any kind. Where it is of a quantized model, or of one in quantization-aware training, it becomes
/// the int8 graph of `model` for images of `size` pixels.
pub(super) fn read(
    file: &std::path::Path,
    model: ModelId,
    classes: Option<usize>,
    size: usize,
) -> Result<TorchModel, SessionError> {
    match weights::read_any(file)? {
        AnyDict::Float(dict) => Ok(TorchModel::Float(dict)),
        AnyDict::Quantized(dict) => quantized(&dict, model, classes, size).map(TorchModel::Int8),
        AnyDict::Qat(dict) => qat(&dict, model, classes, size).map(TorchModel::Int8),
    }
}

/// The float graph between stubs; the file's class count must be the one asked for.
fn blank(model: ModelId, found: Option<usize>, expected: Option<usize>, size: usize) -> Result<Graph, SessionError> {
    if let (Some(found), Some(expected)) = (found, expected)
        && found != expected
    {
        return Err(SessionError::Classes { found, expected });
    }
    let classes = found.or(expected).unwrap_or(1000);
    Ok(quant::insert_stubs(&zoo::build(model, ModelConfig { classes, size })?)?.0)
}

fn quantized(dict: &QuantizedDict, model: ModelId, classes: Option<usize>, size: usize) -> Result<Graph, SessionError> {
    let float = blank(model, dict.classes(), classes, size)?;
    let disabled: BTreeSet<String> = dict.apart(&float).into_iter().collect();
    let (fused, _) = quant::fuse(&float, &FuseOptions { disabled })?;
    let (fused, state) = dict.take(&fused)?;
    Ok(quant::assemble(&fused, &state.qparams, &state.layers)?)
}

fn qat(dict: &StateDict, model: ModelId, classes: Option<usize>, size: usize) -> Result<Graph, SessionError> {
    let layout = weights::qat_layout(dict)?;
    let config = QConfig::qat(match (layout.quant_max, layout.per_channel) {
        (127, _) => Backend::X86,
        (_, true) => Backend::Onednn,
        (_, false) => Backend::Qnnpack,
    });
    let float = blank(model, weights::classes(dict), classes, size)?;
    let (fused, _) = quant::fuse_qat(&float, &FuseOptions::default())?;
    let (prepared, _) = quant::prepare_qat(&fused, &config)?;
    let mut state = weights::qat_state(&prepared, dict)?;
    let trained = prepared.with_params(&state.params);
    quant::observe_folded(&trained, &mut state.ranges, &state.watched)?;
    Ok(quant::convert_qat(&trained, &state.ranges, QatLevels::PyTorch)?.0)
}
