use eframe::egui::{Align2, Pos2, Rect, Sense, Shape, Slider, Stroke, Ui, pos2, vec2};

use super::super::formula::{channel, folded};
use super::{exact, later_ui, layer};
use crate::app::controls::choice_ui;
use crate::app::number;
use crate::app::screens::figures_small_ui;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{Grid, ObserverKind, View, WeightSpec, to_grid, to_grid_grad, weight_loss};

const HIGH: f32 = 150.0;
/// Points of the staircase.
const POINTS: usize = 400;
/// How far one step goes down the gradient.
const RATE: f32 = 0.3;

/// A weight that learns.
#[derive(Debug, Default)]
pub(super) struct ThroughPlay {
    bits: Option<u8>,
    /// In units of the largest weight.
    at: Option<f32>,
    target: Option<f32>,
    steps: usize,
    true_gradient: bool,
}

/// What one step is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    rounded: f32,
    loss: f32,
    /// By the rounded weight.
    upstream: f32,
    /// By the weight: through rounding.
    gradient: f32,
}

/// `loss = (rounded - target)^2 / 2`, and its gradient as training takes it: the kernels' own.
fn step(at: f32, target: f32, grid: Grid<f32>, true_gradient: bool) -> Step {
    let mut rounded = [0.0];
    to_grid(&[at], grid, &mut rounded);
    let upstream = rounded[0] - target;
    let mut through = [0.0];
    to_grid_grad(&[at], &[upstream], grid, false, &mut through);
    // A staircase is flat wherever it has a slope at all.
    let gradient = if true_gradient { 0.0 } else { through[0] };
    Step { rounded: rounded[0], loss: upstream * upstream / 2.0, upstream, gradient }
}

/// A staircase, a weight on it, a target, and steps down the gradient.
pub(super) fn through_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(graph) = folded(view) else {
        later_ui(ui, "Fuse the model first: it is the fused weights that are rounded.");
        return;
    };
    let Some((node, weight)) = layer(bench, &graph) else { return };
    let Some(own) = channel(weight, 0) else { return };
    let largest = own.data.iter().copied().fold(0.0_f32, |m, w| if w.abs() > m.abs() { w } else { m });
    let reach = largest.abs().max(f32::EPSILON);
    let play = &mut bench.tutorial.plays.through;
    let mut bits = play.bits.unwrap_or(4);
    choice_ui(ui, "Bits of the staircase", &[(4, "4"), (5, "5"), (6, "6"), (8, "8")], &mut bits);
    play.bits = Some(bits);
    let spec = WeightSpec { bits, ..WeightSpec::new(ObserverKind::PerChannelMinMax) };
    let scale = match weight_loss(&node.name, &own, 0, spec) {
        Ok(loss) => loss.scale,
        Err(why) => {
            later_ui(ui, &why.to_string());
            return;
        }
    };
    let half = f32::from(1_u16 << (bits - 1));
    let grid = Grid { scale, zero_point: 0.0, least: -half, most: half - 1.0 };
    let first = own.data.first().copied().unwrap_or(0.0) / reach;
    let (mut at, mut target) = (play.at.unwrap_or(first) * reach, play.target.unwrap_or(-first) * reach);
    let now = step(at, target, grid, play.true_gradient);
    staircase_ui(ui, grid, reach, (at, target, now));
    ui.spacing_mut().slider_width = (ui.available_width() - 150.0).clamp(60.0, 240.0);
    if ui.add(exact(Slider::new(&mut at, -1.3 * reach..=1.3 * reach)).text("weight")).changed() {
        play.steps = 0;
    }
    ui.add(exact(Slider::new(&mut target, -reach..=reach)).text("target"));
    ui.horizontal_wrapped(|ui| {
        choice_ui(ui, "Gradient", &[(false, "Straight through"), (true, "True")], &mut play.true_gradient);
        if ui.button("One step").clicked() {
            at -= RATE * now.gradient;
            play.steps += 1;
        }
    });
    (play.at, play.target) = (Some(at / reach), Some(target / reach));
    let n = |v: f32| number::number(v.into());
    figures_small_ui(
        ui,
        &[
            ("steps", &play.steps.to_string()),
            ("rounded", &n(now.rounded)),
            ("loss", &n(now.loss)),
            ("gradient, rounded", &n(now.upstream)),
            ("gradient, weight", &n(now.gradient)),
        ],
    );
}

