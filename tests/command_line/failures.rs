//! What ends with 1 or 2, in one sentence, and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{failure, json, octet, picture, stderr, text};

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
#[cfg(not(feature = "cuda"))]
fn a_build_without_cuda_says_so_before_it_reads_anything() {
    let folder = TempDir::new().expect("a folder");
    let said = failure(folder.path(), &["ptq", "--model", "resnet18", "--device", "cuda", "--out", "x.octet"]);
    assert!(said.contains("this build has no CUDA, which `cargo build --features cuda` adds"), "{said}");
    assert!(said.contains("run on the CPU instead"), "{said}");
}
