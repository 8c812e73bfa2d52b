//! What PyTorch quantized, and what we write for it, without Python: small fixtures of PyTorch 2.9's, made by
//! `tests/fixtures/make_quantized.py`, and files that are broken on purpose.

#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use octet::data::{Fit, Preprocess};
use octet::exec::int8::{Plan, PlanOptions};
use octet::graph::{Graph, QatLevels, Tensor};
use octet::quant::{self, Backend, Biases, FuseOptions, QConfig};
use octet::session::{
    Calibration, Command, Control, Device, ExportFormat, ExportOptions, PreprocessChoice, Recipe, ReportJob, Session,
    export, read_recipe, save_recipe, torch_script,
};
use octet::weights::{self, AnyDict, QuantizedDict, StateDict, octet::Meta};
use octet::zoo::{self, ModelConfig, ModelId};

use tiny::tiny;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn quantized(path: &Path) -> QuantizedDict {
    match weights::read_any(path).expect("PyTorch's file") {
        AnyDict::Quantized(dict) => dict,
        other => panic!("{}: {other:?}", path.display()),
    }
}

fn assembled(float: &Graph, dict: &QuantizedDict) -> Graph {
    let disabled: BTreeSet<String> = dict.apart(float).into_iter().collect();
    let (fused, _) = quant::fuse(float, &FuseOptions { disabled }).expect("a float graph");
    let (fused, state) = dict.take(&fused).expect("its keys");
    quant::assemble(&fused, &state.qparams, &state.layers).expect("all of it")
}

fn run(graph: &Graph, images: &[f32]) -> Vec<f32> {
    let batch = images.len() / graph.input_shape().len();
    Plan::new(graph, &PlanOptions::default()).expect("an int8 graph").run(images, batch)
}

fn found() -> StateDict {
    weights::read(&fixture("tiny_int8.safetensors")).expect("a fixture")
}

/// Levels times one scale: equal numbers are equal integers.
fn assert_logits(graph: &Graph, name: &str) {
    let found = found();
    let (images, expected) = (found.get("images").expect("images"), found.get(name).expect("logits"));
    assert!(expected.data.iter().any(|v| *v != expected.data[0]), "they tell nothing");
    assert_eq!(run(graph, &images.data), expected.data.to_vec(), "{name}");
}

#[test]
fn a_quantized_state_dict_gives_pytorchs_integers() {
    let dict = quantized(&fixture("tiny_int8.pth"));
    assert_logits(&assembled(&tiny(), &dict), "int8");
}

#[test]
fn batch_norm_and_relu_that_were_quantized_apart_give_pytorchs_integers() {
    let dict = quantized(&fixture("tiny_apart.pth"));
    let graph = assembled(&tiny(), &dict);
    for name in ["bn1", "relu", "bn2"] {
        let node = graph.node(graph.find(name).expect("it stands alone"));
        assert!(node.numeric.qparams().is_some(), "{name}");
    }
    assert_logits(&graph, "apart");
}

#[test]
fn a_checkpoint_of_quantization_aware_training_converts_to_pytorchs_integers() {
    let Ok(AnyDict::Qat(dict)) = weights::read_any(&fixture("tiny_qat.pth")) else { panic!("no QAT checkpoint") };
    let layout = weights::qat_layout(&dict).expect("a default qconfig");
    assert_eq!((layout.quant_max, layout.per_channel), (127, true));
    let (fused, _) = quant::fuse_qat(&tiny(), &FuseOptions::default()).expect("a float graph");
    let (prepared, _) = quant::prepare_qat(&fused, &QConfig::qat(Backend::X86)).expect("a fused graph");
    let mut state = weights::qat_state(&prepared, &dict).expect("its keys");
    assert_eq!(state.watched.len(), 3, "its observers were left on");
    let trained = prepared.with_params(&state.params);
    quant::observe_folded(&trained, &mut state.ranges, &state.watched).expect("finite weights");
    let (graph, _) = quant::convert_qat(&trained, &state.ranges, QatLevels::PyTorch).expect("a trained graph");
    assert_logits(&graph, "qat");
}

/// Ranges of a length that the layer does not have: a mutated file had them, and conversion reached beyond their end.
#[test]
fn ranges_of_another_length_are_refused_by_the_key() {
    let Ok(AnyDict::Qat(dict)) = weights::read_any(&fixture("tiny_qat.pth")) else { panic!("no QAT checkpoint") };
    let (fused, _) = quant::fuse_qat(&tiny(), &FuseOptions::default()).expect("a float graph");
    let (prepared, _) = quant::prepare_qat(&fused, &QConfig::qat(Backend::X86)).expect("a fused graph");
    let error = |key: &str, values: Vec<f32>| {
        let changed = |(k, t): (&str, &Tensor)| {
            let tensor = if k.ends_with(key) { Tensor::new([values.len()], values.clone()) } else { t.clone() };
            (k.to_owned(), tensor)
        };
        assert!(dict.iter().any(|(k, _)| k.ends_with(key)), "{key}");
        let dict = StateDict::new(Path::new("changed.pth"), dict.iter().map(changed).collect());
        weights::qat_state(&prepared, &dict).expect_err("ranges that fit nothing").to_string()
    };
    for part in ["min_val", "max_val"] {
        let key = format!("weight_fake_quant.activation_post_process.{part}");
        let said = error(&key, Vec::new());
        assert!(said.contains("saw no data"), "{said}");
        let said = error(&key, vec![0.5; 2]);
        assert!(said.contains(&key), "{said}");
        let key = format!("activation_post_process.activation_post_process.{part}");
        let said = error(&key, vec![0.5; 3]);
        assert!(said.contains(&key), "{said}");
    }
}

