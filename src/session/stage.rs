use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Measured, Method, Opened};
use crate::graph::{FakeQuants, Graph, Numeric};
use crate::quant::{ConvertReport, FuseReport, Observers, PrepareReport, StubsReport, Study, Warning};

/// The six steps, in order. Quantization-aware training has training with fake quantization in the place of calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Load a model and insert QuantStub and DeQuantStub.
    Stubs,
    /// Train, or load trained weights.
    Weights,
    /// Fold batch norm and ReLU into the layer before.
    Fuse,
    /// Put observers on the graph.
    Prepare,
    /// Run images and watch the ranges, or train with fake quantization.
    Calibrate,
    /// To int8, saved, reloaded and measured.
    Convert,
}

impl Step {
    /// All, in order.
    pub const ALL: [Self; 6] = [Self::Stubs, Self::Weights, Self::Fuse, Self::Prepare, Self::Calibrate, Self::Convert];

    /// As the rail names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Stubs => "Stubs",
            Self::Weights => "Weights",
            Self::Fuse => "Fuse",
            Self::Prepare => "Prepare",
            Self::Calibrate => "Calibrate",
            Self::Convert => "Convert",
        }
    }

    /// The same of a method.
    pub fn title_in(self, method: &Method) -> &'static str {
        match (self, method) {
            (Self::Calibrate, Method::Qat(_)) => "Train",
            (_, Method::Ptq | Method::Qat(_)) => self.title(),
        }
    }

    /// Position, from 0.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Where the weights of a run came from; said wherever its accuracy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsOrigin {
    /// Shipped with Octet.
    Shipped,
    /// Read from a file.
    File(PathBuf),
    /// Read from a file but for its head: the last layer is random until it is trained.
    WithoutHead(PathBuf),
    /// Trained in this session, perhaps stopped early.
    Trained {
        /// Epochs that were completed.
        epochs: usize,
        /// Whether it was cancelled.
        stopped: bool,
    },
}

/// What fusing did to the model's output on real images: it should be rounding alone.
#[derive(Clone, Debug, PartialEq)]
pub struct FusionProof {
    /// Images compared.
    pub images: usize,
    /// Largest difference of a logit.
    pub max_abs: f32,
    /// The same over the largest logit. Not a number where a logit was not: then nothing is proved.
    pub relative: f32,
    /// Every site, in the order of the report.
    pub sites: Vec<SiteProof>,
}

/// How far fusing moved the output of one site: of its fused node, from that of the last node that it replaces. What went
/// before it moved a little too.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteProof {
    /// The fused node.
    pub name: String,
    /// Largest difference of a value.
    pub max_abs: f32,
    /// The same over the largest value.
    pub relative: f32,
}

/// What fake quantization says of a qconfig that is for study.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StudyResult {
    /// Why it is one.
    pub study: Study,
    /// Accuracy of the fake-quantized model on held-out images, where labels allow.
    pub accuracy: Option<f64>,
}

/// What fake quantization says of a model that was trained with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QatResult {
    /// Accuracy of the fake-quantized model on held-out images, where labels allow.
    pub accuracy: Option<f64>,
    /// Epochs of training with fake quantization.
    pub epochs: usize,
    /// Accuracy of the int8 model that PyTorch's conversion makes of the same training, which clamps activations at 255
    /// though they were trained to 127, and has other grids for weights; once it was measured, and where it differs.
    pub as_pytorch: Option<f64>,
}

/// What exists after each step. Graphs and parameters are shared, so a history of stages copies nothing.
#[derive(Clone, Debug)]
pub enum Stage {
    /// A model was picked and its data opened; the weights are random.
    Opened {
        /// Data, labels, preprocessing.
        opened: Arc<Opened>,
        /// The float graph.
        graph: Arc<Graph>,
    },
    /// Stubs inserted.
    Stubbed {
        /// Data, labels, preprocessing.
        opened: Arc<Opened>,
        /// With stubs.
        graph: Arc<Graph>,
        /// What was inserted.
        report: Arc<StubsReport>,
    },
    /// Weights loaded or trained.
    Weighted {
        /// Data, labels, preprocessing.
        opened: Arc<Opened>,
        /// With weights.
        graph: Arc<Graph>,
        /// Where they came from.
        origin: WeightsOrigin,
        /// Accuracy on held-out images, where labels allow.
        accuracy: Option<f64>,
    },
    /// Layers fused.
    Fused {
        /// As weighted.
        before: Arc<Weighted>,
        /// Fused.
        graph: Arc<Graph>,
        /// Sites and refusals.
        report: Arc<FuseReport>,
        /// That it changed nothing.
        proof: FusionProof,
        /// That it changed something after all.
        warnings: Vec<Warning>,
    },
    /// Observers placed.
    Prepared {
        /// As weighted.
        before: Arc<Weighted>,
        /// Observed.
        graph: Arc<Graph>,
        /// What is observed.
        report: Arc<PrepareReport>,
        /// What the graph and a few images say against going on.
        warnings: Vec<Warning>,
    },
    /// Observers have seen images.
    Calibrated {
        /// As weighted.
        before: Arc<Weighted>,
        /// Observed.
        graph: Arc<Graph>,
        /// With their ranges.
        observers: Arc<Observers>,
        /// Images seen.
        images: usize,
        /// What the observers say against going on.
        warnings: Vec<Warning>,
    },
    /// Trained with fake quantization.
    Trained {
        /// As weighted.
        before: Arc<Weighted>,
        /// In the QAT form, trained.
        graph: Arc<Graph>,
        /// The ranges that it learnt.
        fake_quants: Arc<FakeQuants>,
        /// Fake-quantized accuracy on held-out images, where labels allow.
        accuracy: Option<f64>,
        /// Epochs that were completed.
        epochs: usize,
        /// Whether it was cancelled.
        stopped: bool,
    },
    /// Converted to int8, not yet saved.
    Converted {
        /// As weighted.
        before: Arc<Weighted>,
        /// int8; fake-quantized where the study is of what int8 has not.
        graph: Arc<Graph>,
        /// Layer by layer.
        report: Arc<ConvertReport>,
        /// Where the qconfig is for study.
        study: Option<StudyResult>,
        /// Where it was trained with fake quantization.
        qat: Option<QatResult>,
    },
    /// Saved, reloaded from the file and measured.
    Saved {
        /// As weighted.
        before: Arc<Weighted>,
        /// int8, as read back.
        graph: Arc<Graph>,
        /// Layer by layer.
        report: Arc<ConvertReport>,
        /// Where the qconfig is for study.
        study: Option<StudyResult>,
        /// Where it was trained with fake quantization.
        qat: Option<QatResult>,
        /// The figures.
        measured: Arc<Measured>,
        /// What they say against using it.
        warnings: Vec<Warning>,
    },
}

