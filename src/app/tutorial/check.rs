//! When a lesson is done: questions to the session's state, each answered by what is there or by what is missing.

use serde::Deserialize;

use super::Progress;
use super::finale;
use crate::graph::{Graph, Op};
use crate::session::{Problem, Stage, Step, View, Weighted, WeightsOrigin};

/// Images below which a calibration says little.
pub(super) const IMAGES: usize = 64;
/// A model must be so many times better than guessing.
const BETTER: f64 = 2.0;

/// What ends a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Both stubs stand in the graph.
    Stubs,
    /// The weights are trained.
    Weights,
    /// Batch norms are folded, and the output is what it was.
    Fused,
    /// Observers stand in the graph.
    Prepared,
    /// They have seen enough.
    Calibrated,
    /// The int8 file is there and measured.
    Saved,
    /// Stubs and trained weights, whichever method.
    QatWeights,
    /// The second method is chosen for a trained model.
    TrainingMode,
    /// Fused with batch norms kept.
    QatFused,
    /// Fake quantization stands in the graph.
    QatPrepared,
    /// It was trained so.
    QatTrained,
    /// The int8 file of a model that was trained so is there and measured.
    QatSaved,
    /// The spoilt model was measured with one scale a tensor, and broke.
    BrokenPerTensor,
    /// The same weights were measured with a scale a channel, and did not.
    RepairedPerChannel,
    /// They were trained with fake quantization, to no less.
    RepairedByQat,
    /// The spoilt model still has one scale a tensor, and one layer in float that mends it, within the budget.
    GivenBack,
    /// A model with one range set wrong was measured.
    RangePlanted,
    /// The range is the observer's again, and so is the accuracy.
    RangeFound,
}

/// What is done, or what is missing: each a sentence.
pub type Verdict = Result<String, String>;

impl Check {
    /// All.
    pub const ALL: [Self; 18] = [
        Self::Stubs,
        Self::Weights,
        Self::Fused,
        Self::Prepared,
        Self::Calibrated,
        Self::Saved,
        Self::QatWeights,
        Self::TrainingMode,
        Self::QatFused,
        Self::QatPrepared,
        Self::QatTrained,
        Self::QatSaved,
        Self::BrokenPerTensor,
        Self::RepairedPerChannel,
        Self::RepairedByQat,
        Self::GivenBack,
        Self::RangePlanted,
        Self::RangeFound,
    ];

    /// The step of the workbench that it is worked on.
    pub fn step(self) -> Step {
        match self {
            Self::Stubs => Step::Stubs,
            Self::Weights | Self::QatWeights | Self::TrainingMode => Step::Weights,
            Self::Fused | Self::QatFused => Step::Fuse,
            Self::Prepared | Self::QatPrepared => Step::Prepare,
            Self::Calibrated | Self::QatTrained => Step::Calibrate,
            Self::Saved
            | Self::QatSaved
            | Self::BrokenPerTensor
            | Self::RepairedPerChannel
            | Self::RepairedByQat
            | Self::GivenBack
            | Self::RangePlanted
            | Self::RangeFound => Step::Convert,
        }
    }

    /// Which method it belongs to: training with fake quantization (`true`), or not; `None` for either.
    pub fn by_qat(self) -> Option<bool> {
        match self {
            Self::Stubs | Self::Weights | Self::QatWeights => None,
            Self::Fused
            | Self::Prepared
            | Self::Calibrated
            | Self::Saved
            | Self::BrokenPerTensor
            | Self::RepairedPerChannel
            | Self::GivenBack
            | Self::RangePlanted
            | Self::RangeFound => Some(false),
            Self::TrainingMode
            | Self::QatFused
            | Self::QatPrepared
            | Self::QatTrained
            | Self::QatSaved
            | Self::RepairedByQat => Some(true),
        }
    }

