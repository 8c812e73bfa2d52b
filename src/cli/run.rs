use std::path::PathBuf;

use clap::Args;

use super::{args::MachineArgs, ptq, qat};
use crate::session::{Method, Recipe, open_recipe};

/// `octet run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A recipe (TOML), as --save-recipe writes it
    recipe: PathBuf,
    #[command(flatten)]
    machine: MachineArgs,
    /// The int8 file [default: MODEL.octet.safetensors]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let recipe = Recipe { threads: args.machine.threads(), ..open_recipe(&args.recipe)? };
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.octet.safetensors", recipe.model)));
    match recipe.method {
        Method::Ptq => ptq::carry_out(recipe, &args.machine, out, args.json),
        Method::Qat(_) => qat::carry_out(recipe, &args.machine, out, None, args.json),
    }
}