#[test]
fn float_is_asked_for_and_something_else_is_there() {
    for (name, what) in [("tiny_int8.pth", "a quantized model"), ("tiny_qat.pth", "quantization-aware training")] {
        let error = weights::read(&fixture(name)).expect_err("not float").to_string();
        assert!(error.contains(name) && error.contains(what) && error.contains("--format octet"), "{error}");
    }
}

/// An int8 model of the zoo, weights drawn by `seed`, with levels that are not all alike.
fn int8_model(model: ModelId) -> Graph {
    let config = ModelConfig { classes: 7, size: 32 };
    let float = zoo::init(&zoo::build(model, config).expect("a model"), 5);
    let (stubbed, _) = quant::insert_stubs(&float).expect("a float graph");
    let (fused, _) = quant::fuse(&stubbed, &FuseOptions::default()).expect("a stubbed graph");
    let (prepared, _) = quant::prepare(&fused, &QConfig::default()).expect("a fused graph");
    let names = prepared.nodes.iter().filter(|n| matches!(n.numeric, octet::graph::Numeric::Observed(_)));
    let levels = |i: usize| octet::graph::QParams::new(0.03 + 0.001 * (i % 17) as f32, 40 + (i % 9) as u8);
    let qparams = names.enumerate().map(|(i, n)| (n.name.clone(), levels(i))).collect();
    quant::convert(&prepared, &qparams, &QConfig::default()).expect("all of them").0
}

fn saved(folder: &Path, graph: &Graph) -> PathBuf {
    let file = folder.join("model.octet.safetensors");
    let preprocess = serde_json::to_value(Preprocess::new(32, Fit::Pad)).expect("JSON");
    let meta = Meta { labels: Vec::new(), preprocess, recipe: serde_json::Value::Null };
    weights::octet::write(&file, graph, &meta).expect("a folder to write in");
    file
}

fn options(model: Option<ModelId>) -> ExportOptions {
    let preprocess = PreprocessChoice { size: Some(32), ..PreprocessChoice::default() };
    ExportOptions { model, classes: None, preprocess, threads: 1 }
}

#[test]
fn what_is_written_for_pytorch_is_read_back_as_the_same_model() {
    for model in [ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small, ModelId::ResNet18] {
        let folder = tempfile::tempdir().expect("a folder");
        let graph = int8_model(model);
        let (file, out) = (saved(folder.path(), &graph), folder.path().join("model.pt"));
        let exported = export(&file, ExportFormat::Torch, &out, &options(None)).expect("it has a twin");
        assert_eq!((exported.check.worst, exported.check.top1), (0.0, 1.0), "{model}");
        let first = fs::read(&out).expect("it is there");
        export(&file, ExportFormat::Torch, &out, &options(None)).expect("again");
        assert_eq!(fs::read(&out).expect("it is there"), first, "{model}: the same bytes each time");
        let back = folder.path().join("back.octet.safetensors");
        export(&out, ExportFormat::Octet, &back, &options(Some(model))).expect("our own file");
        let (read, _) = weights::octet::read(&back).expect("our own file");
        let images: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
        assert_eq!(run(&read, &images), run(&graph, &images), "{model}");
    }
}

#[test]
fn what_pytorch_cannot_have_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("none.pt");
    let refused = |graph: &Graph| {
        let file = saved(folder.path(), graph);
        export(&file, ExportFormat::Torch, &out, &options(None)).expect_err("refused").to_string()
    };
    let error = refused(&int8_model(ModelId::EfficientNetV2S));
    assert!(error.contains("efficientnet_v2_s") && error.contains("no twin"), "{error}");
    let mut clamped = int8_model(ModelId::ResNet18);
    for node in &mut clamped.nodes {
        if let octet::graph::Numeric::Int8(q) = &mut node.numeric {
            q.qmax = 127;
        }
    }
    let error = refused(&clamped);
    assert!(error.contains("127") && error.contains("`quant`") && error.contains("--levels pytorch"), "{error}");
    assert!(!out.exists(), "nothing is left behind");
}

