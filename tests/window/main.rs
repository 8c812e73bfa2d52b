//! The window, used through its labels and looked at as pictures, without a display or a GPU.

mod analyze;
mod download;
mod frame;
mod graph;
mod held;
mod lead;
mod monkey;
mod places;
mod plots;
mod project;
mod qat;
mod raster;
mod resize;
mod screens;
#[path = "../download/server.rs"]
#[expect(dead_code, reason = "the download's own tests use the rest")]
mod server;
mod snapshot;
mod speed;
mod tutorial;
mod tutorial_checks;
mod window;

use eframe::egui::{self, Theme, Ui};
use egui_kittest::Harness;
use octet::app::{fonts, theme};

/// A harness with the window's fonts and look, and the textures to picture it by.
fn harness<'a, S>(
    size: [f32; 2],
    look: Theme,
    state: S,
    draw: impl FnMut(&mut Ui, &mut S) + 'a,
) -> (Harness<'a, S>, raster::Textures) {
    let textures = raster::Textures::default();
    let harness = Harness::builder()
        .with_size(size)
        .with_theme(look)
        .with_max_steps(16)
        .renderer(textures.clone())
        .with_context_setup(|ctx: &egui::Context| {
            ctx.set_fonts(fonts::embedded());
            theme::install(ctx);
        })
        .build_ui_state(draw, state);
    (harness, textures)
}
