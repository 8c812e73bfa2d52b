use std::{fs, io::Write as _, path::PathBuf};

use zip::write::SimpleFileOptions;

use super::*;
use crate::graph::{Builder, ConvSpec, Graph, Op, Shape, Tensor};

/// The model of `tests/fixtures/make.py`.
fn tiny() -> Graph {
    let (mut b, x) = Builder::new("tiny", Shape::new(3, 8, 8));
    let x = b.conv("conv1", x, ConvSpec::new(4, 3));
    let x = b.bn("bn1", x, 1e-5, 0.1);
    let x = b.push("mean", Op::MeanHw, &[x]);
    b.linear("fc", x, 5);
    b.finish()
}

/// The values that `make.py` gives a tensor.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((7 * i + len) % 13) as f32 / 8.0 - 0.75).collect()
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn message<T: std::fmt::Debug>(result: Result<T, WeightsError>) -> String {
    let message = result.expect_err("an error").to_string();
    assert!(!message.contains('\n'), "one sentence: {message}");
    message
}

fn dict(entries: &[(&str, &[usize])]) -> StateDict {
    let tensor = |shape: &[usize]| Tensor::new(shape, values(shape.iter().product()));
    let entries = entries.iter().map(|(key, shape)| ((*key).to_owned(), tensor(shape))).collect();
    StateDict::new(Path::new("some.pth"), entries)
}

const TINY: [(&str, &[usize]); 7] = [
    ("conv1.weight", &[4, 3, 3, 3]),
    ("bn1.weight", &[4]),
    ("bn1.bias", &[4]),
    ("bn1.running_mean", &[4]),
    ("bn1.running_var", &[4]),
    ("fc.weight", &[5, 4]),
    ("fc.bias", &[5]),
];

#[test]
fn every_file_of_pytorch_gives_the_same_weights() {
    for name in ["zip.pth", "zip_protocol4.pth", "legacy.pth", "checkpoint.pth", "mixed.pth"] {
        let dict = read(&fixture(name)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((dict.len(), classes(&dict)), (8, Some(5)), "{name}");
        let graph = load(&tiny(), &dict).unwrap_or_else(|e| panic!("{e}"));
        for param in graph.params() {
            let expected = values(param.tensor.len());
            assert_eq!(param.tensor.data[..], expected[..], "{name}: {}", graph.key(&param));
        }
    }
}

#[test]
fn a_pickled_model_is_refused_by_the_name_of_its_class() {
    let error = read(&fixture("whole_model.pth")).expect_err("a class is no data");
    assert!(matches!(&error, WeightsError::Global { global, .. } if global == "__main__.Tiny"), "{error}");
}

/// `torch.save`'s archive around any pickle and one storage.
fn archive(folder: &Path, pickle: &[u8], storage: &[u8]) -> PathBuf {
    let path = folder.join("made.pth");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).expect("a file"));
    for (name, content) in [("archive/data.pkl", pickle), ("archive/data/0", storage)] {
        zip.start_file(name, SimpleFileOptions::default()).expect("an entry");
        zip.write_all(content).expect("its content");
    }
    zip.finish().expect("an archive");
    path
}

/// A dictionary of one tensor, `{"w": _rebuild_tensor_v2(storage of `len`, 0, (size,), (stride,), False, None)}`.
fn one_tensor(len: u32, size: u32, stride: u32) -> Vec<u8> {
    let mut p = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    p.extend(b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ");
    p.extend(len.to_le_bytes());
    p.extend(b"tQK\0J");
    p.extend(size.to_le_bytes());
    p.extend(b"\x85J");
    p.extend(stride.to_le_bytes());
    p.extend(b"\x85\x89NtRs.");
    p
}

#[test]
fn a_pickle_that_calls_something_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (pickle, global) in [
        (&b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."[..], "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        (b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n.", "torch._utils._rebuild_sparse_tensor"),
    ] {
        let error = read(&archive(folder.path(), pickle, &[])).expect_err("not run");
        assert!(matches!(&error, WeightsError::Global { global: g, .. } if g == global), "{error}");
    }
}

#[test]
fn strided_views_must_lie_within_their_storage() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage: Vec<u8> = values(6).iter().flat_map(|v| v.to_le_bytes()).collect();
    let good = read(&archive(folder.path(), &one_tensor(6, 3, 2), &storage)).expect("every second value");
    let six = values(6);
    assert_eq!(good.get("w").expect("it is there").data[..], [six[0], six[2], six[4]]);
    for pickle in
        [one_tensor(6, 4, 2), one_tensor(6, 0x7fff_ffff, 0), one_tensor(7, 3, 2), one_tensor(0x7fff_ffff, 3, 2)]
    {
        let error = message(read(&archive(folder.path(), &pickle, &storage)));
        assert!(error.contains("made.pth"), "{error}");
    }
}

#[test]
fn damaged_files_are_one_clear_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cut.pth");
    for name in ["zip.pth", "legacy.pth", "mixed.pth"] {
        let whole = fs::read(fixture(name)).expect("a fixture");
        for cut in (0..whole.len()).step_by(97) {
            fs::write(&path, &whole[..cut]).expect("a file");
            assert!(message(read(&path)).contains("cut.pth"));
        }
        // Any single byte changed: an error or a dictionary, never a panic.
        for at in (0..whole.len()).step_by(13) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            fs::write(&path, bytes).expect("a file");
            let _ = read(&path);
        }
    }
    for (name, content, expected) in [
        ("no.safetensors", &b"not one"[..], "safetensors"),
        ("no.pth", b"not one", "not a PyTorch file"),
        ("empty.pth", b"", "not a PyTorch file"),
    ] {
        fs::write(folder.path().join(name), content).expect("a file");
        let error = message(read(&folder.path().join(name)));
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
    assert!(message(read(&folder.path().join("none.pth"))).contains("none.pth"));
}

