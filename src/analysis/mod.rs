//! What a finished model and a user's own images say about each other, beyond accuracy: which layers would overflow 16
//! bits on other engines ([`Saturation`]), how far each layer is from float ([`ErrorMeter`]), which images are named
//! otherwise ([`Verdicts`]).
//!
//! This room runs models through `exec` and reads graphs. It knows nothing of files, of steps or of windows: `session`
//! brings it images and asks it to go on.

mod count;
mod error;
mod pairs;
mod saturation;
#[cfg(test)]
mod tests;
mod verdict;

pub use error::{ErrorMeter, LayerError, Runner};
pub use pairs::Neighbours;
pub use saturation::{LayerBound, LayerSaturation, PairBound, Saturation, SaturationDetector, bounds};
pub use verdict::{Confusion, Flip, Guess, Verdicts};
