use std::ops::ControlFlow;
use std::sync::Arc;

use eframe::egui::{Button, Label, RichText, Ui};

use super::prose;
use crate::app::controls::{banner_ui, figure_ui, figures_ui, number_ui, primary_ui};
use crate::app::lead::Lead;
use crate::app::number;
use crate::app::plot::{Histogram, Levels, clip_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::graph::QParams;
use crate::session::{
    Command, CommandKind, ObserverView, Observers, Opened, Probe, QConfig, Range, RangeEffect, SampleScore, Stage,
    Step, View, WhatIf,
};

/// A range that is tried on one node, and what it would do.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// Whose it is; dropped with the calibration.
    of: Option<(Arc<Observers>, String)>,
    /// What the observer itself takes; milliseconds for a histogram, so kept.
    own: Option<Range>,
    /// What the observer is to take, as it was when the lines were laid on it.
    in_force: Option<Range>,
    /// What the lines say.
    range: Option<Range>,
    what_if: Option<WhatIf>,
    /// Score of the range in force, and of the one that is tried.
    scores: [Option<(Range, SampleScore)>; 2],
    probe: Option<(Range, Probe<Answer>)>,
    failure: Option<String>,
    /// Whether there are no labels to measure by.
    silent: bool,
}

/// Which of the two scores, or why there is none.
type Answer = Result<(usize, Range, SampleScore), String>;

impl Trial {
    /// The score of the range that is tried, once it is complete.
    pub fn score(&self) -> Option<SampleScore> {
        let (range, score) = self.scores[1]?;
        (Some(range) == self.range && score.seen == score.of).then_some(score)
    }

    /// The range that the lines say now.
    pub fn range(&self) -> Option<Range> {
        self.range
    }

    /// Whether the lines say something else than what the observer of this calibration is to take.
    pub fn is_changed(&self, view: &View) -> bool {
        let now = match view.stage_of(Step::Calibrate).map(AsRef::as_ref) {
            Some(Stage::Calibrated { observers, .. }) => observers,
            Some(_) | None => return false,
        };
        self.of.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, now)) && self.range != self.in_force
    }

    fn update(&mut self, opened: &Arc<Opened>, view: &View, observer: &ObserverView) {
        let Some(Stage::Calibrated { observers, graph, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref) else {
            return;
        };
        let same = self.of.as_ref().is_some_and(|(o, name)| Arc::ptr_eq(o, observers) && *name == observer.name);
        if !same {
            // The sample is read once for a calibration, whichever layer is looked at.
            let kept = self.what_if.take().filter(|w| Arc::ptr_eq(&w.observers, observers));
            let qconfig = view.recipe.as_ref().map_or(QConfig::default(), |r| r.qconfig.clone());
            let fresh = || WhatIf::new(opened.clone(), graph.clone(), observers.clone(), qconfig);
            *self = Self {
                of: Some((observers.clone(), observer.name.clone())),
                own: observers.own_clip(observer.node),
                in_force: observers.clip(observer.node),
                range: observers.clip(observer.node),
                what_if: Some(kept.unwrap_or_else(fresh)),
                ..Self::default()
            };
        }
        let Self { scores, probe, failure, .. } = self;
        let more = probe.as_ref().is_some_and(|(_, p)| {
            p.drain(|answer| match answer {
                Ok((which, range, score)) => scores[which] = Some((range, score)),
                Err(why) => *failure = Some(why),
            })
        });
        if !more && let Some((range, ended)) = probe.take() {
            *failure = ended.failure().map(str::to_owned).or(failure.take());
            self.silent = self.failure.is_none() && self.scores[1].is_none_or(|(scored, _)| scored != range);
        }
    }

    /// Starts to measure the range that is tried, unless that is known or under way. A drag that goes on is measured where
    /// it is whenever the measurement before is done.
    fn measure(&mut self, ui: &Ui, node: crate::graph::NodeId, in_force: Range) {
        let (Some(range), Some(what_if)) = (self.range, &self.what_if) else { return };
        let known = |which: usize, range| self.scores[which].is_some_and(|(r, s)| r == range && s.seen == s.of);
        if self.probe.is_some() || self.failure.is_some() || self.silent || (known(0, in_force) && known(1, range)) {
            return;
        }
        let mut wanted = Vec::new();
        if !known(0, in_force) {
            wanted.push((0, in_force));
        }
        wanted.push((1, range));
        let (what_if, ctx) = (what_if.clone(), ui.ctx().clone());
        let job = move |emit: &mut dyn FnMut(Answer) -> ControlFlow<()>| {
            for (which, range) in wanted {
                let done = what_if.run(node, Some(range), &mut |score| emit(Ok((which, range, score))));
                if let Err(e) = done {
                    // A screen that is gone wants no reason.
                    let _ = emit(Err(e.to_string()));
                    return;
                }
            }
        };
        self.probe = Probe::start(move || ctx.request_repaint(), job).ok().map(|probe| (range, probe));
    }
}

