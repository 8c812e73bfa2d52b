use std::path::PathBuf;

use clap::{CommandFactory, error::ErrorKind};
use serde_json::json;

use super::{Cli, args::MachineArgs, print_json, progress, qat_args::QatArgs, result};
use crate::session::{CheckpointFile, Command, Recipe, Session, Stage, save_recipe};

pub fn run(args: &QatArgs) -> anyhow::Result<()> {
    if let Err(conflict) = args.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, conflict).exit();
    }
    if let Some(path) = &args.save_recipe {
        progress::require_folder(path)?;
        save_recipe(path, &args.recipe())?;
    }
    carry_out(args.recipe(), &args.machine, args.out(), args.checkpoint(), args.json)
}

/// Every step of `recipe`, the int8 file to `out`.
pub fn carry_out(
    recipe: Recipe,
    machine: &MachineArgs,
    out: PathBuf,
    checkpoint: Option<CheckpointFile>,
    json: bool,
) -> anyhow::Result<()> {
    progress::require_folder(&out)?;
    let model = recipe.model;
    let mut session = Session::new(machine.device());
    if let Some(CheckpointFile { path, .. }) = &checkpoint {
        progress::require_folder(path)?;
    }
    progress::apply(&mut session, Command::KeepCheckpoints(checkpoint))?;
    progress::apply(&mut session, Command::Open(Box::new(recipe)))?;
    progress::apply(&mut session, Command::RunAll(out))?;
    let stage = session.stage()?.clone();
    let Stage::Saved { measured, qat: Some(qat), .. } = stage.as_ref() else {
        anyhow::bail!("the run ended before its file was saved")
    };
    if !json {
        result::print_measured(measured)?;
        return result::print_qat(qat);
    }
    let mut report = result::report(model, &session, measured.float.accuracy, Some(measured));
    report["fake"] = json!({ "accuracy": qat.accuracy });
    report["pytorch"] = json!({ "accuracy": qat.as_pytorch });
    report["epochs"] = json!(qat.epochs);
    report["device"] = json!(machine.device_name());
    print_json(&report)
}
