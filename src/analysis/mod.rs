//! What a finished model and a user's own images say about each other, beyond accuracy: so far, which layers would
//! overflow 16 bits on other engines ([`Saturation`]).
//!
//! This room runs models through `exec` and reads graphs. It knows nothing of files, of steps or of windows: `session`
//! brings it images and asks it to go on.

mod count;
mod pairs;
mod saturation;
#[cfg(test)]
mod tests;

pub use pairs::Neighbours;
pub use saturation::{LayerBound, LayerSaturation, PairBound, Saturation, SaturationDetector, bounds};