fn staircase_ui(ui: &mut Ui, grid: Grid<f32>, reach: f32, (at, target, now): (f32, f32, Step)) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), HIGH), Sense::hover());
    let p = theme::palette(ui);
    let room = rect.shrink2(vec2(6.0, 14.0));
    let far = 1.3 * reach;
    let place = |x: f32, y: f32| -> Pos2 {
        let unit = |v: f32| (v / far + 1.0) / 2.0;
        pos2(room.left() + room.width() * unit(x), room.bottom() - room.height() * unit(y))
    };
    let painter = ui.painter_at(rect);
    let xs: Vec<f32> = (0..POINTS).map(|i| far * (2.0 * i as f32 / (POINTS - 1) as f32 - 1.0)).collect();
    let (mut ys, mut slopes) = (vec![0.0; POINTS], vec![0.0; POINTS]);
    to_grid(&xs, grid, &mut ys);
    to_grid_grad(&xs, &[1.0; POINTS], grid, false, &mut slopes);
    // Where the gradient passes.
    let passing: Vec<f32> = xs.iter().zip(&slopes).filter(|(_, s)| **s > 0.0).map(|(x, _)| *x).collect();
    if let (Some(a), Some(b)) = (passing.first(), passing.last()) {
        let band = Rect::from_min_max(pos2(place(*a, 0.0).x, rect.top()), pos2(place(*b, 0.0).x, rect.bottom()));
        painter.rect_filled(band, 0.0, Tone::FakeQuantized.wash(p.dark));
        let text = "gradient passes here";
        painter.text(band.center_top(), Align2::CENTER_TOP, text, Type::Small.font(), p.weak);
    }
    painter.line_segment([place(-far, -far), place(far, far)], Stroke::new(1.0, p.edge));
    let stairs: Vec<Pos2> = xs.iter().zip(&ys).map(|(x, y)| place(*x, *y)).collect();
    painter.add(Shape::line(stairs, Stroke::new(1.75, Tone::FakeQuantized.ink(p.dark))));
    painter.hline(room.x_range(), place(0.0, target).y, Stroke::new(1.0, Tone::Int8.ink(p.dark)));
    painter.text(place(-far, target), Align2::LEFT_BOTTOM, "target", Type::Small.font(), Tone::Int8.ink(p.dark));
    let dot = place(at, now.rounded);
    painter.circle_filled(dot, 5.0, p.strong);
    let to = place(at - RATE * now.gradient, now.rounded);
    if (to.x - dot.x).abs() > 1.0 {
        painter.arrow(dot, to - dot, Stroke::new(2.0, p.accent_ink));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_through_rounding_lead_to_the_nearest_level_and_true_ones_nowhere() {
        let grid = Grid { scale: 0.1, zero_point: 0.0, least: -8.0, most: 7.0 };
        let learn = |true_gradient: bool| {
            let mut at = 0.62_f32;
            for _ in 0..100 {
                at -= RATE * step(at, -0.32, grid, true_gradient).gradient;
            }
            step(at, -0.32, grid, true_gradient).rounded
        };
        // It ends on one of the two levels beside the target.
        assert!((learn(false) + 0.3).abs() < 1e-6 || (learn(false) + 0.4).abs() < 1e-6, "{}", learn(false));
        assert!((learn(true) - 0.6).abs() < 1e-6, "nothing is learnt");
        assert_eq!(step(2.0, 0.0, grid, false).gradient, 0.0, "outside of the range nothing passes");
    }
}