    /// Whether the work is done. `progress` tells what earlier lessons of a finale found.
    ///
    /// # Errors
    /// What is missing.
    pub fn judge(self, view: &View, progress: &Progress) -> Verdict {
        match self {
            Self::BrokenPerTensor => finale::broken(view),
            Self::RepairedPerChannel => finale::per_channel(view, progress),
            Self::RepairedByQat => finale::by_qat(view, progress),
            Self::GivenBack => finale::given_back(view),
            Self::RangePlanted => finale::range_planted(view, progress),
            Self::RangeFound => finale::range_found(view, progress),
            Self::Stubs => stubs(view),
            Self::Weights => weights(view),
            Self::QatWeights => stubs(view).and_then(|_| weights(view)),
            Self::TrainingMode => {
                weights(view)?;
                method(view, true)?;
                Ok("The model is trained, and the method is QAT: it stays in training mode.".to_owned())
            }
            Self::Fused => fused(view, false),
            Self::QatFused => fused(view, true),
            Self::Prepared => prepared(view, false),
            Self::QatPrepared => prepared(view, true),
            Self::Calibrated => calibrated(view),
            Self::QatTrained => trained(view),
            Self::Saved => saved(view, false),
            Self::QatSaved => saved(view, true),
        }
    }
}

pub(super) fn no(text: impl Into<String>) -> Verdict {
    Err(text.into())
}

/// That the method in force is this one.
pub(super) fn method(view: &View, qat: bool) -> Result<(), String> {
    let Some(recipe) = &view.recipe else { return Err("No model is open yet.".to_owned()) };
    match (recipe.method.is_ptq(), qat) {
        (true, true) => Err("The method is still PTQ: choose QAT in the bar above.".to_owned()),
        (false, false) => Err("The method is QAT: choose PTQ in the bar above.".to_owned()),
        (true, false) | (false, true) => Ok(()),
    }
}

fn count(graph: &Graph, what: impl Fn(&Op) -> bool) -> usize {
    graph.nodes.iter().filter(|node| what(&node.op)).count()
}

fn stubs(view: &View) -> Verdict {
    let Some(stage) = view.stage_of(Step::Stubs) else {
        return no(match view.stages[0] {
            Some(_) => "The model is open; its stubs are not inserted yet.",
            None => "No model is open yet.",
        });
    };
    let of = |stub: fn(&Op) -> bool| count(stage.graph(), stub);
    match (of(|op| matches!(op, Op::QuantStub)), of(|op| matches!(op, Op::DeQuantStub))) {
        (0, _) | (_, 0) => no("A stub is missing: the graph needs a QuantStub and a DeQuantStub."),
        (quant, dequant) => Ok(format!("{quant} QuantStub and {dequant} DeQuantStub stand in the graph.")),
    }
}

fn weights(view: &View) -> Verdict {
    let Some(Stage::Weighted { opened, origin, accuracy, .. }) = view.stage_of(Step::Weights).map(AsRef::as_ref) else {
        return no("The weights are random: load trained ones, or train.");
    };
    match origin {
        WeightsOrigin::WithoutHead(_) => return no("The new head is random until it is trained."),
        WeightsOrigin::Trained { epochs: 0, .. } => return no("No epoch of training was completed yet."),
        WeightsOrigin::Trained { .. } | WeightsOrigin::Shipped | WeightsOrigin::File(_) => {}
    }
    let Some(accuracy) = accuracy else {
        return Ok("The weights are loaded. Without labels their accuracy cannot be measured.".to_owned());
    };
    let percent = crate::app::number::percent(*accuracy);
    let chance = 1.0 / opened.classes.max(1) as f64;
    // With two classes twice chance is all: half of the way to it must do.
    let enough = (BETTER * chance).min((1.0 + chance) / 2.0);
    if *accuracy < enough {
        let guess = crate::app::number::percent(chance);
        return no(format!("{percent} is hardly better than guessing ({guess}): train it, or load better weights."));
    }
    Ok(format!("The float model names {percent} of the held-out images rightly."))
}

