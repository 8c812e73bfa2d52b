//! The six steps with their states and results, and the places below them; what one clicks to look at them.

use eframe::egui::{
    self, Align2, CornerRadius, Pos2, Rect, Role, Sense, Shape, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};

use super::controls::step_mark;
use super::number;
use super::theme::{self, Type};
use super::workbench::{Place, Workbench};
use crate::session::{StepState, StepView, View};

pub(super) fn rail_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, narrow: bool) {
    ui.spacing_mut().item_spacing.y = theme::GRID;
    for step in view.steps() {
        let title = step.step.title_in(&bench.choices.method());
        if step_ui(ui, &step, title, bench.place == Place::Step && bench.step == step.step, narrow) {
            bench.go(step.step);
        }
    }
    ui.add(egui::Separator::default().spacing(theme::GAP));
    for place in Place::BELOW {
        if place_ui(ui, place, bench.place == place, narrow) {
            bench.look(place);
        }
    }
}

fn place_ui(ui: &mut Ui, place: Place, current: bool, narrow: bool) -> bool {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 36.0), Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, current, place.title()));
    ground_ui(ui, rect, &response, current);
    let x = if narrow { rect.center().x } else { rect.left() + 18.0 };
    place_mark(ui, pos2(x, rect.center().y), place, if current { p.accent_ink } else { p.text });
    if narrow {
        return response.on_hover_text(place.title()).clicked();
    }
    let at = pos2(rect.left() + 36.0, rect.center().y);
    ui.painter().text(at, Align2::LEFT_CENTER, place.title(), Type::Body.strong(), p.strong);
    response.clicked()
}

/// A picture with a hill, or three bars.
fn place_mark(ui: &Ui, centre: Pos2, place: Place, ink: egui::Color32) {
    let (painter, line) = (ui.painter(), Stroke::new(1.5, ink));
    match place {
        Place::Step => {}
        Place::Images => {
            let frame = Rect::from_center_size(centre, vec2(16.0, 13.0));
            painter.rect_stroke(frame, 2.0, line, StrokeKind::Inside);
            let hill = [vec2(-5.0, 3.5), vec2(-1.0, -1.5), vec2(1.5, 1.5), vec2(3.0, 0.0), vec2(5.0, 3.5)];
            painter.add(Shape::line(hill.map(|d| centre + d).to_vec(), line));
        }
        Place::Learn => {
            // An open book.
            for side in [-1.0, 1.0] {
                let page = [vec2(0.0, -4.0), vec2(side * 7.5, -6.0), vec2(side * 7.5, 4.5), vec2(0.0, 6.5)];
                painter.add(Shape::closed_line(page.map(|d| centre + d).to_vec(), line));
            }
        }
        Place::Compare => {
            for (dy, long) in [(-5.0, 14.0), (0.0, 5.0), (5.0, 8.0)] {
                let from = centre + vec2(-7.0, dy);
                painter.line_segment([from, from + vec2(long, 0.0)], Stroke::new(3.0, ink));
            }
        }
    }
}

/// What shows that a row of the rail is looked at, under the pointer, or has the keyboard.
fn ground_ui(ui: &Ui, rect: Rect, response: &egui::Response, current: bool) {
    let p = theme::palette(ui);
    if current || response.hovered() || response.has_focus() {
        let fill = if current { p.accent_wash } else { p.hover };
        ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS), fill);
    }
    if response.has_focus() {
        let line = Stroke::new(1.0, p.accent_ink);
        ui.painter().rect_stroke(rect, theme::RADIUS, line, StrokeKind::Inside);
    }
}

fn step_ui(ui: &mut Ui, step: &StepView, title: &str, current: bool, narrow: bool) -> bool {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 44.0), Sense::click());
    let title = format!("{} {}", step.step.index() + 1, title);
    let word = word(step);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, current, format!("{title}, {word}")));
    ground_ui(ui, rect, &response, current);
    let mark_x = if narrow { rect.center().x } else { rect.left() + 18.0 };
    let mark_y = if narrow { rect.center().y - 7.0 } else { rect.center().y };
    step_mark(ui, pos2(mark_x, mark_y), step.state, current);
    let painter = ui.painter();
    if narrow {
        let at = pos2(mark_x, rect.bottom() - 9.0);
        let number = (step.step.index() + 1).to_string();
        painter.text(at, Align2::CENTER_CENTER, number, Type::Small.strong(), p.text);
        return response.on_hover_text(format!("{title}: {word}")).clicked();
    }
    let (font, ink) = match step.state {
        StepState::Locked | StepState::Stale => (Type::Body.font(), p.weak),
        StepState::Ready | StepState::Running | StepState::Done => (Type::Body.strong(), p.strong),
    };
    let left = rect.left() + 36.0;
    painter.text(pos2(left, rect.top() + 14.0), Align2::LEFT_CENTER, &title, font, ink);
    painter.text(pos2(left, rect.top() + 30.0), Align2::LEFT_CENTER, &word, Type::Small.font(), p.weak);
    if let (Some(seconds), StepState::Done) = (step.seconds, step.state) {
        let at = pos2(rect.right() - 8.0, rect.top() + 30.0);
        painter.text(at, Align2::RIGHT_CENTER, number::seconds(seconds), Type::Small.font(), p.weak);
    }
    response.clicked()
}

fn word(step: &StepView) -> String {
    match (step.state, &step.result) {
        (StepState::Running, _) => "running".to_owned(),
        (StepState::Done, Some(result)) => result.clone(),
        (StepState::Done, None) => "done".to_owned(),
        (StepState::Stale, Some(result)) => format!("{result}, run again"),
        (StepState::Stale, None) => "run again".to_owned(),
        (StepState::Ready, _) => "ready".to_owned(),
        (StepState::Locked, _) => "locked".to_owned(),
    }
}
