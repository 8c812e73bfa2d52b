//! The bar above: what is worked on, and the button that runs it all.

use eframe::egui::{self, Align, Layout, RichText, Ui};

use super::controls::{choice_ui, pick_ui, primary_ui};
use super::theme::{self, Type};
use super::workbench::Workbench;
use crate::session::{Command, CommandKind, ModelId, Source, View};

pub(super) fn top_bar_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, narrow: bool) {
    ui.horizontal(|ui| {
        let p = theme::palette(ui);
        ui.label(RichText::new("Octet").font(Type::Title.strong()).color(p.strong));
        if let Some(recipe) = &view.recipe {
            ui.add_space(theme::GAP);
            pick_ui(ui, "Model", &mut bench.choices.model, &ModelId::ALL, ModelId::title);
            if bench.choices.reopens(recipe) {
                let open = ui.add_enabled(view.running.is_none(), egui::Button::new("Open"));
                if open.on_hover_text("Start over with this model").clicked() {
                    bench.open_chosen();
                }
            }
            method_ui(ui, bench, view);
            if !narrow {
                facts_ui(ui, view);
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| right_ui(ui, bench, view, narrow));
    });
}

/// PTQ or QAT; not while something runs.
fn method_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let before = bench.choices.by_qat;
    ui.add_enabled_ui(view.running.is_none(), |ui| {
        choice_ui(ui, "Method", &[(false, "PTQ"), (true, "QAT")], &mut bench.choices.by_qat);
    });
    if bench.choices.by_qat != before {
        bench.ask(Command::ChooseMethod(bench.choices.method()));
    }
}

fn facts_ui(ui: &mut Ui, view: &View) {
    let weak = theme::palette(ui).weak;
    let Some(recipe) = &view.recipe else { return };
    let data = match &recipe.data {
        Source::Sample => "Fashion-MNIST sample".to_owned(),
        Source::Path(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
    };
    for fact in [data, recipe.qconfig.to_string(), "CPU".to_owned()] {
        ui.label(RichText::new(fact).color(weak));
    }
}

fn right_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, narrow: bool) {
    if view.stage().is_some() {
        let idle = view.allows(CommandKind::RunAll);
        if primary_ui(ui, idle, "Run all").on_hover_text("Every step that is left, with these choices").clicked() {
            // What is picked is what runs, opened or not.
            if view.recipe.as_ref().is_some_and(|recipe| bench.choices.reopens(recipe)) {
                bench.open_chosen();
            }
            bench.ask(Command::ChooseMethod(bench.choices.method()));
            bench.ask(Command::RunAll(bench.choices.out()));
        }
        if narrow && ui.button("Inspect").clicked() {
            bench.drawer = !bench.drawer;
        }
    }
    let dark = ui.visuals().dark_mode;
    let (word, other) = if dark { ("Light", egui::Theme::Light) } else { ("Dark", egui::Theme::Dark) };
    if ui.button(word).on_hover_text("The other theme").clicked() {
        ui.ctx().set_theme(other);
    }
}
