//! What mutated files and their readers' code led to, each by name. `RELIABILITY.md` lists them with their mends.

use std::fs;

use octet::session::{
    Calibration, CheckpointFile, Command, Control, Device, Event, ModelId, Project, Recipe, Session, Step, TrainConfig,
    TrainEvent, read_recipe, save_recipe,
};
use octet::weights::{self, Checkpoint};
use serde_json::{Value, json};

use crate::json::in_header;
use crate::mutate::Random;
use crate::readers::{Kind, complaint, open};
use crate::seeds::{self, Seed};
use crate::trial::{Folder, alone};

fn header_of(bytes: &[u8]) -> (String, &[u8]) {
    let len = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    (String::from_utf8(bytes[8..8 + len].to_vec()).expect("text"), &bytes[8 + len..])
}

fn with_header(text: &str, data: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes(), data].concat()
}

fn error_of(kind: Kind, name: &'static str, bytes: Vec<u8>) -> String {
    let folder = Folder::new();
    let error = open(kind, &Seed { name, bytes }, folder.path()).error.unwrap_or_else(|| panic!("{name} was opened"));
    assert_eq!(complaint(&error), None, "{error}");
    error
}

/// The safetensors crate takes the last of two entries: a file said one thing to one reader and another to the next.
#[test]
fn a_tensor_that_is_there_twice() {
    let _alone = alone();
    let whole = &seeds::of(Kind::Safetensors)[1].bytes;
    let (text, data) = header_of(whole);
    let header: Value = serde_json::from_str(&text).expect("JSON");
    let entry = header["fc.bias"].to_string();
    let doubled = format!("{{\"fc.bias\":{entry},{}", &text[1..]);
    let error = error_of(Kind::Safetensors, "twice.safetensors", with_header(&doubled, data));
    assert!(error.contains("`fc.bias` is there twice"), "{error}");
}

/// A name with a terminal's commands in it was printed as it is.
#[test]
fn a_name_with_control_characters() {
    let _alone = alone();
    let whole = &seeds::of(Kind::Safetensors)[1].bytes;
    let (text, data) = header_of(whole);
    let renamed = text.replace("\"fc.bias\"", "\"\\u001b[2J\\nfc\"").replacen("\"F32\"", "\"I32\"", 1);
    let renamed = renamed.replace("\"F32\"", "\"I32\"");
    let error = error_of(Kind::Safetensors, "escape.safetensors", with_header(&renamed, data));
    assert!(error.contains("expected F32"), "{error}");
}

/// A file whose last node has a map of features gave class numbers beyond its labels.
#[test]
fn an_int8_file_that_ends_in_no_logits() {
    let _alone = alone();
    let whole = &seeds::of(Kind::Octet)[0].bytes;
    let (text, data) = header_of(whole);
    // The mean becomes what keeps the shape, and the linear layer after it what a vector needs.
    let mut header: Value = serde_json::from_str(&text).expect("JSON");
    let inside = header["__metadata__"]["octet"].as_str().expect("a document").to_owned();
    let mut document: Value = serde_json::from_str(&inside).expect("JSON");
    let nodes = document["nodes"].as_array_mut().expect("nodes");
    nodes.truncate(1);
    document["labels"] = json!([]);
    header["__metadata__"]["octet"] = json!(document.to_string());
    let keys: Vec<String> = header.as_object().expect("an object").keys().cloned().collect();
    for key in keys.into_iter().filter(|k| k != "__metadata__") {
        header.as_object_mut().expect("an object").remove(&key);
    }
    let error = error_of(Kind::Octet, "map.octet.safetensors", with_header(&header.to_string(), &data[..0]));
    assert!(error.contains("expected one number a class"), "{error}");
}

fn session(recipe: Recipe) -> Session {
    let mut session = Session::new(Device::Cpu);
    session.apply(Command::Open(Box::new(recipe)), &mut |_| {}, &Control::default()).expect("the sample opens");
    session
}

