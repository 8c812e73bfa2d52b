use super::{Graph, Node, NodeId};

/// Builds the next graph from an old one, node by node, keeping track of where each old value went.
///
/// A pass walks the old nodes in order and, for each, either copies it, replaces it, or lets it vanish into another.
#[derive(Debug)]
pub struct Rewrite {
    next: Graph,
    moved: Vec<Option<NodeId>>,
}

impl Rewrite {
    /// An empty graph that will replace `old`.
    pub fn new(old: &Graph) -> Self {
        Self {
            next: Graph { name: old.name.clone(), nodes: Vec::with_capacity(old.nodes.len()) },
            moved: vec![None; old.nodes.len()],
        }
    }

    /// Where the value of the old node `id` is in the new graph.
    ///
    /// # Panics
    /// If it has not been written yet; topological order forbids that.
    pub fn moved(&self, id: NodeId) -> NodeId {
        self.moved[id.index()].expect("a node is rewritten after its inputs")
    }

    /// Appends `node`, whose inputs are ids of the *old* graph, and lets it stand for the old node `id`.
    pub fn replace(&mut self, id: NodeId, mut node: Node) -> NodeId {
        for input in &mut node.inputs {
            *input = self.moved(*input);
        }
        let new = self.insert(node);
        self.alias(id, new);
        new
    }

    /// Appends `node`, whose inputs are already ids of the *new* graph.
    pub fn insert(&mut self, node: Node) -> NodeId {
        self.next.nodes.push(node);
        self.next.output()
    }

    /// From here on the old node `id` means the new node `new`.
    pub fn alias(&mut self, id: NodeId, new: NodeId) {
        self.moved[id.index()] = Some(new);
    }

    /// A node already written to the new graph.
    pub fn node(&self, new: NodeId) -> &Node {
        self.next.node(new)
    }

    /// The new graph.
    pub fn finish(self) -> Graph {
        self.next
    }
}
