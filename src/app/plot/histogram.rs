use eframe::egui::{Align2, CursorIcon, EventFilter, Key, Rect, Sense, Shape, Stroke, Ui, WidgetInfo, pos2, vec2};
use egui_plot::{Bar, BarChart, LineStyle, PlotTransform, VLine};

use super::{Table, chart_ui, plot};
use crate::app::number;
use crate::app::theme::{self, Tone, Type};

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

/// Evenly spaced values that integers stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// The lowest.
    pub first: f64,
    /// The highest.
    pub last: f64,
    /// How many.
    pub count: usize,
    /// Whether there are no others.
    pub all: bool,
    /// Whose levels they are.
    pub tone: Tone,
}

impl Levels {
    fn at(&self, i: usize) -> f64 {
        self.first + (self.last - self.first) * i as f64 / (self.count.max(2) - 1) as f64
    }
}

/// Height of the strip that levels are drawn on.
const STRIP: f32 = 24.0;
/// How near a clip line the pointer must be to take hold of it.
const GRIP: f32 = 7.0;
/// How far beyond the values a clip line can be dragged, in parts of their width.
const BEYOND: f64 = 0.1;

/// Bars over the value, with the clip lines. `unit` names the abscissa: "weight", "activation".
pub fn histogram_ui(ui: &mut Ui, title: &str, unit: &str, histogram: &Histogram) {
    chart_ui(
        ui,
        title,
        &summary(histogram),
        || table(histogram, unit),
        |ui| {
            plot_ui(ui, title, unit, histogram, &[]);
        },
    );
}

/// The same with levels drawn under the bars.
pub fn levels_ui(ui: &mut Ui, title: &str, unit: &str, histogram: &Histogram, levels: Levels) {
    let summary = format!("{}, {} levels", summary(histogram), levels.count);
    chart_ui(
        ui,
        title,
        &summary,
        || table(histogram, unit),
        |ui| {
            let place = plot_ui(ui, title, unit, histogram, &[]);
            strip_ui(ui, &place, levels);
        },
    );
}

/// The same with clip lines that can be dragged: with the pointer, or by arrow keys while one has the focus. Returns
/// whether one is held.
pub fn clip_ui(
    ui: &mut Ui,
    title: &str,
    unit: &str,
    histogram: &Histogram,
    levels: Levels,
    clip: &mut (f32, f32),
) -> bool {
    let mut held = false;
    let drawn = Histogram { clip: Some(*clip), ..histogram.clone() };
    let said = format!("{}, {} levels", summary(&drawn), levels.count);
    chart_ui(
        ui,
        title,
        &said,
        || table(histogram, unit),
        |ui| {
            let (low, high) = (f64::from(histogram.min), f64::from(histogram.max));
            let room = [low - BEYOND * (high - low), high + BEYOND * (high - low)];
            let place = plot_ui(ui, title, unit, &drawn, &room);
            strip_ui(ui, &place, levels);
            held = handles_ui(ui, &place, room, clip);
        },
    );
    held
}

fn summary(histogram: &Histogram) -> String {
    let (low, high) = (f64::from(histogram.min), f64::from(histogram.max));
    let clip = histogram.clip.map_or(String::new(), |(a, b)| {
        format!(", clipped at {} and {}", number::number(a.into()), number::number(b.into()))
    });
    format!("from {} to {}{clip}", number::number(low), number::number(high))
}

fn table(histogram: &Histogram, unit: &str) -> Table {
    let rows = histogram.counts.iter().enumerate();
    let rows = rows.map(|(i, n)| [number::number(histogram.middle(i)), number::number(f64::from(*n))]);
    Table::new([unit, "values"], rows)
}

