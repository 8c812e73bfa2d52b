//! What is interrupted: commands of the program on a few small pictures, and a session that keeps itself.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use octet::data::Source;
use octet::session::{
    Calibration, Command as Ask, Control, Device, Method, ModelId, Project, QatTraining, Recipe, Session, TrainConfig,
};

/// One kind of work, with the file that it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Train,
    Qat,
    Ptq,
    Export(&'static str),
    Session,
}

impl Job {
    pub const ALL: [Self; 10] = [
        Self::Train,
        Self::Qat,
        Self::Ptq,
        Self::Session,
        Self::Export("onnx"),
        Self::Export("torch"),
        Self::Export("octet"),
        Self::Export("onnx-float"),
        Self::Export("torch-float"),
        Self::Export("safetensors"),
    ];

    /// What it writes in the end.
    pub fn out(self) -> &'static str {
        match self {
            Self::Train => "trained.safetensors",
            Self::Qat => "qat.octet.safetensors",
            Self::Ptq => "ptq.octet.safetensors",
            Self::Session => "session.octet.safetensors",
            Self::Export("onnx" | "onnx-float") => "export.onnx",
            Self::Export("octet") => "export.octet.safetensors",
            Self::Export("safetensors") => "export.safetensors",
            Self::Export(_) => "export.pt",
        }
    }

    /// Whether it can go on from a checkpoint by a flag.
    fn resumes(self) -> bool {
        matches!(self, Self::Train | Self::Qat)
    }

    /// The process that does it in `work`, whose inputs lie in `inputs`.
    pub fn start(self, inputs: &Path, work: &Path) -> Child {
        let mut command = self.command(inputs, work);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
    }

    /// The same to its end, from where it was interrupted.
    pub fn finish(self, inputs: &Path, work: &Path) -> Output {
        self.command(inputs, work).output().expect("the program starts")
    }

    /// The program and its arguments.
    pub fn spelled(self, inputs: &Path, work: &Path) -> (PathBuf, Vec<OsString>) {
        let command = self.command(inputs, work);
        (command.get_program().into(), command.get_args().map(OsString::from).collect())
    }

    fn command(self, inputs: &Path, work: &Path) -> Command {
        if self == Self::Session {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["--exact", "jobs::a_session_that_keeps_itself", "--ignored", "--nocapture"]);
            command.env("OCTET_SESSION_INPUTS", inputs).current_dir(work);
            return command;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_octet"));
        let (data, weights) = (inputs.join("data"), inputs.join("weights.safetensors"));
        let on_data = |command: &mut Command| {
            command.arg("--data").arg(&data).args(["--size", "32", "--threads", "1", "--seed", "7"]);
        };
        match self {
            Self::Train => {
                command.args(["train", "--epochs", "4", "--batch", "12", "--checkpoint", "state.checkpoint"]);
                on_data(&mut command);
            }
            Self::Qat => {
                command.args(["qat", "--epochs", "3", "--batch", "12", "--checkpoint", "state.checkpoint"]);
                command.args(["--project", "project"]).arg("--weights").arg(&weights);
                on_data(&mut command);
            }
            Self::Ptq => {
                command.args(["ptq", "--calibration-batches", "2", "--batch", "12", "--project", "project"]);
                command.args(["--save-recipe", "recipe.toml"]).arg("--weights").arg(&weights);
                on_data(&mut command);
            }
            Self::Export(format) => {
                let (file, model) = match format {
                    "onnx" | "torch" => ("int8.octet.safetensors", None),
                    "octet" => ("quantized.pt", Some(())),
                    _ => ("weights.safetensors", Some(())),
                };
                command.arg("export").arg(inputs.join(file)).args(["--format", format, "--threads", "1"]);
                if model.is_some() {
                    command.args(["--model", "shufflenet_v2_x0_5", "--size", "32"]);
                }
            }
            Self::Session => {}
        }
        if self.resumes() && work.join("state.checkpoint").exists() {
            command.arg("--resume");
        }
        command.arg("--out").arg(self.out()).current_dir(work);
        command
    }
}

/// Everything the jobs read.
pub fn inputs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    pictures(&root.join("data"), 24);
    let octet = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_octet")).args(args).current_dir(root).output().expect("it starts");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let small = ["--data", "data", "--size", "32", "--threads", "1", "--batch", "12"];
    octet(&[&["train", "--epochs", "1", "--out", "weights.safetensors"], &small[..]].concat());
    octet(&[&["ptq", "--weights", "weights.safetensors", "--out", "int8.octet.safetensors"], &small[..]].concat());
    octet(&["export", "int8.octet.safetensors", "--format", "torch", "--out", "quantized.pt"]);
    folder
}

/// Two classes that differ in colour, `each` pictures of each.
pub fn pictures(data: &Path, each: u32) {
    for class in ["blue", "red"] {
        let folder = data.join(class);
        fs::create_dir_all(&folder).expect("a folder");
        for i in 0..each {
            let shade = |x: u32, y: u32| {
                let (a, b) = ((i * 9) as u8, (x * 5 + y * 3 + i * 17) as u8);
                image::Rgb(if class == "red" { [200, a, b / 2] } else { [b / 2, a, 200] })
            };
            image::RgbImage::from_fn(36, 32, shade).save(folder.join(format!("{i:02}.png"))).expect("a picture");
        }
    }
}

/// A recipe of quantization-aware training on the pictures in `inputs`, from random weights.
fn recipe(inputs: &Path) -> Recipe {
    let mut training = QatTraining::default();
    training.train.epochs = 2;
    training.train.batch = 12;
    let mut recipe = Recipe {
        data: Source::Path(inputs.join("data")),
        method: Method::Qat(training),
        calibration: Calibration { batches: 2, batch: 12, foresee: false },
        train: TrainConfig { epochs: 3, batch: 12, ..TrainConfig::default() },
        threads: 1,
        ..Recipe::new(ModelId::ShuffleNetV2X05)
    };
    recipe.preprocess.size = Some(32);
    recipe
}

/// A session that keeps itself in `project`, where it was left, if it was.
fn session_in(work: &Path) -> (Session, Option<octet::session::Unfinished>) {
    let project = Project::new(work.join("project"));
    let kept = project.unfinished().expect("its note is whole");
    (Session::new(Device::Cpu).in_project(project).autosaving(), kept)
}

/// A child of the tests of this program, which kill it: goes on with the session of the folder it is in, to its end.
#[test]
#[ignore = "a child of the others"]
fn a_session_that_keeps_itself() {
    let Some(inputs) = std::env::var_os("OCTET_SESSION_INPUTS").map(PathBuf::from) else { return };
    let work = std::env::current_dir().expect("a folder");
    let (mut session, kept) = session_in(&work);
    let mut ask = |command| session.apply(command, &mut |_| {}, &Control::default()).expect("allowed");
    match kept {
        Some(kept) => ask(Ask::Continue(Box::new(kept))),
        None => ask(Ask::Open(Box::new(recipe(&inputs)))),
    }
    ask(Ask::RunAll(work.join(Job::Session.out())));
}
