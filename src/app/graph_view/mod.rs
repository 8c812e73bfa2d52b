//! The graph as a picture: modules folded into cards, laid out in ranks, panned and zoomed.
//!
//! Knows the graph and the theme; nothing of the session, so every screen can show any two graphs side by side.

mod camera;
mod draw;
mod fold;
mod layout;
mod lens;
mod pane;
mod selection;

pub use camera::Camera;
pub use fold::{Card, Folded, fold, modules, opened_at_first, tone};
pub use layout::{Layout, Route, Task, lay_out};
pub use lens::{Lens, Reading};
pub use pane::{GraphPane, pane_ui};
pub use selection::Selection;
