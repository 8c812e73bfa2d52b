use std::collections::HashMap;
use std::sync::Arc;

use eframe::egui::Ui;

use super::analyze::AnalyzeScreen;
use super::beside::Written;
use crate::app::asked::Asked;
use crate::app::gallery::Thumbnails;
use crate::app::graph_view::{Lens, Reading};
use crate::app::number;
use crate::graph::Graph;
use crate::session::{LayerCost, LayerError, Pair, Sensitivity, SoFar, Stage, Step, Verdicts, View, layer_costs};

/// Images on which the error of each layer is measured.
const ERROR_IMAGES: usize = 256;

/// What of the result is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultView {
    /// Accuracy, bytes, milliseconds.
    #[default]
    Summary,
    /// Each layer's weights, float and int8.
    Weights,
    /// How far each layer is from float.
    Error,
    /// What each layer costs.
    Time,
    /// Which images are named otherwise.
    Images,
    /// Which layer, and what to do about it.
    Analyze,
}

impl ResultView {
    /// All, in order.
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Summary, "Summary"),
        (Self::Weights, "Weights"),
        (Self::Error, "Error by layer"),
        (Self::Time, "Time by layer"),
        (Self::Images, "Images"),
        (Self::Analyze, "Analyze"),
    ];
}

/// What the graph's cards say beside what they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Says {
    #[default]
    State,
    Error,
    Time,
    Suspicion,
}

/// What is known of a converted model beyond its figures, each asked for when it is first looked at.
#[derive(Debug)]
pub struct ResultScreen {
    pub(in crate::app) view: ResultView,
    pub(super) says: Says,
    of: Option<Arc<Graph>>,
    /// Shared, since many classes make it large.
    pub(super) verdicts: Asked<Arc<SoFar<Verdicts>>>,
    pub(super) errors: Asked<SoFar<Vec<LayerError>>>,
    pub(super) times: Asked<Vec<LayerCost>>,
    pub(super) analyze: AnalyzeScreen,
    pub(super) thumbnails: Thumbnails,
    pub(in crate::app) written: Written,
    pub(super) channel: usize,
    lens: Option<(Says, usize, Arc<Lens>)>,
}

impl Default for ResultScreen {
    fn default() -> Self {
        Self {
            view: ResultView::default(),
            says: Says::default(),
            of: None,
            verdicts: Asked::default(),
            errors: Asked::default(),
            times: Asked::default(),
            analyze: AnalyzeScreen::default(),
            thumbnails: Thumbnails::held_out(),
            written: Written::default(),
            channel: 0,
            lens: None,
        }
    }
}

impl ResultScreen {
    /// What float and int8 name the images, once all were looked at.
    pub fn verdicts(&self) -> Option<&Verdicts> {
        self.verdicts.answer().filter(|v| v.seen == v.of).map(|v| &v.found)
    }

    /// How far each layer is from float, once all images were looked at.
    pub fn errors(&self) -> Option<&[LayerError]> {
        self.errors.answer().filter(|e| e.seen == e.of).map(|e| &e.found[..])
    }

    /// Which layer, and what to do about it.
    pub fn analyze(&self) -> &AnalyzeScreen {
        &self.analyze
    }

    /// What each layer costs.
    pub fn times(&self) -> Option<&[LayerCost]> {
        self.times.answer().map(|t| &t[..])
    }

