//! Small things to play with inside a lesson, on the learner's own tensors. Each draws what the session's arithmetic
//! gives for the numbers that are dragged; none has an arithmetic of its own.

mod clip;
mod dot;
mod fold;
mod number_line;
mod per_channel;
mod straight_through;

use std::sync::Arc;

use eframe::egui::{Label, RichText, Slider, Ui};

use super::lessons::Play;
use crate::app::asked::Asked;
use crate::app::number;
use crate::app::theme::{self, Type};
use crate::app::workbench::Workbench;
use crate::graph::{Graph, Node, Op, Tensor, Weight};
use crate::session::View;

/// What each of them remembers.
#[derive(Debug, Default)]
pub(super) struct Plays {
    line: number_line::NumberLine,
    channel: usize,
    clip: clip::ClipPlay,
    fold: fold::FoldPlay,
    through: straight_through::ThroughPlay,
    dot: dot::DotPlay,
}

impl Play {
    /// What it is, and what to try.
    fn head(self) -> (&'static str, &'static str) {
        match self {
            Self::NumberLine => (
                "Try: a number line",
                "The pixels of one of your images. Drag the first or last level, the comb, or take other bits: \
                 what lies between two levels is rounded, what lies outside is clipped.",
            ),
            Self::PerChannel => (
                "Try: one channel, two scales",
                "The weights of one channel of your layer. Above with a scale of its own, below with the one of the \
                 whole layer: count the levels that are left.",
            ),
            Self::Clip => (
                "Try: clipping against rounding",
                "Drag the upper clip line of a layer that was calibrated. Further in, levels lie closer and more is cut \
                 off: the sum of both errors has its least somewhere between.",
            ),
            Self::Fold => (
                "Try: fold one channel",
                "One channel at one pixel of your image. Move its batch norm: the fused layer, which has none, follows.",
            ),
            Self::StraightThrough => (
                "Try: learn through rounding",
                "A weight of yours on a coarse grid, and a target. The true gradient of the staircase is zero; step by \
                 step the straight-through one leads to the level nearest to the target.",
            ),
            Self::Dot => (
                "Try: one output, product by product",
                "One output of an int8 layer on your image, as the kernel adds it up. At the end the sum becomes a \
                 level again.",
            ),
        }
    }
}

/// Draws one of them.
pub(super) fn play_ui(ui: &mut Ui, play: Play, bench: &mut Workbench, view: &View) {
    let p = theme::palette(ui);
    let (title, text) = play.head();
    ui.add_space(theme::GRID);
    ui.label(RichText::new(title).font(Type::Body.strong()).color(p.strong));
    theme::card_frame(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        super::prose::prose_ui(ui, text);
        match play {
            Play::NumberLine => number_line::number_line_ui(ui, bench, view),
            Play::PerChannel => per_channel::per_channel_ui(ui, bench, view),
            Play::Clip => clip::clip_play_ui(ui, bench, view),
            Play::Fold => fold::fold_ui(ui, bench, view),
            Play::StraightThrough => straight_through::through_ui(ui, bench, view),
            Play::Dot => dot::dot_ui(ui, bench, view),
        }
    });
}

/// Whose numbers are shown: names of layers are long.
fn layer_ui(ui: &mut Ui, name: &str) {
    let text = RichText::new(name).font(Type::Body.mono()).color(theme::palette(ui).strong);
    ui.add(Label::new(text).truncate());
}

/// A slider that shows three digits of its value and rounds none of it.
fn exact(slider: Slider<'_>) -> Slider<'_> {
    slider.custom_formatter(|value, _| number::number(value)).smart_aim(false)
}

/// That there is nothing to play with yet.
fn later_ui(ui: &mut Ui, text: &str) {
    let weak = theme::palette(ui).weak;
    ui.add(Label::new(RichText::new(text).color(weak)).wrap());
}

/// The selected layer of a graph that has a float weight, else the first.
fn layer<'g>(bench: &Workbench, graph: &'g Graph) -> Option<(&'g Node, &'g Tensor)> {
    let own = |node: &'g Node| Some((node, node.op.weight()?.float()?));
    bench.selection.within(graph).and_then(own).or_else(|| graph.nodes.iter().find_map(own))
}

/// The selected int8 layer, else the first.
fn int8_layer<'g>(bench: &Workbench, graph: &'g Graph) -> Option<&'g Node> {
    let is = |node: &&Node| node.op.weight().and_then(Weight::int8).is_some();
    bench.selection.within(graph).filter(is).or_else(|| graph.nodes.iter().find(is))
}

/// The selected convolution with batch norm behind it, or the one whose batch norm is selected, else the first.
fn normed<'g>(bench: &Workbench, graph: &'g Graph) -> Option<&'g Node> {
    let normed = |node: &'g Node| {
        let Op::BatchNorm2d(_) = node.op else { return None };
        Some(graph.node(*node.inputs.first()?)).filter(|n| matches!(n.op, Op::Conv2d(_)))
    };
    let all = || graph.nodes.iter().filter_map(normed);
    let selected = |conv: &&Node| bench.selection.contains(&conv.name);
    all().find(selected).or_else(|| all().next())
}

/// Something that takes longer than a frame, found once for what it is of.
#[derive(Debug)]
struct Kept<K, T> {
    of: Option<K>,
    asked: Asked<T>,
}

impl<K, T> Default for Kept<K, T>
where
    Asked<T>: Default,
{
    fn default() -> Self {
        Self { of: None, asked: Asked::default() }
    }
}

impl<K: PartialEq, T: Send + 'static> Kept<K, T> {
    /// Asks for it where it is of something else now; what is there already.
    fn get(&mut self, ui: &Ui, of: K, job: impl FnOnce() -> Result<T, String> + Send + 'static) -> Option<&T> {
        if self.of.as_ref() != Some(&of) {
            *self = Self { of: Some(of), asked: Asked::default() };
        }
        self.asked.once(ui, move |emit| {
            // A panel that is gone wants nothing.
            let _ = emit(job()?);
            Ok(())
        });
        self.asked.take();
        self.asked.answer()
    }

    /// Why it is not there.
    fn missing_ui(&self, ui: &mut Ui) {
        match self.asked.failure() {
            Some(why) => later_ui(ui, why),
            None if self.asked.is_busy() => {
                ui.spinner();
            }
            None => later_ui(ui, "This layer has nothing to show here: select another one."),
        }
    }
}

/// Which of several shared things is meant, without holding it.
fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared) as usize
}
