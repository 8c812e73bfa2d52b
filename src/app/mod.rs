//! The window: panels draw from the session's `View` and push `Command`s; none of them touches the worker.
//!
//! The only room that knows egui. Colours, sizes and spacing are in [`theme`] and nowhere else.

mod actions;
mod asked;
mod browse;
pub mod choices;
mod controls;
mod drops;
pub mod fonts;
mod frame;
mod fuzzy;
mod gallery;
mod glossary;
pub mod graph_view;
mod help;
pub mod inspector;
mod keep;
mod launch;
mod layer_name;
mod lead;
pub mod memory;
pub mod number;
mod palette;
pub mod plot;
mod preprocessing;
mod rail;
pub mod screens;
mod status;
pub mod theme;
mod top_bar;
pub mod tutorial;
mod welcome;
pub mod workbench;

pub use browse::{Dialog, Field};
pub use launch::{AppError, Window, run};