/// What `octet run` was given with numbers that no flag takes.
#[test]
fn recipes_of_absurd_numbers_are_refused_by_the_key() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recipe.toml");
    let plain = Recipe {
        calibration: Calibration { batches: 1, batch: 8, foresee: false },
        ..Recipe::new(ModelId::ShuffleNetV2X05)
    };
    save_recipe(&path, &plain).expect("a folder to write in");
    let text = fs::read_to_string(&path).expect("a recipe");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    };
    let cases = [
        (with("batches = 1", "batches = 0"), "calibration.batches"),
        (with("batch = 8", "batch = 0"), "calibration.batch"),
        (with("seed = 0\nthreads", "seed = 0\nclasses = 4000000000\nthreads"), "classes"),
        (with("seed = 0\nthreads", "seed = 0\nclasses = 0\nthreads"), "class"),
        (with("[preprocess]", "[preprocess]\nsize = 1000000000"), "size"),
        (with("[preprocess]", "[preprocess]\nsize = 1"), "size"),
        (with("[preprocess]", "[preprocess]\nstd = [nan, 1.0, 1.0]"), "deviation"),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).expect("a file");
        let recipe = match read_recipe(&path) {
            Ok(recipe) => recipe,
            Err(e) => {
                assert!(e.to_string().contains(expected), "{e}");
                continue;
            }
        };
        let mut session = Session::new(Device::Cpu);
        let out = folder.path().join("a.octet.safetensors");
        let opened = session.apply(Command::Open(Box::new(recipe)), &mut |_| {}, &Control::default());
        let ran = opened.and_then(|()| session.apply(Command::RunAll(out), &mut |_| {}, &Control::default()));
        let error = ran.expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// A training of one step, its checkpoint, and the error of going on from what `change` makes of it.
