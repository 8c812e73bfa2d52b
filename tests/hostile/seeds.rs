//! Whole files of every kind, small ones: what is mutated.

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::OnceLock;

use flate2::{Compression, write::GzEncoder};
use image::{DynamicImage, ImageFormat};
use octet::data::{Fit, Preprocess, Source};
use octet::export::onnx;
use octet::graph::{Graph, Tensor};
use octet::quant::{Backend, Override, QConfig};
use octet::session::{Method, ModelId, QatTraining, Recipe, save_recipe};
use octet::weights::{self, Checkpoint, octet as int8};
use octet::zoo::{self, ModelConfig};
use serde_json::json;

use crate::graphs::{converted, every_op, filled, fixture};
use crate::readers::Kind;
use crate::tiny::tiny;

/// A file and what it is called, by which some readers go.
#[derive(Clone)]
pub struct Seed {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

/// Those of a kind, made once.
pub fn of(kind: Kind) -> &'static [Seed] {
    static ALL: [OnceLock<Vec<Seed>>; 10] = [const { OnceLock::new() }; 10];
    ALL[kind as usize].get_or_init(|| match kind {
        Kind::Torch => torch(),
        Kind::Safetensors => safetensors(),
        Kind::Checkpoint => checkpoints(),
        Kind::Octet => octets(),
        Kind::Onnx => onnxs(),
        Kind::Image => images(),
        Kind::Records => records(),
        Kind::Recipe => recipes(),
        Kind::Project => projects(),
        Kind::Remembered => remembered(),
    })
}

fn seed(name: &'static str, bytes: impl Into<Vec<u8>>) -> Seed {
    Seed { name, bytes: bytes.into() }
}

/// What a writer writes.
fn written<T>(write: impl FnOnce(&Path) -> T) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    write(&path);
    std::fs::read(&path).expect("the file that was written")
}

fn torch() -> Vec<Seed> {
    let names = [
        "checkpoint.pth",
        "legacy.pth",
        "mixed.pth",
        "tiny_apart.pth",
        "tiny_int8.pth",
        "tiny_qat.pth",
        "zip.pth",
        "zip_protocol4.pth",
    ];
    let mut all: Vec<Seed> = names.into_iter().map(|name| seed(name, fixture(name))).collect();
    let ours = written(|path| weights::write_torch(path, &filled(&tiny())).expect("finite weights"));
    all.push(seed("ours.pt", ours));
    all
}

fn safetensors() -> Vec<Seed> {
    let graph = filled(&tiny());
    let write = |half| written(|path| weights::write_safetensors(path, &graph, half).expect("finite weights"));
    vec![
        seed("images.safetensors", fixture("tiny_int8.safetensors")),
        seed("float.safetensors", write(false)),
        seed("half.safetensors", write(true)),
    ]
}

fn checkpoints() -> Vec<Seed> {
    let document = json!({
        "format": 1, "recipe": { "seed": 3, "model": "resnet18" }, "epochs": 2, "steps": 40, "fake_quants": null,
        "best": { "epoch": 1, "fake_quants": null, "valid": [3, 9, 4_600_000_000_000_000_000_u64] },
    });
    let tensors = [
        ("now.conv1.weight".to_owned(), Tensor::new([2, 3], vec![0.1, -0.2, 0.3, 1e-30, 5.0, -6.0])),
        ("best.conv1.weight".to_owned(), Tensor::new([2, 3], vec![0.5; 6])),
        ("optimizer.0.conv1.weight".to_owned(), Tensor::new([6], vec![0.0; 6])),
        ("optimizer.1.conv1.weight".to_owned(), Tensor::new([6], vec![0.25; 6])),
    ];
    let checkpoint = Checkpoint { document, tensors: tensors.into() };
    let bytes = written(|path| weights::write_checkpoint(path, &checkpoint).expect("room on the disk"));
    vec![seed("training.checkpoint", bytes)]
}

/// An int8 file of Octet's.
pub fn octet(graph: &Graph) -> Vec<u8> {
    let preprocess = Preprocess::new(graph.input_shape().h, Fit::Crop);
    let meta = int8::Meta {
        labels: (0..graph.classes()).map(|i| format!("class {i}")).collect(),
        preprocess: serde_json::to_value(preprocess).expect("plain numbers"),
        recipe: serde_json::to_value(Recipe::new(ModelId::ShuffleNetV2X05)).expect("plain data"),
    };
    written(|path| int8::write(path, graph, &meta).expect("a whole graph"))
}

/// A network of the zoo, its weights random.
pub fn shufflenet() -> Graph {
    let config = ModelConfig { classes: 10, size: 32 };
    let blank = zoo::build(ModelId::ShuffleNetV2X05, config).expect("a valid configuration");
    octet::quant::insert_stubs(&zoo::init(&blank, 1)).expect("a float graph").0
}

fn octets() -> Vec<Seed> {
    let every = every_op();
    vec![
        seed("tiny.octet.safetensors", octet(&converted(&filled(&tiny()), &[]))),
        seed("every.octet.safetensors", octet(&converted(&every, &[]))),
        seed("mixed.octet.safetensors", octet(&converted(&every, &["right_dw", "fc"]))),
        seed("float.octet.safetensors", octet(&every)),
        seed("every.octet.safetensors", octet(&converted(&every, &[]))),
        seed("shuffle.octet.safetensors", octet(&converted(&shufflenet(), &[]))),
    ]
}

