use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use super::progress;
use crate::session::{Device, ModelId, Project, Recipe, ReportJob, Session, save_recipe};

/// What a run leaves behind.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// The int8 file [default: MODEL.octet.safetensors]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Save every choice as TOML, for `octet run`
    #[arg(long, value_name = "FILE")]
    save_recipe: Option<PathBuf>,
    /// Also write a report: one HTML page with what was done, charts, and the error of every layer
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
        self.report.as_deref().map_or(Ok(()), progress::require_folder)?;
        let Some(path) = &self.save_recipe else { return Ok(()) };
        progress::require_folder(path)?;
        Ok(save_recipe(path, recipe)?)
    }

    /// Writes what was asked for of a finished run.
    pub fn end(&self, session: &Session) -> anyhow::Result<()> {
        let Some(path) = &self.report else { return Ok(()) };
        let Some(job) = ReportJob::of_session(session) else {
            eprintln!("warning: --report: no int8 file was saved, so there is nothing to report");
            return Ok(());
        };
        job.write(path, SystemTime::now())?;
        eprintln!("Report: {}", path.display());
        Ok(())
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
