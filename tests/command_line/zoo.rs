//! `models` and `bench`: sizes, times and memory.

use std::collections::BTreeSet;

use octet::session::synthetic_pair;
use octet::weights::octet::{Meta, write};
use octet::zoo::ModelConfig;
use serde_json::Value;
use tempfile::TempDir;

use crate::{failure, json, keys, octet};

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
