//! `ptq` and `qat`: what they measure, write and warn of.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::{failure, json, keys, octet, stderr};

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
fn warnings_stand_on_standard_error_and_in_the_json() {
    let dir = TempDir::new().expect("a folder");
    let run = |more: &[&str]| {
        let output = octet(dir.path(), &[&["ptq", "--calibration-batches", "1", "--json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        // The shipped weights have dead channels, and images that are hardly seen have logits hardly apart.
        let other = |w: &&Value| w["kind"] != "zero_channels" && w["kind"] != "tied_classes";
        let warnings = report["warnings"].as_array().expect("a list").iter().filter(other);
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

/// The remedy that the warning names gives back what the ties had cost.
#[test]
fn logits_too_coarse_to_tell_classes_apart_are_told_with_what_helps() {
    let dir = TempDir::new().expect("a folder");
    let run = |more: &[&str]| {
        let report = json(dir.path(), &[&["ptq", "--model", "mobilenet_v3_small"], more].concat());
        let warnings = report["warnings"].as_array().expect("a list").clone();
        let tied = warnings.into_iter().find(|w| w["kind"] == "tied_classes");
        (tied, report["int8"]["accuracy"].as_f64().expect("an accuracy"))
    };
    let (tied, coarse) = run(&[]);
    let tied = tied.expect("one level of its logits is 1.5 wide");
    assert_eq!(tied["node"], "classifier.3");
    assert!(tied["remedy"].as_str().is_some_and(|r| r.contains("in float")), "{tied}");
    let (tied, fine) = run(&["--float-layers", "classifier.3"]);
    assert_eq!(tied, None);
    assert!(fine > coarse + 0.01, "{fine} against {coarse}");
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
