//! That nothing but the download itself asks a server for anything.

use std::fs;
use std::path::Path;
use std::process::Command;

use octet::session::{Command as Ask, CommandKind, Control, Device, Event, ModelId, Recipe, Session, TrainConfig};
use tempfile::TempDir;

use crate::program::table;
use crate::server::{Answer, Server};

#[test]
fn no_other_command_opens_a_connection() {
    let dir = TempDir::new().expect("a folder");
    let here = dir.path();
    let server = Server::start(|_, _| Answer::status(500));
    table(here, &server.base(), "shufflenet_v2_x1_0", "shufflenetv2_x1-5666bf0f80.pth", b"nothing");
    for class in ["blue", "red"] {
        for i in 0..10u8 {
            let shade = |x: u32, _| image::Rgb([i * 20, x as u8 * 6, if class == "red" { 0 } else { 200 }]);
            let path = here.join(format!("data/{class}/{i}.png"));
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            image::RgbImage::from_fn(40, 40, shade).save(path).expect("a picture");
        }
    }
    let small = ["--data", "data", "--size", "32", "--batch", "8"];
    let commands: [&[&str]; 10] = [
        &["models"],
        &["train", "--model", "shufflenet_v2_x1_0", "--epochs", "1", "--out", "a.safetensors"],
        // No weights were named: trained, and not fetched, although some are published for this model.
        &["ptq", "--model", "shufflenet_v2_x1_0", "--calibration-batches", "1"],
        &["ptq", "--model", "shufflenet_v2_x1_0", "--weights", "a.safetensors", "--calibration-batches", "1"],
        &["ptq", "--calibration-batches", "1", "--out", "sample.octet.safetensors"],
        &["eval", "shufflenet_v2_x1_0.octet.safetensors", "--data", "data"],
        &["eval", "a.safetensors", "--model", "shufflenet_v2_x1_0", "--data", "data", "--size", "32"],
        &["classify", "shufflenet_v2_x1_0.octet.safetensors", "data/red/1.png"],
        &["inspect", "shufflenet_v2_x1_0.octet.safetensors"],
        &["--version"],
    ];
    for args in commands {
        let on_data = matches!(args[0], "train" | "ptq") && args.contains(&"--model");
        let args = [args, if on_data { &small[..] } else { &[] }].concat();
        assert_eq!(octet(here, &server.base(), &args), Some(0), "{args:?}");
    }
    // A file that is not there is an error, and nothing to fetch.
    let missing = ["ptq", "--model", "shufflenet_v2_x1_0", "--weights", "cache/shufflenetv2_x1-5666bf0f80.pth"];
    assert_eq!(octet(here, &server.base(), &missing), Some(1));
    assert_eq!(server.connections(), 0);
    assert!(!here.join("cache").exists(), "a cache folder was made");
    // That the server was there to be asked at all.
    assert_eq!(octet(here, &server.base(), &["download", "shufflenet_v2_x1_0"]), Some(1));
    assert_eq!(server.connections(), 1);
}

/// Runs the program as a user with a mirror of his own would; its exit code.
fn octet(folder: &Path, base: &str, args: &[&str]) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_octet"));
    command.args(args).current_dir(folder);
    command.env("OCTET_WEIGHTS_TABLE", "table.toml").env("OCTET_WEIGHTS_URL", base).env("OCTET_CACHE", "cache");
    command.output().expect("the program starts").status.code()
}

#[test]
fn all_steps_without_weights_train_and_do_not_download() {
    let dir = TempDir::new().expect("a folder");
    let mut recipe = Recipe::new(ModelId::MobileNetV3Large);
    recipe.train = TrainConfig { epochs: 1, ..recipe.train };
    let (mut session, control) = (Session::new(Device::Cpu), Control::default());
    session.apply(Ask::Open(Box::new(recipe)), &mut |_| {}, &control).expect("opened");
    let mut began = Vec::new();
    let mut watch = |event: Event| match event {
        Event::Started(kind) => began.push(kind),
        Event::Training(_) => control.cancel(),
        _ => {}
    };
    // That it trains is enough.
    let _ = session.apply(Ask::RunAll(dir.path().join("a")), &mut watch, &control);
    assert_eq!(began, [CommandKind::RunAll, CommandKind::InsertStubs, CommandKind::Train]);
}
