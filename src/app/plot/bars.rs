use eframe::egui::{Align2, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};

use super::{Table, chart_ui};
use crate::app::theme::{self, Tone, Type};

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct BarItem {
    /// Left of it: "float".
    pub name: String,
    /// Its length; 0 or more.
    pub value: f64,
    /// The value with its unit, right of it: "11.3 MB".
    pub text: String,
    /// Its colour and glyph.
    pub tone: Tone,
}

/// Horizontal bars from a common zero, one a row.
pub fn bars_ui(ui: &mut Ui, title: &str, items: &[BarItem]) {
    bars_beside_ui(ui, title, items, &[]);
}

/// The same with `others` below, on the same scale: outlines, since they are not ours.
pub fn bars_beside_ui(ui: &mut Ui, title: &str, items: &[BarItem], others: &[BarItem]) {
    let all = || items.iter().chain(others);
    let summary = all().map(|i| format!("{} {}", i.name, i.text)).collect::<Vec<_>>().join(", ");
    let table = || Table::new(["", title], all().map(|i| [i.name.clone(), i.text.clone()]));
    chart_ui(ui, title, &summary, table, |ui| rows_ui(ui, &all().collect::<Vec<_>>(), items.len()));
}

/// The first `filled` bars are areas, the others outlines.
fn rows_ui(ui: &mut Ui, items: &[&BarItem], filled: usize) {
    let p = theme::palette(ui);
    let width_of = |text: &str, font| ui.painter().layout_no_wrap(text.to_owned(), font, p.text).size().x;
    let names = items.iter().map(|i| width_of(&i.name, Type::Body.font())).fold(0.0, f32::max) + 32.0;
    let values = items.iter().map(|i| width_of(&i.text, Type::Body.mono())).fold(0.0, f32::max) + theme::GAP;
    let most = items.iter().map(|i| i.value).filter(|v| v.is_finite()).fold(0.0, f64::max);
    for (i, item) in items.iter().enumerate() {
        let (row, response) = ui.allocate_exact_size(vec2(ui.available_width(), theme::ROW), Sense::hover());
        let painter = ui.painter();
        let middle = row.center().y;
        let ink = item.tone.ink(p.dark);
        painter.text(row.left_center(), Align2::LEFT_CENTER, item.tone.glyph(), Type::Small.strong(), ink);
        painter.text(pos2(row.left() + 24.0, middle), Align2::LEFT_CENTER, &item.name, Type::Body.font(), p.text);
        let room = Rect::from_x_y_ranges(row.left() + names..=row.right() - values, middle - 8.0..=middle + 8.0);
        let share = if most > 0.0 && item.value.is_finite() { (item.value / most) as f32 } else { 0.0 };
        let bar = Rect::from_min_size(room.min, vec2((room.width() * share).max(2.0), room.height()));
        if i < filled {
            painter.rect_filled(bar, 3.0, item.tone.fill());
        } else {
            painter.rect(bar, 3.0, item.tone.wash(p.dark), Stroke::new(1.0, ink), StrokeKind::Inside);
        }
        let at = pos2(bar.right() + theme::GAP, middle);
        painter.text(at, Align2::LEFT_CENTER, &item.text, Type::Body.mono(), p.strong);
        response.on_hover_text(format!("{}: {}", item.name, item.text));
    }
}
