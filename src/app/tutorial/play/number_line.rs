use eframe::egui::{
    Align2, CornerRadius, CursorIcon, EventFilter, Key, Rect, Sense, Slider, Stroke, Ui, WidgetInfo, pos2, vec2,
};

use super::{Kept, address, exact, later_ui};
use crate::app::controls::{choice_ui, small_ui};
use crate::app::number;
use crate::app::screens::{decibels, figures_small_ui};
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::graph::QParams;
use crate::session::{Histogram, Range, RangeEffect, View, pixels};

const HIGH: f32 = 112.0;
/// How much of the axis lies beyond the values, on each side.
const BEYOND: f32 = 0.25;
/// Bars of the values.
const BARS: usize = 64;

/// Scale, zero point and bits as dragged.
#[derive(Debug, Default)]
pub(super) struct NumberLine {
    values: Kept<usize, Option<Histogram>>,
    /// `None` before anything was dragged: as the range of the values gives them.
    grid: Option<QParams>,
    bits: Option<u8>,
}

/// The values of an image over levels that can be dragged.
pub(super) fn number_line_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(opened) = view.stage().map(|s| s.opened().clone()) else { return };
    let line = &mut bench.tutorial.plays.line;
    let of = address(&opened);
    let found = line.values.get(ui, of, move || pixels(&opened).map(Histogram::of).map_err(|e| e.to_string()));
    let Some(histogram) = found.cloned() else {
        line.values.missing_ui(ui);
        return;
    };
    let Some(histogram) = histogram else {
        later_ui(ui, "The image has no values.");
        return;
    };
    let before = line.bits.unwrap_or(3);
    let mut bits = before;
    choice_ui(
        ui,
        "Bits of the line",
        &[(2, "2"), (3, "3"), (4, "4"), (5, "5"), (6, "6"), (7, "7"), (8, "8")],
        &mut bits,
    );
    let most = ((1_u16 << bits) - 1) as u8;
    let fitted = QParams { qmax: most, ..histogram.range.affine(most) };
    if bits != before || line.grid.is_none() {
        (line.bits, line.grid) = (Some(bits), Some(fitted));
    }
    let mut grid = line.grid.unwrap_or(fitted);
    axis_ui(ui, &histogram, &mut grid);
    ui.spacing_mut().slider_width = (ui.available_width() - 150.0).clamp(60.0, 240.0);
    let (low, high) = (fitted.scale * 0.1, fitted.scale * 4.0);
    ui.add(exact(Slider::new(&mut grid.scale, low..=high)).logarithmic(true).text("scale"));
    ui.add(Slider::new(&mut grid.zero_point, 0..=most).text("zero point"));
    if small_ui(ui, "Fit to the values").clicked() {
        grid = fitted;
    }
    line.grid = Some(grid);
    let effect = RangeEffect::with(&histogram, grid);
    let clipped = format!("{}{}%", number::number(effect.clipped * 100.0), number::THIN);
    let [rounding, clipping] = [effect.rounding, effect.clipping].map(|v| number::number(v.sqrt()));
    figures_small_ui(
        ui,
        &[
            ("levels", &(u16::from(most) + 1).to_string()),
            ("SQNR", &decibels(effect.sqnr_db)),
            ("clipped", &clipped),
            ("rounding error", &rounding),
            ("clipping error", &clipping),
        ],
    );
}

