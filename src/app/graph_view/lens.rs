use std::collections::HashMap;
use std::fmt;

use super::Card;
use crate::app::theme::Tone;
use crate::graph::Graph;

/// How a module reads its nodes' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Their sum: times.
    Sum,
    /// The least: ratios of signal to noise.
    Least,
    /// The most: suspicion.
    Most,
}

type Heat = Box<dyn Fn(f64) -> f32 + Send + Sync>;
type Say = Box<dyn Fn(f64) -> String + Send + Sync>;

/// A measured value a node, for its card to say; or other tones than the numbers' own.
pub struct Lens {
    values: HashMap<String, f64>,
    reading: Reading,
    heat: Heat,
    say: Say,
    tones: HashMap<String, Tone>,
}

impl fmt::Debug for Lens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lens({:?} of {} values, {} tones)", self.reading, self.values.len(), self.tones.len())
    }
}

impl Lens {
    /// Values by node; `heat` is from 0 (as one likes it) to 1, `say` writes a value with its unit.
    pub fn new(values: HashMap<String, f64>, reading: Reading, heat: Heat, say: Say) -> Self {
        Self { values, reading, heat, say, tones: HashMap::new() }
    }

    /// Other tones for these nodes.
    pub fn of_tones(tones: HashMap<String, Tone>) -> Self {
        let mut lens = Self::new(HashMap::new(), Reading::Sum, Box::new(|_| 0.0), Box::new(|_| String::new()));
        lens.tones = tones;
        lens
    }

    /// What a card says, and how hot it is; `None` where none of its nodes has a value.
    pub fn read(&self, graph: &Graph, card: &Card) -> Option<(String, f32)> {
        let values = card.nodes.iter().filter_map(|id| self.values.get(&graph.node(*id).name)).copied();
        let value = match self.reading {
            Reading::Sum => values.reduce(|a, b| a + b),
            Reading::Least => values.reduce(f64::min),
            Reading::Most => values.reduce(f64::max),
        }?;
        Some(((self.say)(value), (self.heat)(value).clamp(0.0, 1.0)))
    }

    /// The tone of a card, where it has another one here.
    pub fn tone(&self, graph: &Graph, card: &Card) -> Option<Tone> {
        let last = card.nodes.last()?;
        self.tone_of(&graph.node(*last).name)
    }

    /// The tone of a node, where it has another one here.
    pub fn tone_of(&self, node: &str) -> Option<Tone> {
        self.tones.get(node).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::graph_view::fold;
    use crate::zoo::{self, ModelConfig, ModelId};

    #[test]
    fn a_module_reads_its_nodes() {
        let graph = zoo::build(ModelId::ResNet18, ModelConfig { classes: 10, size: 32 }).expect("valid");
        let folded = fold(&graph, &Default::default());
        let card = folded.cards.iter().find(|c| c.name == "layer1").expect("a module");
        let values: HashMap<String, f64> =
            [("layer1.0.conv1", 3.0), ("layer1.1.conv2", 4.0), ("conv1", 9.0)].map(|(n, v)| (n.to_owned(), v)).into();
        for (reading, expected) in [(Reading::Sum, "7"), (Reading::Least, "3")] {
            let lens = Lens::new(values.clone(), reading, Box::new(|v| v as f32 / 14.0), Box::new(|v| v.to_string()));
            let (said, heat) = lens.read(&graph, card).expect("it has values");
            assert_eq!(said, expected);
            assert!((0.0..=0.5).contains(&heat));
            let bare = folded.cards.iter().find(|c| c.name == "layer4").expect("a module");
            assert_eq!(lens.read(&graph, bare), None);
        }
    }
}
