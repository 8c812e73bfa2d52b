//! The first start: four cards, no account, no network, nothing to dismiss.

use eframe::egui::{self, RichText, ScrollArea, Ui, vec2};

use super::browse::Field;
use super::controls::{banner_ui, path_ui, pick_ui, primary_ui, small_button};
use super::lead::Lead;
use super::number;
use super::preprocessing::preprocess_ui;
use super::theme::{self, Tone, Type};
use super::workbench::{Place, Workbench};
use crate::session::{Command, Fit, ModelId, Preprocess, Source, Step, Unfinished, View};

pub(super) fn welcome_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        let p = theme::palette(ui);
        ui.add_space((ui.available_height() * 0.12).min(96.0));
        ui.vertical_centered(|ui| {
            ui.label(
                RichText::new("From float32 to int8, one step at a time").font(Type::Display.strong()).color(p.strong),
            );
            ui.label(
                RichText::new("Stubs, weights, fuse, prepare, calibrate, convert: see what each one does.")
                    .color(p.weak),
            );
        });
        ui.add_space(theme::PADDING * 2.0);
        if let Some((_, message)) = &view.failure {
            banner_ui(ui, Tone::Trouble, message);
        }
        let idle = view.running.is_none();
        continue_ui(ui, bench, idle);
        cards_ui(ui, bench, idle);
        if bench.opening {
            form_ui(ui, bench, idle);
        }
        project_ui(ui, bench, idle);
    });
}

/// What was last worked on, a click away.
fn continue_ui(ui: &mut Ui, bench: &mut Workbench, idle: bool) {
    let Some(kept) = &bench.unfinished else { return };
    let (room, text) = (ui.available_width(), in_words(kept));
    let leads = bench.lead == Lead::Continue;
    // As wide as the cards below, which have a hairline on each side.
    let columns = columns(room);
    let width = columns as f32 * (CARD + theme::PADDING) - theme::PADDING;
    let clicked = ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.add_space(((room - width) / 2.0).max(0.0));
        let card = theme::card_frame(ui).inner_margin(theme::PADDING).show(ui, |ui| {
            let inner = width - 2.0 * theme::PADDING + 2.0 * (columns - 1) as f32;
            ui.set_width(inner);
            let line = vec2(inner, 44.0);
            ui.allocate_ui_with_layout(line, egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let button = primary_ui(ui, leads, idle, "Continue");
                let name = "Continue where you were";
                button.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, idle, format!("{name}: Continue")));
                ui.with_layout(egui::Layout::top_down(egui::Align::LEFT), |ui| {
                    let p = theme::palette(ui);
                    ui.label(RichText::new(name).font(Type::Title.strong()).color(p.strong));
                    ui.add(egui::Label::new(RichText::new(text).color(p.weak)).wrap());
                });
                button.clicked()
            })
        });
        card.inner.inner
    });
    ui.add_space(theme::GAP);
    if clicked.inner {
        bench.go_on();
    }
}

/// "ResNet18, QAT, the sample: 4 Prepare is done, training was cut short after 3 epochs, 5 min ago".
fn in_words(kept: &Unfinished) -> String {
    let recipe = &kept.recipe;
    let data = match &recipe.data {
        Source::Sample => "the sample".to_owned(),
        Source::Path(path) => path.file_name().map_or("images".into(), |n| n.to_string_lossy()).into_owned(),
    };
    let done = match kept.done {
        Some(step) => format!("{} {} is done", step.index() + 1, step.title_in(&recipe.method)),
        None => "opened".to_owned(),
    };
    let cut = match kept.training {
        Some(1) => ", training was cut short after 1 epoch and goes on".to_owned(),
        Some(epochs) => format!(", training was cut short after {epochs} epochs and goes on"),
        None => String::new(),
    };
    let age = kept.when.and_then(|when| when.elapsed().ok());
    let age = age.map_or(String::new(), |age| format!(", {} ago", number::seconds(age.as_secs_f64())));
    format!("{}, {}, {data}: {done}{cut}{age}.", recipe.model.title(), recipe.method.name())
}

/// Where runs and the session are kept.
fn project_ui(ui: &mut Ui, bench: &mut Workbench, idle: bool) {
    ui.add_space(theme::PADDING);
    let folder = bench.choices.folder().display().to_string();
    let weak = theme::palette(ui).weak;
    ui.vertical_centered(|ui| {
        ui.label(RichText::new(format!("Project folder: {folder}")).font(Type::Small.font()).color(weak));
        let change = ui.add_enabled(idle, small_button("Change\u{2026}"));
        change.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, idle, "Change the project folder"));
        if change.on_hover_text("Runs, charts and the session itself are kept there").clicked() {
            bench.browse(Field::Project, ui.ctx());
        }
    });
}

const CARD: f32 = 264.0;

/// As many cards as stand side by side, never three and one.
fn columns(room: f32) -> usize {
    match ((room + theme::PADDING) / (CARD + theme::PADDING)) as usize {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => 4,
    }
}

