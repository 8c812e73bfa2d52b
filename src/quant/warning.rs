use std::fmt;

use super::{EPS, Observers, PrepareReport, QConfig, WhyFloat};
use crate::graph::{BatchNorm2d, Graph, ObserverKind, Tensor, Weight};

/// Ranges of channels that differ by so much do not fit one scale: the narrow one rounds to zero.
pub const UNEVEN: f32 = 1000.0;
/// How far fusing may move the logits, relative to the largest one: rounding moves them by a tenth of it.
pub const FUSION_TOLERANCE: f32 = 1e-5;
/// Half of the channels further from their running mean than this, in standard deviations, are no accident.
const FAR: f32 = 1.0;
/// Half of the channels with a variance so many times their running one, or so many times smaller, are no accident.
const SPREAD: f32 = 2.0;
/// Where two classes share the largest logit of more than one image in so many, int8 loses images that float does not.
const TIED: usize = 50;
/// Channels that a message names.
const NAMED: usize = 4;

/// Something that a user should know before he goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// The node that it is about.
    pub node: String,
    /// What it is.
    pub problem: Problem,
}

/// What may be wrong with a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// It has no int8 kernel, so it is left in float.
    NoKernel {
        /// What it is.
        op: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// All weights of some output channels are zero.
    ZeroChannels {
        /// Which.
        channels: Vec<usize>,
        /// Of how many.
        of: usize,
    },
    /// The weights' ranges of two channels differ by [`UNEVEN`] or more, and both get one scale; channels of zeros do not
    /// count. A scale per channel holds any range.
    UnevenChannels {
        /// The widest range over the narrowest.
        ratio: f32,
        /// The channel with the widest range.
        widest: usize,
        /// The one with the narrowest.
        narrowest: usize,
    },
    /// Its observer saw one value alone, so its scale is [`EPS`].
    DeadRange {
        /// The smallest value seen.
        min: f32,
        /// The largest.
        max: f32,
    },
    /// Its observer saw nothing.
    NoData,
    /// What this batch norm reads is not distributed as in training: the images are normalized otherwise.
    Normalization {
        /// How far from its running mean a channel lies, in running standard deviations: the median of all channels.
        shift: f32,
        /// A channel's variance over its running one: the median of all channels.
        spread: f32,
    },
    /// Fusing moved the output by more than [`FUSION_TOLERANCE`].
    FusionMoved {
        /// The largest difference over the largest logit.
        relative: f32,
    },
    /// Its levels are too wide to tell classes apart: on more than one image in [`TIED`] two share the largest logit, and
    /// the first of them is named, as PyTorch does.
    TiedClasses {
        /// Images with a tie.
        tied: usize,
        /// Of how many.
        of: usize,
        /// Width of a level of the logits.
        scale: f32,
    },
}

impl Problem {
    /// What is found, whichever node it is.
    pub fn in_general(&self) -> &'static str {
        match self {
            Self::NoKernel { .. } => "no int8 kernel, left in float",
            Self::ZeroChannels { .. } => "all weights of some of their channels are zero",
            Self::UnevenChannels { .. } => "the weights of their channels differ too much for one scale",
            Self::DeadRange { .. } => "their observers saw one value alone",
            Self::NoData => "their observers saw no data",
            Self::Normalization { .. } => "what they read is not distributed as in training",
            Self::FusionMoved { .. } => "fusing moved the output",
            Self::TiedClasses { .. } => "two classes share the largest logit of some images",
        }
    }
}

