//! timm's names for the architectures of the zoo, one table per family.
//!
//! ResNets have torchvision's own keys there; ShuffleNetV2 timm does not have. Checked against timm 1.0: renamed by these
//! tables, its weights give torchvision's models timm's logits to 1e-6.

use std::collections::HashMap;

use super::{StateDict, WeightsError};
use crate::graph::{Graph, Tensor};

/// timm's batch norms of these families have PyTorch's default eps, torchvision's have 1e-3.
const TIMM_EPS: f64 = 1e-5;
const OUR_EPS: f64 = 1e-3;

/// One architecture as timm names its parts.
struct Family {
    model: &'static str,
    /// timm counts blocks in stages, torchvision's MobileNets count them through: blocks of each stage.
    stages: &'static [usize],
    layout: Layout,
    /// What stands before and after the blocks.
    ends: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `blocks.S.B` is `features.N`, the last one a plain convolution.
    Through,
    /// `blocks.S.B` is `features.{S + 1}.B`.
    Staged,
}

const MOBILENET_ENDS: &[(&str, &str)] = &[
    ("conv_stem", "features.0.0"),
    ("bn1", "features.0.1"),
    // A 1x1 convolution after pooling: a linear layer.
    ("conv_head", "classifier.0"),
    ("classifier", "classifier.3"),
];

const EFFICIENTNET_ENDS: &[(&str, &str)] = &[
    ("conv_stem", "features.0.0"),
    ("bn1", "features.0.1"),
    ("conv_head", "features.7.0"),
    ("bn2", "features.7.1"),
    ("classifier", "classifier.1"),
];

const FAMILIES: [Family; 3] = [
    Family { model: "mobilenet_v3_small", stages: &[1, 2, 3, 2, 3, 1], layout: Layout::Through, ends: MOBILENET_ENDS },
    Family {
        model: "mobilenet_v3_large",
        stages: &[1, 2, 3, 4, 2, 3, 1],
        layout: Layout::Through,
        ends: MOBILENET_ENDS,
    },
    Family {
        model: "efficientnet_v2_s",
        stages: &[2, 4, 4, 6, 9, 15],
        layout: Layout::Staged,
        ends: EFFICIENTNET_ENDS,
    },
];

/// The layers of a block: timm's name, torchvision's place among the block's members, and what it is there. Where there
/// is no squeeze-excitation, the members after it move one place down.
type Block = &'static [(&'static str, usize, &'static str)];

const INVERTED_RESIDUAL: Block = &[
    ("conv_pw", 0, "0"),
    ("bn1", 0, "1"),
    ("conv_dw", 1, "0"),
    ("bn2", 1, "1"),
    ("se.conv_reduce", 2, "fc1"),
    ("se.conv_expand", 2, "fc2"),
    ("conv_pwl", 3, "0"),
    ("bn3", 3, "1"),
];

const DEPTHWISE_SEPARABLE: Block = &[
    ("conv_dw", 0, "0"),
    ("bn1", 0, "1"),
    ("se.conv_reduce", 1, "fc1"),
    ("se.conv_expand", 1, "fc2"),
    ("conv_pw", 2, "0"),
    ("bn2", 2, "1"),
];

const FUSED_RESIDUAL: Block = &[("conv_exp", 0, "0"), ("bn1", 0, "1"), ("conv_pwl", 1, "0"), ("bn2", 1, "1")];

const PLAIN: Block = &[("conv", 0, "0"), ("bn1", 0, "1")];

/// Whether these are timm's keys of a MobileNet or an EfficientNet.
pub(super) fn recognizes(dict: &StateDict, prefix: &str) -> bool {
    dict.get(&format!("{prefix}conv_stem.weight")).is_some()
}

