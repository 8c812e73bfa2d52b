use clap::{CommandFactory, error::ErrorKind};
use serde_json::json;

use super::{Cli, print_json, progress, qat_args::QatArgs, result};
use crate::session::{CheckpointFile, Command, Stage};

pub fn run(args: &QatArgs) -> anyhow::Result<()> {
    if let Err(conflict) = args.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, conflict).exit();
    }
    let out = args.out();
    progress::require_folder(&out)?;
    let mut session = args.project.session(args.machine.device());
    let checkpoint = args.checkpoint();
    if let Some(CheckpointFile { path, .. }) = &checkpoint {
        progress::require_folder(path)?;
    }
    progress::apply(&mut session, Command::KeepCheckpoints(checkpoint))?;
    progress::apply(&mut session, Command::Open(Box::new(args.recipe())))?;
    progress::apply(&mut session, Command::RunAll(out))?;
    let stage = session.stage()?.clone();
    let Stage::Saved { measured, qat: Some(qat), .. } = stage.as_ref() else {
        anyhow::bail!("the run ended before its file was saved")
    };
    if !args.json {
        result::print_measured(measured)?;
        return result::print_qat(qat);
    }
    let mut report = result::report(args.model, &session, measured.float.accuracy, Some(measured));
    report["fake"] = json!({ "accuracy": qat.accuracy });
    report["pytorch"] = json!({ "accuracy": qat.as_pytorch });
    report["epochs"] = json!(qat.epochs);
    report["device"] = json!(args.machine.device_name());
    print_json(&report)
}
