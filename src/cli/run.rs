use std::path::PathBuf;

use clap::Args;

use super::{args::MachineArgs, outputs::OutputArgs, ptq, qat};
use crate::session::{Method, Recipe, read_recipe};

/// `octet run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A recipe (TOML) as --save-recipe and the window write it; or an int8 file or a kept run, which remember theirs
    recipe: PathBuf,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    outputs: OutputArgs,
}

pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let recipe = Recipe { threads: args.machine.threads(), ..read_recipe(&args.recipe)? };
    match recipe.method {
        Method::Ptq => ptq::carry_out(recipe, &args.machine, &args.outputs),
        Method::Qat(_) => qat::carry_out(recipe, &args.machine, &args.outputs, None),
    }
}
