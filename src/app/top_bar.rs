//! The bar above: what is worked on, and the button that runs it all.

use eframe::egui::{self, Align, Layout, RichText, Role, Ui, WidgetInfo, vec2};

use super::actions::Action;
use super::browse::Field;
use super::controls::{choice_ui, pick_ui, primary_ui};
use super::lead::Lead;
use super::number::bytes;
use super::theme::{self, Type};
use super::workbench::Workbench;
use crate::session::{Backend, Command, CommandKind, Device, Gpus, ModelId, Recipe, View};

pub(super) fn top_bar_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, narrow: bool) {
    // As high as its highest control, so that all stand on one line.
    let line = vec2(ui.available_width(), theme::CHOICE);
    ui.allocate_ui_with_layout(line, Layout::left_to_right(Align::Center), |ui| {
        let p = theme::palette(ui);
        if !narrow {
            ui.label(RichText::new("Octet").font(Type::Title.strong()).color(p.strong));
            ui.add_space(theme::GAP);
        }
        match &view.recipe {
            Some(recipe) => left_ui(ui, bench, view, recipe, narrow),
            None if narrow => drop(ui.label(RichText::new("Octet").font(Type::Title.strong()).color(p.strong))),
            None => {}
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| right_ui(ui, bench, view, narrow));
    });
}

fn left_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, recipe: &Recipe, narrow: bool) {
    let mut model = bench.choices.model;
    pick_ui(ui, "Model", &mut model, &ModelId::ALL, ModelId::title);
    bench.choices.take_model(model);
    if narrow {
        ui.menu_button("Setup", |ui| {
            method_ui(ui, bench, view);
            ui.separator();
            data_items_ui(ui, bench);
            ui.separator();
            device_items_ui(ui, bench, view);
            ui.separator();
            for backend in Backend::ALL {
                if ui.selectable_label(bench.choices.qconfig.name == backend, backend.name()).clicked() {
                    bench.choices.take_backend(backend);
                    ui.close();
                }
            }
        });
    } else {
        method_ui(ui, bench, view);
        let chosen = short(&bench.choices.data);
        let data = egui::ComboBox::from_id_salt("Images").selected_text(&chosen);
        let data = data.show_ui(ui, |ui| data_items_ui(ui, bench)).response;
        let name = format!("Images: {chosen}");
        data.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, &name));
        data.on_hover_text("Images");
        let mut backend = bench.choices.qconfig.name;
        pick_ui(ui, "Qconfig of the run", &mut backend, &Backend::ALL, Backend::name);
        if backend != bench.choices.qconfig.name {
            bench.choices.take_backend(backend);
        }
        let chosen = device_name(view.device, &view.gpus);
        let device = egui::ComboBox::from_id_salt("Device").selected_text(cut(&chosen, 12)).width(44.0);
        let device = device.show_ui(ui, |ui| device_items_ui(ui, bench, view)).response;
        let name = format!("Device: {chosen}");
        device.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, &name));
        device.on_hover_text("Where float runs, and training; int8 runs on the CPU");
    }
    if bench.choices.reopens(recipe) {
        let open = ui.add_enabled(view.running.is_none(), egui::Button::new("Open"));
        if open.on_hover_text("Start over with this model and these images").clicked() {
            bench.open_chosen();
        }
    }
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

/// The CPU and each GPU; where there is none, why.
fn device_items_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let all = std::iter::once(Device::Cpu).chain(view.gpus.found.iter().map(|gpu| gpu.device));
    for device in all {
        let row = egui::Button::selectable(view.device == device, device_name(device, &view.gpus));
        if ui.add_enabled(view.running.is_none(), row).clicked() {
            bench.ask(Command::ChooseDevice(device));
            ui.close();
        }
    }
    if let Some(why) = &view.gpus.why_none {
        // The menu has no width of its own to wrap at.
        let text = RichText::new(format!("No GPU: {why}.")).color(theme::palette(ui).weak);
        let frame = egui::Frame::new().inner_margin(egui::Margin::symmetric(12, 4));
        frame.show(ui, |ui| {
            ui.with_layout(egui::Layout::top_down(egui::Align::LEFT), |ui| {
                ui.set_width(320.0);
                ui.add(egui::Label::new(text).wrap());
            });
        });
    }
}

/// "CPU", or the GPU's name and memory.
fn device_name(device: Device, gpus: &Gpus) -> String {
    match gpus.found.iter().find(|gpu| gpu.device == device) {
        Some(gpu) => format!("{} \u{b7} {}", gpu.name, bytes(gpu.memory as u64)),
        None if device == Device::Cpu => "CPU".to_owned(),
        None => device.to_string(),
    }
}

/// The sample, what was used before, or another folder.
fn data_items_ui(ui: &mut Ui, bench: &mut Workbench) {
    let mut picked = None;
    if ui.selectable_label(bench.choices.data.trim().is_empty(), short("")).clicked() {
        picked = Some(String::new());
    }
    for folder in &bench.memory.data {
        let row = ui.selectable_label(*folder == bench.choices.data, short(folder));
        if row.on_hover_text(folder).clicked() {
            picked = Some(folder.clone());
        }
    }
    if let Some(picked) = picked {
        bench.choices.data = picked;
        ui.close();
    }
    if ui.button("Choose a folder\u{2026}").clicked() {
        bench.browse(Field::Data, ui.ctx());
        ui.close();
    }
}

/// A folder's own name.
fn short(data: &str) -> String {
    const MOST: usize = 24;
    let path = std::path::Path::new(data.trim());
    let name = path.file_name().map_or("Fashion-MNIST sample".into(), |n| n.to_string_lossy());
    cut(&name, MOST)
}

/// Its beginning, where it is longer than the bar has room for.
fn cut(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        name.to_owned()
    } else {
        name.chars().take(most - 1).chain(['\u{2026}']).collect()
    }
}

fn right_ui(ui: &mut Ui, bench: &mut Workbench, view: &View, narrow: bool) {
    if view.stage().is_some() {
        let idle = view.allows(CommandKind::RunAll);
        let run = primary_ui(ui, bench.lead == Lead::RunAll, idle, "Run all");
        if run.on_hover_text("Every step that is left, with these choices").clicked() {
            bench.run_all(view);
        }
        if narrow && ui.button("Inspect").clicked() {
            bench.drawer = !bench.drawer;
        }
    }
    let search = ui.button(if narrow { "Search" } else { "Search  Ctrl+P" });
    search.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Search"));
    if search.on_hover_text("Every command, step and layer by a few letters (Ctrl+P)").clicked() {
        bench.palette.open();
    }
    // On a narrow window both are a few letters away.
    if narrow && view.stage().is_some() {
        return;
    }
    let word = if ui.visuals().dark_mode { "Light" } else { "Dark" };
    if ui.button(word).on_hover_text("The other theme").clicked() {
        Action::Theme.perform(bench, view, ui.ctx());
    }
    let help = ui.button("?");
    help.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Keys"));
    if help.on_hover_text("The keys (?)").clicked() {
        bench.help = true;
    }
}
