use eframe::egui::{Label, RichText, ScrollArea, Ui};

use crate::app::theme::{self, Type};
use crate::app::workbench::Workbench;
use crate::session::{CodeJob, Method, Recipe, Step, View, torch_code};

/// The PyTorch code that does the same, with the user's choices in it.
pub(super) fn code_ui(ui: &mut Ui, bench: &mut Workbench, view: &View) {
    let Some(code) = code_of(bench.step, None, bench, view) else { return };
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

/// The code of a step, of the method that is chosen or (`by_qat`) of one of them; `None` before a model is open.
pub(in crate::app) fn code_of(step: Step, by_qat: Option<bool>, bench: &Workbench, view: &View) -> Option<String> {
    let open = view.recipe.as_ref()?;
    let method = match by_qat {
        Some(true) => Method::Qat(bench.choices.qat),
        Some(false) => Method::Ptq,
        None => bench.choices.method(),
    };
    // The model and its data are those that are open, the rest as it is chosen now.
    let recipe = Recipe { model: open.model, data: open.data.clone(), method, ..bench.choices.recipe() };
    Some(torch_code(step, &CodeJob::new(&recipe, view)))
}