fn resumed(change: impl Fn(&mut Checkpoint)) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("training.checkpoint");
    let config = TrainConfig { epochs: 2, batch: 2048, ..TrainConfig::default() };
    let keep = |session: &mut Session, resume| {
        let file = CheckpointFile { path: path.clone(), resume };
        session.apply(Command::KeepCheckpoints(Some(file)), &mut |_| {}, &Control::default()).expect("allowed");
        session.apply(Command::InsertStubs, &mut |_| {}, &Control::default()).expect("stubs");
    };
    static FIRST: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let bytes = FIRST.get_or_init(|| {
        let mut first = session(Recipe::new(ModelId::ShuffleNetV2X05));
        keep(&mut first, false);
        let control = Control::default();
        let watch = &mut |event: Event| {
            if let Event::Training(TrainEvent::Step { epoch: 1, .. }) = event {
                control.cancel();
            }
        };
        first.apply(Command::Train(config), watch, &control).expect("one epoch at least");
        fs::read(&path).expect("a checkpoint")
    });
    fs::write(&path, bytes).expect("a file");
    let mut checkpoint = weights::read_checkpoint(&path).expect("it is whole");
    change(&mut checkpoint);
    weights::write_checkpoint(&path, &checkpoint).expect("room on the disk");
    let mut next = session(Recipe::new(ModelId::ShuffleNetV2X05));
    keep(&mut next, true);
    let control = Control::default();
    // That it begins is enough.
    let watch = &mut |event: Event| {
        if let Event::Training(TrainEvent::Step { .. }) = event {
            control.cancel();
        }
    };
    match next.apply(Command::Train(config), watch, &control) {
        Ok(()) | Err(octet::session::SessionError::Cancelled) => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

/// What a checkpoint says was taken as it is: a NaN went into the weights, a negative count into the optimizer's powers.
#[test]
fn checkpoints_that_hold_nonsense_are_refused_by_the_key() {
    let _alone = alone();
    resumed(|_| {}).expect("as it was written");
    let first =
        |c: &Checkpoint, prefix: &str| c.tensors.keys().find(|k| k.starts_with(prefix)).expect("a tensor").clone();
    let poison = |c: &mut Checkpoint, prefix: &str, value: f32| {
        let key = first(c, prefix);
        let tensor = c.tensors.get_mut(&key).expect("it is there");
        let data: Vec<f32> = tensor.data.iter().map(|_| value).collect();
        *tensor = octet::graph::Tensor::new(tensor.shape.clone(), data);
    };
    type Change<'a> = Box<dyn Fn(&mut Checkpoint) + 'a>;
    let cases: [(Change<'_>, &str); 8] = [
        (Box::new(|c| poison(c, "now.", f32::NAN)), "holds NaN"),
        (Box::new(|c| poison(c, "best.", f32::INFINITY)), "holds inf"),
        (Box::new(|c| poison(c, "optimizer.1.", f32::NAN)), "holds NaN"),
        (Box::new(|c| c.document["steps"] = json!(-5)), "-5 steps"),
        (Box::new(|c| c.document["steps"] = json!(i32::MAX)), "steps"),
        (Box::new(|c| c.document["epochs"] = json!(-1)), "integer `-1`"),
        (
            Box::new(|c| {
                let key = first(c, "optimizer.0.");
                c.tensors.insert(key, octet::graph::Tensor::zeros([1]));
            }),
            "optimizer",
        ),
        (
            Box::new(|c| {
                let key = first(c, "now.");
                c.tensors.remove(&key);
            }),
            "is missing",
        ),
    ];
    for (change, expected) in cases {
        let error = resumed(change).expect_err(expected);
        assert!(error.contains(expected) && complaint(&error).is_none(), "{expected}: {error}");
    }
}

/// A project folder from elsewhere names the int8 file that *Continue* writes again: any file could have stood there.
#[test]
fn a_session_note_that_names_somebody_elses_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let (theirs, project) = (folder.path().join("letter.txt"), folder.path().join("project"));
    fs::write(&theirs, "a letter").expect("a file");
    let mut first = Session::new(Device::Cpu).in_project(Project::new(&project)).autosaving();
    let small = Calibration { batches: 1, batch: 8, foresee: false };
    let recipe = Recipe { calibration: small, ..Recipe::new(ModelId::ShuffleNetV2X05) };
    let run = |session: &mut Session, command| {
        session.apply(command, &mut |_| {}, &Control::default()).expect("allowed");
    };
    run(&mut first, Command::Open(Box::new(recipe)));
    run(&mut first, Command::RunAll(folder.path().join("a.octet.safetensors")));
    let note = project.join("session/session.json");
    let text = fs::read_to_string(&note).expect("a note");
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    value["saved"] = json!(theirs);
    fs::write(&note, value.to_string()).expect("a file");
    let kept = Project::new(&project).unfinished().expect("a note").expect("a session");
    let mut next = Session::new(Device::Cpu).in_project(Project::new(&project)).autosaving();
    let mut said = Vec::new();
    let hear = &mut |event: Event| {
        if let Event::Log(line) = event {
            said.push(line.text);
        }
    };
    next.apply(Command::Continue(Box::new(kept)), hear, &Control::default()).expect("it goes on");
    assert_eq!(fs::read_to_string(&theirs).expect("it is there"), "a letter");
    assert_eq!(next.stage().expect("a stage").done(), Some(Step::Convert));
    assert!(said.iter().any(|line| line.contains("letter.txt") && line.contains("save again")), "{said:?}");
}

/// What the mutator of headers makes is what it says: a file whose header is JSON of the length it claims.
#[test]
fn mutated_headers_are_whole() {
    let _alone = alone();
    let mut random = Random::new(5, 5);
    let whole = &seeds::of(Kind::Octet)[1].bytes;
    let mut made = 0;
    for _ in 0..200 {
        let Some(next) = in_header(whole, &mut random) else { continue };
        made += 1;
        let (text, _) = header_of(&next);
        assert!(text.starts_with('{'));
        assert_ne!(&next, whole);
    }
    assert!(made > 100, "{made}");
}
