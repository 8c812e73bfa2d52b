use std::sync::Arc;

use eframe::egui::Ui;

use super::by_layer::select;
use super::clip::decibels;
use super::repairs::repairs_ui;
use super::{prose, saved_table_ui};
use crate::app::asked::Asked;
use crate::app::controls::{banner_ui, choice_ui, figures_ui, number_ui, progress_ui};
use crate::app::number;
use crate::app::plot::{Curve, Dot, Row, Table, curves_ui, row_ui, scatter_ui};
use crate::app::theme::{self, Tone};
use crate::app::workbench::Workbench;
use crate::session::{
    Command, CommandKind, Enough, Goal, LayerSensitivity, ObserverSweep, Outcome, Promise, PromiseOf, Sensitivity,
    Step, Sweeping, Sweeps, Verdicts, View,
};

/// Held-out images that the sweeps see.
const IMAGES: usize = 256;
/// Layers that chart and table show.
const SHOWN: usize = 24;

/// What of the analysis is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnalyzePage {
    /// Which layers.
    #[default]
    Where,
    /// What to do about it.
    Repairs,
    /// A limit on what may be lost.
    Promise,
    /// Whether more images would help.
    Calibration,
}

impl AnalyzePage {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Where, "Where"),
        (Self::Repairs, "Repairs"),
        (Self::Promise, "Promise"),
        (Self::Calibration, "Calibration"),
    ];
}

/// What was asked of the analysis, each by its own button.
#[derive(Debug)]
pub struct AnalyzeScreen {
    page: AnalyzePage,
    /// How many of the most suspect layers go back to float.
    pub(super) float_layers: usize,
    /// Points that may be lost.
    points: f64,
    pub(super) swept: Asked<Sweeping>,
    promise: Asked<Promise>,
    enough: Asked<Enough>,
    pub(super) observers: Asked<ObserverSweep>,
}

impl Default for AnalyzeScreen {
    fn default() -> Self {
        Self {
            page: AnalyzePage::default(),
            float_layers: 2,
            points: 0.5,
            swept: Asked::default(),
            promise: Asked::default(),
            enough: Asked::default(),
            observers: Asked::default(),
        }
    }
}

impl AnalyzeScreen {
    /// Takes what the probes found.
    pub(super) fn take(&mut self) {
        self.swept.take();
        self.promise.take();
        self.enough.take();
        self.observers.take();
    }

    /// The same page and numbers, nothing asked: for another conversion.
    pub(super) fn fresh(&self) -> Self {
        Self { page: self.page, float_layers: self.float_layers, points: self.points, ..Self::default() }
    }

    /// Which layers, once all are swept.
    pub fn swept(&self) -> Option<&Sweeping> {
        self.swept.answer()
    }

    /// How the search ended, once it has.
    pub fn promise(&self) -> Option<&Promise> {
        self.promise.answer().filter(|p| p.outcome != Outcome::Searching)
    }

    /// Accuracy against the number of calibration images.
    pub fn enough(&self) -> Option<&Enough> {
        self.enough.answer()
    }

    fn found(&self) -> Option<Arc<Sensitivity>> {
        self.swept.answer().map(|s| s.found.clone())
    }

    /// Names of the layers, the most suspect first.
    pub(super) fn suspects(&self) -> Vec<String> {
        let Some(found) = self.found() else { return Vec::new() };
        found.suspects().into_iter().map(|i| found.layers[i].name.clone()).collect()
    }
}

/// Where a converted model loses, and what can be done about it.
pub(super) fn analyze_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    ui.horizontal_wrapped(|ui| choice_ui(ui, "Analyze", &AnalyzePage::ALL, &mut bench.result.analyze.page));
    ui.add_space(theme::GRID);
    match bench.result.analyze.page {
        AnalyzePage::Where => where_ui(ui, bench, view),
        AnalyzePage::Repairs => repairs_ui(ui, bench, view),
        AnalyzePage::Promise => promise_ui(ui, bench, view),
        AnalyzePage::Calibration => calibration_ui(ui, bench, view),
    }
}

