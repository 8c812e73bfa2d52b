use std::collections::BTreeSet;

use super::{
    QuantError, fold,
    pattern::{self, Pattern, Reason, Refusal},
};
use crate::graph::{self, Conv2d, Graph, Linear, Node, NodeId, Op, Rewrite, Weight};

/// Which fusions to leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FuseOptions {
    /// Names of convolutions and linear layers that stay as they are.
    pub disabled: BTreeSet<String>,
}

/// What [`fuse`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FuseReport {
    /// Every fusion, in the order of the graph.
    pub sites: Vec<FuseSite>,
    /// What stays on its own, and why.
    pub refusals: Vec<Refusal>,
}

/// One fusion.
#[derive(Clone, Debug, PartialEq)]
pub struct FuseSite {
    /// The fused node; it bears the convolution's or linear layer's name.
    pub name: String,
    /// What was found.
    pub pattern: Pattern,
    /// The nodes it replaces, itself first.
    pub nodes: Vec<String>,
    /// What batch norm multiplies each output channel's weights by; empty without batch norm.
    pub factors: Vec<f32>,
}

/// Fuses every pattern found in the graph: Conv+BN, Conv+BN+ReLU, Conv+ReLU, Linear+ReLU. Batch norm is folded with its
/// running statistics, so the fused graph computes what the float one does in evaluation.
///
/// # Errors
/// [`QuantError::NotFinite`] naming a batch norm that cannot be folded; [`QuantError::Graph`] where `disabled` names no node.
pub fn fuse(graph: &Graph, options: &FuseOptions) -> Result<(Graph, FuseReport), QuantError> {
    fuse_as(graph, options, Form::Folded)
}

/// Fuses the same patterns for training with fake quantization: batch norm is not folded but stands in its convolution
/// ([`Conv2d::bn`]), with parameters and statistics that go on learning. The graph computes what it did before, in training
/// too.
///
/// # Errors
/// Those of [`fuse`].
pub fn fuse_qat(graph: &Graph, options: &FuseOptions) -> Result<(Graph, FuseReport), QuantError> {
    fuse_as(graph, options, Form::Trainable)
}

/// What becomes of batch norm.
#[derive(Clone, Copy)]
enum Form {
    Folded,
    Trainable,
}

fn fuse_as(graph: &Graph, options: &FuseOptions, form: Form) -> Result<(Graph, FuseReport), QuantError> {
    for name in &options.disabled {
        graph.require(name)?;
    }
    let users = graph.users();
    let mut next = Rewrite::new(graph);
    let mut report = FuseReport::default();
    let mut absorbed = vec![false; graph.nodes.len()];
    let mut kept_apart = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter() {
        if absorbed[id.index()] {
            continue;
        }
        match pattern::find(graph, &users, id) {
            Some((found, chain)) if !options.disabled.contains(&node.name) => {
                let (fused, site) = fuse_site(graph, found, &chain, form)?;
                let new = next.replace(id, fused);
                for member in &chain[1..] {
                    next.alias(*member, new);
                    absorbed[member.index()] = true;
                }
                report.sites.push(site);
            }
            switched_off => {
                next.replace(id, node.clone());
                if let Some((_, chain)) = switched_off {
                    chain[1..].iter().for_each(|member| kept_apart[member.index()] = true);
                    report.refusals.push(Refusal { node: node.name.clone(), reason: Reason::SwitchedOff });
                } else if !kept_apart[id.index()]
                    && let Some(reason) = pattern::refusal(graph, &users, id)
                {
                    report.refusals.push(Refusal { node: node.name.clone(), reason });
                }
            }
        }
    }
    let next = next.finish();
    graph::check(&next)?;
    Ok((next, report))
}

/// The one node that computes what `chain` does.
fn fuse_site(graph: &Graph, pattern: Pattern, chain: &[NodeId], form: Form) -> Result<(Node, FuseSite), QuantError> {
    let mut node = graph.node(chain[0]).clone();
    let mut factors = Vec::new();
    if let (Op::Conv2d(conv), Op::BatchNorm2d(bn)) = (&mut node.op, &graph.node(chain[1]).op) {
        let weight = conv.weight.float().expect("a pattern starts at a float layer");
        let folded = fold::fold(weight, conv.bias.as_ref(), bn, &graph.node(chain[1]).name)?;
        factors = folded.factors;
        match form {
            Form::Folded => {
                conv.weight = Weight::Float(folded.weight);
                conv.bias = Some(folded.bias);
            }
            Form::Trainable => conv.bn = Some(bn.clone()),
        }
    }
    if let Op::Conv2d(Conv2d { relu, .. }) | Op::Linear(Linear { relu, .. }) = &mut node.op {
        *relu = pattern.has_relu();
    }
    let names = |member: &NodeId| {
        let node = graph.node(*member);
        if node.fused.is_empty() { vec![node.name.clone()] } else { node.fused.clone() }
    };
    node.fused = chain.iter().flat_map(names).collect();
    let site = FuseSite { name: node.name.clone(), pattern, nodes: node.fused.clone(), factors };
    Ok((node, site))
}
