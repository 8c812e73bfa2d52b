//! The finales: how they are set up, and when they are done.

use super::check::{Verdict, method, no, saved};
use super::progress::Progress;
use crate::app::number;
use crate::session::{Measured, ModelId, ObserverKind, Override, QConfig, Recipe, Stage, Step, View, WeightsChoice};

/// The file of the spoilt weights.
pub(super) const PLANTED_FILE: &str = "tutorial.mobilenet_v3_small.safetensors";
/// How many bytes one layer may cost more in float.
pub(super) const BUDGET: usize = 10_000;
/// Points of accuracy below float that count as broken, and as mended.
const BROKEN: f64 = 0.20;
const MENDED: f64 = 0.08;

/// Where the range is set wrong, one place each time: layers of the sample's model that every value goes through.
const PLACES: [&str; 4] = ["stage3.0.branch1.2", "stage2.0.branch2.5", "stage2.1.branch2.0", "stage3.0.branch2.5"];
/// The wrong range: next to nothing of what these layers say.
const DEAD: [f32; 2] = [0.0, 0.02];

/// What a finale needs before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setup {
    /// The spoilt model is written and opened.
    PlantedModel,
    /// The sample's model is opened with a range set wrong.
    PlantedRange,
}

impl Setup {
    /// What its button says.
    pub fn title(self) -> &'static str {
        match self {
            Self::PlantedModel => "Open the planted model",
            Self::PlantedRange => "Plant a wrong range",
        }
    }

    /// Whether what it sets up is open.
    pub(in crate::app) fn is_done(self, view: &View, progress: &Progress) -> bool {
        let Some(recipe) = &view.recipe else { return false };
        match self {
            Self::PlantedModel => is_planted_model(recipe),
            Self::PlantedRange => planted(progress).is_some_and(|layer| is_planted(recipe, layer)),
        }
    }
}

/// The key of the layer whose range is wrong.
const PLANTED: &str = "range planted";
/// The keys of the accuracies that repairs are compared with.
pub(super) const BEFORE: &str = "break per tensor";
pub(super) const REPAIRED: &str = "break per channel";

/// Sets the next place's range wrong, for the recipe that is opened then.
pub(super) fn plant_range(qconfig: &QConfig, progress: &mut Progress) -> QConfig {
    let times = progress.figures.entry("range times".to_owned()).or_insert(0.0);
    let place = PLACES[*times as usize % PLACES.len()];
    *times += 1.0;
    progress.guesses.insert(PLANTED.to_owned(), place.to_owned());
    QConfig { overrides: Default::default(), ..qconfig.clone() }.with_fixed(place, Some(DEAD))
}

/// The layer whose range was set wrong, if one was.
pub(super) fn planted(progress: &Progress) -> Option<&str> {
    progress.guesses.get(PLANTED).map(String::as_str)
}

/// Saved and measured, with the recipe that led there.
fn measured(view: &View, qat: bool) -> Result<(&Measured, &Recipe), String> {
    saved(view, qat)?;
    match (view.stage_of(Step::Convert).map(AsRef::as_ref), &view.recipe) {
        (Some(Stage::Saved { measured, .. }), Some(recipe)) => Ok((measured, recipe)),
        (_, _) => Err("Not saved and measured yet.".to_owned()),
    }
}

/// Whether the model is the one with spoilt weights.
fn is_planted_model(recipe: &Recipe) -> bool {
    let planted = |path: &std::path::Path| path.file_name().is_some_and(|n| n == PLANTED_FILE);
    match &recipe.weights {
        WeightsChoice::File(path) => planted(path) && recipe.model == ModelId::MobileNetV3Small,
        WeightsChoice::Automatic | WeightsChoice::Train => false,
    }
}

/// The spoilt model's, with float's and int8's accuracy.
fn of_planted(view: &View, qat: bool) -> Result<(&Measured, &Recipe, [f64; 2]), String> {
    let Some(recipe) = &view.recipe else { return Err("No model is open yet.".to_owned()) };
    if !is_planted_model(recipe) {
        return Err("The planted model is not open: the button below opens it.".to_owned());
    }
    let (measured, recipe) = measured(view, qat)?;
    let [Some(float), Some(int8)] = [measured.float.accuracy, measured.int8.accuracy] else {
        return Err("Without labels there is no accuracy.".to_owned());
    };
    Ok((measured, recipe, [float, int8]))
}

fn is_per_tensor(qconfig: &QConfig) -> bool {
    qconfig.weight.observer == ObserverKind::MinMax
}

/// Whether some layers are treated otherwise than the rest.
fn has_own(qconfig: &QConfig) -> bool {
    !qconfig.overrides.is_empty()
}

pub(super) fn broken(view: &View) -> Verdict {
    let (_, recipe, [float, int8]) = of_planted(view, false)?;
    if !is_per_tensor(&recipe.qconfig) {
        return no("The weights still have a scale a channel: choose Per tensor in Prepare.");
    }
    if has_own(&recipe.qconfig) {
        return no("Some layers have choices of their own: clear them in Prepare.");
    }
    if int8 > float - BROKEN {
        return no(format!("int8 still names {} rightly: it is not broken.", number::percent(int8)));
    }
    Ok(format!("From {} to {}: one scale a layer breaks it.", number::percent(float), number::percent(int8)))
}