fn cards_ui(ui: &mut Ui, bench: &mut Workbench, idle: bool) {
    const WIDTH: f32 = CARD;
    const GAP: f32 = theme::PADDING;
    let room = ui.available_width();
    let columns = columns(room);
    let left = ((room - columns as f32 * (WIDTH + GAP) + GAP) / 2.0).max(0.0);
    let begun = bench.memory.tutorial.is_begun();
    let texts = [
        (
            "Take the tutorial",
            "Quantize a real model twice, by PTQ and by QAT, and see why each step is done: half an hour.",
            if begun { "Resume" } else { "Start" },
        ),
        (
            "Quantize the sample now",
            "ShuffleNetV2 and ten kinds of clothing, all six steps at once; the result in less than a minute.",
            "Quantize",
        ),
        ("Walk the six steps", "The same model and images, one step at a time, with a picture of each.", "Begin"),
        ("Open my model", "A torchvision classifier of yours and a folder of your images.", "Choose"),
    ];
    let mut clicked = None;
    let mut cards = texts.into_iter().enumerate().peekable();
    while cards.peek().is_some() {
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 0.0;
            ui.add_space(left);
            ui.spacing_mut().item_spacing.x = GAP;
            for (i, (title, text, button)) in cards.by_ref().take(columns) {
                if card_ui(ui, WIDTH, title, text, button, i == 0 && bench.lead == Lead::Tutorial, idle) {
                    clicked = Some(i);
                }
            }
        });
        ui.add_space(theme::GAP);
    }
    match clicked {
        Some(0) => {
            // What a lesson was left with is there again.
            match begun && bench.unfinished.is_some() {
                true => bench.go_on(),
                false => bench.open_sample(false),
            }
            bench.look(Place::Learn);
        }
        Some(1) => bench.open_sample(true),
        Some(2) => bench.open_sample(false),
        Some(_) => bench.opening = !bench.opening,
        None => {}
    }
}

fn card_ui(ui: &mut Ui, width: f32, title: &str, text: &str, button: &str, leads: bool, idle: bool) -> bool {
    theme::card_frame(ui)
        .inner_margin(theme::PADDING)
        .show(ui, |ui| {
            ui.set_width(width - 2.0 * theme::PADDING);
            ui.vertical(|ui| {
                let p = theme::palette(ui);
                ui.label(RichText::new(title).font(Type::Title.strong()).color(p.strong));
                let room = vec2(ui.available_width(), 52.0);
                ui.allocate_ui_with_layout(room, egui::Layout::top_down(egui::Align::LEFT), |ui| {
                    ui.set_min_size(room);
                    ui.add(egui::Label::new(RichText::new(text).color(p.weak)).wrap());
                });
                let pressed = primary_ui(ui, leads, idle, button);
                let name = format!("{title}: {button}");
                pressed.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, idle, &name));
                pressed.clicked()
            })
            .inner
        })
        .inner
}

fn form_ui(ui: &mut Ui, bench: &mut Workbench, idle: bool) {
    ui.add_space(theme::PADDING);
    let room = ui.available_width();
    let width = room.min(560.0);
    ui.horizontal(|ui| {
        ui.add_space((room - width) / 2.0);
        theme::card_frame(ui).inner_margin(theme::PADDING).show(ui, |ui| {
            ui.set_width(width - 2.0 * theme::PADDING);
            ui.vertical(|ui| fields_ui(ui, bench, idle));
        });
    });
}

/// Files that were opened before, each a click away.
fn recent_ui(ui: &mut Ui, name: &str, recent: &[String], path: &mut String) {
    if recent.is_empty() {
        return;
    }
    ui.menu_button(name, |ui| {
        for file in recent {
            if ui.button(file).clicked() {
                path.clone_from(file);
                ui.close();
            }
        }
    });
}

fn fields_ui(ui: &mut Ui, bench: &mut Workbench, idle: bool) {
    let strong = theme::palette(ui).strong;
    let head = |ui: &mut Ui, text: &str| ui.label(RichText::new(text).font(Type::Body.strong()).color(strong));
    head(ui, "Architecture");
    let before = bench.choices.model;
    pick_ui(ui, "Architecture", &mut bench.choices.model, &ModelId::ALL, ModelId::title);
    if bench.choices.model != before {
        bench.choices.name_the_file();
    }
    head(ui, "Weights");
    if path_ui(ui, "Weights file", ".pth, .pt or .safetensors; empty to train", &mut bench.choices.weights) {
        bench.browse(Field::Weights, ui.ctx());
    }
    recent_ui(ui, "Recent weights", &bench.memory.weights, &mut bench.choices.weights);
    head(ui, "Images");
    if path_ui(ui, "Image folder", "one folder a class; empty for the sample", &mut bench.choices.data) {
        bench.browse(Field::Data, ui.ctx());
    }
    recent_ui(ui, "Recent images", &bench.memory.data, &mut bench.choices.data);
    let folder = !bench.choices.data.trim().is_empty();
    let default = if folder { Preprocess::new(224, Fit::Crop) } else { Preprocess::new(32, Fit::Pad) };
    egui::CollapsingHeader::new("Preprocessing").id_salt("preprocessing").show(ui, |ui| {
        let text = "Folders: 224 pixels, centre crop. The sample and CIFAR-10: 32, as they are. ImageNet's mean and \
                    deviation. What is set here counts instead.";
        ui.add(egui::Label::new(RichText::new(text).color(theme::palette(ui).weak)).wrap());
        preprocess_ui(ui, &mut bench.choices.preprocess, default);
    });
    ui.add_space(theme::GRID);
    if primary_ui(ui, bench.lead == Lead::Open, idle, "Open model").clicked() {
        bench.ask(Command::Open(Box::new(bench.choices.recipe())));
        bench.go(Step::Stubs);
    }
}
