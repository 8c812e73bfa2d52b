//! The contract of flags, JSON and exit codes, on the built program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use octet::session::synthetic_pair;
use octet::weights::octet::{Meta, write};
use octet::zoo::ModelConfig;
use serde_json::Value;
use tempfile::TempDir;

fn octet(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_octet")).args(args).current_dir(folder).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed and gives its JSON, which must be all that standard output holds.
fn json(folder: &Path, args: &[&str]) -> Value {
    let output = octet(folder, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Runs a command that must fail with exit code 1 and one last sentence; gives the sentence.
fn failure(folder: &Path, args: &[&str]) -> String {
    let output = octet(folder, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
    assert!(output.stdout.is_empty(), "{args:?} wrote to standard output");
    let text = stderr(&output);
    let last = text.lines().last().expect("a sentence").to_owned();
    assert!(last.starts_with("octet: "), "{args:?}: {text}");
    assert_eq!(text.matches("octet: ").count(), 1, "{args:?}: {text}");
    last
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn picture(path: &Path, size: u32, shade: impl Fn(u32, u32) -> [u8; 3]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    image::RgbImage::from_fn(size, size, |x, y| image::Rgb(shade(x, y))).save(path).expect("a picture can be saved");
}

/// Two classes that differ in colour.
fn folder_of_two_classes(root: &Path, each: u32) -> PathBuf {
    let data = root.join("data");
    for i in 0..each {
        let light = (i * 3) as u8;
        picture(&data.join(format!("blue/{i}.png")), 40, |x, _| [light, x as u8, 200]);
        picture(&data.join(format!("red/{i}.png")), 40, |_, y| [200, y as u8, light]);
    }
    data
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

#[test]
fn ptq_on_the_sample_keeps_its_accuracy_and_shrinks() {
    let dir = TempDir::new().expect("a folder");
    let report = json(dir.path(), &["ptq", "--out", "a.octet.safetensors"]);
    let expected =
        ["file", "float", "int8", "model", "qconfig", "saturation", "saturation_images", "shrink", "warnings"];
    assert_eq!(keys(&report), BTreeSet::from(expected));
    assert_eq!(report["saturation"].as_array().expect("a list").len(), 57, "every layer");
    assert_eq!(report["saturation_images"], 32);
    assert_eq!(report["model"], "shufflenet_v2_x0_5");
    assert_eq!(report["qconfig"], "x86");
    for side in ["float", "int8"] {
        assert_eq!(keys(&report[side]), BTreeSet::from(["accuracy", "bytes", "latency_ms"]));
        assert!(report[side]["latency_ms"].as_f64().expect("a number") > 0.0);
    }
    let float = report["float"]["accuracy"].as_f64().expect("a number");
    let int8 = report["int8"]["accuracy"].as_f64().expect("a number");
    assert!(float >= 0.90, "float {float}");
    assert!(int8 >= float - 0.01, "float {float}, int8 {int8}");

    let file = dir.path().join("a.octet.safetensors");
    let bytes = fs::metadata(&file).expect("the file was saved").len();
    assert_eq!(report["int8"]["bytes"], bytes);
    let shrink = report["shrink"].as_f64().expect("a number");
    assert!((shrink - report["float"]["bytes"].as_f64().expect("a number") / bytes as f64).abs() < 1e-9);

    let again = json(dir.path(), &["eval", "a.octet.safetensors"]);
    assert_eq!(keys(&again), BTreeSet::from(["accuracy", "images"]));
    assert_eq!(again["accuracy"].as_f64(), Some(int8));

    let inside = json(dir.path(), &["inspect", "a.octet.safetensors"]);
    assert_eq!(inside["labels"][0], "T-shirt/top");
    assert_eq!(inside["bytes"], bytes);
    assert!(inside["layers"].as_array().expect("layers").iter().all(|l| l["dtype"] == "int8"));
    assert_eq!(inside["float_layers"], serde_json::json!([]));
    assert_eq!(inside["saturation"].as_array().expect("a list").len(), 57);
    assert_eq!(inside["recipe"]["model"], "shufflenet_v2_x0_5");
}

#[test]
fn qat_trains_with_fake_quantization_and_converts_what_it_trained() {
    let dir = TempDir::new().expect("a folder");
    let flags = ["--epochs", "2", "--freeze-bn", "1", "--freeze-observers", "1", "--checkpoint", "a.checkpoint"];
    let result = json(dir.path(), &[&["qat", "--out", "qat.octet.safetensors"], &flags[..]].concat());
    let plain = ["model", "qconfig", "file", "float", "int8", "shrink", "saturation", "saturation_images", "warnings"];
    let own = ["fake", "pytorch", "epochs", "device"];
    assert_eq!(keys(&result), plain.into_iter().chain(own).collect());
    assert_eq!((&result["epochs"], &result["device"]), (&Value::from(2), &Value::from("cpu")));
    let accuracy = |of: &str| result[of]["accuracy"].as_f64().expect("labels");
    // The same levels in training and in int8: apart by the rounding of pools.
    assert!((accuracy("int8") - accuracy("fake")).abs() <= 0.002, "{result}");
    assert!(accuracy("int8") > accuracy("float") - 0.01, "{result}");
    let inside = json(dir.path(), &["inspect", "qat.octet.safetensors"]);
    assert_eq!(inside["method"], "qat");
    assert_eq!(inside["recipe"]["method"]["qat"]["freeze_bn"], 1);
    let eval = json(dir.path(), &["eval", "qat.octet.safetensors"]);
    assert_eq!(eval["accuracy"].as_f64(), Some(accuracy("int8")), "the clamp is in the file");

    // From its end a checkpoint gives the same file; of another training it is refused by the choice that differs.
    let again = [&["qat", "--out", "again.octet.safetensors", "--resume"], &flags[..]].concat();
    json(dir.path(), &again);
    let read = |name: &str| fs::read(dir.path().join(name)).expect("a file");
    assert!(read("qat.octet.safetensors") == read("again.octet.safetensors"));
    let other = failure(dir.path(), &[&again[..], &["--lr", "0.5"]].concat());
    assert!(other.contains("a.checkpoint: ") && other.contains("`method.qat.train.learning_rate` differs"), "{other}");
    let levels = ["qat", "--epochs", "1", "--levels", "pytorch", "--step-size", "learned", "--weights-per", "tensor"];
    assert!(json(dir.path(), &levels)["pytorch"]["accuracy"].is_null(), "it is what was converted");
}

#[test]
fn layers_left_in_float_are_saved_run_and_counted() {
    let dir = TempDir::new().expect("a folder");
    let ptq = |more: &[&str]| {
        json(dir.path(), &[&["ptq", "--calibration-batches", "1", "--out", "m.octet.safetensors"], more].concat())
    };
    let int8 = ptq(&[]);
    let mixed = ptq(&["--float-layers", "fc,conv1.0"]);
    let layers = |report: &Value| report["saturation"].as_array().expect("a list").len();
    assert_eq!(layers(&int8), layers(&mixed) + 2, "float layers cannot overflow");
    assert!(mixed["int8"]["bytes"].as_u64() > int8["int8"]["bytes"].as_u64());
    let again = json(dir.path(), &["eval", "m.octet.safetensors"]);
    assert_eq!(again["accuracy"], mixed["int8"]["accuracy"]);
    let inside = json(dir.path(), &["inspect", "m.octet.safetensors"]);
    assert_eq!(inside["float_layers"], serde_json::json!(["conv1.0", "fc"]));
    let dtypes: Vec<&Value> = inside["layers"].as_array().expect("layers").iter().map(|l| &l["dtype"]).collect();
    assert_eq!(dtypes.iter().filter(|d| **d == "float32").count(), 2);
    let text = octet(dir.path(), &["inspect", "m.octet.safetensors"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("in float32  conv1.0, fc") && text.contains("16 bits     "), "{text}");
}

#[test]
fn every_choice_reaches_the_file_and_inspect_shows_the_overrides() {
    let dir = TempDir::new().expect("a folder");
    let choices = [
        "--observer",
        "mse",
        "--scheme",
        "symmetric",
        "--weights-per",
        "tensor",
        "--override",
        "fc=weights-per=channel",
        "--override",
        "conv1.0=observer=percentile,percentile=99.9",
        "--float-layers",
        "conv5.0",
        "--biases",
        "int32",
    ];
    let file = ["ptq", "--calibration-batches", "2", "--out", "m.octet.safetensors"];
    let report = json(dir.path(), &[&file[..], &choices[..]].concat());
    assert!(report["int8"]["accuracy"].as_f64().expect("a number") > 0.5, "{report}");
    let inside = json(dir.path(), &["inspect", "m.octet.safetensors"]);
    let config = &inside["recipe"]["qconfig"];
    assert_eq!(
        (&config["activation"]["observer"], &config["activation"]["scheme"]),
        (&"mse".into(), &"symmetric".into())
    );
    assert_eq!((&config["weight"]["observer"], &config["biases"]), (&"min_max".into(), &"int32".into()));
    assert_eq!(config["overrides"]["conv5.0"], "float");
    let shown = &inside["overrides"];
    assert_eq!(keys(shown), BTreeSet::from(["conv1.0", "conv5.0", "fc"]));
    assert_eq!(shown["conv5.0"], "left in float");
    assert!(shown["conv1.0"].as_str().expect("a phrase").contains("99.9"), "{shown}");
    let scales = |name: &str| {
        let layers = inside["layers"].as_array().expect("layers");
        let layer = layers.iter().find(|l| l["name"] == name).expect("a layer");
        layer["weight_scales"].as_array().map(Vec::len)
    };
    assert_eq!((scales("fc"), scales("conv1.0"), scales("conv5.0")), (Some(10), Some(1), None));
    let nodes = inside["nodes"].as_array().expect("nodes");
    let quant = nodes.iter().find(|n| n["name"] == "quant").expect("a stub");
    assert_eq!(quant["zero_point"], 64, "symmetric at 0..127");
    let text = octet(dir.path(), &["inspect", "m.octet.safetensors"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("override    conv5.0  left in float"), "{text}");

    let sentence = failure(dir.path(), &["ptq", "--override", "conv9=float"]);
    assert!(sentence.contains("`conv9`") && sentence.contains("as conv1.0"), "{sentence}");
    let sentence = failure(dir.path(), &["ptq", "--override", "maxpool=observer=mse"]);
    assert!(sentence.contains("`maxpool`") && sentence.contains("`conv1.0`"), "{sentence}");
}

#[test]
fn a_study_says_so_and_affine_weights_have_no_file() {
    let dir = TempDir::new().expect("a folder");
    let ptq = |more: &[&str]| json(dir.path(), &[&["ptq", "--calibration-batches", "2"], more].concat());
    let report = ptq(&["--bits", "6", "--out", "six.octet.safetensors"]);
    let fake = report["fake"]["accuracy"].as_f64().expect("a number");
    let int8 = report["int8"]["accuracy"].as_f64().expect("a number");
    assert!((fake - int8).abs() < 0.03, "{report}");
    assert!(report["study"].as_str().expect("a sentence").contains("6 bits"));
    assert!(dir.path().join("six.octet.safetensors").exists());

    let report = ptq(&["--weight-scheme", "affine"]);
    assert!(report["file"].is_null() && report["int8"].is_null() && report["shrink"].is_null());
    assert!(report["fake"]["accuracy"].as_f64().expect("a number") > 0.85, "{report}");
    let files = fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(files, 1, "no file of affine weights");
    let output = octet(dir.path(), &["ptq", "--weight-scheme", "affine", "--out", "a.octet.safetensors"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("no int8 file"), "{}", stderr(&output));
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_build_without_cuda_says_so_before_it_reads_anything() {
    let folder = TempDir::new().expect("a folder");
    let said = failure(folder.path(), &["ptq", "--model", "resnet18", "--device", "cuda", "--out", "x.octet"]);
    assert!(said.contains("this build has no CUDA, which `cargo build --features cuda` adds"), "{said}");
    assert!(said.contains("run on the CPU instead"), "{said}");
}

#[test]
fn warnings_stand_on_standard_error_and_in_the_json() {
    let dir = TempDir::new().expect("a folder");
    let run = |more: &[&str]| {
        let output = octet(dir.path(), &[&["ptq", "--calibration-batches", "1", "--json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        // The shipped weights have dead channels.
        let warnings = report["warnings"].as_array().expect("a list").iter().filter(|w| w["kind"] != "zero_channels");
        (warnings.cloned().collect::<Vec<_>>(), stderr(&output))
    };
    let (warnings, said) = run(&[]);
    assert!(warnings.is_empty() && !said.contains("warning: node `conv1.1`"), "{said}");
    let (warnings, said) = run(&["--mean", "0,0,0", "--std", "1,1,1"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(keys(&warnings[0]), BTreeSet::from(["expected", "found", "kind", "node", "remedy"]));
    assert_eq!((&warnings[0]["kind"], &warnings[0]["node"]), (&"normalization".into(), &"conv1.1".into()));
    assert!(said.contains("warning: node `conv1.1`"), "{said}");
}

#[test]
fn the_file_is_the_same_on_any_number_of_threads() {
    let dir = TempDir::new().expect("a folder");
    for threads in ["1", "2"] {
        json(
            dir.path(),
            &["ptq", "--calibration-batches", "3", "--threads", threads, "--out", &format!("{threads}.safetensors")],
        );
    }
    let read = |name: &str| fs::read(dir.path().join(name)).expect("a file");
    assert!(read("1.safetensors") == read("2.safetensors"));
}

#[test]
fn models_lists_the_zoo() {
    let dir = TempDir::new().expect("a folder");
    let list = json(dir.path(), &["models"]);
    let list = list.as_array().expect("a list");
    assert_eq!(list.len(), 10);
    for model in list {
        assert_eq!(keys(model), BTreeSet::from(["float_bytes", "int8_bytes", "macs", "name", "params"]));
    }
    let of = |name: &str| list.iter().find(|m| m["name"] == name).expect("in the zoo");
    assert_eq!(of("resnet18")["params"], 11_193_441);
    assert_eq!(of("resnet18")["macs"], 1_813_578_240u64);
    assert!(of("resnet18")["int8_bytes"].as_u64().expect("a number") <= 11_300_000);
    assert!(of("shufflenet_v2_x0_5")["int8_bytes"].as_u64().expect("a number") <= 430_000);
}

#[test]
fn sizes_beat_what_is_published_and_stay_near_the_raw_weights() {
    let dir = TempDir::new().expect("a folder");
    let list = json(dir.path(), &["sizes"]);
    let list = list.as_array().expect("a list");
    assert_eq!(list.len(), 10);
    // Published float and int8 KB, and the KB that the int8 file may have: 3 % over its weights, biases and scales.
    let published = [
        ("shufflenet_v2_x0_5", 1629.99, 684.15, 430.0),
        ("mobilenet_v3_small", 6325.56, 1954.27, 1.03 * 1615.6),
        ("efficientnet_v2_s", 81722.74, 23666.48, 1.03 * 20928.0),
        ("resnet18", 44843.61, 11402.92, 1.03 * 11222.0),
        ("resnet50", 94597.31, 24540.52, 1.03 * 23737.0),
    ];
    for row in list {
        let columns = [
            "float_bytes",
            "int8_bytes",
            "name",
            "published_float_kb",
            "published_int8_kb",
            "pytorch_fused_kb",
            "shrink",
        ];
        assert_eq!(keys(row), BTreeSet::from(columns));
        let number = |key: &str| row[key].as_f64().expect("a number");
        let (float_kb, int8_kb) = (number("float_bytes") / 1e3, number("int8_bytes") / 1e3);
        assert!((number("shrink") - float_kb / int8_kb).abs() < 1e-9, "{row}");
        match published.iter().find(|p| row["name"] == p.0) {
            Some((name, float, int8, most)) => {
                assert_eq!((number("published_float_kb"), number("published_int8_kb")), (*float, *int8), "{name}");
                assert!(float_kb < *float && int8_kb < *int8 && int8_kb <= *most, "{name}: {float_kb}, {int8_kb}");
            }
            None => assert!(row["published_float_kb"].is_null() && row["published_int8_kb"].is_null(), "{row}"),
        }
    }
    let small = octet(dir.path(), &["sizes"]);
    let text = String::from_utf8(small.stdout).expect("text");
    assert!(text.contains("1851.2") && text.contains("published as MobileNetV3 large"), "{text}");
    // At another class count there is nothing to compare with.
    let other = json(dir.path(), &["sizes", "--classes", "10", "--size", "64"]);
    assert!(other.as_array().expect("a list").iter().all(|row| row["published_int8_kb"].is_null()));
}

#[test]
fn train_then_ptq_then_classify_on_a_folder() {
    let dir = TempDir::new().expect("a folder");
    let data = folder_of_two_classes(dir.path(), 20);
    fs::write(data.join("red/notes.png"), "no picture").expect("a file");
    let trained = json(
        dir.path(),
        &["train", "--model", "resnet18", "--data", text(&data), "--size", "32", "--epochs", "2", "--batch", "8"],
    );
    let all = ["accuracy", "best_epoch", "device", "epochs", "file", "last_accuracy", "model", "seconds"];
    assert_eq!(keys(&trained), BTreeSet::from(all));
    assert_eq!(trained["file"], "resnet18.safetensors");
    assert_eq!(trained["epochs"], 2);
    assert_eq!(trained["device"], "cpu");

    let output = octet(
        dir.path(),
        &[
            "ptq",
            "--model",
            "resnet18",
            "--weights",
            "resnet18.safetensors",
            "--data",
            text(&data),
            "--size",
            "32",
            "--calibration-batches",
            "9",
            "--batch",
            "8",
            "--json",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("notes.png"), "the broken picture is named: {}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["file"], "resnet18.octet.safetensors");
    assert!(report["int8"]["accuracy"].is_number());

    let image = data.join("blue/1.png");
    let int8 = json(dir.path(), &["classify", "resnet18.octet.safetensors", text(&image), "--logits"]);
    assert_eq!(keys(&int8[0]), BTreeSet::from(["image", "logits", "top"]));
    assert_eq!(int8[0]["top"].as_array().expect("a list").len(), 2);
    assert_eq!(keys(&int8[0]["top"][0]), BTreeSet::from(["class", "label", "probability"]));
    assert!(["blue", "red"].iter().any(|l| int8[0]["top"][0]["label"] == *l));
    let float = json(
        dir.path(),
        &["classify", "resnet18.safetensors", text(&image), "--model", "resnet18", "--size", "32", "--logits"],
    );
    let logits = |v: &Value| -> Vec<f64> {
        v[0]["logits"].as_array().expect("a list").iter().map(|l| l.as_f64().expect("a number")).collect()
    };
    let (a, b) = (logits(&float), logits(&int8));
    let spread = a.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1.0);
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.35 * spread), "float {a:?}, int8 {b:?}");
    assert!(json(dir.path(), &["inspect", "resnet18.safetensors"])["tensors"].is_array());

    // Images without labels calibrate all the same; accuracy is null, and that is said.
    let output = octet(
        dir.path(),
        &[
            "ptq",
            "--model",
            "resnet18",
            "--weights",
            "resnet18.safetensors",
            "--data",
            text(&data.join("blue")),
            "--size",
            "32",
            "--calibration-batches",
            "1",
            "--batch",
            "8",
            "--json",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("labels"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["int8"]["accuracy"].is_null() && report["float"]["accuracy"].is_null());
    let blue = data.join("blue");
    assert!(failure(dir.path(), &["eval", "resnet18.octet.safetensors", "--data", text(&blue)]).contains("labels"));
    assert!(failure(dir.path(), &["train", "--data", text(&blue), "--size", "32"]).contains("labels"));

    // A class count that does not fit: refused with the remedy, which then works.
    let two = ["--model", "resnet18", "--weights", "resnet18.safetensors"];
    let sentence = failure(dir.path(), &[&["ptq", "--classes", "10"], &two[..]].concat());
    assert!(sentence.contains("2 classes") && sentence.contains("--reinit-head"), "{sentence}");
    let sentence = failure(dir.path(), &[&["train", "--epochs", "1"], &two[..]].concat());
    assert!(sentence.contains("--reinit-head"), "{sentence}");
    let third = data.join("green");
    for i in 0..20u8 {
        picture(&third.join(format!("{i}.png")), 40, |x, y| [i, 200, (x + y) as u8]);
    }
    let rest = ["--data", text(&data), "--size", "32", "--epochs", "1", "--batch", "8", "--reinit-head"];
    let output = octet(dir.path(), &[&["train", "--out", "three.safetensors"], &two[..], &rest].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("head of 2 classes is left out"), "{}", stderr(&output));
    let tensors = json(dir.path(), &["inspect", "three.safetensors"])["tensors"].take();
    let head = tensors.as_array().expect("a list").iter().find(|t| t["key"] == "fc.weight").expect("a head");
    assert_eq!(head["shape"], serde_json::json!([3, 512]));
    fs::remove_dir_all(third).expect("the third class goes again");

    assert!(failure(dir.path(), &["eval", "resnet18.octet.safetensors"]).contains("classes"));
    let sentence =
        failure(dir.path(), &["train", "--model", "resnet18", "--weights", "resnet18.safetensors", "--epochs", "1"]);
    assert!(sentence.contains("2 classes") && sentence.contains("10"), "{sentence}");
}

#[test]
fn training_follows_its_flags_and_halves_its_file() {
    let dir = TempDir::new().expect("a folder");
    let data = folder_of_two_classes(dir.path(), 20);
    let common = ["train", "--data", text(&data), "--size", "32", "--epochs", "3", "--batch", "8"];
    let train = |out: &str, more: &[&str]| json(dir.path(), &[&common[..], &["--out", out], more].concat());
    let half = train("half.safetensors", &["--half"]);
    let whole = train("whole.safetensors", &[]);
    let bytes = |name: &str| fs::metadata(dir.path().join(name)).expect("a file").len() as f64;
    assert!((0.45..0.65).contains(&(bytes("half.safetensors") / bytes("whole.safetensors"))));
    let best = whole["best_epoch"].as_u64().expect("a number");
    assert!((1..=3).contains(&best) && whole["last_accuracy"].as_f64() <= whole["accuracy"].as_f64(), "{whole}");
    // What is said of a halved file is of the file.
    let again = json(
        dir.path(),
        &["eval", "half.safetensors", "--model", "shufflenet_v2_x0_5", "--data", text(&data), "--size", "32"],
    );
    assert_eq!(again["accuracy"], half["accuracy"]);

    // Every flag moves the weights.
    let read = |name: &str| fs::read(dir.path().join(name)).expect("a file");
    for (i, flags) in [
        &["--optimizer", "sgd"][..],
        &["--weight-decay", "0.4"],
        &["--warmup", "2"],
        &["--label-smoothing", "0.2"],
        &["--no-augment"],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{i}.safetensors");
        train(&name, flags);
        assert!(read(&name) != read("whole.safetensors"), "{flags:?} changed nothing");
    }
}

#[test]
fn a_wrong_flag_ends_with_2() {
    let dir = TempDir::new().expect("a folder");
    for args in [
        &["ptq", "--no-such-flag"][..],
        &["ptq", "--model", "resnet19"],
        &["ptq", "--qconfig", "arm"],
        &["ptq", "--observer", "best"],
        &["ptq", "--bits", "3"],
        &["ptq", "--override", "fc"],
        &["ptq", "--float-layers", "fc", "--override", "fc=bits=8"],
        &["ptq", "--calibration-batches", "0"],
        &["ptq", "--mean", "1,2"],
        &["ptq", "--std", "0,1,1"],
        &["train", "--lr", "-1"],
        &["train", "--weight-decay", "1"],
        &["train", "--warmup", "-1"],
        &["train", "--label-smoothing", "1"],
        &["train", "--optimizer", "adam"],
        &["qat", "--epochs", "0"],
        &["qat", "--observer", "histogram"],
        &["qat", "--weight-scheme", "affine"],
        &["qat", "--freeze-observers", "0"],
        &["qat", "--resume"],
        &["eval"],
        &["no-such-command"],
    ] {
        let output = octet(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn bad_input_is_one_sentence_and_1() {
    let dir = TempDir::new().expect("a folder");
    let here = dir.path();
    let says = |args: &[&str], words: &[&str]| {
        let sentence = failure(here, args);
        for word in words {
            assert!(sentence.contains(word), "{args:?}: `{sentence}` lacks `{word}`");
        }
    };
    says(&["eval", "missing.octet.safetensors"], &["missing.octet.safetensors"]);
    says(&["ptq", "--weights", "missing.pth"], &["missing.pth"]);
    says(&["ptq", "--data", "nowhere"], &["nowhere"]);
    says(&["ptq", "--out", "no/folder/x.safetensors"], &["no/folder", "does not exist"]);
    says(&["ptq", "--size", "16"], &["16", "32"]);

    fs::create_dir(here.join("empty")).expect("a folder");
    says(&["ptq", "--data", "empty"], &["empty"]);

    fs::write(here.join("text.pth"), "not a checkpoint").expect("a file");
    says(&["ptq", "--weights", "text.pth"], &["text.pth"]);
    fs::write(here.join("text.octet.safetensors"), "nor this").expect("a file");
    says(&["eval", "text.octet.safetensors"], &["text.octet.safetensors"]);

    json(here, &["ptq", "--calibration-batches", "1", "--out", "good.octet.safetensors"]);
    let good = fs::read(here.join("good.octet.safetensors")).expect("a file");
    fs::write(here.join("cut.octet.safetensors"), &good[..good.len() / 2]).expect("a file");
    says(&["eval", "cut.octet.safetensors"], &["cut.octet.safetensors"]);
    says(&["eval", "good.octet.safetensors", "--classes", "11"], &["10", "11"]);
    fs::write(here.join("a.png"), "no picture").expect("a file");
    says(&["classify", "good.octet.safetensors", "a.png"], &["a.png"]);
}

#[test]
fn analyze_says_where_how_sure_and_whose() {
    let dir = TempDir::new().expect("a folder");
    let here = dir.path();
    json(here, &["ptq", "--qconfig", "qnnpack", "--equalize", "--correct-bias", "--adaround", "fc", "--out", "a"]);
    let report = json(here, &["analyze", "a", "--images", "48"]);
    let expected = [
        "classes",
        "difference",
        "file",
        "flips",
        "float",
        "images",
        "int8",
        "layers",
        "model",
        "qconfig",
        "suspects",
        "sweep",
    ];
    assert_eq!(keys(&report), BTreeSet::from(expected));
    assert_eq!((&report["images"], &report["sweep"]["images"]), (&Value::from(2500), &Value::from(48)));
    let layers = report["layers"].as_array().expect("a list");
    let expected = ["error", "error_alone", "flips_owed", "name", "one_float", "one_quantized", "op", "weight"];
    assert_eq!(keys(&layers[0]), BTreeSet::from(expected));
    assert_eq!(keys(&layers[1]["error"]), BTreeSet::from(["cosine", "mse", "sqnr_db"]));
    assert_eq!(keys(&layers[1]["one_float"]), BTreeSet::from(["accuracy", "logit_mse"]));
    assert_eq!(report["suspects"].as_array().expect("a list").len(), layers.len());
    let share = |side: &str| report[side]["accuracy"].as_f64().expect("a number");
    let difference = &report["difference"];
    assert!((share("int8") - share("float") - difference["accuracy"].as_f64().expect("a number")).abs() < 1e-9);
    assert!(difference["says"].as_str().is_some_and(|s| s.contains("points")), "{difference}");
    let report = json(here, &["analyze", "a", "--images", "8", "--promise", "5", "--out", "kept", "--calibration"]);
    let promise = &report["promise"];
    let expected = [
        "chosen",
        "file",
        "float",
        "float_bytes",
        "loss_allowed",
        "outcome",
        "says",
        "searched",
        "seed",
        "trials",
        "verified",
    ];
    assert_eq!(keys(promise), BTreeSet::from(expected));
    assert_eq!((&promise["outcome"], promise["loss_allowed"].as_f64()), (&Value::from("kept"), Some(0.05)));
    let verified = &promise["verified"];
    assert_eq!(keys(verified), BTreeSet::from(["float", "images", "int8", "interval", "loss"]));
    let images = |v: &Value| v.as_u64().expect("a count");
    assert_eq!(images(&promise["searched"]) + images(&verified["images"]), 2500, "no image is in both");
    assert!(json(here, &["eval", "kept"])["accuracy"].as_f64().expect("a number") > 0.86);
    assert_eq!(report["calibration"]["points"].as_array().expect("a list").len(), 24);
    let table = octet(here, &["analyze", "a", "--images", "8"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("most suspect") && table.contains("weights alone"), "{table}");

    // Weights of another training, and weights that no file holds.
    json(here, &["train", "--epochs", "1", "--batch", "500", "--lr", "1e-9", "--out", "other.safetensors"]);
    let sentence = failure(here, &["analyze", "a", "--weights", "other.safetensors"]);
    assert!(sentence.contains("are not those of the float weights"), "{sentence}");
    let sentence = failure(here, &["analyze", "other.safetensors"]);
    assert!(sentence.contains("other.safetensors"), "{sentence}");
}

/// Another shape and other bytes for the tensor of a key; an empty shape leaves it out.
type Change = dyn Fn(&str) -> Option<(Vec<usize>, Vec<u8>)>;

#[test]
fn bad_weights_are_named() {
    use safetensors::tensor::{Dtype, TensorView};
    let dir = TempDir::new().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/weights/shufflenet_v2_x0_5.safetensors");
    let bytes = fs::read(shipped).expect("shipped weights");
    let dict = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let write = |name: &str, change: &Change| {
        let mut owned = Vec::new();
        for (key, view) in dict.tensors() {
            match change(&key) {
                Some((shape, data)) if !shape.is_empty() => owned.push((key, Dtype::F32, shape, data)),
                Some(_) => {}
                None => owned.push((key, view.dtype(), view.shape().to_vec(), view.data().to_vec())),
            }
        }
        let views: Vec<_> = owned
            .iter()
            .map(|(k, d, s, b)| (k.clone(), TensorView::new(*d, s.clone(), b).expect("a tensor")))
            .collect();
        let path = dir.path().join(name);
        safetensors::serialize_to_file(views, None, &path).expect("a file");
        path
    };
    let nan = write("nan.safetensors", &|k| {
        (k == "fc.bias").then(|| (vec![10], [f32::NAN; 10].iter().flat_map(|v| v.to_le_bytes()).collect()))
    });
    let missing = write("missing.safetensors", &|k| (k == "conv5.0.weight").then(|| (Vec::new(), Vec::new())));
    let shape = write("shape.safetensors", &|k| (k == "conv5.1.bias").then(|| (vec![7], vec![0; 28])));
    for (path, words) in
        [(nan, ["fc.bias", ""]), (missing, ["conv5.0.weight", "missing"]), (shape, ["conv5.1.bias", "7"])]
    {
        let sentence = failure(dir.path(), &["ptq", "--weights", text(&path)]);
        assert!(words.iter().all(|w| sentence.contains(w)), "{sentence}");
    }
    // The right weights of another model.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/weights/shufflenet_v2_x0_5.safetensors");
    let sentence = failure(dir.path(), &["ptq", "--model", "resnet18", "--weights", text(&shipped)]);
    assert!(sentence.contains("layer1.0.conv1.weight") || sentence.contains("conv1.weight"), "{sentence}");
}

/// timm's keys do not tell its variants apart: said by every command that trusts them.
#[test]
fn weights_of_timms_come_with_a_caution() {
    use octet::zoo::{self, ModelConfig, ModelId};
    use safetensors::tensor::{Dtype, TensorView};
    let dir = TempDir::new().expect("a folder");
    let config = ModelConfig { classes: 10, size: 32 };
    let graph = zoo::init(&zoo::build(ModelId::MobileNetV3Small, config).expect("a model"), 1);
    let names = fs::read_to_string("tests/fixtures/timm.mobilenet_v3_small.txt").expect("a fixture");
    let entries = names.lines().map(|line| {
        let (timm, torchvision) = line.split_once(' ').expect("two keys");
        let params = graph.params();
        let tensor = params.iter().find(|p| graph.key(p) == torchvision).expect("in the zoo").tensor;
        let mut shape = tensor.shape.clone();
        if timm == "conv_head.weight" {
            shape.extend([1, 1]);
        }
        (timm.to_owned(), shape, tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    });
    let entries: Vec<_> = entries.collect();
    let views = entries
        .iter()
        .map(|(key, shape, bytes)| (key, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor")));
    safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &dir.path().join("t.safetensors")).expect("a file");
    picture(&dir.path().join("a.png"), 32, |x, y| [x as u8, y as u8, 9]);
    let model = ["--model", "mobilenet_v3_small"];
    for args in [
        &["eval", "t.safetensors"][..],
        &["classify", "t.safetensors", "a.png", "--size", "32"],
        &["ptq", "--weights", "t.safetensors", "--calibration-batches", "1"],
    ] {
        let output = octet(dir.path(), &[args, &model].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        assert_eq!(stderr(&output).matches("timm's keys").count(), 1, "{args:?}: {}", stderr(&output));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let dir = TempDir::new().expect("a folder");
    // A limit on file size fails a write the way a full disk does.
    let script = format!("trap '' XFSZ; ulimit -f 100; exec {} ptq --calibration-batches 1 --out x.safetensors", {
        env!("CARGO_BIN_EXE_octet")
    });
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().expect("a shell");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("x.safetensors"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0, "something was left behind");
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_display_the_window_names_the_command() {
    let output = Command::new(env!("CARGO_BIN_EXE_octet"))
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("WAYLAND_SOCKET")
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("octet ptq"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn bench_times_float_and_int8_in_turns_and_a_file_alone() {
    let dir = TempDir::new().expect("a folder");
    let report = json(dir.path(), &["bench", "--size", "32", "--batch", "2", "--seconds", "0.05", "--layers"]);
    let expected = ["batch", "cpu", "float", "int8", "isa", "layers", "model", "peak_bytes", "size", "threads"];
    assert_eq!(keys(&report), BTreeSet::from(expected));
    assert_eq!((&report["model"], &report["batch"]), (&"shufflenet_v2_x0_5".into(), &2.into()));
    assert_eq!(keys(&report["float"]), BTreeSet::from(["images_per_second", "median_ms", "p90_ms"]));
    assert_eq!(keys(&report["int8"]), BTreeSet::from(["floor_ms", "images_per_second", "median_ms", "p90_ms"]));
    let ms = |side: &str, key: &str| report[side][key].as_f64().expect("a number");
    assert!(ms("int8", "median_ms") > 0.0 && ms("int8", "p90_ms") >= ms("int8", "median_ms"));
    let layers = report["layers"].as_array().expect("a list");
    assert!(layers.iter().any(|l| l["name"] == "conv1.0" && l["macs"].as_u64() > Some(0)), "{layers:?}");

    json(dir.path(), &["ptq", "--calibration-batches", "1", "--out", "a.octet.safetensors"]);
    let alone = json(dir.path(), &["bench", "a.octet.safetensors", "--threads", "1", "--seconds", "0.05"]);
    assert!(alone.get("float").is_none() && alone["int8"]["median_ms"].as_f64() > Some(0.0), "{alone}");
    assert_eq!((&alone["size"], &alone["threads"]), (&32.into(), &1.into()));
    let error = failure(dir.path(), &["bench", "missing.octet.safetensors"]);
    assert!(error.contains("missing.octet.safetensors"), "{error}");
}

/// How much a machine must have for the zoo's largest weights: the file is read, packed and run within 120 MB.
#[test]
fn bench_of_a_resnet50_file_keeps_within_its_memory() {
    let dir = TempDir::new().expect("a folder");
    let config = ModelConfig { classes: 33, size: 224 };
    let (_, int8) = synthetic_pair("resnet50".parse().expect("a model"), config).expect("it is made");
    let meta = Meta {
        labels: (0..config.classes).map(|i| i.to_string()).collect(),
        preprocess: serde_json::json!({ "size": 224, "fit": "crop", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5] }),
        recipe: Value::Null,
    };
    write(&dir.path().join("resnet50.octet.safetensors"), &int8, &meta).expect("it is written");
    let report = json(dir.path(), &["bench", "resnet50.octet.safetensors", "--batch", "1", "--seconds", "0.05"]);
    match report["peak_bytes"].as_u64() {
        Some(bytes) => assert!(bytes < 120_000_000, "{bytes} bytes"),
        None if cfg!(target_os = "linux") => panic!("Linux tells it: {report}"),
        None => {}
    }
}
