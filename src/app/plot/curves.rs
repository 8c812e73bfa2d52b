use eframe::egui::{Align2, Color32, RichText, Ui, vec2};
use egui_plot::{Line, LineStyle, PlotPoint, Points, Text, VLine};

use super::{Table, chart_ui, plot, runs};
use crate::app::number;
use crate::app::theme::{self, Type};

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// At the line's end: "train".
    pub name: String,
    /// Abscissa and ordinate, in order; what is not finite is left out.
    pub points: Vec<[f64; 2]>,
    /// From [`theme::series`] or a tone's ink.
    pub color: Color32,
    /// Whether it is dashed: a second sign beside the colour.
    pub dashed: bool,
}

/// Where something happened on the abscissa.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Abscissa.
    pub at: f64,
    /// What happened.
    pub name: &'static str,
}

/// Lines over a common abscissa, each named where it ends. `format` writes an ordinate in the table.
pub fn curves_ui(ui: &mut Ui, title: &str, x_axis: &str, y_axis: &str, curves: &[Curve], format: fn(f64) -> String) {
    curves_marked_ui(ui, title, [x_axis, y_axis], curves, &[], format);
}

/// The same with marks on the abscissa, named at its foot.
pub fn curves_marked_ui(
    ui: &mut Ui,
    title: &str,
    [x_axis, y_axis]: [&str; 2],
    curves: &[Curve],
    marks: &[Mark],
    format: fn(f64) -> String,
) {
    let last = |c: &Curve| c.points.last().map_or(number::NONE.to_owned(), |p| format(p[1]));
    let ends = curves.iter().map(|c| format!("{} {}", c.name, last(c)));
    let happened = marks.iter().map(|m| format!("{} at {}", m.name, number::axis(m.at)));
    let summary = ends.chain(happened).collect::<Vec<_>>().join(", ");
    let table = || {
        let rows = curves
            .iter()
            .flat_map(|c| c.points.iter().map(move |p| [c.name.clone(), number::axis(p[0]), format(p[1])]));
        Table::new(["", x_axis, y_axis], rows)
    };
    chart_ui(ui, title, &summary, table, |ui| {
        let p = theme::palette(ui);
        // A name is read where it lies over another line too.
        let (strong, weak, behind) = (p.strong, p.weak, p.ground.gamma_multiply(0.8));
        let ends = curves.iter().filter_map(|c| c.points.last()).map(|p| p[1]);
        let lowest = ends.fold(f64::INFINITY, f64::min);
        let (low, high) = extent(curves);
        plot(ui, title, x_axis, y_axis, true)
            .set_margin_fraction(vec2(0.02, 0.16))
            .x_axis_label(x_axis)
            .y_axis_label(y_axis)
            .show(ui, |plot| {
                for curve in curves {
                    let points = thinned(&curve.points);
                    let Some(end) = points.last().copied() else { continue };
                    let style = if curve.dashed { LineStyle::dashed_loose() } else { LineStyle::Solid };
                    let color = curve.color;
                    // Of one point there is no line to see.
                    if points.len() == 1 {
                        plot.points(Points::new(curve.name.clone(), points).radius(3.0).color(color));
                    } else {
                        plot.line(Line::new(curve.name.clone(), points).color(color).width(2.0).style(style));
                    }
                    let label = RichText::new(format!(" {} ", curve.name)).font(Type::Small.strong()).color(strong);
                    let label = label.background_color(behind);
                    let at = PlotPoint::new(end[0], end[1]);
                    // The lowest line has its name below it, so that two that end close by are both read.
                    let below = curves.len() > 1 && end[1] <= lowest;
                    let anchor = if below { Align2::RIGHT_TOP } else { Align2::RIGHT_BOTTOM };
                    plot.text(Text::new("", at, label).color(color).anchor(anchor).allow_hover(false));
                }
                // Each name one line above the last: two marks may stand close by. All of them within the curves' extent:
                // of what is shown they would be a part that widens it, frame by frame.
                for (i, mark) in together(marks).into_iter().enumerate() {
                    let line = VLine::new(mark.1.clone(), mark.0).color(weak).width(1.0);
                    plot.vline(line.style(LineStyle::dashed_dense()));
                    let label = RichText::new(format!(" {} ", mark.1)).font(Type::Small.font()).color(weak);
                    let label = label.background_color(behind);
                    let at = PlotPoint::new(mark.0, low + (high - low) * 0.15 * i as f64);
                    plot.text(Text::new("", at, label).color(weak).anchor(Align2::LEFT_BOTTOM).allow_hover(false));
                }
            });
    });
}

/// Marks at one place have one line, and their names one after the other.
fn together(marks: &[Mark]) -> Vec<(f64, String)> {
    let mut all: Vec<(f64, String)> = Vec::new();
    for mark in marks {
        match all.iter_mut().find(|(at, _)| *at == mark.at) {
            Some((_, names)) => *names = format!("{names}, {}", mark.name),
            None => all.push((mark.at, mark.name.to_owned())),
        }
    }
    all
}

/// The least and the largest ordinate.
fn extent(curves: &[Curve]) -> (f64, f64) {
    let all = curves.iter().flat_map(|c| &c.points).map(|p| p[1]).filter(|y| y.is_finite());
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(y), b.max(y)));
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

/// Each run's mean; the last point stays itself.
fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let finite: Vec<[f64; 2]> = points.iter().copied().filter(|p| p.iter().all(|v| v.is_finite())).collect();
    let mut thin: Vec<[f64; 2]> = runs(finite.len())
        .map(|run| {
            let run = &finite[run];
            let n = run.len() as f64;
            [run.iter().map(|p| p[0]).sum::<f64>() / n, run.iter().map(|p| p[1]).sum::<f64>() / n]
        })
        .collect();
    if let (Some(end), Some(last)) = (thin.last_mut(), finite.last()) {
        *end = *last;
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_end() {
        let points: Vec<[f64; 2]> = (0..1000).map(|i| [f64::from(i), f64::from(i * 2)]).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= super::super::POINTS);
        assert_eq!(thin.last(), points.last());
        assert!(thin.iter().all(|p| (p[1] - 2.0 * p[0]).abs() < 1e-9));
    }

    #[test]
    fn marks_at_one_place_are_one() {
        let mark = |at, name| Mark { at, name };
        let found = together(&[mark(1.0, "a"), mark(2.0, "b"), mark(1.0, "c")]);
        assert_eq!(found, [(1.0, "a, c".to_owned()), (2.0, "b".to_owned())]);
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        assert_eq!(thinned(&[[0.0, f64::NAN], [1.0, 2.0], [2.0, f64::INFINITY]]), [[1.0, 2.0]]);
    }
}
