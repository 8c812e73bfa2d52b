use std::collections::{BTreeMap, BTreeSet};

use crate::app::theme::Tone;
use crate::graph::{Graph, Node, NodeId, Numeric};

/// One card of the picture: a node, or a whole module folded into one.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The node's name or the module's path.
    pub name: String,
    /// What stands under the name.
    pub caption: String,
    /// The nodes it stands for, in order; a single one is shown as itself.
    pub nodes: Vec<NodeId>,
    /// Whether it is a folded module, which opens on a click.
    pub module: bool,
    /// What its output is made of.
    pub tone: Tone,
}

/// A graph as it is shown with some modules open and the others folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folded {
    /// In topological order of their first nodes.
    pub cards: Vec<Card>,
    /// From card to card, each pair once.
    pub edges: Vec<(usize, usize)>,
}

/// Modules that are open at first: those that hold most of the network, since folding them would hide everything.
pub fn opened_at_first(graph: &Graph) -> BTreeSet<String> {
    modules(graph).into_iter().filter(|(_, nodes)| nodes * 2 > graph.nodes.len()).map(|(path, _)| path).collect()
}

/// Every module path with two nodes or more, and how many nodes it holds.
pub fn modules(graph: &Graph) -> BTreeMap<String, usize> {
    let mut modules = BTreeMap::new();
    for node in &graph.nodes {
        for path in prefixes(&node.name) {
            *modules.entry(path.to_owned()).or_insert(0) += 1;
        }
    }
    modules.retain(|_, nodes| *nodes > 1);
    modules
}

/// Modules that a node is in, outermost first: `layer1`, `layer1.0` for `layer1.0.conv1`.
pub fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(at, _)| &name[..at])
}

/// Folds every module that is not in `opened`.
pub fn fold(graph: &Graph, opened: &BTreeSet<String>) -> Folded {
    let modules = modules(graph);
    let mut folded = Folded::default();
    let mut card_of = Vec::with_capacity(graph.nodes.len());
    let mut module_card: BTreeMap<&str, usize> = BTreeMap::new();
    let mut edges = BTreeSet::new();
    for (id, node) in graph.iter() {
        let closed = prefixes(&node.name).find(|path| modules.contains_key(*path) && !opened.contains(*path));
        let card = match closed {
            Some(path) => *module_card.entry(path).or_insert_with(|| {
                folded.cards.push(module_card_of(path));
                folded.cards.len() - 1
            }),
            None => {
                folded.cards.push(node_card(id, node));
                folded.cards.len() - 1
            }
        };
        if closed.is_some() {
            folded.cards[card].nodes.push(id);
            // The last node of a module speaks for its output.
            folded.cards[card].tone = tone(&node.numeric);
        }
        for input in &node.inputs {
            let from: usize = card_of[input.index()];
            if from != card {
                edges.insert((from, card));
            }
        }
        card_of.push(card);
    }
    for card in folded.cards.iter_mut().filter(|c| c.module) {
        card.caption = format!("{} nodes", card.nodes.len());
    }
    folded.edges = edges.into_iter().collect();
    folded
}

/// The colour and glyph of a value.
pub fn tone(numeric: &Numeric) -> Tone {
    match numeric {
        Numeric::Float => Tone::Float,
        Numeric::Observed(_) => Tone::Observed,
        Numeric::Learned(_) | Numeric::FakeQuantized(_) => Tone::FakeQuantized,
        Numeric::Int8(_) => Tone::Int8,
    }
}

fn node_card(id: NodeId, node: &Node) -> Card {
    Card {
        name: node.name.clone(),
        caption: format!("{} \u{b7} {}", node.op.name(), node.shape.to_string().replace('x', "\u{d7}")),
        nodes: vec![id],
        module: false,
        tone: tone(&node.numeric),
    }
}

fn module_card_of(path: &str) -> Card {
    Card { name: path.to_owned(), caption: String::new(), nodes: Vec::new(), module: true, tone: Tone::Float }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{self, ModelConfig, ModelId};

    fn graph(model: ModelId) -> Graph {
        zoo::build(model, ModelConfig { classes: 10, size: 64 }).expect("a valid configuration")
    }

    #[test]
    fn a_resnet_folds_to_its_layers() {
        let folded = fold(&graph(ModelId::ResNet18), &BTreeSet::new());
        let modules: Vec<&str> = folded.cards.iter().filter(|c| c.module).map(|c| c.name.as_str()).collect();
        assert_eq!(modules, ["layer1", "layer2", "layer3", "layer4"]);
        assert_eq!(folded.edges.len(), folded.cards.len() - 1, "a chain");
    }

    #[test]
    fn an_opened_module_shows_its_parts_folded() {
        let opened = BTreeSet::from(["layer1".to_owned()]);
        let folded = fold(&graph(ModelId::ResNet18), &opened);
        assert!(folded.cards.iter().any(|c| c.module && c.name == "layer1.0"));
        assert!(!folded.cards.iter().any(|c| c.name == "layer1" || c.name == "layer1.0.conv1"));
    }

    #[test]
    fn every_node_is_on_exactly_one_card_and_edges_go_forward() {
        for model in ModelId::ALL {
            let graph = graph(model);
            let all = modules(&graph).into_keys().collect();
            for opened in [BTreeSet::new(), opened_at_first(&graph), all] {
                let folded = fold(&graph, &opened);
                let mut nodes: Vec<NodeId> = folded.cards.iter().flat_map(|c| c.nodes.clone()).collect();
                nodes.sort();
                assert_eq!(nodes, graph.iter().map(|(id, _)| id).collect::<Vec<_>>(), "{model}");
                assert!(
                    folded.edges.iter().all(|(a, b)| a < b),
                    "{model}: a folded module must not be left and re-entered"
                );
            }
        }
    }

    #[test]
    fn what_holds_most_of_the_network_starts_open() {
        assert_eq!(opened_at_first(&graph(ModelId::MobileNetV3Small)), BTreeSet::from(["features".to_owned()]));
        assert!(opened_at_first(&graph(ModelId::ResNet18)).is_empty());
    }
}
