use std::path::{Path, PathBuf};

use super::{Contents, Recipe, SessionError, inspect, project};

/// A recipe's file is a few kilobytes; what is larger is none.
const LARGEST: u64 = 1 << 20;

/// Why a file gave no recipe. Each message names it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is said in the message")]
pub enum RecipeError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: holds no recipe of this Octet: {detail}", path.display())]
    Format { path: PathBuf, detail: String },
    #[error("{}: a state dict has no recipe: expected an int8 file of Octet's, a recipe or a kept run", path.display())]
    StateDict { path: PathBuf },
    #[error(transparent)]
    File(Box<SessionError>),
}

/// The recipe that a file holds: TOML, JSON, a run that a project kept, or the int8 file that it led to.
///
/// # Errors
/// [`RecipeError`]
pub fn read_recipe(path: &Path) -> Result<Recipe, RecipeError> {
    let format = |detail: String| RecipeError::Format { path: path.to_owned(), detail };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    match extension.as_str() {
        "toml" => toml::from_str(&text(path)?).map_err(|e| format(e.message().to_owned())),
        "json" => match project::read(path) {
            Ok(run) => Ok(run.recipe),
            Err(_) => serde_json::from_str(&text(path)?).map_err(|e| format(e.to_string())),
        },
        _ => match inspect(path).map_err(|e| RecipeError::File(Box::new(e)))? {
            Contents::Int8 { recipe, .. } => serde_json::from_value(recipe).map_err(|e| format(e.to_string())),
            Contents::StateDict { .. } => Err(RecipeError::StateDict { path: path.to_owned() }),
        },
    }
}

fn text(path: &Path) -> Result<String, RecipeError> {
    let unreadable = |source| RecipeError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > LARGEST {
        let detail = format!("it has {bytes} bytes, a recipe has a few thousand");
        return Err(RecipeError::Format { path: path.to_owned(), detail });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::ModelId;

    #[test]
    fn a_recipe_is_read_from_toml_and_json_and_refused_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = Recipe::new(ModelId::ResNet18);
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let toml = write("a.toml", toml::to_string(&recipe).expect("TOML"));
        let json = write("a.json", serde_json::to_string(&recipe).expect("JSON"));
        for path in [toml, json] {
            assert_eq!(read_recipe(&path).expect("a recipe"), recipe);
        }
        for (name, text) in [("b.toml", "model = 3"), ("b.json", "{}"), ("b.bin", "nothing")] {
            let error = read_recipe(&write(name, text.to_owned())).expect_err("refused").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