fn onnxs() -> Vec<Seed> {
    let encode = |graph: &Graph| onnx::encode(graph, &[("octet.labels", "[]")]).expect("a graph of ours");
    let every = every_op();
    vec![
        seed("tiny.onnx", encode(&converted(&filled(&tiny()), &[]))),
        seed("every.onnx", encode(&converted(&every, &[]))),
        seed("mixed.onnx", encode(&converted(&every, &["right_dw", "fc"]))),
        seed("float.onnx", encode(&every)),
    ]
}

fn images() -> Vec<Seed> {
    let picture = image::RgbaImage::from_fn(37, 23, |x, y| image::Rgba([x as u8 * 6, y as u8 * 9, 90, 255 - x as u8]));
    let picture = DynamicImage::ImageRgba8(picture);
    let encode = |picture: &DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("a picture");
        bytes.into_inner()
    };
    let rgb = DynamicImage::ImageRgb8(picture.to_rgb8());
    vec![
        seed("rgba.png", encode(&picture, ImageFormat::Png)),
        seed("grey.png", encode(&DynamicImage::ImageLuma8(picture.to_luma8()), ImageFormat::Png)),
        seed("deep.png", encode(&DynamicImage::ImageRgb16(picture.to_rgb16()), ImageFormat::Png)),
        seed("photo.jpg", encode(&rgb, ImageFormat::Jpeg)),
        seed("turned.jpg", fixture("turned.jpg")),
        seed("lossless.webp", encode(&picture, ImageFormat::WebP)),
        seed("plain.bmp", encode(&rgb, ImageFormat::Bmp)),
    ]
}

/// An array of bytes as MNIST's files are.
pub fn idx(shape: &[u32], values: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|extent| extent.to_be_bytes()));
    bytes.extend(values);
    bytes
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(bytes).expect("memory");
    gz.finish().expect("memory")
}

fn records() -> Vec<Seed> {
    let record = |label: u8| std::iter::once(label).chain((0..3072_u32).map(move |i| (i * u32::from(label)) as u8));
    let images = idx(&[4, 28, 28], (0..4 * 784_u32).map(|i| (i * 7) as u8));
    let labels = idx(&[4], [0, 9, 3, 3]);
    vec![
        seed("data_batch_1.bin", (0..7).flat_map(record).collect::<Vec<u8>>()),
        seed("train-images-idx3-ubyte", images.clone()),
        seed("train-images-idx3-ubyte.gz", gz(&images)),
        seed("train-labels-idx1-ubyte", labels.clone()),
        seed("train-labels-idx1-ubyte.gz", gz(&labels)),
    ]
}

fn recipe() -> Recipe {
    Recipe {
        data: Source::Path("images".into()),
        classes: Some(7),
        method: Method::Qat(QatTraining::default()),
        qconfig: QConfig::new(Backend::Onednn)
            .with_override("fc", Override::Float)
            .with_fixed("conv1", Some([-1.0, 2.0])),
        unfused: ["conv1".to_owned()].into(),
        seed: 11,
        ..Recipe::new(ModelId::ResNet18)
    }
}

fn recipes() -> Vec<Seed> {
    let toml = |recipe: &Recipe| written(|path| save_recipe(path, recipe).expect("a folder to write in"));
    vec![
        seed("short.toml", toml(&Recipe::new(ModelId::MobileNetV3Small))),
        seed("long.toml", toml(&recipe())),
        seed("recipe.json", serde_json::to_vec(&recipe()).expect("plain data")),
        seed("run.json", run_json()),
    ]
}

/// A run as a project keeps it.
fn run_json() -> Vec<u8> {
    let side = json!({ "accuracy": 0.9, "bytes": 4000, "latency_ms": 2.5 });
    let run = json!({
        "format": "octet-run", "version": 1, "recipe": recipe(), "file": "a.octet.safetensors", "classes": 10,
        "weights": "shipped", "images": 2500, "float": side, "fake": 0.8, "int8": side, "shrink": 4.0, "cpu": "a CPU",
    });
    run.to_string().into_bytes()
}

fn projects() -> Vec<Seed> {
    let note = json!({
        "format": "octet-session", "version": 1, "recipe": recipe(), "done": "stubs", "saved": "a.octet.safetensors",
        "training": 2, "trained": false,
    });
    vec![seed("0001-resnet18.json", run_json()), seed("session.json", note.to_string())]
}

fn remembered() -> Vec<Seed> {
    let memory = json!({
        "size": [1280.0, 800.0], "theme": "dark", "zoom": 1.1, "weights": ["a.pth"], "data": ["images"],
        "tutorial": { "done": ["ptq-1"], "open": "ptq-2" }, "project": "runs",
    });
    vec![
        seed("memory.json", memory.to_string()),
        seed("weights.toml", include_str!("../../assets/torchvision_weights.toml")),
    ]
}