/// The float model that every later step goes back to.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// Data, labels, preprocessing.
    pub opened: Arc<Opened>,
    /// With stubs and weights, not fused.
    pub graph: Arc<Graph>,
    /// Accuracy on held-out images, where labels allow.
    pub accuracy: Option<f64>,
}

impl Stage {
    /// The newest graph.
    pub fn graph(&self) -> &Arc<Graph> {
        match self {
            Self::Opened { graph, .. }
            | Self::Stubbed { graph, .. }
            | Self::Weighted { graph, .. }
            | Self::Fused { graph, .. }
            | Self::Prepared { graph, .. }
            | Self::Calibrated { graph, .. }
            | Self::Trained { graph, .. }
            | Self::Converted { graph, .. }
            | Self::Saved { graph, .. } => graph,
        }
    }

    /// The data it works on.
    pub fn opened(&self) -> &Arc<Opened> {
        match self {
            Self::Opened { opened, .. } | Self::Stubbed { opened, .. } | Self::Weighted { opened, .. } => opened,
            Self::Fused { before, .. }
            | Self::Prepared { before, .. }
            | Self::Calibrated { before, .. }
            | Self::Trained { before, .. }
            | Self::Converted { before, .. }
            | Self::Saved { before, .. } => &before.opened,
        }
    }

    /// What a user should know before he goes on.
    pub fn warnings(&self) -> &[Warning] {
        match self {
            Self::Fused { warnings, .. }
            | Self::Prepared { warnings, .. }
            | Self::Calibrated { warnings, .. }
            | Self::Saved { warnings, .. } => warnings,
            Self::Opened { .. }
            | Self::Stubbed { .. }
            | Self::Weighted { .. }
            | Self::Trained { .. }
            | Self::Converted { .. } => &[],
        }
    }

    /// Whether it was converted to what has no int8 file.
    pub fn is_study_alone(&self) -> bool {
        match self {
            Self::Converted { study, .. } => study.is_some_and(|s| s.study == Study::AffineWeights),
            Self::Opened { .. }
            | Self::Stubbed { .. }
            | Self::Weighted { .. }
            | Self::Fused { .. }
            | Self::Prepared { .. }
            | Self::Calibrated { .. }
            | Self::Trained { .. }
            | Self::Saved { .. } => false,
        }
    }

    /// Whether it is to be trained with fake quantization, or was.
    pub fn is_qat(&self) -> bool {
        match self {
            Self::Prepared { graph, .. } => graph.nodes.iter().any(|n| matches!(n.numeric, Numeric::Learned(_))),
            Self::Trained { .. } => true,
            Self::Converted { qat, .. } | Self::Saved { qat, .. } => qat.is_some(),
            Self::Opened { .. }
            | Self::Stubbed { .. }
            | Self::Weighted { .. }
            | Self::Fused { .. }
            | Self::Calibrated { .. } => false,
        }
    }

    /// Whether the last layer is still random: the weights came without it.
    pub fn has_untrained_head(&self) -> bool {
        matches!(self, Self::Weighted { origin: WeightsOrigin::WithoutHead(_), .. })
    }

    /// How the step that it ends is called; `None` before the first.
    pub fn title(&self) -> Option<&'static str> {
        match self {
            Self::Trained { .. } => Some("Train"),
            Self::Opened { .. }
            | Self::Stubbed { .. }
            | Self::Weighted { .. }
            | Self::Fused { .. }
            | Self::Prepared { .. }
            | Self::Calibrated { .. }
            | Self::Converted { .. }
            | Self::Saved { .. } => self.done().map(Step::title),
        }
    }

    /// The last step that is done; `None` before the first.
    pub fn done(&self) -> Option<Step> {
        match self {
            Self::Opened { .. } => None,
            Self::Stubbed { .. } => Some(Step::Stubs),
            Self::Weighted { .. } => Some(Step::Weights),
            Self::Fused { .. } => Some(Step::Fuse),
            Self::Prepared { .. } => Some(Step::Prepare),
            Self::Calibrated { .. } | Self::Trained { .. } => Some(Step::Calibrate),
            Self::Converted { .. } | Self::Saved { .. } => Some(Step::Convert),
        }
    }
}
