use clap::{CommandFactory, error::ErrorKind};
use serde_json::json;

use super::{Cli, args::MachineArgs, outputs::OutputArgs, print_json, progress, qat_args::QatArgs, result};
use crate::session::{CheckpointFile, Command, Recipe, Stage};

pub fn run(args: &QatArgs) -> anyhow::Result<()> {
    if let Err(conflict) = args.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, conflict).exit();
    }
    carry_out(args.recipe(), &args.machine, &args.outputs, args.checkpoint())
}

/// Every step of `recipe`.
pub fn carry_out(
    recipe: Recipe,
    machine: &MachineArgs,
    outputs: &OutputArgs,
    checkpoint: Option<CheckpointFile>,
) -> anyhow::Result<()> {
    outputs.begin(&recipe)?;
    let model = recipe.model;
    let out = outputs.int8_file(model);
    let mut session = outputs.session(machine.device());
    if let Some(CheckpointFile { path, .. }) = &checkpoint {
        progress::require_folder(path)?;
    }
    progress::apply(&mut session, Command::KeepCheckpoints(checkpoint))?;
    progress::apply(&mut session, Command::Open(Box::new(recipe)))?;
    progress::apply(&mut session, Command::RunAll(out))?;
    outputs.end(&session)?;
    let stage = session.stage()?.clone();
    let Stage::Saved { measured, qat: Some(qat), .. } = stage.as_ref() else {
        anyhow::bail!("the run ended before its file was saved")
    };
    if !outputs.json {
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
