//! `train`, and what follows it on a folder of pictures.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{failure, folder_of_two_classes, json, keys, octet, picture, stderr, text};

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

    let quantized = |data: &Path, batches: &str| {
        let trained = ["ptq", "--model", "resnet18", "--weights", "resnet18.safetensors", "--data", text(data)];
        let small = ["--size", "32", "--calibration-batches", batches, "--batch", "8", "--json"];
        octet(dir.path(), &[&trained[..], &small].concat())
    };
    let output = quantized(&data, "9");
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
    let output = quantized(&data.join("blue"), "1");
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