/// A button that starts work, or while it goes on its progress and Cancel; whether it was started.
pub(super) fn work_ui<T: Send + 'static>(
    ui: &mut Ui,
    asked: &mut Asked<T>,
    start: &str,
    share: f32,
    says: &str,
) -> bool {
    let mut started = false;
    ui.horizontal(|ui| {
        if asked.is_busy() {
            progress_ui(ui, start, share, 200.0);
            if ui.button("Cancel").on_hover_text("What was found so far stays").clicked() {
                asked.cancel();
            }
            ui.label(says);
        } else {
            let again = asked.answer().is_some();
            let text = if again { format!("{start} again") } else { start.to_owned() };
            started = ui.button(text).clicked();
        }
    });
    if let Some(why) = asked.failure() {
        banner_ui(ui, Tone::Trouble, why);
    }
    started
}

/// What a search starts from.
pub(super) fn promise_of(view: &View) -> Option<PromiseOf> {
    let weighted = view.stage_of(Step::Weights)?;
    Some(PromiseOf::new(weighted.opened().clone(), weighted.graph().clone(), view.recipe.clone()?))
}

fn sweep_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let (share, says) = bench.result.analyze.swept.answer().map_or((0.0, String::new()), |s| {
        let left = s.seconds_left().map_or(String::new(), |s| format!("{} left", number::seconds(s)));
        (s.done as f32, left)
    });
    if work_ui(ui, &mut bench.result.analyze.swept, "Sweep over layers", share, &says) {
        let pair = super::result::ResultScreen::pair(view);
        bench.result.analyze.swept = Asked::default();
        if let Some(pair) = pair {
            bench
                .result
                .analyze
                .swept
                .once(ui, move |emit| pair()?.sensitivity(IMAGES, Sweeps::ALL, emit).map_err(|e| e.to_string()));
        }
    }
}

fn where_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    if view.stage_of(Step::Convert).is_some_and(|s| s.opened().why_no_accuracy().is_none()) {
        bench.result.ask_verdicts(ui, view);
        if let Some(v) = bench.result.verdicts() {
            let p = format!("{:.3}", v.mcnemar());
            let says = format!("{} McNemar's exact test: p = {p}.", v.in_words());
            let (float, int8) = (v.float.right(), v.int8.right());
            let of = |right: u32| number::percent(f64::from(right) / f64::from(v.float.total().max(1)));
            let figures = [of(float), of(int8), of(v.top5[0]), of(v.top5[1])];
            figures_ui(
                ui,
                &[
                    ("float, top-1", &figures[0], Some(Tone::Float)),
                    ("int8, top-1", &figures[1], Some(Tone::Int8)),
                    ("float, top-5", &figures[2], Some(Tone::Float)),
                    ("int8, top-5", &figures[3], Some(Tone::Int8)),
                ],
            );
            prose(ui, &says);
            if let Some(table) = drops(v, view) {
                saved_table_ui(ui, "The classes that lose most", &table);
            }
        }
    }
    sweep_ui(ui, bench, view);
    let Some(found) = bench.result.analyze.found() else {
        prose(
            ui,
            "Two sweeps on up to 256 held-out images: all in float but for one layer, and all int8 but for one layer. What one layer alone does to the logits makes it suspect.",
        );
        return;
    };
    sides_ui(ui, &found);
    let suspects: Vec<usize> = found.suspects().into_iter().take(SHOWN).collect();
    let layers: Vec<&LayerSensitivity> = suspects.iter().map(|i| &found.layers[*i]).collect();
    let row = Row {
        values: layers.iter().map(|l| (l.name.clone(), l.quantized.logit_mse())).collect(),
        unit: "logit MSE".to_owned(),
        tone: Tone::Int8,
        marks: Vec::new(),
    };
    let chosen = layers.iter().position(|l| Some(l.name.as_str()) == bench.selection.name());
    if let Some(i) = row_ui(ui, "The most suspect layers, this one alone quantized", &row, chosen) {
        select(bench, view, &layers[i].name);
    }
    let owed: std::collections::BTreeMap<usize, usize> = found.owed().into_iter().collect();
    let rows = suspects.iter().map(|i| {
        let l = &found.layers[*i];
        [
            l.name.clone(),
            number::number(l.quantized.logit_mse()),
            number::number(l.left_float.logit_mse()),
            number::percent(l.left_float.top1()),
            decibels(l.alone.sqnr_db()),
            owed.get(i).map_or(number::NONE.to_owned(), usize::to_string),
        ]
    });
    let head = ["layer", "alone int8: MSE", "alone float: MSE", "alone float: top-1", "SQNR alone", "flips owed"];
    saved_table_ui(ui, "One layer alone", &Table::new(head, rows));
    let agreement = |a: Option<f64>| a.map_or("none, for top-1 is the same for all".to_owned(), |a| format!("{a:.2}"));
    let [quantized, left] = found.agreement().map(agreement);
    prose(
        ui,
        &format!(
            "Layers are ordered by the mean squared error of the logits, since too few images change their class. How well that \
             order agrees with the one by top-1 (Spearman): {quantized} with one layer quantized, {left} with one left float. A \
             flip is owed to the layer that, left in float, helps the right class most. The tab Graph shows the same on the \
             cards: Cards say, Suspicion."
        ),
    );
}

