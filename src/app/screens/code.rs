use eframe::egui::{Label, RichText, ScrollArea, Ui};

use crate::app::theme::{self, Type};
use crate::app::workbench::Workbench;
use crate::session::{CodeJob, Recipe, View, torch_code};

/// The PyTorch code that does the same, with the user's choices in it.
pub(super) fn code_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(open) = &view.recipe else { return };
    // The model and its data are those that are open, the rest as it is chosen now.
    let recipe = Recipe { model: open.model, data: open.data.clone(), ..bench.choices.recipe() };
    let code = torch_code(bench.step, &CodeJob::new(&recipe, view));
    let p = theme::palette(ui);
    ui.horizontal(|ui| {
        ui.label(RichText::new("The same in PyTorch, with your choices").color(p.weak));
        if ui.button("Copy code").clicked() {
            ui.ctx().copy_text(code.clone());
        }
    });
    ScrollArea::both().auto_shrink(false).show(ui, |ui| {
        theme::card_frame(ui).show(ui, |ui| {
            ui.add(Label::new(RichText::new(&code).font(Type::Body.mono()).color(p.text)).selectable(true).extend());
        });
    });
}
