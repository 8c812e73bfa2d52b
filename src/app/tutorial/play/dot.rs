use eframe::egui::{CornerRadius, Grid, Label, Rect, RichText, Sense, Slider, Stroke, Ui, pos2, vec2};

use super::{Kept, address, int8_layer, later_ui};
use crate::app::number;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{DotProduct, Stage, Step, View, dot_product};

const HIGH: f32 = 72.0;
/// Products that are written out around the one that is looked at.
const SHOWN: usize = 5;

/// Which output, and how far it is added up.
#[derive(Debug, Default)]
pub(super) struct DotPlay {
    found: Kept<(usize, String, usize), Option<DotProduct>>,
    channel: usize,
    done: usize,
}

/// One output of an int8 layer, added up as far as the learner wants.
pub(super) fn dot_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let stage = view.stage_of(Step::Convert);
    let Some(Stage::Converted { graph, .. } | Stage::Saved { graph, .. }) = stage.map(AsRef::as_ref) else {
        later_ui(ui, "Convert first: then there are integers to multiply.");
        return;
    };
    let Some((node, opened)) = int8_layer(bench, graph).zip(stage.map(|s| s.opened().clone())) else {
        later_ui(ui, "No layer is int8.");
        return;
    };
    let (name, channels) = (node.name.clone(), node.shape.c.max(1));
    let play = &mut bench.tutorial.plays.dot;
    play.channel = play.channel.min(channels - 1);
    ui.spacing_mut().slider_width = (ui.available_width() - 150.0).clamp(60.0, 240.0);
    ui.add(Slider::new(&mut play.channel, 0..=channels - 1).text("channel"));
    let (shared, layer, channel) = (graph.clone(), name.clone(), play.channel);
    let of = (address(graph), name, channel);
    let found =
        play.found.get(ui, of, move || dot_product(&opened, &shared, &layer, channel).map_err(|e| e.to_string()));
    let Some(Some(dot)) = found.cloned() else {
        play.found.missing_ui(ui);
        return;
    };
    let count = dot.weights.len();
    play.done = play.done.min(count);
    ui.add(Slider::new(&mut play.done, 0..=count).text("products"));
    ui.horizontal(|ui| {
        if ui.button("Next product").clicked() {
            play.done = (play.done + 1).min(count);
        }
        if ui.button("All products").clicked() {
            play.done = count;
        }
    });
    let sums = dot.sums();
    sum_ui(ui, &sums, play.done);
    products_ui(ui, &dot, &sums, play.done);
    if play.done == count {
        end_ui(ui, &dot, sums.last().copied().unwrap_or(0));
    }
}

/// The accumulator after each product.
fn sum_ui(ui: &mut Ui, sums: &[i32], done: usize) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), HIGH), Sense::hover());
    let p = theme::palette(ui);
    let (low, high) = sums.iter().fold((0, 0), |(a, b), s| (a.min(*s), b.max(*s)));
    let span = (high - low).max(1) as f32;
    let y = |v: i32| rect.bottom() - 4.0 - (rect.height() - 8.0) * (v - low) as f32 / span;
    let painter = ui.painter_at(rect);
    painter.hline(rect.x_range(), y(0), Stroke::new(1.0, p.edge));
    let wide = rect.width() / sums.len().max(1) as f32;
    for (i, sum) in sums.iter().enumerate() {
        let left = rect.left() + wide * i as f32;
        let bar = Rect::from_min_max(
            pos2(left, y(*sum).min(y(0))),
            pos2(left + (wide - 0.5).max(0.75), y(*sum).max(y(0)) + 1.0),
        );
        let fill = if i < done { Tone::Int8.fill() } else { p.raised };
        painter.rect_filled(bar, CornerRadius::ZERO, fill);
    }
}

/// The last few products.
fn products_ui(ui: &mut Ui, dot: &DotProduct, sums: &[i32], done: usize) {
    let p = theme::palette(ui);
    Grid::new("products").num_columns(4).spacing(vec2(theme::GAP, 2.0)).show(ui, |ui| {
        for head in ["(q \u{2212} z) \u{b7} w", "", "  product", "sum, int32"] {
            ui.label(RichText::new(head).font(Type::Small.font()).color(p.weak));
        }
        ui.end_row();
        for i in done.saturating_sub(SHOWN)..done {
            let before = i.checked_sub(1).map_or(0, |b| sums[b]);
            let minus = |v: i32| v.to_string().replace('-', &number::MINUS.to_string());
            let left = format!(
                "({} \u{2212} {}) \u{b7} {}",
                dot.levels[i],
                dot.input.zero_point,
                minus(dot.weights[i].into())
            );
            let figures = [sums[i] - before, sums[i]].map(|v| format!("{:>8}", minus(v)));
            let [product, sum] = figures;
            for text in [left, "=".to_owned(), product, sum] {
                ui.label(RichText::new(text).font(Type::Body.mono()).color(p.text));
            }
            ui.end_row();
        }
    });
}

/// From the sum to a level, and what that level stands for.
fn end_ui(ui: &mut Ui, dot: &DotProduct, acc: i32) {
    let p = theme::palette(ui);
    let n = |v: f32| number::number(v.into());
    let level = dot.requantize(acc);
    let lines = [
        format!("sum of {} products = {acc}", dot.weights.len()).replace('-', &number::MINUS.to_string()),
        format!("plus b / (sx \u{b7} sw) = {}", n(dot.bias_in_sums())),
        format!("times sx \u{b7} sw / sy = {}", n(dot.multiplier())),
        format!("rounded, plus {}, clamped: q = {level}", dot.output.zero_point),
        format!(
            "value = (q \u{2212} {}) \u{b7} {} = {}",
            dot.output.zero_point,
            n(dot.output.scale),
            n(dot.output.dequantize(level))
        ),
    ];
    for line in lines {
        ui.add(Label::new(RichText::new(line).font(Type::Body.mono()).color(p.strong)).wrap());
    }
    let (ink, text) = match level == dot.level {
        true => (Tone::Int8.ink(p.dark), format!("The engine computed {} too.", dot.level)),
        false => (Tone::Trouble.ink(p.dark), format!("The engine computed {}.", dot.level)),
    };
    ui.label(RichText::new(text).color(ink));
}
