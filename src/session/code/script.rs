use std::fmt::Write;

use super::{CodeJob, torch_code};
use crate::data::Dataset;
use crate::quant::{self, FuseOptions};
use crate::session::{Recipe, SessionError, Step, WeightsChoice};
use crate::weights;
use crate::zoo::{self, ModelConfig};

/// All steps of `recipe` as one script of PyTorch's: what the window shows step by step.
///
/// # Errors
/// Those of opening the data and of reading the weights.
pub fn torch_script(recipe: &Recipe) -> Result<String, SessionError> {
    let dataset = Dataset::open(&recipe.data, recipe.seed)?;
    let preprocess = recipe.preprocess.resolve(dataset.preprocess());
    preprocess.check()?;
    let head = match &recipe.weights {
        WeightsChoice::File(path) => weights::classes(&weights::read(path)?),
        WeightsChoice::Automatic | WeightsChoice::Train => None,
    };
    let classes = head.or(recipe.classes).unwrap_or(dataset.labels.len().max(1));
    let graph = zoo::build(recipe.model, ModelConfig { classes, size: preprocess.size })?;
    let (_, report) = quant::fuse(&graph, &FuseOptions { disabled: recipe.unfused.clone() })?;
    let job = CodeJob {
        recipe,
        classes,
        preprocess: Some(preprocess),
        trained: recipe.weights == WeightsChoice::Train,
        sites: report.sites.into_iter().map(|s| s.nodes).collect(),
    };
    let mut script = String::new();
    for step in Step::ALL {
        let title = step.title_in(&recipe.method);
        let _ = write!(script, "# {}. {title}\n{}\n", step.index() + 1, torch_code(step, &job));
    }
    Ok(script)
}