impl Warning {
    /// A name of its kind for programs.
    pub fn kind(&self) -> &'static str {
        match self.problem {
            Problem::NoKernel { .. } => "no_kernel",
            Problem::ZeroChannels { .. } => "zero_channels",
            Problem::UnevenChannels { .. } => "uneven_channels",
            Problem::DeadRange { .. } => "dead_range",
            Problem::NoData => "no_data",
            Problem::Normalization { .. } => "normalization",
            Problem::FusionMoved { .. } => "fusion_moved",
            Problem::TiedClasses { .. } => "tied_classes",
        }
    }

    /// What was found.
    pub fn found(&self) -> String {
        match &self.problem {
            Problem::NoKernel { op, .. } => format!("{op} has no int8 kernel and is left in float"),
            Problem::ZeroChannels { channels, of } => {
                let mut names: Vec<String> = channels.iter().take(NAMED).map(usize::to_string).collect();
                if channels.len() > NAMED {
                    names.push("\u{2026}".to_owned());
                }
                format!("all weights of {} of its {of} channels are zero ({})", channels.len(), names.join(", "))
            }
            Problem::UnevenChannels { ratio, widest, narrowest, .. } => {
                format!(
                    "the weights of channel {widest} range {ratio:.0} times as wide as those of channel {narrowest}"
                )
            }
            Problem::DeadRange { min, max } => {
                format!("its observer saw values from {min:e} to {max:e} alone, so its scale is {EPS:e}")
            }
            Problem::NoData => "its observer saw no data".to_owned(),
            Problem::Normalization { shift, spread } => format!(
                "what it reads lies {shift:.1} standard deviations from its running mean and has {spread:.2} times its \
                 running variance (medians over its channels)"
            ),
            Problem::FusionMoved { relative } if relative.is_nan() => {
                "the output is not a number, so nothing is proved".to_owned()
            }
            Problem::FusionMoved { relative } => {
                format!("fusing moved the output by {relative:.1e} of the largest logit")
            }
            Problem::TiedClasses { tied, of, scale } => format!(
                "on {tied} of {of} images two classes share the largest logit, of which one level is {scale:.2} wide; \
                 the first of them is named"
            ),
        }
    }

    /// What was expected.
    pub fn expected(&self) -> String {
        match &self.problem {
            Problem::NoKernel { .. } => "an operation that int8 has".to_owned(),
            Problem::ZeroChannels { .. } => "weights that compute something".to_owned(),
            Problem::UnevenChannels { .. } => format!("less than {UNEVEN:.0} times"),
            Problem::DeadRange { .. } => "values that differ".to_owned(),
            Problem::NoData => "a value at least".to_owned(),
            Problem::Normalization { .. } => {
                format!(
                    "less than {FAR:.0} standard deviation, and from 1/{SPREAD:.0} to {SPREAD:.0} times the variance"
                )
            }
            Problem::FusionMoved { .. } => format!("{FUSION_TOLERANCE:e} at most"),
            Problem::TiedClasses { .. } => format!("at most one image in {TIED}"),
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match &self.problem {
            Problem::NoKernel { remedy, .. } => remedy,
            Problem::ZeroChannels { .. } => {
                "the channels are dead, in float too: int8 loses nothing, but check that these are the trained weights"
            }
            Problem::UnevenChannels { .. } => {
                "give each channel its scale (weights per channel), or leave the layer in float"
            }
            Problem::DeadRange { .. } => "check the weights before it and the images, or leave the layer in float",
            Problem::NoData => "calibrate with at least one image",
            Problem::Normalization { .. } => {
                "normalize the images as in training (mean and standard deviation), or check that these are its images"
            }
            Problem::FusionMoved { relative } if relative.is_nan() => {
                "the weights are damaged, in float too: load others or train again"
            }
            Problem::FusionMoved { .. } => {
                "switch its fusion off, or look for a batch norm whose running variance is nearly zero"
            }
            Problem::TiedClasses { .. } => "leave this layer in float, which costs few bytes",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node `{}`: {}; expected {}: {}", self.node, self.found(), self.expected(), self.remedy())
    }
}

impl PrepareReport {
    /// The nodes that stay in float though nobody chose so.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for node in &self.float {
            match node.why {
                WhyFloat::NoKernel(remedy) => warnings
                    .push(Warning { node: node.node.clone(), problem: Problem::NoKernel { op: node.op, remedy } }),
                WhyFloat::Chosen | WhyFloat::Input => {}
            }
        }
        warnings
    }
}

