//! Repairs of a network that loses by becoming int8: pure passes on graphs, and arithmetic on what was seen.
//!
//! [`equalize`] works on the fused float graph, before observers; [`correct_bias`] and [`round_weights`] on the converted
//! one. None of them runs a model: means and moments of activations are brought by whoever does.

mod adaround;
mod bias;
mod equalize;
mod plant;
mod scaling;

pub use adaround::{AdaRound, Moments, RoundingReport, round_weights};
pub use bias::{BiasReport, correct_bias};
pub use equalize::{EqualizeReport, EqualizedPair, equalize};
pub use plant::spoil_ranges;
pub use scaling::Uneven;