fn fused(view: &View, qat: bool) -> Verdict {
    method(view, qat)?;
    let Some(Stage::Fused { graph, report, warnings, .. }) = view.stage_of(Step::Fuse).map(AsRef::as_ref) else {
        return no("Nothing is fused yet.");
    };
    let sites = report.sites.len();
    if sites == 0 {
        return no("No site is fused: every one is switched off. Switch some on and fuse again.");
    }
    if !warnings.is_empty() {
        return no("Fusing moved the output by more than rounding: look at the warning.");
    }
    let inside = count(graph, |op| matches!(op, Op::Conv2d(conv) if conv.bn.is_some()));
    match (qat, inside) {
        (true, 0) => no("No batch norm is left: it was fused for inference. Fuse with the method on QAT."),
        (true, n) => Ok(format!("{sites} sites are fused, and {n} batch norms stay inside their convolutions.")),
        (false, 0) => Ok(format!("{sites} sites are fused, and the output is what it was.")),
        (false, n) => no(format!("{n} batch norms stay inside their convolutions: this is QAT's form.")),
    }
}

fn prepared(view: &View, qat: bool) -> Verdict {
    method(view, qat)?;
    let Some(stage @ Stage::Prepared { report, .. }) = view.stage_of(Step::Prepare).map(AsRef::as_ref) else {
        return no("No observer is placed yet.");
    };
    let placed = report.observed.len();
    match (qat, stage.is_qat()) {
        (_, _) if placed == 0 => no("No observer is placed: every layer is left in float."),
        (true, false) => no("There are observers but no fake quantization: prepare with the method on QAT."),
        (true, true) => Ok(format!("{placed} outputs are fake-quantized, and so are the weights.")),
        (false, _) => Ok(format!("{placed} observers are placed.")),
    }
}

fn calibrated(view: &View) -> Verdict {
    method(view, false)?;
    let Some(Stage::Calibrated { images, warnings, observers, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref)
    else {
        return no("The observers have seen nothing yet.");
    };
    if *images < IMAGES {
        return no(format!("{images} images are too few: calibrate with {IMAGES} or more."));
    }
    let blind = warnings.iter().filter(|w| matches!(w.problem, Problem::NoData)).count();
    if blind > 0 {
        return no(format!("{blind} observers saw no data: look at the warnings."));
    }
    Ok(format!("{} observers have seen {images} images.", observers.nodes().count()))
}

fn trained(view: &View) -> Verdict {
    method(view, true)?;
    let Some(Stage::Trained { epochs, accuracy, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref) else {
        return no("It was not trained with fake quantization yet.");
    };
    if *epochs == 0 {
        return no("No epoch was completed: train for one at least.");
    }
    let right = accuracy.map_or(String::new(), |a| format!(", {} right", crate::app::number::percent(a)));
    Ok(format!("Trained for {epochs} epochs with fake quantization{right}."))
}

pub(super) fn saved(view: &View, qat: bool) -> Verdict {
    method(view, qat)?;
    match view.stage_of(Step::Convert).map(AsRef::as_ref) {
        Some(stage @ Stage::Saved { measured, .. }) => {
            if stage.is_qat() != qat {
                return no("This file is of the other method.");
            }
            if !measured.file.is_file() {
                return no(format!("{} is gone: save it again.", measured.file.display()));
            }
            let smaller = crate::app::number::times(measured.shrink);
            Ok(format!("{} is written, read back and measured: {smaller} smaller.", name(&measured.file)))
        }
        Some(stage) if stage.is_study_alone() => no("Affine weights have no int8 file: prepare with symmetric ones."),
        Some(_) => no("Converted, but not saved and measured yet."),
        None => no("Not converted yet."),
    }
}

fn name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// The float model that a later stage goes back to.
pub(super) fn weighted(view: &View) -> Option<Weighted> {
    match view.stage_of(Step::Weights)?.as_ref() {
        Stage::Weighted { opened, graph, accuracy, .. } => {
            Some(Weighted { opened: opened.clone(), graph: graph.clone(), accuracy: *accuracy })
        }
        _ => None,
    }
}
