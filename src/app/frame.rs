//! The frame: bar above, rail left, screen in the middle, inspector right, progress and log below.

use eframe::egui::{self, Align, Layout, Panel, RichText, ScrollArea, Ui, pos2, vec2};

use super::controls::{banner_ui, choice_ui, primary_ui};
use super::glossary::label_ui;
use super::inspector::inspector_ui;
use super::lead::Lead;
use super::screens::{self, Tab};
use super::theme::{self, Tone, Type};
use super::tutorial::lesson_ui;
use super::workbench::{Place, Request, Workbench, picked};
use super::{actions, drops, help, keep, palette, rail, status, top_bar, welcome};
use crate::session::{Command, CommandKind, Stage, Step, StepState, View};

/// Draws the whole window.
pub fn workbench_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    bench.follow(view);
    bench.keep_method(view);
    bench.attend_lesson(view);
    picked(ui, bench, view);
    drops::drops_ui(ui.ctx(), bench, view);
    keep::keep_ui(ui.ctx(), bench);
    // What lies over the window has the keyboard; it closes by itself.
    if !bench.palette.is_open() && !bench.help {
        for action in actions::pressed(ui.ctx()) {
            action.perform(bench, view, ui.ctx());
        }
    }
    bench.lead = Lead::of(bench, view);
    palette::palette_ui(ui.ctx(), bench, view);
    help::help_ui(ui.ctx(), bench);
    let size = ui.available_size();
    let narrow = size.x < theme::NARROW;
    let bar = theme::panel_frame(ui).inner_margin(egui::Margin::symmetric(16, 8));
    Panel::top("bar").frame(bar).show(ui, |ui| top_bar::top_bar_ui(ui, bench, view, narrow));
    let low = size.y < theme::LOW;
    let foot = theme::panel_frame(ui).inner_margin(egui::Margin::symmetric(16, 4));
    Panel::bottom("status").frame(foot).show(ui, |ui| status::status_ui(ui, bench, view, low));
    if view.stage().is_none() {
        let frame = theme::ground_frame(ui);
        egui::CentralPanel::no_frame().frame(frame).show(ui, |ui| {
            notice_ui(ui, bench);
            welcome::welcome_ui(ui, bench, view);
        });
        return;
    }
    // Beside a lesson the step needs the room that words on the rail and the inspector take.
    let lesson = bench.tutorial.lesson().is_some();
    let rail_narrow = narrow || lesson && size.x < theme::ROOMY;
    let rail_width = if rail_narrow { theme::RAIL_NARROW } else { theme::RAIL };
    let frame = theme::panel_frame(ui).inner_margin(egui::Margin::same(8));
    Panel::left("rail").resizable(false).exact_size(rail_width).frame(frame).show(ui, |ui| {
        ScrollArea::vertical().show(ui, |ui| rail::rail_ui(ui, bench, view, rail_narrow));
    });
    // A layer is looked at within a step; the other places need the room.
    if lesson && !narrow {
        let frame = theme::panel_frame(ui);
        Panel::right("lesson").default_size(theme::LESSON).size_range(280.0..=560.0).frame(frame).show(ui, |ui| {
            lesson_ui(ui, bench, view);
        });
    }
    if !narrow && bench.place == Place::Step && (!lesson || size.x >= theme::WIDE) {
        let frame = theme::panel_frame(ui);
        Panel::right("inspector").default_size(theme::INSPECTOR).size_range(220.0..=480.0).frame(frame).show(
            ui,
            |ui| {
                inspect(ui, bench, view);
            },
        );
    }
    let frame = theme::ground_frame(ui);
    egui::CentralPanel::no_frame().frame(frame).show(ui, |ui| match lesson && narrow {
        true => lesson_or_step_ui(ui, bench, view),
        false => centre_ui(ui, bench, view),
    });
    if narrow && bench.drawer {
        drawer_ui(ui, bench, view);
    }
}

/// What a user should know of what he just did, with a button that puts it away.
fn notice_ui(ui: &mut Ui, bench: &mut Workbench) {
    let Some(notice) = bench.notice.clone() else { return };
    ui.horizontal_top(|ui| {
        if ui.button("Dismiss").clicked() {
            bench.notice = None;
        }
        banner_ui(ui, Tone::Observed, &notice);
    });
}

fn inspect(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let graph = view.stage_of(bench.step).or_else(|| view.stage_before(bench.step)).or(view.stage()).map(|s| s.graph());
    ScrollArea::vertical().id_salt("inspector").auto_shrink(false).show(ui, |ui| {
        inspector_ui(ui, &mut bench.inspector, graph, &bench.selection);
    });
}

/// On a narrow window the inspector lies over the screen.
fn drawer_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let room = ui.ctx().content_rect();
    let width = theme::INSPECTOR.min(room.width() - theme::RAIL_NARROW).max(64.0);
    let top = room.top() + 48.0;
    let high = (room.height() - top - 80.0).max(64.0);
    let area = egui::Area::new(egui::Id::unique("drawer")).fixed_pos(pos2(room.right() - width, top));
    area.order(egui::Order::Foreground).show(ui.ctx(), |ui| {
        theme::panel_frame(ui).stroke(theme::hairline(ui)).show(ui, |ui| {
            ui.set_min_size(vec2(width - 34.0, high));
            ui.set_max_width(width - 34.0);
            ui.set_max_height(high);
            if ui.button("Close").clicked() {
                bench.drawer = false;
            }
            inspect(ui, bench, view);
        });
    });
}