#[test]
fn prefixes_are_stripped_and_the_head_is_found() {
    for prefix in ["", "model.", "module.", "module.model."] {
        let entries: Vec<(String, &[usize])> = TINY.iter().map(|(k, s)| (format!("{prefix}{k}"), *s)).collect();
        let entries: Vec<(&str, &[usize])> = entries.iter().map(|(k, s)| (k.as_str(), *s)).collect();
        let dict = dict(&entries);
        assert_eq!(classes(&dict), Some(5), "{prefix}");
        load(&tiny(), &dict).unwrap_or_else(|e| panic!("{e}"));
    }
    assert_eq!(classes(&dict(&[("features.1.fc1.weight", &[2, 3])])), None);
}

#[test]
fn keys_that_do_not_fit_are_listed_in_one_error() {
    let mut entries = TINY.to_vec();
    entries[0].1 = &[4, 3, 5, 5];
    entries.remove(1);
    entries.push(("extra.weight", &[2]));
    let error = message(load(&tiny(), &dict(&entries)));
    for part in
        ["some.pth", "tiny", "1 missing: `bn1.weight`", "1 surplus: `extra.weight`", "[4, 3, 5, 5], not [4, 3, 3, 3]"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let many: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    let surplus: Vec<(&str, &[usize])> = many.iter().map(|k| (k.as_str(), &[1][..])).chain(TINY).collect();
    let error = message(load(&tiny(), &dict(&surplus)));
    assert!(error.contains("20 surplus") && error.contains("`k7` and 12 more") && !error.contains("k8"), "{error}");
}

#[test]
fn a_value_that_is_no_number_is_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let entries = TINY.iter().map(|(key, shape)| {
            let mut data = values(shape.iter().product());
            if *key == "fc.bias" {
                data[3] = bad;
            }
            ((*key).to_owned(), Tensor::new(*shape, data))
        });
        let dict = StateDict::new(Path::new("some.pth"), entries.collect());
        let error = message(load(&tiny(), &dict));
        assert!(error.contains("`fc.bias`") && error.contains("position 3"), "{error}");
    }
}

#[test]
fn safetensors_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph = load(&tiny(), &dict(&TINY)).expect("it fits");
    for half in [false, true] {
        let path = folder.path().join("w.safetensors");
        let bytes = write_safetensors(&path, &graph, half).expect("written");
        assert_eq!(bytes, fs::metadata(&path).expect("a file").len());
        let first = fs::read(&path).expect("a file");
        write_safetensors(&path, &graph, half).expect("over the first");
        assert_eq!(first, fs::read(&path).expect("a file"), "the same bytes");
        // The values are eighths, which float16 holds exactly.
        assert_eq!(load(&tiny(), &read(&path).expect("read")).expect("it fits"), graph);
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no temporary file stays");
}

#[test]
fn safetensors_in_half_precision_of_either_kind_are_read() {
    use half::{bf16, f16};
    use safetensors::{Dtype, tensor::TensorView};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("w.safetensors");
    // Eighths up to four: both kinds hold them exactly.
    let values = |len: usize| (0..len).map(|i| (i % 32) as f32 / 8.0).collect::<Vec<f32>>();
    type Narrow = fn(f32) -> [u8; 2];
    let kinds: [(Dtype, Narrow); 2] =
        [(Dtype::F16, |v| f16::from_f32(v).to_le_bytes()), (Dtype::BF16, |v| bf16::from_f32(v).to_le_bytes())];
    for (dtype, narrow) in kinds {
        let bytes =
            TINY.map(|(_, shape)| values(shape.iter().product()).into_iter().flat_map(narrow).collect::<Vec<u8>>());
        let views = TINY.iter().zip(&bytes).map(|((key, shape), bytes)| {
            (format!("model.{key}"), TensorView::new(dtype, shape.to_vec(), bytes).expect("a tensor"))
        });
        safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &path).expect("written");
        let loaded = load(&tiny(), &read(&path).expect("read")).unwrap_or_else(|e| panic!("{dtype:?}: {e}"));
        for param in loaded.params() {
            assert_eq!(param.tensor.data[..], values(param.tensor.data.len()), "{dtype:?}: {}", loaded.key(&param));
        }
    }
}