/// Bars of the values, the levels below them, and what is taken hold of.
fn axis_ui(ui: &mut Ui, histogram: &Histogram, grid: &mut QParams) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), HIGH), Sense::hover());
    let p = theme::palette(ui);
    let Range { min, max } = histogram.range;
    let span = (max - min).max(f32::MIN_POSITIVE);
    let (low, high) = (min - BEYOND * span, max + BEYOND * span);
    let x = |v: f32| rect.left() + rect.width() * (v - low) / (high - low);
    let value = |x: f32| low + (high - low) * (x - rect.left()) / rect.width().max(1.0);
    let floor = rect.top() + HIGH * 0.56;
    let painter = ui.painter_at(rect);
    let counts: Vec<f32> =
        histogram.counts.chunks(histogram.counts.len().div_ceil(BARS)).map(|c| c.iter().sum()).collect();
    let most = counts.iter().copied().fold(1.0_f32, f32::max);
    for (i, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0.0) {
        let at = |i: usize| x(min + span * i as f32 / counts.len() as f32);
        // The root, so that rare values are seen beside a black background.
        let tall = (floor - rect.top() - 4.0) * (count / most).sqrt();
        let bar = Rect::from_min_max(pos2(at(i), floor - tall.max(1.0)), pos2(at(i + 1) - 0.5, floor));
        painter.rect_filled(bar, CornerRadius::ZERO, Tone::Float.fill());
    }
    painter.hline(rect.x_range(), floor, Stroke::new(1.0, p.edge));
    let ends = [grid.dequantize(0), grid.dequantize(grid.qmax)];
    let band = Rect::from_min_max(pos2(x(ends[0]), floor + 1.0), pos2(x(ends[1]), floor + 14.0));
    painter.rect_filled(band, CornerRadius::ZERO, Tone::Int8.wash(p.dark));
    for level in 0..=grid.qmax {
        let long = level == grid.zero_point;
        let ink = if long { p.strong } else { Tone::Int8.ink(p.dark) };
        let to = if long { 20.0 } else { 12.0 };
        painter.vline(
            x(grid.dequantize(level)),
            floor + 1.0..=floor + to,
            Stroke::new(if long { 2.0 } else { 1.0 }, ink),
        );
    }
    let zero = pos2(x(0.0), floor + 22.0);
    painter.text(zero, Align2::CENTER_TOP, "0", Type::Small.font(), p.strong);
    if let Some(pointer) = response.hover_pos() {
        let v = value(pointer.x);
        let level = grid.quantize(v);
        let back = grid.dequantize(level);
        painter.vline(pointer.x, rect.top()..=floor, Stroke::new(1.0, p.weak));
        painter.vline(x(back), floor..=floor + 14.0, Stroke::new(3.0, p.accent_ink));
        let text = format!("{} \u{2192} {level} \u{2192} {}", number::number(v.into()), number::number(back.into()));
        painter.text(rect.center_bottom(), Align2::CENTER_BOTTOM, text, Type::Body.mono(), p.strong);
    } else {
        let text = "point at a value";
        painter.text(rect.center_bottom(), Align2::CENTER_BOTTOM, text, Type::Small.font(), p.weak);
    }
    handles_ui(ui, (rect, floor), [x(ends[0]), x(ends[1])], value, grid);
}

/// The first and the last level change the scale; the comb between them moves by whole levels, which is the zero point.
fn handles_ui(ui: &mut Ui, (rect, floor): (Rect, f32), ends: [f32; 2], value: impl Fn(f32) -> f32, grid: &mut QParams) {
    let row = floor + 1.0..=floor + 22.0;
    // A panel that is narrower than this has its ends the wrong way round, where `clamp` panics.
    let clamped = |x: f32| x.min(rect.right() - 4.0).max(rect.left() + 4.0);
    let scale = grid.scale;
    let places = [
        ("First level", Rect::from_x_y_ranges(clamped(ends[0]) - 6.0..=clamped(ends[0]) + 4.0, row.clone())),
        ("Last level", Rect::from_x_y_ranges(clamped(ends[1]) - 4.0..=clamped(ends[1]) + 6.0, row.clone())),
        (
            "All levels",
            Rect::from_x_y_ranges(clamped(ends[0]) + 6.0..=(clamped(ends[1]) - 6.0).max(clamped(ends[0]) + 7.0), row),
        ),
    ];
    for (i, (name, place)) in places.into_iter().enumerate() {
        let id = ui.scope_id().with(name);
        let response = ui.interact(place, id, Sense::click_and_drag());
        let shown = match i {
            2 => f64::from(grid.zero_point),
            _ => f64::from(grid.scale),
        };
        response.widget_info(|| WidgetInfo::slider(true, shown, name));
        if response.hovered() || response.dragged() || response.has_focus() {
            ui.ctx().set_cursor_icon(CursorIcon::ResizeHorizontal);
            let line = Stroke::new(1.0, theme::palette(ui).accent_ink);
            ui.painter().rect_stroke(place, 2.0, line, eframe::egui::StrokeKind::Inside);
        }
        let mut steps = 0;
        if response.has_focus() {
            let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
            ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
            steps =
                ui.input(|input| input.num_presses(Key::ArrowRight) as i32 - input.num_presses(Key::ArrowLeft) as i32);
        }
        let dragged = response.dragged().then(|| response.interact_pointer_pos()).flatten().map(|at| value(at.x));
        let (below, above) = (f32::from(grid.zero_point), f32::from(grid.qmax) - f32::from(grid.zero_point));
        let least = scale * 0.02;
        match (i, dragged) {
            (0, Some(v)) if below > 0.0 => grid.scale = (-v / below).clamp(least, scale * 50.0),
            (1, Some(v)) if above > 0.0 => grid.scale = (v / above).clamp(least, scale * 50.0),
            (2, Some(v)) => {
                // The middle of the comb follows the pointer, by whole levels: zero stays on one.
                let middle = f32::from(grid.qmax) / 2.0 - v / grid.scale;
                grid.zero_point = middle.round().clamp(0.0, f32::from(grid.qmax)) as u8;
            }
            (2, None) if steps != 0 => {
                let moved = i32::from(grid.zero_point) - steps;
                grid.zero_point = moved.clamp(0, i32::from(grid.qmax)) as u8;
            }
            (0, None) if steps != 0 => grid.scale *= 1.0 - 0.05 * steps as f32,
            (1, None) if steps != 0 => grid.scale *= 1.0 + 0.05 * steps as f32,
            (_, _) => {}
        }
        grid.scale = grid.scale.max(f32::EPSILON);
    }
}
