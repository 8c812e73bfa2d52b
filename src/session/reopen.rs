//! An int8 file with the float model that it was made from, opened again by its recipe.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    Command, Control, Event, Pair, PromiseOf, Recipe, Session, SessionError, WeightsChoice, read_recipe, ships_weights,
};
use crate::data::Source;
use crate::exec::float::Device;
use crate::weights::octet;

/// What of the recipe is to be another.
#[derive(Clone, Debug, Default)]
pub struct ReopenOptions {
    /// The float weights that the file was made from, where its recipe does not name them.
    pub weights: Option<PathBuf>,
    /// The images.
    pub data: Option<Source>,
    /// Threads; 0 means one a core.
    pub threads: usize,
}

/// A file and the session that stands where its float weights are loaded.
#[derive(Debug)]
pub struct Reopened {
    /// After step 2.
    pub session: Session,
    /// float, and what the file holds.
    pub pair: Pair,
}

impl Reopened {
    /// What a promise is searched for: the model from its weights on.
    pub fn promise_of(&self) -> PromiseOf {
        let weighted = self.session.weighted_graph().cloned().unwrap_or_else(|| self.pair.float.clone());
        PromiseOf::new(self.pair.opened.clone(), weighted, Arc::new(self.session.recipe().clone()))
    }
}

/// Reads an int8 file, and opens its model, images and float weights again.
///
/// # Errors
/// Those of reading; [`SessionError::WeightsNotKept`] where the weights were trained in the run that made the file;
/// [`SessionError::OtherWeights`] where these are not the file's.
pub fn reopen(
    file: &Path,
    options: &ReopenOptions,
    emit: &mut dyn FnMut(Event),
    control: &Control,
) -> Result<Reopened, SessionError> {
    let recipe = read_recipe(file).map_err(|e| SessionError::Recipe(Box::new(e)))?;
    let (converted, _) = octet::read(file)?;
    let mut recipe = Recipe { threads: options.threads, ..recipe };
    recipe.data = options.data.clone().unwrap_or(recipe.data);
    if let Some(path) = &options.weights {
        recipe.weights = WeightsChoice::File(path.clone());
    }
    let weights = match &recipe.weights {
        WeightsChoice::File(path) => Command::LoadWeights(path.clone()),
        WeightsChoice::Automatic if ships_weights(recipe.model, &recipe.data) => Command::UseShippedWeights,
        WeightsChoice::Automatic | WeightsChoice::Train => {
            return Err(SessionError::WeightsNotKept { path: file.display().to_string() });
        }
    };
    let mut session = Session::new(Device::Cpu);
    for command in [Command::Open(Box::new(recipe)), Command::InsertStubs, weights] {
        session.apply(command, emit, control)?;
    }
    let stage = session.stage()?;
    let pair = Pair::fusing(stage.opened().clone(), stage.graph(), session.recipe(), Arc::new(converted))?;
    pair.require_same_weights(file)?;
    Ok(Reopened { session, pair })
}
