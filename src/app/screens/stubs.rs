use eframe::egui::text::{LayoutJob, TextWrapping};
use eframe::egui::{Align2, Rect, Sense, Shape, Stroke, StrokeKind, Ui, pos2, vec2};

use super::prose;
use crate::app::number;
use crate::app::theme::{self, Tone, Type};
use crate::app::workbench::Workbench;
use crate::session::{Stage, Step, View};

/// One box of the strip.
struct Part {
    title: String,
    caption: String,
    tone: Tone,
    stub: bool,
}

/// The way of an image through the model, with the borders between float and int8.
pub(super) fn stubs_ui(ui: &mut Ui, _bench: &mut Workbench, view: &View) {
    let Some(opened) = view.stages[0].as_ref() else { return };
    let done = view.stage_of(Step::Stubs).is_some();
    let graph = opened.graph();
    let part = |title: &str, caption: String, tone, stub| Part { title: title.to_owned(), caption, tone, stub };
    let layers = graph.nodes.len() - 1;
    let image = graph.input_shape().to_string().replace('x', "\u{d7}");
    let inside = if done { Tone::Int8 } else { Tone::Float };
    let mut parts = vec![part("image", image, Tone::Float, false)];
    if done {
        parts.push(part("QuantStub", "float to uint8".to_owned(), Tone::Int8, true));
    }
    let name = view.recipe.as_ref().map_or(graph.name.as_str(), |r| r.model.title());
    parts.push(part(name, format!("{layers} nodes"), inside, false));
    if done {
        parts.push(part("DeQuantStub", "uint8 to float".to_owned(), Tone::Int8, true));
    }
    parts.push(part("logits", format!("{} classes", number::count(graph.classes())), Tone::Float, false));
    strip_ui(ui, &parts);
    ui.add_space(theme::GAP);
    match view.stage_of(Step::Stubs).map(AsRef::as_ref) {
        Some(Stage::Stubbed { report, .. }) => prose(
            ui,
            &format!(
                "`{}` stands behind the image and `{}` behind the logits. They compute nothing yet: the last step turns them into the two places where values change between float32 and uint8, and everything between them into int8.",
                report.quant, report.dequant
            ),
        ),
        Some(
            Stage::Opened { .. }
            | Stage::Weighted { .. }
            | Stage::Fused { .. }
            | Stage::Prepared { .. }
            | Stage::Calibrated { .. }
            | Stage::Trained { .. }
            | Stage::Converted { .. }
            | Stage::Saved { .. },
        )
        | None => prose(
            ui,
            "Everything is float32 now. Two stubs will mark what becomes int8: one behind the image, one behind the logits.",
        ),
    }
}

/// Boxes from left to right, joined by arrows; from top to bottom where there is no room.
fn strip_ui(ui: &mut Ui, parts: &[Part]) {
    const HIGH: f32 = 56.0;
    const ARROW: f32 = 20.0;
    let room = ui.available_width().min(960.0);
    let n = parts.len() as f32;
    let wide = room >= n * 116.0 + (n - 1.0) * ARROW;
    let size = if wide { vec2((room - (n - 1.0) * ARROW) / n, HIGH) } else { vec2(room.min(280.0), HIGH) };
    let total = if wide { vec2(room, HIGH) } else { vec2(size.x, n * HIGH + (n - 1.0) * ARROW) };
    let (area, response) = ui.allocate_exact_size(total, Sense::hover());
    let said = parts.iter().map(|p| p.title.as_str()).collect::<Vec<_>>().join(", then ");
    let info =
        || eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Figure, true, format!("The way of an image: {said}"));
    response.widget_info(info);
    let step = if wide { vec2(size.x + ARROW, 0.0) } else { vec2(0.0, HIGH + ARROW) };
    for (i, part) in parts.iter().enumerate() {
        let rect = Rect::from_min_size(area.min + step * i as f32, size);
        part_ui(ui, rect, part);
        if i + 1 < parts.len() {
            let (from, to) = if wide {
                (rect.right_center() + vec2(2.0, 0.0), rect.right_center() + vec2(ARROW - 2.0, 0.0))
            } else {
                (rect.center_bottom() + vec2(0.0, 4.0), rect.center_bottom() + vec2(0.0, ARROW - 4.0))
            };
            ui.painter().arrow(from, to - from, Stroke::new(1.5, theme::palette(ui).edge));
        }
    }
}

fn part_ui(ui: &Ui, rect: Rect, part: &Part) {
    let p = theme::palette(ui);
    let (fill, strong, weak) = if part.stub {
        (part.tone.fill(), part.tone.on_fill(), part.tone.on_fill())
    } else {
        (p.raised, p.strong, p.weak)
    };
    let painter = ui.painter_at(rect);
    painter.rect(rect, theme::RADIUS, fill, theme::hairline(ui), StrokeKind::Inside);
    if !part.stub {
        let bar = Rect::from_min_max(rect.min, pos2(rect.left() + 5.0, rect.bottom()));
        painter.add(Shape::rect_filled(bar, theme::RADIUS, part.tone.fill()));
    }
    let left = rect.left() + 12.0;
    let mut title = LayoutJob::simple_singleline(part.title.clone(), Type::Body.strong(), strong);
    title.wrap = TextWrapping::truncate_at_width(rect.right() - left - 4.0);
    let title = painter.layout_job(title);
    painter.galley(pos2(left, rect.top() + 20.0 - title.size().y / 2.0), title, strong);
    painter.text(pos2(left, rect.top() + 38.0), Align2::LEFT_CENTER, &part.caption, Type::Small.font(), weak);
    let ink = if part.stub { part.tone.on_fill() } else { part.tone.ink(p.dark) };
    let at = rect.right_top() + vec2(-10.0, 38.0);
    painter.text(at, Align2::RIGHT_CENTER, part.tone.glyph(), Type::Small.strong(), ink);
}
