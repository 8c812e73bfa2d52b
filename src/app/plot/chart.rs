use eframe::egui::{Align2, Color32, CornerRadius, Pos2, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};

use super::{Table, chart_ui};
use crate::app::theme::{Palette, Type};
use crate::chart::{Anchor, Chart, Inks, Mark, Rgb, layout};

/// Widest that a chart is drawn: the eye follows a row no further.
const WIDEST: f32 = 820.0;

/// The theme's neutral colours for a chart.
pub(in crate::app) fn chart_inks(p: &Palette) -> Inks {
    let rgb = |c: Color32| [c.r(), c.g(), c.b()];
    Inks { ground: rgb(p.ground), strong: rgb(p.strong), weak: rgb(p.weak), hairline: rgb(p.hairline) }
}

/// Draws a chart as it is saved, or the table that says the same.
pub(in crate::app) fn draw_chart_ui(ui: &mut Ui, chart: &Chart, inks: &Inks) {
    let said = |g: &crate::chart::Group| {
        let values: Vec<String> = g.values.iter().map(|v| format!("{} {}", v.name, v.text)).collect();
        format!("{}: {}", g.name, values.join(", "))
    };
    let summary = chart.groups.iter().map(said).collect::<Vec<_>>().join("; ");
    let table = || {
        let rows = chart
            .groups
            .iter()
            .flat_map(|g| g.values.iter().map(move |v| [g.name.clone(), v.name.clone(), v.text.clone()]));
        Table::new(["", "", &chart.unit], rows)
    };
    // The heading above has the title.
    let untitled = Chart { title: String::new(), ..chart.clone() };
    chart_ui(ui, &chart.title, &summary, table, |ui| {
        let picture = layout(&untitled, ui.available_width().min(WIDEST), inks);
        let (rect, _) = ui.allocate_exact_size(vec2(picture.size[0], picture.size[1]), Sense::hover());
        let at = |[x, y]: [f32; 2]| rect.min + vec2(x, y);
        for mark in &picture.marks {
            mark_ui(ui, mark, &at);
        }
    });
}

fn mark_ui(ui: &Ui, mark: &Mark, at: &dyn Fn([f32; 2]) -> Pos2) {
    let painter = ui.painter();
    match mark {
        Mark::Rect { at: corner, size, ink, outlined } => {
            let rect = Rect::from_min_size(at(*corner), vec2(size[0], size[1]));
            let (fill, line) = match outlined {
                true => (color(*ink).gamma_multiply(0.15), Stroke::new(1.0, color(*ink))),
                false => (color(*ink), Stroke::NONE),
            };
            painter.rect(rect, CornerRadius::same(2), fill, line, StrokeKind::Inside);
        }
        Mark::Line { from, to, width, ink } => {
            painter.line_segment([at(*from), at(*to)], Stroke::new(*width, color(*ink)));
        }
        Mark::Dot { at: middle, outlined, ink } => {
            let fill = if *outlined { Color32::TRANSPARENT } else { color(*ink) };
            painter.circle(at(*middle), 4.0, fill, Stroke::new(1.5, color(*ink)));
        }
        Mark::Text { at: place, anchor, strong, ink, text, .. } => {
            let anchor = match anchor {
                Anchor::Start => Align2::LEFT_CENTER,
                Anchor::Middle => Align2::CENTER_CENTER,
                Anchor::End => Align2::RIGHT_CENTER,
            };
            let font = if *strong { Type::Small.strong() } else { Type::Small.font() };
            let place = at(*place);
            painter.text(pos2(place.x, place.y), anchor, text, font, color(*ink));
        }
    }
}

fn color([r, g, b]: Rgb) -> Color32 {
    Color32::from_rgb(r, g, b)
}
