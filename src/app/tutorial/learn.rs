//! The overview below the steps: both paths, the finales, and how far one is.

use eframe::egui::{self, Align, Label, Layout, RichText, Role, ScrollArea, Sense, Ui, WidgetInfo, pos2, vec2};

use super::lessons::{Lesson, Path, lessons};
use super::panel::next_of;
use crate::app::controls::{primary_ui, step_mark};
use crate::app::lead::Lead;
use crate::app::theme::{self, Type};
use crate::app::workbench::Workbench;
use crate::session::{Source, StepState, View};

/// Width of a path's card.
const CARD: f32 = 300.0;

/// Draws the overview.
pub(in crate::app) fn learn_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        ui.set_max_width(ui.available_width() - theme::PADDING);
        let resumed = intro_ui(ui, bench, view);
        let room = ui.available_width();
        let columns = (((room + theme::PADDING) / (CARD + theme::PADDING)) as usize).clamp(1, 3);
        let width = ((room - theme::PADDING * (columns - 1) as f32) / columns as f32).min(460.0);
        let mut open = None;
        let shown: Vec<Path> = Path::ALL.into_iter().filter(|path| path.lessons().count() > 0).collect();
        // One button leads on: where there is nothing to resume, that of the first path with something left to do.
        let next = shown.iter().copied().find(|path| next_of(*path, &bench.memory.tutorial.done).is_some());
        let next = next.filter(|_| !resumed && bench.lead == Lead::Learn);
        for row in shown.chunks(columns) {
            let lines = row.iter().map(|path| path.lessons().count()).max().unwrap_or(0);
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = theme::PADDING;
                for path in row {
                    open = path_ui(ui, bench, *path, (width, lines), next == Some(*path)).or(open);
                }
            });
            ui.add_space(theme::GAP);
        }
        if let Some(index) = open {
            bench.open_lesson(index);
        }
    });
}

/// What the lessons are about, and the one that was left; whether there is one.
fn intro_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) -> bool {
    let p = theme::palette(ui);
    let (model, data) = view.recipe.as_ref().map_or(("", "the sample".to_owned()), |r| {
        let data = match &r.data {
            Source::Sample => "the Fashion-MNIST sample".to_owned(),
            Source::Path(path) => path.display().to_string(),
        };
        (r.model.title(), data)
    });
    let text = format!(
        "Every lesson is a task on the workbench itself, with what is open now: {model} on {data}. The bar above opens \
         another model or your own images. A lesson is done when its work is done; leave and come back whenever you like."
    );
    ui.scope(|ui| {
        ui.set_max_width(ui.available_width().min(640.0));
        ui.add(Label::new(RichText::new(text).color(p.weak)).wrap());
    });
    let at = bench.memory.tutorial.at.clone();
    // A path that was finished is not resumed.
    let left = |lesson: &Lesson| next_of(lesson.path, &bench.memory.tutorial.done).is_some();
    let resumed = lessons().iter().position(|lesson| Some(lesson.key()) == at && left(lesson));
    if let Some(index) = resumed {
        let lesson = &lessons()[index];
        ui.horizontal_wrapped(|ui| {
            if primary_ui(ui, bench.lead == Lead::Learn, true, "Resume").clicked() {
                bench.open_lesson(index);
            }
            let text = format!("{}, lesson {}: {}", lesson.path.title(), lesson.step, lesson.title);
            ui.label(RichText::new(text).color(p.text));
        });
    }
    ui.add_space(theme::GAP);
    resumed.is_some()
}

/// A path with its lessons, in a card as high as one of so many `lines`; the lesson that was clicked.
fn path_ui(ui: &mut Ui, bench: &Workbench, path: Path, (width, lines): (f32, usize), leads: bool) -> Option<usize> {
    let p = theme::palette(ui);
    let done = &bench.memory.tutorial.done;
    let mut open = None;
    theme::card_frame(ui).inner_margin(theme::PADDING).show(ui, |ui| {
        ui.set_width(width - 2.0 * theme::PADDING);
        ui.vertical(|ui| {
            ui.label(RichText::new(path.title()).font(Type::Title.strong()).color(p.strong));
            // Two lines, where one would do too: lessons begin at one height.
            let about = vec2(ui.available_width(), 36.0);
            ui.allocate_ui_with_layout(about, Layout::top_down(Align::LEFT), |ui| {
                ui.set_min_height(about.y);
                ui.add(Label::new(RichText::new(path.about()).color(p.weak)).wrap());
            });
            ui.spacing_mut().item_spacing.y = 2.0;
            for (index, lesson) in path.lessons() {
                if row_ui(ui, lesson, done.contains(&lesson.key())) {
                    open = Some(index);
                }
            }
            let count = path.lessons().count();
            ui.add_space(theme::GAP + lines.saturating_sub(count) as f32 * (theme::ROW + 2.0));
            let finished = path.lessons().filter(|(_, l)| done.contains(&l.key())).count();
            let next = next_of(path, done);
            let text = match (finished, next) {
                (_, None) => "Begin again",
                (0, Some(_)) => "Begin",
                (_, Some(_)) => "Go on",
            };
            ui.horizontal(|ui| {
                let name = format!("{}: {text}", path.title());
                let button = primary_ui(ui, leads, true, text);
                button.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
                if button.clicked() {
                    open = next.or_else(|| path.lessons().next().map(|(index, _)| index));
                }
                ui.label(RichText::new(format!("{finished} of {count} done")).color(p.weak));
            });
        });
    });
    open
}

fn row_ui(ui: &mut Ui, lesson: &Lesson, done: bool) -> bool {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), theme::ROW), Sense::click());
    let word = if done { "done" } else { "not done" };
    let name = format!("{} lesson {}: {}, {word}", lesson.path.title(), lesson.step, lesson.title);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    if response.hovered() || response.has_focus() {
        ui.painter().rect_filled(rect, theme::RADIUS, p.hover);
    }
    let state = if done { StepState::Done } else { StepState::Ready };
    step_mark(ui, pos2(rect.left() + 12.0, rect.center().y), state, false);
    let ink = if done { p.text } else { p.strong };
    let text = format!("{}  {}", lesson.step, lesson.title);
    let at = pos2(rect.left() + 30.0, rect.center().y);
    let mut job = egui::text::LayoutJob::simple_singleline(text, Type::Body.font(), ink);
    job.wrap = egui::text::TextWrapping::truncate_at_width(rect.right() - at.x - 4.0);
    let galley = ui.painter().layout_job(job);
    ui.painter().galley(at - vec2(0.0, galley.size().y / 2.0), galley, ink);
    response.clicked()
}
