//! ?: the keys.

use eframe::egui::{self, Context, Grid, Id, Modal, RichText, ScrollArea, vec2};

use super::actions::Action;
use super::theme::{self, Type};
use super::workbench::Workbench;

/// Draws the list of keys where it is asked for.
pub(super) fn help_ui(ctx: &Context, bench: &mut Workbench) {
    if !bench.help {
        return;
    }
    let high = ctx.content_rect().height() - 136.0;
    let frame = egui::Frame::popup(&ctx.style_of(ctx.theme())).inner_margin(theme::PADDING);
    let shown = Modal::new(Id::unique("help")).frame(frame).show(ctx, |ui| {
        let p = theme::palette(ui);
        ui.label(RichText::new("Keys").font(Type::Title.strong()).color(p.strong));
        ui.add_space(theme::GAP);
        ScrollArea::vertical().max_height(high).show(ui, |ui| {
            Grid::new("keys").spacing(vec2(theme::PADDING * 2.0, theme::GRID)).show(ui, |ui| {
                for (keys, what) in Action::keyed() {
                    // Of the other face `++` would be one sign.
                    ui.label(RichText::new(keys).font(Type::Body.strong()).color(p.strong));
                    ui.label(RichText::new(what).color(p.text));
                    ui.end_row();
                }
            });
        });
        ui.add_space(theme::GAP);
        ui.button("Close").clicked()
    });
    if shown.should_close() || shown.inner {
        bench.help = false;
    }
}
