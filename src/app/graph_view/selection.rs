use std::collections::BTreeSet;

use crate::graph::Graph;

/// The node that the inspector shows, and its kin in the graphs beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    name: Option<String>,
    kin: BTreeSet<String>,
}

impl Selection {
    /// Selects a node of any of the graphs shown. A fused node's kin are all the nodes that it stands for.
    pub fn select<'a>(&mut self, name: &str, graphs: impl IntoIterator<Item = &'a Graph>) {
        self.kin = BTreeSet::from([name.to_owned()]);
        for node in graphs.into_iter().flat_map(|g| &g.nodes) {
            if node.name == name || node.fused.iter().any(|f| f == name) {
                self.kin.insert(node.name.clone());
                self.kin.extend(node.fused.iter().cloned());
            }
        }
        self.name = Some(name.to_owned());
    }

    /// Selects nothing.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The node that was clicked.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether a node is selected, itself or as kin.
    pub fn contains(&self, name: &str) -> bool {
        self.kin.contains(name)
    }

    /// The node of `graph` that is selected, itself or as kin.
    pub fn within<'g>(&self, graph: &'g Graph) -> Option<&'g crate::graph::Node> {
        let name = self.name.as_deref()?;
        let own = graph.nodes.iter().find(|n| n.name == name);
        own.or_else(|| graph.nodes.iter().find(|n| self.kin.contains(&n.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{self, ModelConfig, ModelId};

    #[test]
    fn a_fused_node_and_its_parts_are_kin_from_either_side() {
        let before = zoo::build(ModelId::ResNet18, ModelConfig { classes: 10, size: 32 }).expect("valid");
        let mut after = before.clone();
        let conv = after.find("layer1.0.conv1").expect("a layer of ResNet18");
        let parts = ["layer1.0.conv1", "layer1.0.bn1", "layer1.0.relu"].map(str::to_owned);
        after.nodes[conv.index()].fused = parts.to_vec();
        for clicked in &parts {
            let mut selection = Selection::default();
            selection.select(clicked, [&before, &after]);
            assert!(parts.iter().all(|p| selection.contains(p)), "{clicked}");
            assert!(!selection.contains("conv1"));
            assert_eq!(selection.name(), Some(clicked.as_str()));
        }
    }
}
