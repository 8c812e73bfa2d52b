//! Charts of plain numbers, each with a name for screen readers and a table that says the same.
//!
//! Knows the theme and number formats; nothing of graphs or sessions. No line has more points than can be told apart.

mod bars;
mod channels;
mod chart;
mod curves;
mod histogram;
mod matrix;
mod picture;
mod range;
mod save;
mod scatter;
mod table;

use eframe::egui::{Align, Label, Layout, PointerButton, RichText, Role, TextStyle, Ui, WidgetInfo, vec2};
use egui_plot::{AxisHints, GridInput, GridMark, HoverPosition, Plot, PlotPoint};

use super::controls::small_ui;
use super::glossary::explain;
use super::number;
use super::theme::{self, Type};

pub use bars::{BarItem, bars_beside_ui, bars_ui};
pub use channels::{Row, row_ui};
pub(super) use chart::{chart_inks, draw_chart_ui};
pub use curves::{Curve, Mark, curves_marked_ui, curves_ui};
pub use histogram::{Histogram, Levels, clip_ui, histogram_ui, levels_ui};
pub use matrix::{Matrix, matrix_room, matrix_ui};
pub use range::{range_ui, spark_ui};
pub(super) use save::{Keepsake, Kind, take_keepsakes};
pub use scatter::{Dot, scatter_ui};
pub use table::{Table, save_table_ui, table_ui, whole_table_ui};

/// Points of a line that a screen can tell apart.
pub const POINTS: usize = 60;

/// A chart under its title, or the table that says the same; either can be saved. `summary` is what a screen reader says
/// of it.
pub fn chart_ui(ui: &mut Ui, title: &str, summary: &str, table: impl Fn() -> Table, draw: impl FnOnce(&mut Ui)) {
    let id = ui.make_persistent_id(("chart as table", title));
    let mut as_table = ui.data(|d| d.get_temp(id).unwrap_or(false));
    let mut asked = None;
    let line = vec2(ui.available_width(), ui.spacing().interact_size.y);
    ui.allocate_ui_with_layout(line, Layout::right_to_left(Align::Center), |ui| {
        let (word, other) = if as_table { ("Chart", "chart") } else { ("Table", "table") };
        let button = small_ui(ui, word);
        let name = format!("{title}: show as {other}");
        button.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
        if button.clicked() {
            as_table = !as_table;
            ui.data_mut(|d| d.insert_temp(id, as_table));
        }
        // A table has no picture of its own.
        let kinds = if as_table { &Kind::ALL[2..] } else { &Kind::ALL };
        asked = save::menu_ui(ui, title, kinds);
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            let text = RichText::new(title).font(Type::Body.strong()).color(theme::palette(ui).strong);
            let shown = ui.add(Label::new(text).truncate());
            explain(ui, shown, title);
        });
    });
    if asked == Some(Kind::Csv) {
        asked = None;
        save::save_table(ui.ctx(), title, &table());
    }
    if as_table {
        table_ui(ui, title, &table());
    } else {
        let mark = save::mark(ui);
        let drawn = ui.scope(|ui| {
            // The axes take the body's style; their marks are captions.
            ui.style_mut().text_styles.insert(TextStyle::Body, Type::Small.font());
            draw(ui);
        });
        let drawn = drawn.response;
        save::save_drawn(ui, title, asked, mark, drawn.rect);
        drawn.widget_info(|| WidgetInfo::labeled(Role::Figure, true, format!("{title}: {summary}")));
    }
}

/// Room of a number on the abscissa, and between it and the next.
const MARK: f32 = 72.0;
/// Room of the ordinate's numbers and its name.
const MARGIN: f32 = 64.0;
/// Width from which a chart has that much to give.
const ROOMY: f32 = 480.0;

