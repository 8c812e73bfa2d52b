use std::path::PathBuf;

use clap::Args;

use super::progress;
use crate::session::{Device, ModelId, Project, Recipe, Session, save_recipe};

/// What a run leaves behind.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// The int8 file [default: MODEL.octet.safetensors]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Save every choice as TOML, for `octet run`
    #[arg(long, value_name = "FILE")]
    save_recipe: Option<PathBuf>,
    /// Also keep the run in this project folder: choices and figures as JSON, for the window's Compare page
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

impl OutputArgs {
    /// Where the int8 file goes.
    pub fn int8_file(&self, model: ModelId) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{model}.octet.safetensors")))
    }

    /// That every file can be written, before any work is done for it; the recipe is.
    pub fn begin(&self, recipe: &Recipe) -> anyhow::Result<()> {
        progress::require_folder(&self.int8_file(recipe.model))?;
        let Some(path) = &self.save_recipe else { return Ok(()) };
        progress::require_folder(path)?;
        Ok(save_recipe(path, recipe)?)
    }

    /// A session that keeps its runs where that was asked for.
    pub fn session(&self, device: Device) -> Session {
        let session = Session::new(device);
        match &self.project {
            Some(folder) => session.in_project(Project::new(folder)),
            None => session,
        }
    }
}