/// What an earlier lesson measured.
fn before(progress: &Progress, key: &str, missing: &str) -> Result<f64, String> {
    progress.figures.get(key).copied().ok_or_else(|| missing.to_owned())
}

pub(super) fn per_channel(view: &View, progress: &Progress) -> Verdict {
    let worst = before(progress, BEFORE, "Break it first: the lesson before measures what is repaired here.")?;
    let (_, recipe, [float, int8]) = of_planted(view, false)?;
    if is_per_tensor(&recipe.qconfig) {
        return no("The weights have one scale a layer: choose Per channel in Prepare.");
    }
    if has_own(&recipe.qconfig) {
        return no("Some layers have choices of their own: clear them in Prepare.");
    }
    if int8 < float - MENDED || int8 < worst + BROKEN / 2.0 {
        return no(format!("int8 names {} rightly: not repaired yet.", number::percent(int8)));
    }
    Ok(format!("From {} to {}, with the same weights.", number::percent(worst), number::percent(int8)))
}

pub(super) fn by_qat(view: &View, progress: &Progress) -> Verdict {
    let ptq = before(progress, REPAIRED, "Repair it per channel first: training is compared with that.")?;
    method(view, true)?;
    let worst = before(progress, BEFORE, "Break it first: that is what training is compared with.")?;
    let (_, _, [float, int8]) = of_planted(view, true)?;
    let [float_is, worst_is, ptq_is, int8_is] = [float, worst, ptq, int8].map(number::percent);
    if int8 < float - MENDED || int8 < worst + BROKEN / 2.0 {
        return no(format!("int8 names {int8_is} rightly, float {float_is}: train longer."));
    }
    Ok(format!("From {worst_is} to {int8_is} by QAT; PTQ with a scale a channel had {ptq_is}."))
}

pub(super) fn given_back(view: &View) -> Verdict {
    let (_, recipe, [float, int8]) = of_planted(view, false)?;
    if !is_per_tensor(&recipe.qconfig) {
        return no("Here the weights must keep one scale a layer: choose Per tensor in Prepare.");
    }
    let back: Vec<&String> =
        recipe.qconfig.overrides.iter().filter(|(_, o)| **o == Override::Float).map(|(name, _)| name).collect();
    let [layer] = back[..] else {
        return no(format!("{} layers are left in float: it must be one.", back.len()));
    };
    if recipe.qconfig.overrides.len() > 1 {
        return no("Other layers have choices of their own: clear them, all but the one in float.");
    }
    let bytes = match view.stage_of(Step::Convert).map(AsRef::as_ref) {
        Some(Stage::Saved { report, .. }) => report.float.iter().map(|l| l.bytes).sum::<usize>(),
        _ => 0,
    };
    // A float32 weight takes three bytes more than an int8 one.
    let more = bytes / 4 * 3;
    if more > BUDGET {
        let [more, budget] = [more, BUDGET].map(|b| number::bytes(b as u64));
        return no(format!("{layer} costs {more} more in float, and {budget} may be spent."));
    }
    if int8 < float - MENDED {
        return no(format!("With {layer} in float int8 names {} rightly: it is another layer.", number::percent(int8)));
    }
    Ok(format!("{layer} in float costs {} and brings {} back.", number::bytes(more as u64), number::percent(int8)))
}

/// Whether the range of the planted layer is still set by hand.
fn is_planted(recipe: &Recipe, layer: &str) -> bool {
    match recipe.qconfig.overrides.get(layer) {
        Some(Override::Int8 { activation: Some(spec), .. }) => spec.fixed.is_some(),
        Some(_) | None => false,
    }
}

pub(super) fn range_planted(view: &View, progress: &Progress) -> Verdict {
    let Some(layer) = planted(progress) else { return no("No range was planted yet: the button below does it.") };
    let (measured, recipe) = measured(view, false)?;
    if !is_planted(recipe, layer) {
        return no("The model that was measured has no wrong range: plant one, then run all steps.");
    }
    let [Some(float), Some(int8)] = [measured.float.accuracy, measured.int8.accuracy] else {
        return no("Without labels there is no accuracy.");
    };
    Ok(format!("{} in float, {} in int8: something is wrong.", number::percent(float), number::percent(int8)))
}

pub(super) fn range_found(view: &View, progress: &Progress) -> Verdict {
    let Some(layer) = planted(progress) else { return no("No range was planted yet: the lesson before does it.") };
    let Some(recipe) = &view.recipe else { return no("No model is open yet.") };
    if is_planted(recipe, layer) {
        return no("The wrong range is still set.");
    }
    let (measured, recipe) = measured(view, false)?;
    if recipe.qconfig.overrides.contains_key(layer) {
        return no("That layer has choices of its own: it should be as the rest again.");
    }
    let [Some(float), Some(int8)] = [measured.float.accuracy, measured.int8.accuracy] else {
        return no("Without labels there is no accuracy.");
    };
    if recipe.model != ModelId::ShuffleNetV2X05 || int8 < float - MENDED {
        return no(format!("int8 names {} rightly: that is not the model as it was.", number::percent(int8)));
    }
    Ok(format!("It was {layer}. int8 names {} rightly again.", number::percent(int8)))
}
