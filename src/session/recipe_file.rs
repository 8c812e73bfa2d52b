//! A recipe as a TOML file: everything chosen, nothing measured.

use std::path::Path;

use super::{Recipe, SessionError};
use crate::weights;

/// Writes `recipe` as TOML. Threads are this machine's, not the recipe's: they are left at one a core. Paths stay as they
/// were given: where relative, to the folder that a command runs in.
///
/// # Errors
/// A seed beyond TOML's integers; those of writing the file.
pub fn save_recipe(path: &Path, recipe: &Recipe) -> Result<(), SessionError> {
    let recipe = Recipe { threads: 0, ..recipe.clone() };
    let text = toml::to_string(&recipe).map_err(|e| refuse(path, format!("cannot become TOML: {e}")))?;
    let header = "# A recipe of Octet's: octet run FILE makes the same int8 file, byte for byte.\n";
    weights::write_file(path, format!("{header}{text}").as_bytes())?;
    Ok(())
}

/// Reads a recipe. A key that no recipe has is refused: it is a choice misspelled.
///
/// # Errors
/// [`SessionError::RecipeFile`]; a choice that cannot be carried out.
pub fn open_recipe(path: &Path) -> Result<Recipe, SessionError> {
    let text = std::fs::read_to_string(path).map_err(|e| refuse(path, format!("cannot be read: {e}")))?;
    let one_line = |e: toml::de::Error| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].lines().count().max(1));
        let place = line.map_or(String::new(), |n| format!("line {n}: "));
        refuse(path, format!("{place}{}", e.message().replace('\n', " ")))
    };
    let document = toml::Deserializer::parse(&text).map_err(one_line)?;
    let mut unknown = Vec::new();
    let recipe: Recipe =
        serde_ignored::deserialize(document, |key| unknown.push(format!("`{key}`"))).map_err(one_line)?;
    if !unknown.is_empty() {
        return Err(refuse(
            path,
            format!("no recipe has {}: remove it, or spell it as Octet saves it", unknown.join(", ")),
        ));
    }
    recipe.qconfig.check()?;
    Ok(recipe)
}

fn refuse(path: &Path, detail: String) -> SessionError {
    SessionError::RecipeFile { path: path.display().to_string(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Backend, Override, QConfig};
    use crate::session::{Calibration, ModelId, Source, WeightsChoice};

    #[test]
    fn every_choice_comes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("recipe.toml");
        let recipe = Recipe {
            weights: WeightsChoice::File("some/weights.pth".into()),
            data: Source::Path("images".into()),
            classes: Some(7),
            qconfig: QConfig::new(Backend::Onednn).with_override("fc", Override::Float),
            calibration: Calibration { batches: 3, batch: 5 },
            unfused: ["conv1".to_owned()].into(),
            seed: 11,
            ..Recipe::new(ModelId::ResNet18)
        };
        for recipe in [recipe, Recipe::new(ModelId::MobileNetV3Small)] {
            save_recipe(&path, &recipe).expect("a folder to write in");
            assert_eq!(open_recipe(&path).expect("our own file"), recipe);
        }
    }

    #[test]
    fn a_wrong_recipe_is_one_sentence_that_names_file_and_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("recipe.toml");
        save_recipe(&path, &Recipe::new(ModelId::ResNet18)).expect("a folder to write in");
        let good = std::fs::read_to_string(&path).expect("it is there");
        let cases = [
            (good.replace("seed = 0", "sead = 0"), "seed"),
            (good.replace("seed = 0", "seed = 0\nspeed = 1"), "`speed`"),
            (good.replace("resnet18", "resnet19"), "resnet19"),
            (good.replace("seed = 0", "seed = "), "line"),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, text).expect("a folder to write in");
            let error = open_recipe(&path).expect_err(expected).to_string();
            assert!(error.contains("recipe.toml") && error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
