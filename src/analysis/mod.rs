//! What a finished model and a user's own images say about each other, beyond accuracy: which layers would overflow 16
//! bits on other engines ([`Saturation`]), how far each layer is from float ([`ErrorMeter`]), which images are named
//! otherwise ([`Verdicts`]), which layers a loss of accuracy is owed to ([`SensitivityMeter`]), and how sure all of it is.
//!
//! This room runs models through `exec` and reads graphs. It knows nothing of files, of steps or of windows: `session`
//! brings it images and asks it to go on.

mod count;
mod error;
mod pairs;
mod repair;
mod saturation;
mod score;
mod sensitivity;
mod statistics;
#[cfg(test)]
mod tests;
mod verdict;

pub use error::{ErrorMeter, LayerError, Runner, Sums};
pub use pairs::Neighbours;
pub use repair::{LARGEST_WINDOW, MomentMeter, RepairError, bias_corrections};
pub use saturation::{LayerBound, LayerSaturation, PairBound, Saturation, SaturationDetector, bounds};
pub use score::SweepScore;
pub use sensitivity::{Labelled, LayerSensitivity, Owed, Sensitivity, SensitivityMeter, Sweeps};
pub use statistics::{mcnemar, paired_interval, spearman, wilson};
pub use verdict::{ClassDrop, Confusion, Flip, Guess, Verdicts};
