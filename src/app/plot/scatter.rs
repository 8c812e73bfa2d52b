use eframe::egui::{Align2, RichText, Ui, vec2};
use egui_plot::{Line, MarkerShape, PlotPoint, Points, Text};

use super::{Table, chart_ui, plot};
use crate::app::theme::{self, Type};

/// One point of a scatter plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Abscissa and ordinate.
    pub at: [f64; 2],
    /// What it is.
    pub name: String,
    /// Whether it stands out: it lies on the front.
    pub strong: bool,
}

/// Points, those of the front joined by a line in the order of the abscissa.
pub fn scatter_ui(ui: &mut Ui, title: &str, [x_axis, y_axis]: [&str; 2], dots: &[Dot], format: fn(f64) -> String) {
    let front = dots.iter().filter(|d| d.strong).count();
    let summary = format!("{} points, {front} of them on the front", dots.len());
    let table = || {
        let row =
            |d: &Dot| [d.name.clone(), format(d.at[0]), format(d.at[1]), if d.strong { "front" } else { "" }.into()];
        Table::new(["", x_axis, y_axis, ""], dots.iter().map(row))
    };
    chart_ui(ui, title, &summary, table, |ui| {
        let p = theme::palette(ui);
        let (accent, weak, strong) = (p.accent, p.weak, p.strong);
        plot(ui, title, x_axis, y_axis, false)
            .set_margin_fraction(vec2(0.08, 0.16))
            .x_axis_label(x_axis)
            .y_axis_label(y_axis)
            .show(ui, |plot| {
                let mut line: Vec<[f64; 2]> = dots.iter().filter(|d| d.strong).map(|d| d.at).collect();
                line.sort_by(|a, b| a[0].total_cmp(&b[0]));
                plot.line(Line::new("front", line).color(accent).width(1.5).allow_hover(false));
                for dot in dots {
                    let color = if dot.strong { accent } else { weak };
                    let radius = if dot.strong { 5.0 } else { 3.5 };
                    let points = Points::new(dot.name.clone(), vec![dot.at]).shape(MarkerShape::Circle);
                    plot.points(points.radius(radius).color(color));
                    if dot.strong {
                        let label = RichText::new(format!("  {}", dot.name)).font(Type::Small.font()).color(strong);
                        let at = PlotPoint::new(dot.at[0], dot.at[1]);
                        plot.text(Text::new("", at, label).anchor(Align2::LEFT_CENTER).allow_hover(false));
                    }
                }
            });
    });
}