#[test]
fn a_broken_state_dict_is_one_error_that_names_the_key() {
    let float = tiny();
    let (fused, _) = quant::fuse(&float, &FuseOptions::default()).expect("a float graph");
    let whole = quantized(&fixture("tiny_int8.pth"));
    let one = |dict: &QuantizedDict| {
        let error = dict.take(&fused).expect_err("broken").to_string();
        assert!(error.contains("tiny_int8.pth") && !error.contains('\n'), "{error}");
        error
    };
    let without = |missing: &str| {
        let entries = whole.plain.iter().filter(|(k, _)| *k != missing).map(|(k, t)| (k.to_owned(), t.clone()));
        let plain = StateDict::new(Path::new(whole.source()), entries.collect());
        QuantizedDict { plain, weights: whole.weights.clone() }
    };
    assert!(one(&without("add.scale")).contains("1 missing: `add.scale`"));
    let mut fewer = whole.clone();
    let weight = fewer.weights.remove("fc.weight").expect("it is there");
    assert!(one(&fewer).contains("`fc.weight`"));
    fewer.weights.insert("other.weight".to_owned(), weight.clone());
    assert!(one(&fewer).contains("surplus: `other.weight`"));
    let mut narrow = whole.clone();
    narrow.weights.insert("conv1.weight".to_owned(), weight);
    assert!(one(&narrow).contains("`conv1.weight` [5, 8], not [8, 3, 3, 3]"));
}

#[test]
fn every_truncation_and_every_flipped_byte_is_an_error_or_a_state_dict() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hostile.pth");
    let whole = fs::read(fixture("tiny_int8.pth")).expect("a fixture");
    let mut tried = 0;
    let mut attempt = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a file");
        // What was flipped may be a number that nothing depends on.
        if let Err(error) = weights::read_any(&path) {
            let error = error.to_string();
            assert!(error.contains("hostile.pth") && !error.contains('\n'), "{error}");
            tried += 1;
        }
    };
    for len in (0..whole.len()).step_by(97) {
        attempt(&whole[..len]);
    }
    for at in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        attempt(&bytes);
    }
    assert!(tried > 100, "{tried}");
}

/// A run of the smallest model with the weights that come with it, on few images.
fn a_run(folder: &Path, recipe: &Recipe, name: &str) -> (Session, PathBuf) {
    let file = folder.join(name);
    let mut session = Session::new(Device::Cpu);
    for command in [Command::Open(Box::new(recipe.clone())), Command::RunAll(file.clone())] {
        session.apply(command, &mut |_| {}, &Control::default()).expect("all six steps");
    }
    (session, file)
}

#[test]
fn a_saved_recipe_makes_the_same_file_and_a_run_a_page_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recipe = Recipe::new(ModelId::ShuffleNetV2X05);
    recipe.calibration = Calibration { batches: 1, batch: 8, foresee: false };
    let (session, file) = a_run(folder.path(), &recipe, "one.octet.safetensors");
    let toml = folder.path().join("recipe.toml");
    save_recipe(&toml, session.recipe()).expect("a folder to write in");
    let read = read_recipe(&toml).expect("our own file");
    let (_, again) = a_run(folder.path(), &read, "two.octet.safetensors");
    assert_eq!(fs::read(&file).expect("it is there"), fs::read(again).expect("it is there"));

    let page = folder.path().join("report.html");
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_083_199);
    ReportJob::of_session(&session).expect("it is saved").write(&page, day).expect("a page");
    let html = fs::read_to_string(&page).expect("it is there");
    for said in [
        "ShuffleNetV2 x0.5",
        "2026-11-30",
        "Layer by layer",
        "stage2.0.branch1.0",
        "Environment",
        "[qconfig",
        "held out",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert!(html.matches("<svg").count() >= 4, "charts");
    assert_eq!(html.matches(" s</td></tr>").count(), 6, "how long each step took");
    for asks in ["<script", "<link", "<img", "src=", "href=", "url("] {
        assert!(!html.contains(asks), "{asks}");
    }
    let script = torch_script(&recipe).expect("the sample is there");
    for said in ["quantization as models", "fuse_model", "get_default_qconfig(\"x86\")", "convert(model)"] {
        assert!(script.contains(said), "{said}: {script}");
    }
}

/// ONNX has biases in int32, PyTorch in float32: the choice is made before the file, and then nothing is lost on the way out.
#[test]
fn with_biases_on_int32s_levels_onnx_computes_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recipe = Recipe::new(ModelId::ShuffleNetV2X05);
    recipe.calibration = Calibration { batches: 1, batch: 8, foresee: false };
    let worst = |recipe: &Recipe, name: &str| {
        let (session, file) = a_run(folder.path(), recipe, name);
        let out = folder.path().join("model.onnx");
        let exported = export(&file, ExportFormat::Onnx, &out, &options(None)).expect("an int8 file");
        (exported.check.worst, torch_script(session.recipe()).expect("the sample is there"))
    };
    let (apart, script) = worst(&recipe, "float.octet.safetensors");
    assert!(apart > 0.0 && !script.contains("int32"), "float32 biases move some level: {apart}");
    recipe.qconfig.biases = Biases::Int32;
    let (apart, script) = worst(&recipe, "int32.octet.safetensors");
    assert_eq!(apart, 0.0);
    assert!(script.contains("Biases stay float32"), "what PyTorch cannot do is said: {script}");
}
