//! The window: panels draw from the session's `View` and push `Command`s; none of them touches the worker.
//!
//! The only room that knows egui. Colours, sizes and spacing are in [`theme`] and nowhere else.

pub mod fonts;
pub mod graph_view;
pub mod inspector;
pub mod number;
pub mod plot;
pub mod theme;
