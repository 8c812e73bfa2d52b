use eframe::egui::{Stroke, Ui};
use egui_plot::{Bar, BarChart, LineStyle, VLine};

use super::{Table, chart_ui, plot};
use crate::app::number;
use crate::app::theme::{self, Tone};

/// Counts in bins of one width.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// One a bin.
    pub counts: Vec<f32>,
    /// Left edge of the first bin.
    pub min: f32,
    /// Right edge of the last bin.
    pub max: f32,
    /// What lies outside is clipped: drawn as two lines.
    pub clip: Option<(f32, f32)>,
    /// Whose values they are.
    pub tone: Tone,
}

impl Histogram {
    /// Counts the finite ones of `values` in `bins` bins between their extremes; `None` if there are none.
    pub fn of(values: impl Iterator<Item = f32> + Clone, bins: usize, tone: Tone) -> Option<Self> {
        let finite = values.filter(|v| v.is_finite());
        let (min, max) = finite.clone().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if min > max || bins == 0 {
            return None;
        }
        // A constant tensor is one bin wide.
        let (min, max) = if min == max { (min - 0.5, max + 0.5) } else { (min, max) };
        let mut counts = vec![0.0; bins];
        let per_unit = bins as f32 / (max - min);
        for v in finite {
            counts[(((v - min) * per_unit) as usize).min(bins - 1)] += 1.0;
        }
        Some(Self { counts, min, max, clip: None, tone })
    }

    fn width(&self) -> f64 {
        (f64::from(self.max) - f64::from(self.min)) / self.counts.len().max(1) as f64
    }

    fn middle(&self, bin: usize) -> f64 {
        f64::from(self.min) + self.width() * (bin as f64 + 0.5)
    }
}

/// Bars over the value, with the clip lines. `unit` names the abscissa: "weight", "activation".
pub fn histogram_ui(ui: &mut Ui, title: &str, unit: &str, histogram: &Histogram) {
    let (low, high) = (f64::from(histogram.min), f64::from(histogram.max));
    let clip = histogram.clip.map_or(String::new(), |(a, b)| {
        format!(", clipped at {} and {}", number::number(a.into()), number::number(b.into()))
    });
    let summary = format!("from {} to {}{clip}", number::number(low), number::number(high));
    let table = || {
        let rows = histogram
            .counts
            .iter()
            .enumerate()
            .map(|(i, n)| [number::number(histogram.middle(i)), number::number(f64::from(*n))]);
        Table::new([unit, "values"], rows)
    };
    chart_ui(ui, title, &summary, table, |ui| {
        let dark = theme::palette(ui).dark;
        let width = histogram.width();
        let fill = histogram.tone.fill();
        plot(ui, title, unit, "values", false).x_axis_label(unit).include_y(0.0).show(ui, |plot| {
            let bars = histogram.counts.iter().enumerate().map(|(i, n)| {
                // A hair of ground between bars where they are wide enough to tell apart.
                Bar::new(histogram.middle(i), f64::from(*n)).width(width * 0.92).fill(fill).stroke(Stroke::NONE)
            });
            plot.bar_chart(BarChart::new(unit, bars.collect()).color(fill).allow_hover(false));
            for (name, at) in histogram.clip.iter().flat_map(|(a, b)| [("lower clip", *a), ("upper clip", *b)]) {
                let ink = Tone::Trouble.ink(dark);
                let line = VLine::new(name, f64::from(at)).color(ink).width(1.5);
                plot.vline(line.style(LineStyle::dashed_dense()));
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_counted_once() {
        let values = [0.0, 1.0, 2.0, 3.0, f32::NAN, f32::INFINITY, 3.0];
        let histogram = Histogram::of(values.into_iter(), 3, Tone::Float).expect("it has values");
        assert_eq!((histogram.min, histogram.max), (0.0, 3.0));
        assert_eq!(histogram.counts, [1.0, 1.0, 3.0]);
    }

    #[test]
    fn nothing_and_a_constant() {
        assert_eq!(Histogram::of([f32::NAN].into_iter(), 8, Tone::Float), None);
        let constant = Histogram::of([2.0; 5].into_iter(), 4, Tone::Int8).expect("it has values");
        assert_eq!(constant.counts.iter().sum::<f32>(), 5.0);
    }
}
