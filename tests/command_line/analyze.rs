//! `analyze`.

use std::collections::BTreeSet;

use serde_json::Value;
use tempfile::TempDir;

use crate::{failure, json, keys, octet};

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
