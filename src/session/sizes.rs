use std::path::Path;

use super::{SessionError, float_bytes};
use crate::graph::{Graph, Numeric, QParams};
use crate::quant::{self, FuseOptions, QConfig};
use crate::weights::octet::{self, Meta};
use crate::zoo::{self, ModelConfig, ModelId};

/// What a model costs, from files really written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSizes {
    /// Trained values.
    pub params: usize,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Its float file.
    pub float_bytes: u64,
    /// Its int8 file.
    pub int8_bytes: u64,
}

/// Writes a model's float and int8 file into `folder`, takes their sizes and removes them again. Random weights serve:
/// no size depends on a value.
///
/// # Errors
/// Those of the zoo, the passes and the disk.
pub fn file_sizes(model: ModelId, config: ModelConfig, folder: &Path) -> Result<FileSizes, SessionError> {
    let float = zoo::init(&zoo::build(model, config)?, 0);
    let int8 = convert_blindly(&float)?;
    let path = folder.join(format!("octet-sizes-{}-{model}.tmp", std::process::id()));
    let meta = Meta {
        labels: (0..config.classes).map(|i| i.to_string()).collect(),
        preprocess: serde_json::Value::Null,
        recipe: serde_json::Value::Null,
    };
    let int8_bytes = octet::write(&path, &int8, &meta);
    // It was written only to be measured; a leftover would be litter, not a failure.
    let _ = std::fs::remove_file(&path);
    Ok(FileSizes {
        params: float.param_count(),
        macs: float.macs(),
        float_bytes: float_bytes(&float, &path)?,
        int8_bytes: int8_bytes?,
    })
}

/// All steps but calibration: every observer is given the same range.
fn convert_blindly(float: &Graph) -> Result<Graph, SessionError> {
    let (graph, _) = quant::insert_stubs(float)?;
    let (graph, _) = quant::fuse(&graph, &FuseOptions::default())?;
    let qconfig = QConfig::default();
    let (graph, _) = quant::prepare(&graph, &qconfig)?;
    let qparams = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.numeric, Numeric::Observed(_)))
        .map(|n| (n.name.clone(), QParams::new(0.05, 64)))
        .collect();
    Ok(quant::convert(&graph, &qparams, &qconfig)?.0)
}