/// `dict` under torchvision's keys for `graph`'s architecture, batch norms corrected for the other eps; `None` where the
/// keys are not timm's or the family has no table. Keys that the table does not know stay, and are surplus later.
///
/// # Errors
/// [`WeightsError::Padding`] for a file of timm's `tf_` variants.
pub(super) fn to_torchvision(graph: &Graph, dict: &StateDict, prefix: &str) -> Result<Option<StateDict>, WeightsError> {
    let Some(family) = FAMILIES.iter().find(|f| f.model == graph.name && recognizes(dict, prefix)) else {
        return Ok(None);
    };
    let path = std::path::Path::new(dict.source());
    if path.iter().any(|part| part.to_string_lossy().starts_with("tf_")) {
        return Err(WeightsError::Padding { path: dict.source().to_owned(), model: graph.name.clone() });
    }
    let entries = dict.iter().map(|(key, tensor)| {
        let key = key.strip_prefix(prefix).unwrap_or(key);
        let name = family.torchvision(key, &|k| dict.get(&format!("{prefix}{k}")).is_some());
        let name = name.unwrap_or_else(|| key.to_owned());
        let tensor = without_pixels(&name, tensor);
        (name, tensor)
    });
    let mut entries: Vec<(String, Tensor)> = entries.collect();
    correct_eps(&mut entries);
    Ok(Some(StateDict::new(path, entries)))
}

impl Family {
    /// torchvision's name of a timm key; `has` tells which keys there are.
    fn torchvision(&self, key: &str, has: &dyn Fn(&str) -> bool) -> Option<String> {
        let (layer, value) = key.rsplit_once('.')?;
        let Some(inside) = layer.strip_prefix("blocks.") else {
            let (_, name) = self.ends.iter().find(|(timm, _)| *timm == layer)?;
            return Some(format!("{name}.{value}"));
        };
        let mut parts = inside.splitn(3, '.');
        let stage: usize = parts.next()?.parse().ok()?;
        let block: usize = parts.next()?.parse().ok()?;
        let leaf = parts.next()?;
        if block >= *self.stages.get(stage)? {
            return None;
        }
        let here = |leaf: &str| has(&format!("blocks.{stage}.{block}.{leaf}.weight"));
        let table = match (here("conv_dw"), here("conv_pwl")) {
            (true, true) => INVERTED_RESIDUAL,
            (true, false) => DEPTHWISE_SEPARABLE,
            (false, true) => FUSED_RESIDUAL,
            (false, false) => PLAIN,
        };
        let (_, mut member, what) = *table.iter().find(|(timm, ..)| *timm == leaf)?;
        let excitation = table.iter().find(|(timm, ..)| *timm == "se.conv_reduce").map(|(_, member, _)| *member);
        if excitation.is_some_and(|place| member > place) && !here("se.conv_reduce") {
            member -= 1;
        }
        let number = self.stages[..stage].iter().sum::<usize>() + block + 1;
        Some(match self.layout {
            Layout::Staged => format!("features.{}.{block}.block.{member}.{what}.{value}", stage + 1),
            Layout::Through if stage + 1 == self.stages.len() => format!("features.{number}.{what}.{value}"),
            Layout::Through => format!("features.{number}.block.{member}.{what}.{value}"),
        })
    }
}

/// A 1x1 convolution's weight as the linear layer that it is.
fn without_pixels(name: &str, tensor: &Tensor) -> Tensor {
    match tensor.shape[..] {
        [out, inputs, 1, 1] if name.starts_with("classifier.") => Tensor { shape: vec![out, inputs], ..tensor.clone() },
        _ => tensor.clone(),
    }
}

/// Scales each batch norm so that with our eps it computes what timm's computes with its own:
/// `w / sqrt(v + 1e-5) = w' / sqrt(v + 1e-3)`.
fn correct_eps(entries: &mut [(String, Tensor)]) {
    let mut factors: HashMap<String, Vec<f64>> = HashMap::new();
    for (key, variance) in entries.iter() {
        if let Some(layer) = key.strip_suffix(".running_var") {
            let factor = |v: &f32| ((f64::from(*v) + OUR_EPS) / (f64::from(*v) + TIMM_EPS)).sqrt();
            factors.insert(format!("{layer}.weight"), variance.data.iter().map(factor).collect());
        }
    }
    for (key, weight) in entries {
        if let Some(factors) = factors.get(key) {
            let scaled = weight.data.iter().zip(factors).map(|(w, f)| (f64::from(*w) * f) as f32).collect();
            weight.data = scaled;
        }
    }
}