fn plot_ui(ui: &mut Ui, title: &str, unit: &str, histogram: &Histogram, room: &[f64]) -> PlotTransform {
    let dark = theme::palette(ui).dark;
    let width = histogram.width();
    let fill = histogram.tone.fill();
    let mut plot = plot(ui, title, unit, "values", false).x_axis_label(unit).include_y(0.0);
    for x in room {
        plot = plot.include_x(*x);
    }
    let drawn = plot.show(ui, |plot| {
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
    drawn.transform
}

/// The levels as marks under the plot, on its abscissa; every sixteenth is longer. Where they lie too close to be told
/// apart they are a band.
fn strip_ui(ui: &mut Ui, place: &PlotTransform, levels: Levels) {
    const APART: f32 = 2.5;
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), STRIP), Sense::hover());
    let frame = place.frame().x_range();
    let painter = ui.painter_at(Rect::from_x_y_ranges(frame, rect.y_range()));
    let p = theme::palette(ui);
    let ink = levels.tone.ink(p.dark);
    let x = |i: usize| place.position_from_point_x(levels.at(i));
    let (left, right) = (x(0), x(levels.count.max(1) - 1));
    let top = rect.top() + 2.0;
    let apart = (right - left) / (levels.count.max(2) - 1) as f32;
    if apart < APART {
        let band = Rect::from_min_max(pos2(left, top + 2.0), pos2(right, top + 6.0));
        painter.rect_filled(band, 0.0, levels.tone.fill().gamma_multiply(0.55));
    }
    for i in 0..levels.count {
        let long = i % 16 == 0 || i + 1 == levels.count;
        if apart >= APART || (long && apart * 16.0 >= APART) {
            let stroke = Stroke::new(1.0, if long { ink } else { ink.gamma_multiply(0.6) });
            painter.vline(x(i), top..=top + if long { 9.0 } else { 5.0 }, stroke);
        }
    }
    let apart = number::number(levels.at(1) - levels.at(0));
    let text = match levels.all {
        true => format!("{} levels, {apart} apart", levels.count),
        false => format!("levels, {apart} apart"),
    };
    // Under the first level, where the text has its room there.
    let begin = frame.min + 2.0;
    let at = pos2(left.clamp(begin, (frame.max - 160.0).max(begin)), rect.bottom());
    painter.text(at, Align2::LEFT_BOTTOM, &text, Type::Small.font(), p.weak);
    response.on_hover_text(text);
}

/// What is taken hold of to move the clip lines; whether one is held.
fn handles_ui(ui: &mut Ui, place: &PlotTransform, room: [f64; 2], clip: &mut (f32, f32)) -> bool {
    let frame = *place.frame();
    let (mut held, step) = (false, (room[1] - room[0]) / 200.0);
    let least = ((room[1] - room[0]) * 0.005) as f32;
    for upper in [false, true] {
        let name = if upper { "Upper clip line" } else { "Lower clip line" };
        let value = f64::from(if upper { clip.1 } else { clip.0 });
        let x = place.position_from_point_x(value);
        let line = Rect::from_x_y_ranges(x - GRIP..=x + GRIP, frame.top()..=frame.bottom() + STRIP);
        let id = ui.scope_id().with(name);
        let response = ui.interact(line, id, Sense::click_and_drag());
        response.widget_info(|| WidgetInfo::slider(true, value, name));
        let mut moved = None;
        if response.dragged()
            && let Some(pointer) = response.interact_pointer_pos()
        {
            moved = Some(place.value_from_position(pointer).x);
        }
        if response.has_focus() {
            let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
            ui.memory_mut(|m| m.set_focus_lock_filter(id, filter));
            let (left, right) = ui.input(|i| (i.num_presses(Key::ArrowLeft), i.num_presses(Key::ArrowRight)));
            if left + right > 0 {
                moved = Some(value + step * (right as f64 - left as f64));
            }
        }
        if let Some(to) = moved {
            let to = to.min(room[1]).max(room[0]) as f32;
            match upper {
                true => clip.1 = to.max(clip.0 + least),
                false => clip.0 = to.min(clip.1 - least),
            }
        }
        held |= response.dragged();
        let p = theme::palette(ui);
        let lively = response.hovered() || response.dragged() || response.has_focus();
        if lively {
            ui.ctx().set_cursor_icon(CursorIcon::ResizeHorizontal);
        }
        let ink = if lively { p.strong } else { Tone::Trouble.ink(p.dark) };
        // Where there is no room for a plot its frame's ends lie the wrong way round.
        let tip = pos2(x.min(frame.right()).max(frame.left()), frame.top());
        let flag = vec![tip, tip + vec2(if upper { -9.0 } else { 9.0 }, 5.0), tip + vec2(0.0, 10.0)];
        ui.painter().add(Shape::convex_polygon(flag, ink, Stroke::NONE));
    }
    held
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