/// The classes that lose most, where any does.
fn drops(verdicts: &Verdicts, view: &View) -> Option<Table> {
    const CLASSES: usize = 5;
    let labels = &view.stage()?.opened().dataset.labels;
    let losing = verdicts.drops().into_iter().take(CLASSES).filter(|drop| drop.share() > 0.0);
    let rows: Vec<[String; 5]> = losing
        .map(|drop| {
            let of = |right: u32| number::percent(f64::from(right) / f64::from(drop.images.max(1)));
            let label = labels.get(drop.class).cloned().unwrap_or_else(|| drop.class.to_string());
            let points = format!("{:.1}", 100.0 * drop.share());
            [label, drop.images.to_string(), of(drop.right[0]), of(drop.right[1]), points]
        })
        .collect();
    (!rows.is_empty()).then(|| Table::new(["class", "images", "float", "int8", "points lost"], rows))
}

/// Weights alone against activations alone.
fn sides_ui(ui: &mut Ui, found: &Sensitivity) {
    let title =
        format!("Weights against activations, on {} images in fake quantization", number::count(found.float.images));
    let right = if found.labelled { "top-1" } else { "as float" };
    let row = |name: &str, s: &crate::session::SweepScore| {
        [name.to_owned(), number::percent(s.top1()), number::number(s.logit_mse())]
    };
    let rows = [
        row("float", &found.float),
        row("weights alone quantized", &found.weights),
        row("activations alone quantized", &found.activations),
        row("all quantized", &found.int8),
    ];
    saved_table_ui(ui, &title, &Table::new(["", right, "logit MSE"], rows));
}

