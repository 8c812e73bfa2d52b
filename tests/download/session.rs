//! Step 2 from published weights: fetched, loaded as any file, images prepared for them, the head kept or replaced.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use octet::graph::Graph;
use octet::session::{
    Catalog, Command, CommandKind, Control, Device, Download, Event, Fit, ModelId, Place, PreprocessChoice,
    PublishedWeights, Recipe, Session, SessionError, Source, Stage, Step, TrainConfig, View, WeightsChoice,
    WeightsOrigin, Worker,
};
use octet::weights::write_safetensors;
use octet::zoo::{self, ModelConfig};
use tempfile::TempDir;

use crate::program::table;
use crate::server::{Answer, End, Server};

const FILE: &str = "shufflenetv2_x0.5-0a1b2c3d.safetensors";

/// A server that publishes weights of a thousand classes for ShuffleNetV2 x0.5, and pictures of three kinds.
struct Case {
    folder: TempDir,
    server: Server,
    body: Vec<u8>,
    graph: Graph,
}

impl Case {
    fn new(decide: impl Fn(usize, Answer) -> Answer + Send + Sync + 'static) -> Self {
        let folder = TempDir::new().expect("a folder");
        let config = ModelConfig { classes: 1000, size: 32 };
        let graph = zoo::init(&zoo::build(ModelId::ShuffleNetV2X05, config).expect("a model"), 7);
        let path = folder.path().join("made.safetensors");
        write_safetensors(&path, &graph, false).expect("a file");
        let body = fs::read(path).expect("the file");
        let served = body.clone();
        let server = Server::start(move |n, request| decide(n, Answer::of_file(&served, "\"1\"", request)));
        for (class, colour) in [("blue", [0, 0, 200]), ("green", [0, 200, 0]), ("red", [200, 0, 0])] {
            for i in 0..10u8 {
                let shade = |x: u32, y: u32| image::Rgb(colour.map(|c: u8| c.wrapping_add(i + (x ^ y) as u8 / 8)));
                let path = folder.path().join(format!("data/{class}/{i}.png"));
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                image::RgbImage::from_fn(100, 80, shade).save(path).expect("a picture");
            }
        }
        Self { folder, server, body, graph }
    }

    fn weights(&self) -> PublishedWeights {
        let path = table(self.folder.path(), &self.server.base(), "shufflenet_v2_x0_5", FILE, &self.body);
        let catalog = Catalog::parse(&fs::read_to_string(path).expect("the table"), None).expect("a table");
        catalog.of(ModelId::ShuffleNetV2X05).next().cloned().expect("published")
    }

    fn download(&self) -> Command {
        Command::DownloadWeights(Box::new(Download { weights: self.weights(), place: self.place() }))
    }

    fn place(&self) -> Place {
        Place { stall: Duration::from_secs(20), ..Place::new(self.folder.path().join("cache")) }
    }

    fn recipe(&self) -> Recipe {
        Recipe { data: Source::Path(self.folder.path().join("data")), ..Recipe::new(ModelId::ShuffleNetV2X05) }
    }
}

fn apply(session: &mut Session, view: &mut View, command: Command) -> Result<(), SessionError> {
    session.apply(command, &mut |event| view.apply(event), &Control::default())
}

/// A session and its view, its stubs inserted.
fn begun(recipe: Recipe) -> (Session, View) {
    let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
    apply(&mut session, &mut view, Command::Open(Box::new(recipe))).expect("opened");
    apply(&mut session, &mut view, Command::InsertStubs).expect("stubs");
    (session, view)
}

/// Classes of the model, where the weights came from, and the accuracy.
fn weighted(view: &View) -> (usize, &WeightsOrigin, Option<f64>) {
    match view.stage().map(AsRef::as_ref) {
        Some(Stage::Weighted { opened, origin, accuracy, .. }) => (opened.classes, origin, *accuracy),
        other => panic!("no weights: {:?}", other.map(Stage::done)),
    }
}

fn chosen(view: &View) -> (&WeightsChoice, &PreprocessChoice, bool) {
    let recipe = view.recipe.as_ref().expect("a recipe");
    (&recipe.weights, &recipe.preprocess, recipe.reinit_head)
}