/// On a narrow window the lesson and its step take turns.
fn lesson_or_step_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    ui.horizontal(|ui| {
        choice_ui(ui, "Show", &[(true, "Lesson"), (false, "Workbench")], &mut bench.tutorial.read);
    });
    match bench.tutorial.read {
        true => lesson_ui(ui, bench, view),
        false => centre_ui(ui, bench, view),
    }
}

fn centre_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    notice_ui(ui, bench);
    if bench.place != Place::Step {
        title_ui(ui, bench.place.title(), bench.place.question());
        ui.add(egui::Separator::default().spacing(theme::GAP));
        if let Some((CommandKind::Open, message)) = &view.failure {
            banner_ui(ui, Tone::Trouble, message);
        }
        screens::place_ui(ui, bench, view, bench.place);
        return;
    }
    header_ui(ui, bench, view);
    ui.horizontal(|ui| {
        for tab in Tab::ALL {
            if ui.selectable_label(bench.tab == tab, tab.title()).clicked() {
                bench.tab = tab;
            }
        }
    });
    ui.add(egui::Separator::default().spacing(theme::GAP));
    if let Some((kind, message)) = &view.failure
        && (kind.step() == Some(bench.step) || kind.step().is_none())
    {
        banner_ui(ui, Tone::Trouble, message);
    }
    match as_it_was(bench, view) {
        Some(was) => stale_ui(ui, bench, view, &was),
        None => screens::screen_ui(ui, bench, view),
    }
}

/// What the step had found before an earlier one was changed: not while it runs again, nor where it was the other
/// method's.
fn as_it_was(bench: &Workbench, view: &View) -> Option<View> {
    let runs = view.running.and_then(CommandKind::step) == Some(bench.step);
    let was = view.as_it_was(bench.step).filter(|_| !runs)?;
    let trained = matches!(was.stage_of(Step::Calibrate).map(AsRef::as_ref), Some(Stage::Trained { .. }));
    (bench.step != Step::Calibrate || trained == bench.choices.by_qat).then_some(was)
}

/// What the step had found before an earlier one was changed: dimmed, and not to be worked on until the steps before it
/// are there again.
fn stale_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, was: &View) {
    let ready = view.stage_before(bench.step).is_some();
    let text = match ready {
        true => "An earlier step was changed, so this is out of date. Run again to bring it up to date.",
        false => "An earlier step was changed, so this is out of date. Run again, once the steps before it are.",
    };
    banner_ui(ui, Tone::Observed, text);
    ui.scope(|ui| {
        ui.multiply_opacity(theme::STALE);
        if !ready {
            ui.disable();
        }
        screens::screen_ui(ui, bench, was);
    });
}

fn title_ui(ui: &mut Ui, title: &str, question: &str) {
    let p = theme::palette(ui);
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        ui.set_max_width((ui.available_width() - 200.0).max(160.0));
        label_ui(ui, RichText::new(title).font(Type::Display.strong()).color(p.strong));
        label_ui(ui, RichText::new(question).color(p.weak));
    });
}

/// The step's name, its question, and the one button that leads on.
fn header_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let step = bench.step;
    let state = view.steps()[step.index()].clone();
    ui.horizontal_top(|ui| {
        let title = step.title_in(&bench.choices.method());
        title_ui(ui, &format!("{}  {title}", step.index() + 1), screens::question(bench));
        let row = vec2(ui.available_width(), theme::ROW);
        ui.allocate_ui_with_layout(row, Layout::right_to_left(Align::Center), |ui| match state.state {
            StepState::Locked => go_ui(ui, bench, view),
            StepState::Running => {
                if ui.button("Cancel").clicked() {
                    bench.request(Request::Cancel);
                }
            }
            StepState::Ready => screens::run_ui(ui, bench, view, false),
            StepState::Stale if view.stage_before(step).is_some() => screens::run_ui(ui, bench, view, false),
            StepState::Stale => go_ui(ui, bench, view),
            StepState::Done => done_ui(ui, bench, view),
        });
    });
}

/// A locked step points to the one that comes first.
fn go_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let next = Step::ALL.into_iter().find(|s| view.stage_of(*s).is_none());
    if let Some(next) = next
        && primary_ui(ui, bench.lead == Lead::Step, true, &format!("Go to {}", next.title_in(&bench.choices.method())))
            .clicked()
    {
        bench.go(next);
    }
}

/// A finished step leads on to the next; it can be run again while it is the newest, and be returned to else.
fn done_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let step = bench.step;
    let newest = view.stage().and_then(|s| s.done()) == Some(step);
    let finished = screens::is_finished(step, view);
    if !finished {
        screens::run_ui(ui, bench, view, false);
        return;
    }
    if let Some(next) = Step::ALL.get(step.index() + 1)
        && primary_ui(
            ui,
            bench.lead == Lead::Step,
            true,
            &format!("Continue to {}", next.title_in(&bench.choices.method())),
        )
        .clicked()
    {
        bench.go(*next);
    }
    if newest {
        screens::run_ui(ui, bench, view, true);
    } else {
        let back = ui.add_enabled(view.allows(CommandKind::BackTo(step)), egui::Button::new("Return to here"));
        let back = back.on_hover_text("Undo every later step, to change something here");
        if back.clicked() {
            bench.ask(Command::BackTo(step));
        }
    }
}