fn promise_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    prose(
        ui,
        "Searches for the smallest and fastest int8 model that loses no more than this: repairs first, then layers left in float. Half of the held-out images are searched on, the other half verifies the result, once.",
    );
    number_ui(ui, "Points that may be lost", &mut bench.result.analyze.points, 0.0..=20.0, 0.05);
    let loss = bench.result.analyze.points / 100.0;
    let says = bench.result.analyze.promise.answer().map_or(String::new(), |p| {
        p.trials.last().map_or(String::new(), |t| format!("model {}: {}", p.trials.len(), t.what))
    });
    // How many models it takes is not known before.
    let share = bench.result.analyze.promise.answer().map_or(0.0, |p| 1.0 - 0.9_f32.powi(p.trials.len() as i32));
    if work_ui(ui, &mut bench.result.analyze.promise, "Find the smallest", share, &says)
        && let Some(of) = promise_of(view)
    {
        let goal = Goal { loss, seed: of.recipe.seed };
        bench.result.analyze.promise = Asked::default();
        bench.result.analyze.promise.once(ui, move |emit| of.run(goal, emit).map(drop).map_err(|e| e.to_string()));
    }
    let Some(found) = bench.result.analyze.promise.answer().cloned() else { return };
    match &found.outcome {
        Outcome::Searching => prose(ui, &found.in_words()),
        Outcome::Kept(i, _) => {
            banner_ui(ui, Tone::Int8, &found.in_words());
            let can = view.allows(CommandKind::Repair);
            if ui.add_enabled(can, eframe::egui::Button::new("Take this model")).clicked() {
                bench.ask(Command::Repair(Box::new(found.trials[*i].repair.clone())));
            }
        }
        Outcome::NotVerified(..) | Outcome::NotFound => banner_ui(ui, Tone::Trouble, &found.in_words()),
    }
    let dots: Vec<Dot> = found
        .trials
        .iter()
        .enumerate()
        .map(|(i, t)| Dot {
            at: [t.bytes as f64 / 1e3, t.accuracy * 100.0],
            name: (i + 1).to_string(),
            strong: t.pareto,
        })
        .collect();
    scatter_ui(ui, "Accuracy against bytes", ["KB", "%"], &dots, number::number);
    let dots: Vec<Dot> = dots.into_iter().zip(&found.trials).map(|(d, t)| Dot { at: [t.ms, d.at[1]], ..d }).collect();
    scatter_ui(ui, "Accuracy against milliseconds", ["ms", "%"], &dots, number::number);
    let rows = found.trials.iter().enumerate().map(|(i, t)| {
        [
            (i + 1).to_string(),
            t.what.clone(),
            number::percent(t.accuracy),
            number::points(-t.loss),
            number::bytes(t.bytes as u64),
            number::millis(t.ms),
            if t.pareto { "none better" } else { "" }.to_owned(),
        ]
    });
    let head = ["", "model", "accuracy", "against float", "weights", "one image", ""];
    saved_table_ui(ui, "Models tried", &Table::new(head, rows));
}

fn calibration_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    prose(ui, "int8's accuracy after 8 to 1024 calibration images, for three choices of them.");
    let asked = &mut bench.result.analyze.enough;
    let (share, says) = asked.answer().map_or((0.0, String::new()), |e| {
        (e.points.len() as f32 / e.of.max(1) as f32, format!("{} of {}", e.points.len(), e.of))
    });
    if work_ui(ui, asked, "Measure", share, &says)
        && let Some(of) = promise_of(view)
    {
        *asked = Asked::default();
        asked.once(ui, move |emit| of.enough(emit).map_err(|e| e.to_string()));
    }
    let Some(found) = asked.answer() else { return };
    let dark = theme::palette(ui).dark;
    let curve = |seed: u64| Curve {
        name: format!("choice {}", seed + 1),
        points: found
            .points
            .iter()
            .filter(|p| p.seed == seed)
            .map(|p| [(p.images as f64).log2(), p.accuracy * 100.0])
            .collect(),
        color: theme::series(seed as usize, dark),
        dashed: false,
    };
    let curves: Vec<Curve> = (0..3).map(curve).filter(|c| !c.points.is_empty()).collect();
    let percent = |v: f64| number::percent(v / 100.0);
    curves_ui(ui, "Accuracy against calibration images", "images, power of two", "%", &curves, percent);
    let float = number::percent(found.float);
    prose(ui, &format!("On {} held-out images; float has {float}.", number::count(found.judged)));
    if let Some(says) = found.in_words() {
        banner_ui(ui, Tone::Observed, &says);
    }
}