    /// Forgets what was of another conversion, and takes what the probes found.
    pub(super) fn update(&mut self, view: &View) {
        let graph = view.stage_of(Step::Convert).map(|s| s.graph());
        // Saving reads the same graph back from its file: what was measured holds.
        let same = match (&self.of, graph) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            *self = Self { view: self.view, says: self.says, analyze: self.analyze.fresh(), ..Self::default() };
        }
        self.of = graph.cloned();
        self.verdicts.take();
        self.errors.take();
        self.times.take();
        self.analyze.take();
    }

    /// Both models, to be made beside the frame.
    pub(super) fn pair(view: &View) -> Option<impl FnOnce() -> Result<Pair, String> + Send + 'static> {
        let converted = view.stage_of(Step::Convert)?;
        let weighted = view.stage_of(Step::Weights)?.graph().clone();
        let recipe = view.recipe.clone()?;
        let (opened, converted) = (converted.opened().clone(), converted.graph().clone());
        Some(move || Pair::fusing(opened, &weighted, &recipe, converted).map_err(|e| e.to_string()))
    }

    pub(super) fn ask_verdicts(&mut self, ui: &Ui, view: &View) {
        let Some(pair) = Self::pair(view) else { return };
        self.verdicts.once(ui, move |emit| {
            let mut emit = |found| emit(Arc::new(found));
            pair()?.verdicts(usize::MAX, &mut emit).map_err(|e| e.to_string())
        });
    }

    pub(super) fn ask_errors(&mut self, ui: &Ui, view: &View) {
        // What training with fake quantization moved is no error of int8's.
        let trained = match (view.stage_of(Step::Calibrate).map(AsRef::as_ref), view.stage_of(Step::Convert)) {
            (Some(Stage::Trained { graph, .. }), Some(converted)) => {
                Some((converted.opened().clone(), graph.clone(), converted.graph().clone()))
            }
            (Some(_) | None, _) => None,
        };
        if let Some((opened, trained, converted)) = trained {
            self.errors.once(ui, move |emit| {
                let pair = Pair::of_training(opened, &trained, converted).map_err(|e| e.to_string())?;
                pair.layer_errors(ERROR_IMAGES, emit).map_err(|e| e.to_string())
            });
            return;
        }
        let Some(pair) = Self::pair(view) else { return };
        self.errors.once(ui, move |emit| pair()?.layer_errors(ERROR_IMAGES, emit).map_err(|e| e.to_string()));
    }

    /// Timed when nothing else of ours runs.
    pub(super) fn ask_times(&mut self, ui: &Ui, view: &View) {
        if view.running.is_some() || self.errors.is_busy() || self.verdicts.is_busy() {
            return;
        }
        let Some(stage) = view.stage_of(Step::Convert).filter(|s| !s.is_study_alone()) else { return };
        let (graph, threads) = (stage.graph().clone(), view.recipe.as_ref().map_or(0, |r| r.threads));
        self.times.once(ui, move |emit| {
            let costs = layer_costs(&graph, threads).map_err(|e| e.to_string())?;
            // A screen that is gone wants no times.
            let _ = emit(costs);
            Ok(())
        });
    }

    /// What the cards of the converted graph say, if they say more than what they are in.
    pub(super) fn lens(&mut self, ui: &Ui, view: &View) -> Option<Arc<Lens>> {
        let seen = match self.says {
            Says::State => return None,
            Says::Error => {
                self.ask_errors(ui, view);
                self.errors.answer()?.seen
            }
            Says::Time => {
                self.ask_times(ui, view);
                self.times.answer()?.len()
            }
            Says::Suspicion => {
                let swept = self.analyze.swept()?;
                (swept.done * 1e6) as usize
            }
        };
        if let Some((says, at, lens)) = &self.lens
            && (*says, *at) == (self.says, seen)
        {
            return Some(lens.clone());
        }
        let lens = Arc::new(match self.says {
            Says::State => return None,
            Says::Error => error_lens(&self.errors.answer()?.found),
            Says::Time => time_lens(self.times.answer()?),
            Says::Suspicion => suspicion_lens(&self.analyze.swept()?.found),
        });
        self.lens = Some((self.says, seen, lens.clone()));
        Some(lens)
    }
}

/// Cards say their SQNR; a module the least of its layers'.
fn error_lens(errors: &[LayerError]) -> Lens {
    let finite = || errors.iter().map(|e| e.sqnr_db).filter(|v| v.is_finite());
    let (least, most) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let values: HashMap<String, f64> = errors.iter().map(|e| (e.name.clone(), e.sqnr_db)).collect();
    let heat = move |v: f64| if most > least { ((most - v) / (most - least)) as f32 } else { 0.0 };
    Lens::new(values, Reading::Least, Box::new(heat), Box::new(super::clip::decibels))
}

/// Cards say their microseconds; a module the sum of its layers'.
fn time_lens(costs: &[LayerCost]) -> Lens {
    let most = costs.iter().map(|c| c.time.micros).fold(0.0, f64::max);
    let values: HashMap<String, f64> = costs.iter().map(|c| (c.time.name.clone(), c.time.micros)).collect();
    let heat = move |v: f64| if most > 0.0 { (v / most) as f32 } else { 0.0 };
    Lens::new(values, Reading::Sum, Box::new(heat), Box::new(micros))
}

/// Cards say what the layer alone does to the logits; a module the most of its layers. The colour goes by the root: a few
/// layers do most.
fn suspicion_lens(found: &Sensitivity) -> Lens {
    let all = || found.layers.iter().filter(|l| l.quantized.images > 0);
    let most = all().map(|l| l.quantized.logit_mse()).fold(0.0, f64::max);
    let values: HashMap<String, f64> = all().map(|l| (l.name.clone(), l.quantized.logit_mse())).collect();
    let heat = move |v: f64| if most > 0.0 { (v / most).sqrt() as f32 } else { 0.0 };
    Lens::new(values, Reading::Most, Box::new(heat), Box::new(number::number))
}

/// Microseconds, three digits.
pub(super) fn micros(us: f64) -> String {
    format!("{}{}\u{b5}s", number::number(us), number::THIN)
}
