use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    QConfig, QuantError,
    prepare::{Source, source},
    stubs,
};
use crate::graph::{ActivationSpec, Graph, ObserverKind, Scheme, WeightSpec};

/// What is done otherwise with one node than with the rest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Override {
    /// It is left in float32: what it reads is dequantized, what it gives is quantized again.
    Float,
    /// It becomes int8 in its own way.
    Int8 {
        /// What watches its output; that of the [`QConfig`] where it is `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation: Option<ActivationSpec>,
        /// How its weight becomes int8; that of the [`QConfig`] where it is `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<WeightSpec>,
    },
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Int8 { activation, weight } = self else { return f.write_str("left in float") };
        let mut parts = Vec::new();
        if let Some(a) = activation {
            parts.push(format!("observer {} at 0..{}", a.observer.title(), a.quant_max));
            if a.observer == ObserverKind::Percentile {
                parts.push(format!("{} %", a.percentile));
            }
            if a.scheme == Scheme::Symmetric {
                parts.push("symmetric".to_owned());
            }
            if let Some([low, high]) = a.fixed {
                parts.push(format!("range {low} to {high}, set by hand"));
            }
        }
        if let Some(w) = weight {
            let per = if w.observer == ObserverKind::MinMax { "per tensor" } else { "per channel" };
            let scheme = if w.scheme == Scheme::Affine { ", affine" } else { "" };
            parts.push(format!("weight {per}{scheme}, {} bits", w.bits));
        }
        f.write_str(&if parts.is_empty() { "as the rest".to_owned() } else { parts.join(", ") })
    }
}

/// What may be chosen for one node of a fused graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choosable {
    /// Whether it can be left in float.
    pub float: bool,
    /// Whether an observer watches it.
    pub observer: bool,
    /// Whether it has a weight.
    pub weight: bool,
}

/// What may be chosen for each node between the stubs of a fused graph, by name, in the order of the graph; nodes for
/// which nothing may be are left out.
pub fn choosable(fused: &Graph) -> Vec<(String, Choosable)> {
    let inside = stubs::inside(fused);
    let between = fused.nodes.iter().zip(inside).filter(|(_, inside)| *inside).map(|(node, _)| node);
    let all = between.map(|node| {
        let (float, observer) = match source(&node.op) {
            Source::Observer => (!matches!(node.op, crate::graph::Op::QuantStub), true),
            Source::Unit | Source::Refused(_) => (true, false),
            Source::Input | Source::Removed | Source::Float => (false, false),
        };
        (node.name.clone(), Choosable { float, observer, weight: node.op.weight().is_some() })
    });
    all.filter(|(_, c)| *c != Choosable::default()).collect()
}

/// That every override names a node that can have it.
///
/// # Errors
/// [`QuantError::NoSuchOverride`], [`QuantError::Override`].
pub(super) fn check(graph: &Graph, config: &QConfig) -> Result<(), QuantError> {
    let choosable = choosable(graph);
    for (name, other) in &config.overrides {
        let refuse = |detail: String| Err(QuantError::Override { node: name.clone(), detail });
        let Some(id) = graph.find(name) else {
            return Err(QuantError::NoSuchOverride { node: name.clone(), remedy: where_it_went(graph, name) });
        };
        let node = graph.node(id);
        let can = choosable.iter().find(|(n, _)| n == name).map(|(_, c)| *c).unwrap_or_default();
        match other {
            Override::Float if can.float => {}
            Override::Float if can.observer => {
                return refuse("it is where the image becomes int8: leave the layers that read it in float".to_owned());
            }
            Override::Float | Override::Int8 { activation: Some(_), .. } if !can.observer => {
                return refuse(match source(&node.op) {
                    Source::Input => {
                        let before = &graph.node(node.inputs[0]).name;
                        format!("{} keeps the numbers of its input: choose for `{before}`", node.op.name())
                    }
                    Source::Unit => format!("the range of {} is known, so it has no observer", node.op.name()),
                    Source::Refused(remedy) => format!("{} has no int8 kernel: {remedy}", node.op.name()),
                    Source::Observer | Source::Removed | Source::Float => {
                        format!("{} does not become int8", node.op.name())
                    }
                });
            }
            Override::Int8 { weight: Some(_), .. } if !can.weight => {
                return refuse(format!("{} has no weight", node.op.name()));
            }
            Override::Float | Override::Int8 { .. } => {}
        }
    }
    Ok(())
}

/// What to name instead of a node that is not there.
fn where_it_went(graph: &Graph, name: &str) -> String {
    if let Some(node) = graph.nodes.iter().find(|n| n.fused.iter().any(|part| part == name)) {
        return format!("it is fused into `{}`: name that", node.name);
    }
    let below: Vec<&str> =
        graph.nodes.iter().map(|n| n.name.as_str()).filter(|n| n.starts_with(&format!("{name}."))).take(3).collect();
    if !below.is_empty() {
        return format!("expected the name of one node, as {}", below.join(", "));
    }
    let some: Vec<String> = choosable(graph).into_iter().filter(|(_, c)| c.weight).take(3).map(|(n, _)| n).collect();
    format!("names are torchvision's module paths, as {}", some.join(", "))
}
