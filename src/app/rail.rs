//! The six steps with their states and results; what one clicks to look at them.

use eframe::egui::{Align2, CornerRadius, Role, Sense, Ui, WidgetInfo, pos2, vec2};

use super::controls::step_mark;
use super::number;
use super::theme::{self, Type};
use super::workbench::Workbench;
use crate::session::{StepState, StepView, View};

pub(super) fn rail_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, narrow: bool) {
    ui.spacing_mut().item_spacing.y = theme::GRID;
    for step in view.steps() {
        if step_ui(ui, &step, bench.step == step.step, narrow) {
            bench.go(step.step);
        }
    }
}

fn step_ui(ui: &mut Ui, step: &StepView, current: bool, narrow: bool) -> bool {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 44.0), Sense::click());
    let title = format!("{} {}", step.step.index() + 1, step.step.title());
    let word = word(step);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, current, format!("{title}, {word}")));
    if current || response.hovered() || response.has_focus() {
        let fill = if current { p.accent_wash } else { p.hover };
        ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS), fill);
    }
    if response.has_focus() {
        let line = eframe::egui::Stroke::new(1.0, p.accent_ink);
        ui.painter().rect_stroke(rect, theme::RADIUS, line, eframe::egui::StrokeKind::Inside);
    }
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
        StepState::Locked => (Type::Body.font(), p.weak),
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
        (StepState::Ready, _) => "ready".to_owned(),
        (StepState::Locked, _) => "locked".to_owned(),
    }
}
