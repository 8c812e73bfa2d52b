//! Which layer a quantized model loses by, and what repairs do about it: on the shipped models and on planted faults.

mod planted;
mod promise;
mod repairs;
mod sweeps;

use octet::data::{Dataset, Source, Split};
use octet::graph::Graph;
use octet::session::{
    Calibration, Command, Control, Device, ModelId, Pair, QConfig, Recipe, Session, SessionError, Stage, View,
};

/// Applies a command and keeps the view that a window would have.
fn apply(session: &mut Session, view: &mut View, command: Command) -> Result<(), SessionError> {
    session.apply(command, &mut |event| view.apply(event), &Control::default())
}

/// A session up to a converted model, its view, and both forms.
fn converted(recipe: Recipe) -> (Session, View, Pair) {
    let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
    let mut run = |command| apply(&mut session, &mut view, command).expect("a step of a sound model");
    let weights = match &recipe.weights {
        octet::session::WeightsChoice::File(path) => Command::LoadWeights(path.clone()),
        _ => Command::UseShippedWeights,
    };
    let (qconfig, calibration) = (recipe.qconfig.clone(), recipe.calibration);
    run(Command::Open(Box::new(recipe)));
    run(Command::InsertStubs);
    run(weights);
    run(Command::Fuse(Default::default()));
    run(Command::Prepare(qconfig));
    run(Command::Calibrate(calibration));
    run(Command::Convert);
    let pair = pair(&session);
    (session, view, pair)
}

/// A shipped model, fused.
fn fused(model: ModelId) -> Graph {
    let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
    for command in [Command::Open(Box::new(Recipe::new(model))), Command::InsertStubs, Command::UseShippedWeights] {
        apply(&mut session, &mut view, command).expect("a step of a sound model");
    }
    session.recipe().fused(session.weighted_graph().expect("weights")).expect("it fuses")
}

/// Both forms of what a session has converted.
fn pair(session: &Session) -> Pair {
    let Stage::Converted { before, graph, .. } = session.stage().expect("open").as_ref() else { panic!("converted") };
    Pair::fusing(before.opened.clone(), &before.graph, session.recipe(), graph.clone()).expect("it fuses")
}

fn recipe(model: ModelId, qconfig: QConfig) -> Recipe {
    let calibration = Calibration { batches: 8, batch: 32, foresee: false };
    Recipe { qconfig, calibration, ..Recipe::new(model) }
}

fn sample() -> Dataset {
    Dataset::open(&Source::Sample, 0).expect("it is embedded")
}

/// Images `from..from + count` of a split, ready for a model, and their labels.
fn images(split: &Split, from: usize, count: usize) -> (Vec<f32>, Vec<usize>) {
    let preprocess = sample().preprocess();
    let batch = split.batches((from..from + count).collect(), count, &preprocess, None).next().expect("a batch");
    (batch.images, batch.labels)
}

fn layer<'a>(graph: &'a Graph, name: &str) -> &'a octet::graph::Node {
    graph.node(graph.find(name).unwrap_or_else(|| panic!("no node {name}")))
}