/// The histogram of a calibrated observer with clip lines to drag, and what they do.
pub(super) fn trial_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, observer: &ObserverView) -> bool {
    let Some(stage @ Stage::Calibrated { observers, .. }) = view.stage_of(Step::Calibrate).map(AsRef::as_ref) else {
        return false;
    };
    let trial = &mut bench.calibrate.trial;
    trial.update(stage.opened(), view, observer);
    let (Some(in_force), Some(own), Some(mut range)) = (observers.clip(observer.node), trial.own, trial.range) else {
        return false;
    };
    let Some(effect) = observers.effect(observer.node, range) else { return false };
    let histogram = Histogram {
        counts: observer.histogram.clone(),
        min: observer.histogram_min,
        max: observer.histogram_max,
        clip: None,
        tone: Tone::Observed,
    };
    let mut clip = (range.min, range.max);
    let held = clip_ui(ui, "Values seen", "activation", &histogram, levels(effect.qparams), &mut clip);
    ui.horizontal_wrapped(|ui| {
        let step = f64::from(histogram.max - histogram.min) / 400.0;
        number_ui(ui, "Lower clip", &mut clip.0, f32::MIN..=clip.1 - f32::EPSILON, step);
        number_ui(ui, "Upper clip", &mut clip.1, clip.0 + f32::EPSILON..=f32::MAX, step);
    });
    if clip.0 < clip.1 {
        range = Range { min: clip.0, max: clip.1 };
        trial.range = Some(range);
    }
    let before = observers.effect(observer.node, in_force);
    effect_ui(ui, &effect, before.filter(|_| range != in_force).as_ref());
    if range != in_force || trial.scores[1].is_some() {
        trial.measure(ui, observer.node, in_force);
    }
    if held {
        ui.ctx().request_repaint();
    }
    score_ui(ui, trial, range, in_force);
    let fixed = observers.spec(observer.node).is_some_and(|s| s.fixed.is_some());
    decide_ui(ui, bench, view, observer, (range, in_force, own, fixed));
    let kernels = f64::from(effect.qparams.dequantize(effect.qparams.qmax));
    if kernels > f64::from(range.max) * 1.05 {
        let text = format!(
            "Levels 0 to {} are laid over the range; the kernels go on to {}, so values up to {} keep a level.",
            observers.spec(observer.node).map_or(127, |s| s.quant_max),
            effect.qparams.qmax,
            number::number(kernels)
        );
        prose(ui, &text);
    }
    true
}

/// What the integers of a node stand for.
pub(in crate::app) fn levels(q: QParams) -> Levels {
    Levels {
        first: f64::from(q.dequantize(0)),
        last: f64::from(q.dequantize(q.qmax)),
        count: usize::from(q.qmax) + 1,
        all: true,
        tone: Tone::Int8,
    }
}

/// What the lines do at once: scale, zero point, noise, what is cut off; with the difference to what is in force.
fn effect_ui(ui: &mut Ui, effect: &RangeEffect, before: Option<&RangeEffect>) {
    let sqnr = |e: &RangeEffect| decibels(e.sqnr_db);
    let change =
        before.filter(|b| b.sqnr_db.is_finite() && effect.sqnr_db.is_finite()).map(|b| effect.sqnr_db - b.sqnr_db);
    let noise = match change {
        Some(d) if d.abs() >= 0.05 => {
            let sign = if d < 0.0 { number::MINUS } else { '+' };
            format!("{}  ({sign}{:.1})", sqnr(effect), d.abs())
        }
        Some(_) | None => sqnr(effect),
    };
    let [scale, zero, clipped] = [
        number::number(effect.qparams.scale.into()),
        effect.qparams.zero_point.to_string(),
        format!("{}{}%", number::number(effect.clipped * 100.0), number::THIN),
    ];
    figures_small_ui(ui, &[("scale", &scale), ("zero point", &zero), ("SQNR", &noise), ("clipped", &clipped)]);
}