impl Observers {
    /// Observers that saw nothing, or one value alone.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (node, spec, range) in self.each() {
            let problem = match range {
                None => Problem::NoData,
                Some(range) if range.qparams(spec).scale <= EPS => {
                    Problem::DeadRange { min: range.min, max: range.max }
                }
                Some(_) => continue,
            };
            warnings.push(Warning { node: node.to_owned(), problem });
        }
        warnings
    }
}

/// Where fusing moved the logits further than rounding does; `relative` is the largest difference over the largest logit.
pub fn fusion_warning(fused: &Graph, relative: f32) -> Option<Warning> {
    // Not a number is no proof either.
    let proved = relative <= FUSION_TOLERANCE;
    let node = fused.node(fused.output()).name.clone();
    (!proved).then_some(Warning { node, problem: Problem::FusionMoved { relative } })
}

/// Where the logits' levels are too wide: `tied` of `of` images have two classes with the largest logit. `None` where the
/// last layer is left in float.
pub fn tie_warning(int8: &Graph, tied: usize, of: usize) -> Option<Warning> {
    let stub = int8.node(int8.output());
    let layer = int8.node(*stub.inputs.first()?);
    let scale = layer.numeric.qparams()?.scale;
    (tied * TIED > of).then(|| Warning { node: layer.name.clone(), problem: Problem::TiedClasses { tied, of, scale } })
}

/// Layers with dead channels, or with channels too different for one scale, in a graph whose batch norms are folded.
pub fn weight_warnings(fused: &Graph, config: &QConfig) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for node in &fused.nodes {
        let (Some(Weight::Float(weight)), Some(spec)) = (node.op.weight(), config.weight_of(&node.name)) else {
            continue;
        };
        let per_tensor = spec.observer == ObserverKind::MinMax;
        warnings.extend(problems(weight, per_tensor).map(|problem| Warning { node: node.name.clone(), problem }));
    }
    warnings
}

fn problems(weight: &Tensor, per_tensor: bool) -> impl Iterator<Item = Problem> {
    let of = weight.shape[0];
    let channels = weight.data.chunks_exact((weight.len() / of).max(1));
    let largest: Vec<f32> = channels.map(|c| c.iter().fold(0.0_f32, |m, w| m.max(w.abs()))).collect();
    let zero: Vec<usize> = (0..of).filter(|c| largest[*c] == 0.0).collect();
    let alive = (0..of).filter(|c| largest[*c] > 0.0);
    let widest = alive.clone().max_by(|a, b| largest[*a].total_cmp(&largest[*b]));
    let narrowest = alive.min_by(|a, b| largest[*a].total_cmp(&largest[*b]));
    let uneven = widest.zip(narrowest).and_then(|(widest, narrowest)| {
        let ratio = largest[widest] / largest[narrowest];
        (per_tensor && ratio >= UNEVEN).then_some(Problem::UnevenChannels { ratio, widest, narrowest })
    });
    let zero = (!zero.is_empty()).then_some(Problem::ZeroChannels { channels: zero, of });
    zero.into_iter().chain(uneven)
}

/// Whether the batch norm `node` reads what it read in training: `mean` and `variance` are those of its input's channels
/// on a few images. Its running statistics remember the training images, so images that are normalized otherwise show.
pub fn normalization_warning(node: &str, norm: &BatchNorm2d, mean: &[f32], variance: &[f32]) -> Option<Warning> {
    let running = norm.running_mean.data.iter().zip(norm.running_var.data.iter());
    let (mut shifts, mut spreads) = (Vec::new(), Vec::new());
    for ((mean, variance), (running_mean, running_var)) in mean.iter().zip(variance).zip(running) {
        // A channel that never varied says nothing.
        if *running_var > norm.eps {
            shifts.push((mean - running_mean).abs() / running_var.sqrt());
            spreads.push(variance / running_var);
        }
    }
    let (shift, spread) = (median(shifts)?, median(spreads)?);
    let normal = shift < FAR && (1.0 / SPREAD..SPREAD).contains(&spread);
    (!normal).then(|| Warning { node: node.to_owned(), problem: Problem::Normalization { shift, spread } })
}

fn median(mut values: Vec<f32>) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied()
}
