use std::path::PathBuf;

use clap::Args;

use super::print_line;
use crate::session::{read_recipe, torch_script};

/// `octet code`
#[derive(Debug, Args)]
pub struct CodeArgs {
    /// A recipe (TOML), or an int8 file or a kept run, which remember theirs
    recipe: PathBuf,
}

pub fn run(args: &CodeArgs) -> anyhow::Result<()> {
    print_line(torch_script(&read_recipe(&args.recipe)?)?.trim_end())
}
