use super::{
    ObservedNode, Override, PrepareReport, QConfig,
    prepare::{FloatNode, Source, WhyFloat, source},
    stubs,
};
use crate::graph::{Graph, Node, NodeId, Numeric, Op, Rewrite};

/// What a node between the stubs will compute in.
#[derive(Clone, Copy, PartialEq)]
enum Domain {
    Int8,
    Float(WhyFloat),
}

/// Where an old node's value is in the new graph, as float and as int8; `None` where nobody asks for it.
#[derive(Clone, Copy, Default)]
struct Places {
    float: Option<NodeId>,
    int8: Option<NodeId>,
}

/// The graph with observers where it will be int8, and a stub at each border between int8 and float. Whoever reads the
/// image in float reads it before `quant`, and logits that are float need no `dequant`.
pub(super) fn place(graph: &Graph, config: &QConfig) -> (Graph, PrepareReport) {
    let domains = domains(graph, config);
    let wanted = wanted(graph, &domains);
    let mut next = Rewrite::new(graph);
    let mut places = vec![Places::default(); graph.nodes.len()];
    let mut report = PrepareReport::default();
    for (id, node) in graph.iter() {
        let input = node.inputs.first().map(|i| places[i.index()]);
        let at = &mut places[id.index()];
        match (&node.op, domains[id.index()]) {
            (Op::DeQuantStub, _) if is_float(&domains, node) => at.float = input.and_then(|i| i.float),
            (Op::QuantStub, _) => {
                at.float = input.and_then(|i| i.float);
                if wanted[id.index()].int8 {
                    let source = at.float.expect("a stub reads a float value");
                    at.int8 = Some(insert(&mut next, node.clone(), vec![source], config, &mut report));
                }
            }
            (_, Some(Domain::Int8)) => {
                let inputs = node.inputs.iter().map(|i| places[i.index()].int8.expect("wanted as int8")).collect();
                let new = insert(&mut next, node.clone(), inputs, config, &mut report);
                places[id.index()].int8 = Some(new);
                if wanted[id.index()].float {
                    let stub = border(graph, node, Op::DeQuantStub, "dequant");
                    places[id.index()].float = Some(next.insert(Node { inputs: vec![new], ..stub }));
                }
            }
            (op, domain) => {
                // A stub that leads out of int8 reads int8; every other float node reads float.
                let out = matches!(op, Op::DeQuantStub);
                let of = |i: &NodeId| if out { places[i.index()].int8 } else { places[i.index()].float };
                let inputs = node.inputs.iter().map(|i| of(i).expect("wanted by this node")).collect();
                let new = next.insert(Node { inputs, ..node.clone() });
                if let Some(Domain::Float(why)) = domain {
                    report.float.push(FloatNode { node: node.name.clone(), op: op.name(), why });
                }
                places[id.index()].float = Some(new);
                if wanted[id.index()].int8 {
                    let stub = border(graph, node, Op::QuantStub, "quant");
                    places[id.index()].int8 = Some(insert(&mut next, stub, vec![new], config, &mut report));
                }
            }
        }
    }
    (next.finish(), report)
}

/// What each node between the stubs will compute in; `None` for the stubs and what lies outside.
fn domains(graph: &Graph, config: &QConfig) -> Vec<Option<Domain>> {
    let inside = stubs::inside(graph);
    let mut domains: Vec<Option<Domain>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.iter() {
        if !inside[id.index()] || matches!(node.op, Op::QuantStub | Op::DeQuantStub) {
            continue;
        }
        let chosen = matches!(config.overrides.get(&node.name), Some(Override::Float));
        domains[id.index()] = Some(match source(&node.op) {
            _ if chosen => Domain::Float(WhyFloat::Chosen),
            Source::Refused(remedy) => Domain::Float(WhyFloat::NoKernel(remedy)),
            Source::Input | Source::Removed if is_float(&domains, node) => Domain::Float(WhyFloat::Input),
            Source::Observer | Source::Unit | Source::Input | Source::Removed | Source::Float => Domain::Int8,
        });
    }
    domains
}

/// Whether what a node reads is left in float.
fn is_float(domains: &[Option<Domain>], node: &Node) -> bool {
    node.inputs.first().is_some_and(|i| matches!(domains[i.index()], Some(Domain::Float(_))))
}

/// As what each node's value is read.
#[derive(Clone, Copy, Default)]
struct Wanted {
    float: bool,
    int8: bool,
}

fn wanted(graph: &Graph, domains: &[Option<Domain>]) -> Vec<Wanted> {
    let mut wanted = vec![Wanted::default(); graph.nodes.len()];
    for (id, node) in graph.iter() {
        for input in &node.inputs {
            let wanted = &mut wanted[input.index()];
            match (&node.op, domains[id.index()]) {
                // It reads what is there: float, and then it vanishes.
                (Op::DeQuantStub, _) => wanted.int8 |= !is_float(domains, node),
                (_, Some(Domain::Int8)) => wanted.int8 = true,
                (_, Some(Domain::Float(_)) | None) => wanted.float = true,
            }
        }
    }
    wanted
}

/// Appends a node that will be int8, with its observer where it has one.
fn insert(next: &mut Rewrite, node: Node, inputs: Vec<NodeId>, config: &QConfig, report: &mut PrepareReport) -> NodeId {
    let spec = match source(&node.op) {
        Source::Observer => config.activation_of(&node.name),
        Source::Input | Source::Unit | Source::Removed | Source::Float | Source::Refused(_) => None,
    };
    let numeric = spec.map_or(Numeric::Float, Numeric::Observed);
    report.observed.extend(spec.map(|spec| ObservedNode { name: node.name.clone(), spec }));
    next.insert(Node { inputs, numeric, ..node })
}

/// A stub behind `node`, its inputs yet to be said, under a name that no node bears.
fn border(graph: &Graph, node: &Node, op: Op, suffix: &str) -> Node {
    let mut name = format!("{}.{suffix}", node.name);
    while graph.find(&name).is_some() {
        name.push('_');
    }
    Node { name, op, inputs: Vec::new(), shape: node.shape, numeric: Numeric::Float, fused: Vec::new() }
}