/// Infinite where nothing was lost at all.
pub(in crate::app) fn decibels(sqnr: f64) -> String {
    if sqnr == f64::INFINITY {
        return "exact".to_owned();
    }
    if !sqnr.is_finite() {
        return number::NONE.to_owned();
    }
    let sign = if sqnr < 0.0 { number::MINUS.to_string() } else { String::new() };
    format!("{sign}{:.1}{}dB", sqnr.abs(), number::THIN)
}

/// Figures under their names, one line.
pub(in crate::app) fn figures_small_ui(ui: &mut Ui, figures: &[(&str, &str)]) {
    let p = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = theme::PADDING;
        for (name, value) in figures {
            let name = RichText::new(*name).font(Type::Small.font()).color(p.weak);
            figure_ui(ui, name, RichText::new(*value).font(Type::Title.strong()).color(p.strong), 0.0);
        }
    });
}

fn score_ui(ui: &mut Ui, trial: &Trial, range: Range, in_force: Range) {
    if let Some(why) = &trial.failure {
        banner_ui(ui, Tone::Trouble, why);
        return;
    }
    let percent = |s: SampleScore| number::percent(s.right as f64 / s.seen.max(1) as f64);
    let base = trial.scores[0].filter(|(r, _)| *r == in_force).map(|(_, s)| s);
    let tried = trial.scores[1].filter(|(r, _)| *r == range).map(|(_, s)| s);
    match (base, tried) {
        (_, _) if range == in_force && trial.scores[1].is_none() => {
            prose(ui, "Drag a clip line, and see what it does to the noise at once, and to the accuracy in a moment.");
        }
        (Some(base), Some(tried)) if base.seen == base.of => {
            let [a, b] = [base, tried].map(|s| s.right as f64 / s.seen.max(1) as f64);
            let done = tried.seen == tried.of;
            let difference = if done { number::points(b - a) } else { "\u{2026}".to_owned() };
            let tone = Some(if done && b < a - 0.005 { Tone::Trouble } else { Tone::Int8 });
            let name = format!("top-1 on {} held-out images", number::count(tried.seen));
            let value = format!("{} \u{2192} {}  {difference}", percent(base), percent(tried));
            figures_ui(ui, &[(&name, &value, tone)]);
        }
        (_, _) if trial.probe.is_some() => {
            let seen = tried.or(base).map_or(0, |s| s.seen);
            prose(ui, &format!("Measuring the accuracy\u{2026} {} images.", number::count(seen)));
        }
        (_, _) => prose(ui, "No accuracy: the images have no labels to measure by."),
    }
}

/// Keep the range as this layer's override, or drop it.
fn decide_ui(
    ui: &mut Ui,
    bench: &mut Workbench,
    view: &View,
    observer: &ObserverView,
    (range, in_force, own, fixed): (Range, Range, Range, bool),
) {
    let known = view.stage_of(Step::Fuse).is_some_and(|s| s.graph().find(&observer.name).is_some());
    let can = view.allows(CommandKind::SetRange);
    ui.horizontal_wrapped(|ui| {
        let changed = range != in_force;
        let keep = primary_ui(ui, bench.lead == Lead::Range, changed && can && known, "Keep this range");
        let keep = keep.on_disabled_hover_text(if !known {
            "It stands behind a layer that is left in float: choose for that layer"
        } else if !can {
            "Go back to this step to change it"
        } else {
            "Drag a clip line first"
        });
        if keep.clicked() {
            set(bench, &observer.name, Some(range));
        }
        if changed && ui.add(Button::new("Drop it")).on_hover_text("Back to the range in force").clicked() {
            bench.calibrate.trial.range = Some(in_force);
        }
        if fixed {
            let back = ui.add_enabled(can, Button::new("Back to the observer's"));
            let ends = [own.min, own.max].map(|v| number::number(v.into()));
            if back.on_hover_text(format!("{} \u{2026} {}", ends[0], ends[1])).clicked() {
                set(bench, &observer.name, None);
            }
            let ink = Tone::Observed.ink(theme::palette(ui).dark);
            let by_hand = RichText::new("set by hand").font(Type::Small.strong()).color(ink);
            ui.add(Label::new(by_hand).extend());
        }
    });
    if fixed && !can {
        prose(ui, "Later steps stand on this range: return to here, above, to change it.");
    }
}

fn set(bench: &mut Workbench, node: &str, range: Option<Range>) {
    let fixed = range.map(|r| [r.min, r.max]);
    bench.choices.qconfig = std::mem::take(&mut bench.choices.qconfig).with_fixed(node, fixed);
    bench.ask(Command::SetRange(node.to_owned(), range));
}
