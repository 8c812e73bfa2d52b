use eframe::egui::{Rect, Shape, Stroke, Ui, pos2};
use egui_plot::{FilledArea, HLine, Line, LineStyle};

use super::{Table, chart_ui, plot, runs};
use crate::app::number;
use crate::app::theme::{self, Tone};

/// One observer over its batches: each batch's extremes as a band, the range it would use now as two lines.
pub fn range_ui(ui: &mut Ui, title: &str, batches: &[(f32, f32)], range: (f32, f32)) {
    let summary = format!(
        "after {} batches from {} to {}",
        batches.len(),
        number::number(range.0.into()),
        number::number(range.1.into())
    );
    let table = || {
        let rows = batches.iter().enumerate().map(|(i, (low, high))| {
            [(i + 1).to_string(), number::number(f64::from(*low)), number::number(f64::from(*high))]
        });
        Table::new(["batch", "min", "max"], rows)
    };
    chart_ui(ui, title, &summary, table, |ui| {
        let ink = Tone::Observed.ink(theme::palette(ui).dark);
        let band = band(batches);
        plot(ui, title, "batch", "value", true).x_axis_label("batch").include_y(0.0).show(ui, |plot| {
            let column = |pick: fn(&[f64; 3]) -> f64| band.iter().map(pick).collect::<Vec<f64>>();
            let (x, low, high) = (column(|b| b[0]), column(|b| b[1]), column(|b| b[2]));
            if x.len() > 1 {
                let fill = Tone::Observed.fill().gamma_multiply(0.25);
                plot.add(FilledArea::new("batches", &x, &low, &high).fill_color(fill).allow_hover(false));
            }
            let line = |y: &[f64]| x.iter().zip(y).map(|(x, y)| [*x, *y]).collect::<Vec<_>>();
            plot.line(Line::new("max of the batch", line(&high)).color(ink).width(1.5));
            plot.line(Line::new("min of the batch", line(&low)).color(ink).width(1.5));
            for (name, at) in [("upper end of the range", range.1), ("lower end of the range", range.0)] {
                if at.is_finite() {
                    let end = HLine::new(name, f64::from(at)).color(ink).width(1.0);
                    plot.hline(end.style(LineStyle::dashed_dense()));
                }
            }
        });
    });
}

/// The band without axes, in a cell of a table.
pub fn spark_ui(ui: &Ui, rect: Rect, batches: &[(f32, f32)]) {
    let band = band(batches);
    let (low, high) = band.iter().fold((0.0f64, 0.0f64), |(a, b), p| (a.min(p[1]), b.max(p[2])));
    let (first, last) = (band.first().map_or(0.0, |p| p[0]), band.last().map_or(1.0, |p| p[0]));
    let place = |x: f64, y: f64| {
        let across = if last > first { (x - first) / (last - first) } else { 0.5 };
        let up = if high > low { (y - low) / (high - low) } else { 0.5 };
        pos2(rect.left() + rect.width() * across as f32, rect.bottom() - rect.height() * up as f32)
    };
    let ink = Tone::Observed.ink(theme::palette(ui).dark);
    let zero = place(first, 0.0).y;
    ui.painter().hline(rect.x_range(), zero, theme::hairline(ui));
    for pair in band.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        let quad = vec![place(a[0], a[2]), place(b[0], b[2]), place(b[0], b[1]), place(a[0], a[1])];
        ui.painter().add(Shape::convex_polygon(quad, Tone::Observed.fill().gamma_multiply(0.3), Stroke::NONE));
    }
    for edge in [1, 2] {
        let line = band.iter().map(|p| place(p[0], p[edge])).collect();
        ui.painter().add(Shape::line(line, Stroke::new(1.25, ink)));
    }
}

/// Batch number (from 1), lowest and highest value of each run of batches.
fn band(batches: &[(f32, f32)]) -> Vec<[f64; 3]> {
    runs(batches.len())
        .filter_map(|run| {
            let end = run.end;
            let finite = batches[run].iter().filter(|(a, b)| a.is_finite() && b.is_finite());
            let both = finite.fold(None, |all: Option<(f32, f32)>, (a, b)| {
                Some(all.map_or((*a, *b), |(low, high)| (low.min(*a), high.max(*b))))
            });
            both.map(|(low, high)| [end as f64, f64::from(low), f64::from(high)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_holds_every_extreme() {
        let mut batches = vec![(-1.0f32, 1.0f32); 500];
        batches[123] = (-9.0, 0.5);
        batches[321] = (0.0, 7.0);
        batches[400] = (f32::NAN, 2.0);
        let band = band(&batches);
        assert!(band.len() <= super::super::POINTS);
        assert!(band.iter().any(|b| b[1] == -9.0) && band.iter().any(|b| b[2] == 7.0));
        assert!(band.iter().flatten().all(|v| v.is_finite()));
    }
}