#[test]
fn what_float16_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph = tiny().with_params(&[("fc.weight".to_owned(), Tensor::full([5, 4], 1e6))].into());
    let error = message(write_safetensors(&folder.path().join("w.safetensors"), &graph, true));
    assert!(error.contains("fc.weight"), "{error}");
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none").join("w.safetensors");
    assert!(message(write_safetensors(&missing, &tiny(), false)).contains("cannot be written"));
    // A folder in the file's place: the temporary file is written, the rename fails.
    let taken = folder.path().join("taken");
    fs::create_dir_all(taken.join("inside")).expect("a folder");
    assert!(message(write_safetensors(&taken, &tiny(), false)).contains("taken"));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "the temporary file is removed");
}

/// The keys of timm's models and torchvision's names for them, one pair a line, as `tests/fixtures/timm_keys.py` wrote
/// them after it had compared the logits of both models.
fn timm_keys(model: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(fixture(&format!("timm.{model}.txt"))).expect("a fixture");
    let pairs = text.lines().map(|line| line.split_once(' ').expect("two keys"));
    pairs.map(|(timm, torchvision)| (timm.to_owned(), torchvision.to_owned())).collect()
}

/// A dictionary under timm's keys for `graph`, its values told apart by their torchvision names.
fn timm_dict(path: &str, prefix: &str, graph: &Graph, pairs: &[(String, String)]) -> StateDict {
    let params = graph.params();
    let entries = pairs.iter().map(|(timm, torchvision)| {
        let param = params.iter().find(|p| graph.key(p) == *torchvision).expect("the zoo has timm's keys");
        let mut shape = param.tensor.shape.clone();
        if timm == "conv_head.weight" && shape.len() == 2 {
            shape.extend([1, 1]);
        }
        (format!("{prefix}{timm}"), Tensor::full(shape, 1.0 + torchvision.len() as f32))
    });
    StateDict::new(Path::new(path), entries.collect())
}

#[test]
fn timms_keys_are_renamed() {
    for model in ["mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_v2_s"] {
        let graph =
            crate::zoo::build(model.parse().expect("in the zoo"), crate::zoo::ModelConfig { classes: 7, size: 32 })
                .expect("a model");
        let pairs = timm_keys(model);
        assert_eq!(pairs.len(), graph.params().len(), "{model}");
        for prefix in ["", "module."] {
            let dict = timm_dict("model.safetensors", prefix, &graph, &pairs);
            assert_eq!(classes(&dict), Some(7), "{model}");
            assert!(caution(&graph, &dict).is_some_and(|c| c.contains("tf_")), "{model}");
            let loaded = load(&graph, &dict).unwrap_or_else(|e| panic!("{e}"));
            for param in loaded.params() {
                let key = loaded.key(&param);
                let value = |key: &str| f64::from(1.0 + key.len() as f32);
                // A batch norm is scaled from timm's eps to ours.
                let variance = format!("{}.running_var", loaded.node(param.node).name);
                let normalizes = pairs.iter().any(|(_, name)| *name == variance);
                let factor = match (param.part, normalizes) {
                    ("weight", true) => ((value(&variance) + 1e-3) / (value(&variance) + 1e-5)).sqrt(),
                    _ => 1.0,
                };
                let expected = (value(&key) * factor) as f32;
                assert!(param.tensor.data.iter().all(|v| *v == expected), "{model}: {key}");
            }
        }
        let error = message(load(&graph, &timm_dict("tf_model-1234.pth", "", &graph, &pairs)));
        assert!(error.contains("tf_model-1234.pth") && error.contains("pad"), "{error}");
        // One key that the table does not know is surplus, the one that it stood for missing.
        let mut other = pairs;
        other[3].0 = "blocks.9.9.conv_dw.weight".to_owned();
        other[3].1 = graph.key(&graph.params()[0]);
        let error = message(load(&graph, &timm_dict("model.pth", "", &graph, &other)));
        assert!(error.contains("1 surplus: `blocks.9.9.conv_dw.weight`") && error.contains("1 missing"), "{error}");
    }
}

#[test]
fn a_head_is_left_out_only_on_request() {
    let mut entries = TINY.to_vec();
    entries[5].1 = &[9, 4];
    entries[6].1 = &[9];
    let dict = dict(&entries);
    assert!(message(load(&tiny(), &dict)).contains("fc.weight"));
    let graph = tiny().with_params(&[("fc.weight".to_owned(), Tensor::full([5, 4], 0.25))].into());
    let loaded = load_without_head(&graph, &dict).expect("the rest fits");
    for param in loaded.params() {
        let expected = match loaded.key(&param).as_str() {
            "fc.weight" => vec![0.25; 20],
            "fc.bias" => vec![0.0; 5],
            _ => values(param.tensor.len()),
        };
        assert_eq!(param.tensor.data[..], expected[..], "{}", loaded.key(&param));
    }
}
