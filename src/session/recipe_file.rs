//! A recipe as a file: everything chosen, nothing measured.

use std::path::{Path, PathBuf};

use super::{Contents, Recipe, SessionError, inspect, project};
use crate::weights;

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
    #[error("{}: the recipe cannot become TOML: {detail}", path.display())]
    Toml { path: PathBuf, detail: String },
    #[error(transparent)]
    File(Box<SessionError>),
}

/// Writes `recipe` as TOML, for `octet run`. Threads are this machine's, not the recipe's: they are left at one a core.
/// Paths stay as they were given: where relative, to the folder that a command runs in.
///
/// # Errors
/// A seed beyond TOML's integers; those of writing the file.
pub fn save_recipe(path: &Path, recipe: &Recipe) -> Result<(), RecipeError> {
    let text = recipe_text(recipe)
        .map_err(|e| RecipeError::Toml { path: path.to_owned(), detail: e.to_string().replace('\n', " ") })?;
    weights::write_file(path, text.as_bytes()).map_err(|e| RecipeError::File(Box::new(e.into())))?;
    Ok(())
}

/// What [`save_recipe`] writes.
pub(super) fn recipe_text(recipe: &Recipe) -> Result<String, toml::ser::Error> {
    let text = toml::to_string(&Recipe { threads: 0, ..recipe.clone() })?;
    Ok(format!("# A recipe of Octet's: octet run FILE makes the same int8 file, byte for byte.\n{text}"))
}

/// The recipe that a file holds: TOML, JSON, a run that a project kept, or the int8 file that it led to.
///
/// # Errors
/// [`RecipeError`]
pub fn read_recipe(path: &Path) -> Result<Recipe, RecipeError> {
    let format = |detail: String| RecipeError::Format { path: path.to_owned(), detail: weights::legible(&detail) };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    match extension.as_str() {
        "toml" => from_toml(&text(path)?).map_err(format),
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

/// A key that no recipe has is refused: it is a choice misspelled.
fn from_toml(text: &str) -> Result<Recipe, String> {
    let one_line = |e: toml::de::Error| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].lines().count().max(1));
        let place = line.map_or(String::new(), |n| format!("line {n}: "));
        format!("{place}{}", e.message().replace('\n', " "))
    };
    let document = toml::Deserializer::parse(text).map_err(one_line)?;
    let mut unknown = Vec::new();
    let recipe: Recipe =
        serde_ignored::deserialize(document, |key| unknown.push(format!("`{key}`"))).map_err(one_line)?;
    if !unknown.is_empty() {
        return Err(format!("no recipe has {}: remove it, or spell it as Octet saves it", unknown.join(", ")));
    }
    recipe.qconfig.check().map_err(|e| e.to_string())?;
    Ok(recipe)
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
    use crate::data::Source;
    use crate::quant::{Backend, Override, QConfig};
    use crate::session::{Calibration, WeightsChoice};
    use crate::zoo::ModelId;

    #[test]
    fn every_choice_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.toml");
        let recipe = Recipe {
            weights: WeightsChoice::File("some/weights.pth".into()),
            data: Source::Path("images".into()),
            classes: Some(7),
            qconfig: QConfig::new(Backend::Onednn).with_override("fc", Override::Float),
            calibration: Calibration { batches: 3, batch: 5, foresee: false },
            unfused: ["conv1".to_owned()].into(),
            seed: 11,
            ..Recipe::new(ModelId::ResNet18)
        };
        for recipe in [recipe, Recipe::new(ModelId::MobileNetV3Small)] {
            save_recipe(&path, &recipe).expect("a folder to write in");
            assert_eq!(read_recipe(&path).expect("our own file"), recipe);
        }
    }

    #[test]
    fn json_is_read_as_toml_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = Recipe::new(ModelId::ResNet18);
        let path = folder.path().join("a.json");
        std::fs::write(&path, serde_json::to_string(&recipe).expect("JSON")).expect("a file");
        assert_eq!(read_recipe(&path).expect("a recipe"), recipe);
    }

    #[test]
    fn a_wrong_recipe_is_one_sentence_that_names_file_and_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = recipe_text(&Recipe::new(ModelId::ResNet18)).expect("TOML");
        let cases = [
            ("a.toml", good.replace("seed = 0", "sead = 0"), "seed"),
            ("b.toml", good.replace("seed = 0", "seed = 0\nspeed = 1"), "`speed`"),
            ("c.toml", good.replace("resnet18", "resnet19"), "resnet19"),
            ("d.toml", good.replace("seed = 0", "seed = "), "line"),
            ("e.toml", "model = 3".to_owned(), "line 1"),
            ("f.json", "{}".to_owned(), "missing field"),
            ("g.bin", "nothing".to_owned(), "g.bin"),
        ];
        for (name, text, expected) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            let error = read_recipe(&path).expect_err(expected).to_string();
            assert!(error.contains(name) && error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
