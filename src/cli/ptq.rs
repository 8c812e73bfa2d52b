use clap::{CommandFactory, error::ErrorKind};
use serde_json::json;

use super::{
    Cli,
    args::{MachineArgs, PtqArgs},
    outputs::OutputArgs,
    print_json, print_line, progress, result,
};
use crate::session::{Command, Measured, Recipe, Stage, StudyResult};

pub fn run(args: &PtqArgs) -> anyhow::Result<()> {
    if let Err(conflict) = args.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, conflict).exit();
    }
    carry_out(args.recipe(), &args.machine, &args.outputs)
}

/// Every step of `recipe`.
pub fn carry_out(recipe: Recipe, machine: &MachineArgs, outputs: &OutputArgs) -> anyhow::Result<()> {
    outputs.begin(&recipe)?;
    let model = recipe.model;
    let out = outputs.int8_file(model);
    let mut session = outputs.session(machine.device());
    progress::apply(&mut session, Command::Open(Box::new(recipe)))?;
    progress::apply(&mut session, Command::RunAll(out))?;
    outputs.end(&session)?;
    let stage = session.stage()?.clone();
    let outcome = match stage.as_ref() {
        Stage::Saved { measured, study, .. } => {
            Outcome { float: measured.float.accuracy, measured: Some(measured), study: *study }
        }
        Stage::Converted { before, study, .. } => Outcome { float: before.accuracy, measured: None, study: *study },
        Stage::Opened { .. }
        | Stage::Stubbed { .. }
        | Stage::Weighted { .. }
        | Stage::Fused { .. }
        | Stage::Prepared { .. }
        | Stage::Calibrated { .. }
        | Stage::Trained { .. } => anyhow::bail!("the run ended before its file was saved"),
    };
    if !outputs.json {
        return print_table(&outcome);
    }
    let mut report = result::report(model, &session, outcome.float, outcome.measured);
    if let Some(study) = &outcome.study {
        report["fake"] = json!({ "accuracy": study.accuracy });
        report["study"] = json!(study.study.to_string());
    }
    print_json(&report)
}

/// What a run ends with.
struct Outcome<'a> {
    float: Option<f64>,
    /// Nothing where there is no int8 file.
    measured: Option<&'a Measured>,
    study: Option<StudyResult>,
}

fn print_table(outcome: &Outcome<'_>) -> anyhow::Result<()> {
    match outcome.measured {
        Some(measured) => result::print_measured(measured)?,
        None => print_line(&format!("accuracy   float32 {}", result::percent(outcome.float)))?,
    }
    if let Some(study) = &outcome.study {
        print_line(&format!("accuracy   fake-quantized {}", result::percent(study.accuracy)))?;
        print_line(&format!("study      {}", study.study))?;
    }
    Ok(())
}