fn log(view: &View) -> String {
    view.log.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn downloaded_weights_load_as_any_file_and_bring_their_preprocessing() {
    let case = Case::new(|_, answer| answer);
    let (mut session, mut view) = begun(case.recipe());
    assert_eq!(case.server.connections(), 0, "nothing is fetched unasked");
    let mut told = Vec::new();
    let mut watch = |event: Event| {
        if let Event::Transfer(t) = &event {
            told.push(*t);
        }
        view.apply(event);
    };
    session.apply(case.download(), &mut watch, &Control::default()).expect("downloaded");
    assert_eq!(told.last().map(|t| t.bytes), Some(case.body.len() as u64));
    let path = case.folder.path().join("cache").join(FILE);
    let (classes, origin, accuracy) = weighted(&view);
    assert_eq!((classes, origin, accuracy), (1000, &WeightsOrigin::File(path.clone()), None));
    let (weights, preprocess, reinit_head) = chosen(&view);
    assert_eq!(weights, &WeightsChoice::File(path));
    assert!(!reinit_head);
    assert_eq!((preprocess.size, preprocess.resize, preprocess.fit), (Some(64), Some(72), Some(Fit::Crop)));
    assert_eq!(preprocess.mean, Some([0.485, 0.456, 0.406]));
    let log = log(&view);
    assert!(log.contains("72 px") && log.contains("SHA-256") && log.contains("1000 classes"), "{log}");
    // The same values, by name.
    let graph = view.stage().expect("a stage").graph().clone();
    let values = |graph: &Graph| {
        let params = graph.params();
        params.iter().map(|p| (graph.key(p), p.tensor.data.to_vec())).collect::<Vec<_>>()
    };
    assert!(values(&graph) == values(&case.graph));
    assert!(view.transfer.is_none() && view.progress.is_none());
}

#[test]
fn a_choice_of_ones_own_outlives_the_weights_preprocessing() {
    let case = Case::new(|_, answer| answer);
    let own = PreprocessChoice { size: Some(40), mean: Some([0.5; 3]), ..PreprocessChoice::default() };
    let (mut session, mut view) = begun(Recipe { preprocess: own, ..case.recipe() });
    apply(&mut session, &mut view, case.download()).expect("downloaded");
    let (_, preprocess, _) = chosen(&view);
    // The shorter side belongs to the size that was not chosen.
    assert_eq!((preprocess.size, preprocess.resize, preprocess.mean), (Some(40), None, Some([0.5; 3])));
    assert_eq!(preprocess.std, Some([0.229, 0.224, 0.225]));
    // Other weights are not torchvision's: what was chosen is back, and nothing else.
    let other = case.folder.path().join("made.safetensors");
    apply(&mut session, &mut view, Command::LoadWeights(other)).expect("loaded");
    let own = PreprocessChoice { size: Some(40), mean: Some([0.5; 3]), ..PreprocessChoice::default() };
    assert_eq!(chosen(&view).1, &own);
}

#[test]
fn small_images_keep_their_size() {
    let case = Case::new(|_, answer| answer);
    let (mut session, mut view) = begun(Recipe::new(ModelId::ShuffleNetV2X05));
    apply(&mut session, &mut view, case.download()).expect("downloaded");
    let (_, preprocess, _) = chosen(&view);
    assert_eq!((preprocess.size, preprocess.resize, preprocess.fit), (Some(32), None, Some(Fit::Pad)));
}

#[test]
fn a_head_is_replaced_when_asked_and_given_back() {
    let case = Case::new(|_, answer| answer);
    let (mut session, mut view) = begun(case.recipe());
    let error = apply(&mut session, &mut view, Command::ReinitHead(true)).expect_err("no weights yet");
    assert!(matches!(error, SessionError::NotAllowed { .. }), "{error}");
    apply(&mut session, &mut view, case.download()).expect("downloaded");
    assert_eq!(weighted(&view).0, 1000);
    let path = case.folder.path().join("cache").join(FILE);

    apply(&mut session, &mut view, Command::ReinitHead(true)).expect("a new head");
    assert_eq!(weighted(&view), (3, &WeightsOrigin::WithoutHead(path.clone()), None));
    assert!(view.stage().expect("a stage").has_untrained_head() && chosen(&view).2);
    assert_eq!(view.steps()[Step::Weights.index()].result.as_deref(), Some("untrained head"));
    assert_eq!(chosen(&view).1.resize, Some(72), "the preprocessing stays");

    apply(&mut session, &mut view, Command::ReinitHead(false)).expect("its own head");
    assert_eq!(weighted(&view), (1000, &WeightsOrigin::File(path), None));
    assert!(!chosen(&view).2);

    // Another file keeps its own head, although one was replaced before.
    apply(&mut session, &mut view, Command::ReinitHead(true)).expect("a new head");
    let other = case.folder.path().join("made.safetensors");
    apply(&mut session, &mut view, Command::LoadWeights(other)).expect("loaded");
    assert_eq!(weighted(&view).0, 1000);
    assert!(!chosen(&view).2);

    // Trained on: a new head is no longer random, and the recipe still says how it came about.
    apply(&mut session, &mut view, case.download()).expect("from the cache");
    apply(&mut session, &mut view, Command::ReinitHead(true)).expect("a new head");
    let train = TrainConfig { epochs: 1, batch: 8, ..TrainConfig::default() };
    apply(&mut session, &mut view, Command::Train(train)).expect("trained");
    let (classes, origin, accuracy) = weighted(&view);
    assert_eq!((classes, origin), (3, &WeightsOrigin::Trained { epochs: 1, stopped: false }));
    assert!(accuracy.is_some());
    assert!(matches!(chosen(&view), (WeightsChoice::File(_), _, true)));
    assert_eq!(case.server.connections(), 1);
}

#[test]
fn a_head_needs_a_file_and_classes_to_be_replaced() {
    let (mut session, mut view) = begun(Recipe::new(ModelId::ShuffleNetV2X05));
    apply(&mut session, &mut view, Command::UseShippedWeights).expect("shipped");
    let error = apply(&mut session, &mut view, Command::ReinitHead(true)).expect_err("not from a file");
    assert!(matches!(error, SessionError::NoHead), "{error}");

    let case = Case::new(|_, answer| answer);
    let data = Source::Path(case.folder.path().join("data/red"));
    let recipe = Recipe { data, classes: Some(1000), ..case.recipe() };
    let (mut session, mut view) = begun(recipe);
    apply(&mut session, &mut view, case.download()).expect("downloaded");
    let error = apply(&mut session, &mut view, Command::ReinitHead(true)).expect_err("no classes");
    assert!(matches!(error, SessionError::NoHead), "{error}");
    assert_eq!(weighted(&view).0, 1000);
}

#[test]
fn another_models_weights_are_refused_before_they_are_fetched() {
    let case = Case::new(|_, answer| answer);
    let (mut session, mut view) = begun(Recipe::new(ModelId::ResNet18));
    let error = apply(&mut session, &mut view, case.download()).expect_err("another model").to_string();
    assert!(error.contains("ShuffleNetV2 x0.5") && error.contains("ResNet18"), "{error}");
    assert_eq!(case.server.connections(), 0);
}

#[test]
fn cancel_ends_a_download_within_a_second_and_the_next_one_goes_on() {
    let case = Case::new(|n, answer| if n == 0 { answer.stopping(1_000_000, End::Silence) } else { answer });
    let worker = Worker::spawn(Device::Cpu, || {}).expect("a thread");
    let mut view = View::default();
    let finish = |view: &mut View, kind: CommandKind| {
        let end = Instant::now() + Duration::from_secs(60);
        while view.finished != Some(kind) {
            worker.drain(view);
            assert!(Instant::now() < end, "{kind:?} does not end");
        }
    };
    for command in [Command::Open(Box::new(case.recipe())), Command::InsertStubs] {
        let kind = command.kind();
        assert!(worker.send(command));
        finish(&mut view, kind);
    }
    view.finished = None;
    assert!(worker.send(case.download()));
    let end = Instant::now() + Duration::from_secs(20);
    while view.transfer.is_none_or(|t| t.bytes < 900_000) {
        worker.drain(&mut view);
        assert!(Instant::now() < end, "nothing arrives: {:?}", view.log.last());
    }
    let start = Instant::now();
    worker.control().cancel();
    finish(&mut view, CommandKind::DownloadWeights);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Stubs), "nothing is lost");
    assert!(view.failure.is_none() && view.transfer.is_none());
    let part = case.folder.path().join("cache").join(format!("{FILE}.part"));
    let kept = fs::metadata(&part).expect("a part").len();

    view.finished = None;
    assert!(worker.send(case.download()));
    finish(&mut view, CommandKind::DownloadWeights);
    assert!(view.failure.is_none(), "{:?}", view.failure);
    assert_eq!(weighted(&view).0, 1000);
    let second = &case.server.seen()[1];
    assert_eq!((second.from, second.sent as u64), (Some(kept), case.body.len() as u64 - kept));
}

#[test]
fn a_damaged_download_fails_and_the_stages_before_it_stay() {
    let case = Case::new(|n, mut answer| {
        if n == 0 {
            answer.body[500_000] ^= 1;
        }
        answer
    });
    let (mut session, mut view) = begun(case.recipe());
    let error = apply(&mut session, &mut view, case.download()).expect_err("damaged");
    assert!(matches!(error, SessionError::Download(_)), "{error}");
    let (kind, said) = view.failure.clone().expect("a failure");
    assert_eq!(kind, CommandKind::DownloadWeights);
    assert!(said.contains("SHA-256") && said.contains("deleted"), "{said}");
    assert_eq!(view.stage().and_then(|s| s.done()), Some(Step::Stubs));
    assert_eq!(fs::read_dir(Path::new(&case.folder.path().join("cache"))).expect("a folder").count(), 0);
    apply(&mut session, &mut view, case.download()).expect("the second time");
}
