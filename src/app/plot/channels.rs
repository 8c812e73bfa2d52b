use eframe::egui::{Align2, CornerRadius, EventFilter, Key, Rect, Sense, Stroke, Ui, pos2, vec2};

use super::{Table, chart_ui};
use crate::app::number;
use crate::app::theme::{self, Tone, Type};

const HIGH: f32 = 88.0;
/// Room of the figures at the left end.
const SCALE: f32 = 60.0;

/// One value a place of a row: a channel, a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What stands at each place, and its value; what is not finite has no bar.
    pub values: Vec<(String, f64)>,
    /// What the values are, with their unit: "factor", "SQNR, dB".
    pub unit: String,
    /// Whose they are.
    pub tone: Tone,
    /// A second value a place, drawn as a mark: a floor, a limit.
    pub marks: Vec<f64>,
}

impl Row {
    /// Values of channels 0, 1, 2…
    pub fn of_channels(values: impl IntoIterator<Item = f32>, unit: &str, tone: Tone) -> Self {
        let values = values.into_iter().enumerate().map(|(i, v)| (format!("channel {i}"), f64::from(v))).collect();
        Self { values, unit: unit.to_owned(), tone, marks: Vec::new() }
    }

    fn said(&self, i: usize) -> String {
        let mark = self.marks.get(i).filter(|m| m.is_finite());
        let mark = mark.map_or(String::new(), |m| format!(", floor {}", number::number(*m)));
        self.values.get(i).map_or(String::new(), |(name, v)| format!("{name}: {}{mark}", number::number(*v)))
    }
}

/// Upright bars side by side, from zero; a click or the arrow keys select one. Returns the one that was just selected.
pub fn row_ui(ui: &mut Ui, title: &str, row: &Row, selected: Option<usize>) -> Option<usize> {
    let mut picked = None;
    let finite = || row.values.iter().map(|(_, v)| *v).chain(row.marks.iter().copied()).filter(|v| v.is_finite());
    let (low, high) = finite().fold((0.0f64, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
    let summary = match selected {
        Some(i) => row.said(i),
        None => format!("{} values, {} to {}", row.values.len(), number::number(low), number::number(high)),
    };
    let table = || Table::new(["", &row.unit], row.values.iter().map(|(name, v)| [name.clone(), number::number(*v)]));
    chart_ui(ui, title, &summary, table, |ui| picked = bars_ui(ui, title, row, selected, (low, high)));
    picked
}

fn bars_ui(ui: &mut Ui, title: &str, row: &Row, selected: Option<usize>, (low, high): (f64, f64)) -> Option<usize> {
    let count = row.values.len();
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), HIGH), Sense::click());
    let info = || eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Slider, true, format!("{title}: pick"));
    response.widget_info(info);
    let p = theme::palette(ui);
    let room = Rect::from_min_max(rect.min + vec2(SCALE, 6.0), rect.max - vec2(2.0, 6.0));
    let span = if high > low { high - low } else { 1.0 };
    let y = |v: f64| room.bottom() - room.height() * ((v - low) / span) as f32;
    let painter = ui.painter();
    for (at, align) in [(high, Align2::RIGHT_CENTER), (low, Align2::RIGHT_CENTER)] {
        let text = number::axis(at);
        painter.text(pos2(room.left() - 6.0, y(at)), align, text, Type::Small.font(), p.weak);
    }
    painter.hline(room.x_range(), y(0.0), Stroke::new(1.0, p.hairline));
    if count == 0 {
        return None;
    }
    let wide = room.width() / count as f32;
    let gap = if wide > 4.0 { 1.0 } else { 0.0 };
    for (i, (_, value)) in row.values.iter().enumerate().filter(|(_, (_, v))| v.is_finite()) {
        let left = room.left() + wide * i as f32;
        let (from, to) = (y(0.0).min(y(*value)), y(0.0).max(y(*value)));
        let bar = Rect::from_min_max(pos2(left, from), pos2(left + (wide - gap).max(0.75), to.max(from + 1.0)));
        let fill = if selected == Some(i) { p.accent_ink } else { row.tone.fill() };
        painter.rect_filled(bar, CornerRadius::ZERO, fill);
        if let Some(mark) = row.marks.get(i).filter(|m| m.is_finite()) {
            painter.hline(bar.x_range(), y(*mark), Stroke::new(1.5, p.strong));
        }
    }
    if let Some(i) = selected.filter(|i| *i < count) {
        let x = room.left() + wide * (i as f32 + 0.5);
        painter.vline(x, room.bottom() + 1.0..=room.bottom() + 6.0, Stroke::new(2.0, p.accent_ink));
    }
    if response.has_focus() {
        painter.rect_stroke(rect, theme::RADIUS, Stroke::new(1.0, p.accent_ink), eframe::egui::StrokeKind::Inside);
        let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|m| m.set_focus_lock_filter(response.id, filter));
        let (back, on) = ui.input(|i| (i.num_presses(Key::ArrowLeft), i.num_presses(Key::ArrowRight)));
        if back + on > 0 {
            return Some((selected.unwrap_or(0) + on).saturating_sub(back).min(count - 1));
        }
    }
    let place = |at: eframe::egui::Pos2| (((at.x - room.left()) / wide).max(0.0) as usize).min(count - 1);
    let clicked = response.clicked();
    let pointer = response.interact_pointer_pos().or(response.hover_pos());
    let over = pointer.map(place);
    if let Some(i) = over {
        response.on_hover_text_at_pointer(row.said(i));
    }
    over.filter(|_| clicked)
}