/// A plot as they all are: drag to zoom, double-click to reset, values on hover, numbers of three digits on the axes.
///
/// Where the abscissa counts something (`whole`), it has marks at whole numbers alone.
fn plot<'a>(ui: &Ui, name: &str, x_axis: &'a str, y_axis: &'a str, whole: bool) -> Plot<'a> {
    let width = ui.available_width();
    // So many marks as their numbers have room beside each other, and none of them faint.
    let count = ((width - MARGIN) / MARK).clamp(2.0, 5.0).floor();
    Plot::new(name)
        .custom_x_axes(vec![AxisHints::new_x().label_spacing(24.0..=32.0)])
        .custom_y_axes(vec![AxisHints::new_y().label_spacing(10.0..=14.0)])
        .height(theme::CHART)
        .width(width)
        .show_background(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_zoom(false)
        .boxed_zoom_pointer_button(PointerButton::Primary)
        .grid_color(theme::palette(ui).hairline)
        .set_margin_fraction(vec2(0.02, 0.08))
        // Charts one below the other begin at the same place.
        .y_axis_min_width(if width < ROOMY { 44.0 } else { MARGIN })
        .x_grid_spacer(move |input| marks(input, count, whole))
        .y_grid_spacer(|input| marks(input, 5.0, false))
        .x_axis_formatter(|mark, _| number::mark(mark.value, mark.step_size))
        .y_axis_formatter(|mark, _| number::mark(mark.value, mark.step_size))
        .label_formatter(move |hover| Some(said(hover, x_axis, y_axis)))
}

/// About so many marks an axis, at multiples of 1, 2 or 5 times a power of ten; at `whole` numbers alone where the axis
/// has two.
fn marks(input: GridInput, count: f32, whole: bool) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    let least = if whole && low.ceil() < high.floor() { 1.0 } else { 0.0 };
    let rough = ((high - low) / f64::from(count)).max(least);
    if !((high - low).is_finite() && high > low) {
        return Vec::new();
    }
    let at = |step_size: f64| -> Vec<GridMark> {
        let (first, last) = ((low / step_size).ceil() as i64, (high / step_size).floor() as i64);
        (first..=last).map(|i| GridMark { value: i as f64 * step_size, step_size }).collect()
    };
    let power = 10f64.powf(rough.log10().floor());
    let steps = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0].map(|m| m * power);
    let wide = steps.iter().position(|s| *s >= rough).unwrap_or(steps.len() - 1);
    // One mark alone is no scale: then those of the next finer step.
    let finer = steps[..wide].last().filter(|s| **s >= least);
    match (at(steps[wide]), finer) {
        (marks, Some(finer)) if marks.len() < 2 => at(*finer),
        (marks, _) => marks,
    }
}

fn said(hover: &HoverPosition<'_>, x_axis: &str, y_axis: &str) -> String {
    let values = |p: &PlotPoint| format!("{x_axis} {}\n{y_axis} {}", number::axis(p.x), number::number(p.y));
    match hover {
        HoverPosition::NearDataPoint { plot_name, position, .. } => format!("{plot_name}\n{}", values(position)),
        HoverPosition::Elsewhere { position } => values(position),
    }
}

/// Thins `len` points to at most [`POINTS`] runs of neighbours.
fn runs(len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let step = len.div_ceil(POINTS).max(1);
    (0..len).step_by(step).map(move |start| start..(start + step).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_a_few_round_marks() {
        for (low, high) in [(0.0, 1.0), (-3.0, 4.0), (0.0, 400.0), (1e-6, 3e-6), (-0.11, 0.13)] {
            let marks = marks(GridInput { bounds: (low, high), base_step_size: 1.0 }, 5.0, false);
            assert!((2..=7).contains(&marks.len()), "{low}..{high}: {marks:?}");
            assert!(marks.iter().all(|m| (low..=high).contains(&m.value)));
        }
        assert!(marks(GridInput { bounds: (1.0, 1.0), base_step_size: 1.0 }, 5.0, false).is_empty());
        let whole = marks(GridInput { bounds: (0.9, 2.1), base_step_size: 1.0 }, 5.0, true);
        assert_eq!(whole.iter().map(|m| m.value).collect::<Vec<_>>(), [1.0, 2.0]);
        // However few there is room for, one alone is no scale.
        let few = marks(GridInput { bounds: (-0.35, 0.35), base_step_size: 1.0 }, 2.0, false);
        assert_eq!(few.len(), 3, "{few:?}");
        // Within the first epoch there is no whole one to mark.
        let within = marks(GridInput { bounds: (0.05, 0.7), base_step_size: 1.0 }, 5.0, true);
        assert!(within.len() >= 2, "{within:?}");
    }

    #[test]
    fn runs_cover_every_point_once_and_are_few() {
        for len in [0, 1, 59, 60, 61, 1000] {
            let runs: Vec<_> = runs(len).collect();
            assert!(runs.len() <= POINTS);
            assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        }
    }
}
