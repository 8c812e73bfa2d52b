use serde::{Deserialize, Serialize};

use super::{GraphError, Shape, Tensor, Weight, WeightSpec};

/// A point-wise function, named as in `torch.nn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x * relu6(x + 3) / 6`
    Hardswish,
    /// `relu6(x + 3) / 6`
    Hardsigmoid,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x * sigmoid(x)`
    Silu,
}

impl Activation {
    /// The function itself, in float32 as PyTorch's CPU kernels compute it.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Hardswish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Hardsigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Silu => x / (1.0 + (-x).exp()),
        }
    }

    /// `torch.nn`'s class name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "ReLU",
            Self::Relu6 => "ReLU6",
            Self::Hardswish => "Hardswish",
            Self::Hardsigmoid => "Hardsigmoid",
            Self::Sigmoid => "Sigmoid",
            Self::Silu => "SiLU",
        }
    }
}

/// `torch.nn.Conv2d`, with batch norm folded in and ReLU fused once it went through `fuse`; in the QAT form batch norm
/// stands beside it instead (`ConvBn2d`, `ConvBnReLU2d`), to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// `[out, in / groups, kh, kw]`.
    pub weight: Weight,
    /// `[out]`, float32 also in an int8 model.
    pub bias: Option<Tensor>,
    /// The same in both directions.
    pub stride: usize,
    /// Zeros on each of the four sides.
    pub padding: usize,
    /// 1, or `in` for a depthwise convolution.
    pub groups: usize,
    /// Batch norm on the convolution's output, before the ReLU: in the QAT form alone.
    pub bn: Option<BatchNorm2d>,
    /// Whether a ReLU is fused behind it.
    pub relu: bool,
    /// The weight is fake-quantized on such levels in training: in the QAT form alone.
    pub fake: Option<WeightSpec>,
}

impl Conv2d {
    /// Output channels.
    pub fn out_channels(&self) -> usize {
        self.weight.shape()[0]
    }

    /// Input channels.
    pub fn in_channels(&self) -> usize {
        self.weight.shape()[1] * self.groups
    }

    /// Kernel height and width.
    pub fn kernel(&self) -> [usize; 2] {
        [self.weight.shape()[2], self.weight.shape()[3]]
    }

    /// One input and one output channel a group.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.weight.shape()[1] == 1 && self.groups == self.out_channels()
    }
}

/// `torch.nn.BatchNorm2d`; all four tensors have shape `[channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm2d {
    /// Gamma.
    pub weight: Tensor,
    /// Beta.
    pub bias: Tensor,
    /// Mean, as averaged in training.
    pub running_mean: Tensor,
    /// Variance (unbiased), as averaged in training.
    pub running_var: Tensor,
    /// Added to the variance.
    pub eps: f32,
    /// How far one batch moves the running statistics.
    pub momentum: f32,
}

/// `torch.nn.Linear`, perhaps with a ReLU fused.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Weight,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Whether a ReLU is fused behind it.
    pub relu: bool,
    /// The weight is fake-quantized on such levels in training: in the QAT form alone.
    pub fake: Option<WeightSpec>,
}

/// `torch.nn.MaxPool2d`, padded with minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxPool2d {
    /// Square window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// On each side.
    pub padding: usize,
}

/// What a node computes. The same operations stand in the float and in the int8 graph: a node's [`super::Numeric`] says
/// which of the two it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The image, normalized float32. Exactly one, the first node.
    Input,
    /// Where float becomes uint8. Identity until converted (PyTorch's `QuantStub`, then `Quantize`).
    QuantStub,
    /// Where uint8 becomes float again (`DeQuantStub`, then `DeQuantize`).
    DeQuantStub,
    /// Convolution.
    Conv2d(Conv2d),
    /// Batch normalization over channels.
    BatchNorm2d(BatchNorm2d),
    /// Fully connected layer on a flat vector.
    Linear(Linear),
    /// Point-wise function.
    Activation(Activation),
    /// Maximum over windows.
    MaxPool2d(MaxPool2d),
    /// `torch.nn.AdaptiveAvgPool2d(1)`.
    AdaptiveAvgPool2d,
    /// `x.mean([2, 3])`: the same number as the average pool, but PyTorch's int8 kernel rounds otherwise.
    MeanHw,
    /// Sum of two; `relu` is `FloatFunctional.add_relu`.
    Add {
        /// ReLU on the sum.
        relu: bool,
    },
    /// Product; the second factor may be `c` x 1 x 1 (squeeze-excitation).
    Mul,
    /// Concatenation over channels.
    Cat,
    /// Part `index` of `chunks` equal parts of the channels (`torch.chunk`).
    Chunk {
        /// Which part.
        index: usize,
        /// Of how many.
        chunks: usize,
    },
    /// ShuffleNet's channel shuffle: channel `g * (c / groups) + i` goes to `i * groups + g`.
    ChannelShuffle {
        /// How many groups are interleaved.
        groups: usize,
    },
    /// To a vector, channels first.
    Flatten,
    /// Zeroes values with probability `p` in training; identity otherwise.
    Dropout {
        /// Probability.
        p: f32,
    },
    /// Drops the whole branch of a sample with probability `p` in training (`torchvision.ops.StochasticDepth`, mode
    /// `row`); identity otherwise.
    StochasticDepth {
        /// Probability.
        p: f32,
    },
}

impl Op {
    /// A short name, PyTorch's where there is one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input => "Input",
            Self::QuantStub => "QuantStub",
            Self::DeQuantStub => "DeQuantStub",
            Self::Conv2d(c) => match (c.is_depthwise(), c.bn.is_some(), c.relu) {
                (false, false, false) => "Conv2d",
                (false, false, true) => "ConvReLU2d",
                (false, true, false) => "ConvBn2d",
                (false, true, true) => "ConvBnReLU2d",
                (true, false, false) => "Conv2d (depthwise)",
                (true, false, true) => "ConvReLU2d (depthwise)",
                (true, true, false) => "ConvBn2d (depthwise)",
                (true, true, true) => "ConvBnReLU2d (depthwise)",
            },
            Self::BatchNorm2d(_) => "BatchNorm2d",
            Self::Linear(l) => {
                if l.relu {
                    "LinearReLU"
                } else {
                    "Linear"
                }
            }
            Self::Activation(a) => a.name(),
            Self::MaxPool2d(_) => "MaxPool2d",
            Self::AdaptiveAvgPool2d => "AdaptiveAvgPool2d",
            Self::MeanHw => "Mean",
            Self::Add { relu: false } => "Add",
            Self::Add { relu: true } => "AddReLU",
            Self::Mul => "Mul",
            Self::Cat => "Cat",
            Self::Chunk { .. } => "Chunk",
            Self::ChannelShuffle { .. } => "ChannelShuffle",
            Self::Flatten => "Flatten",
            Self::Dropout { .. } => "Dropout",
            Self::StochasticDepth { .. } => "StochasticDepth",
        }
    }

    /// Weight of a convolution or linear layer.
    pub fn weight(&self) -> Option<&Weight> {
        match self {
            Self::Conv2d(c) => Some(&c.weight),
            Self::Linear(l) => Some(&l.weight),
            Self::Input
            | Self::QuantStub
            | Self::DeQuantStub
            | Self::BatchNorm2d(_)
            | Self::Activation(_)
            | Self::MaxPool2d(_)
            | Self::AdaptiveAvgPool2d
            | Self::MeanHw
            | Self::Add { .. }
            | Self::Mul
            | Self::Cat
            | Self::Chunk { .. }
            | Self::ChannelShuffle { .. }
            | Self::Flatten
            | Self::Dropout { .. }
            | Self::StochasticDepth { .. } => None,
        }
    }

    /// The batch norm of a convolution in the QAT form.
    pub fn bn(&self) -> Option<&BatchNorm2d> {
        match self {
            Self::Conv2d(c) => c.bn.as_ref(),
            Self::Linear(_)
            | Self::Input
            | Self::QuantStub
            | Self::DeQuantStub
            | Self::BatchNorm2d(_)
            | Self::Activation(_)
            | Self::MaxPool2d(_)
            | Self::AdaptiveAvgPool2d
            | Self::MeanHw
            | Self::Add { .. }
            | Self::Mul
            | Self::Cat
            | Self::Chunk { .. }
            | Self::ChannelShuffle { .. }
            | Self::Flatten
            | Self::Dropout { .. }
            | Self::StochasticDepth { .. } => None,
        }
    }

    /// The levels on which the weight is fake-quantized in training, in the QAT form.
    pub fn fake(&self) -> Option<WeightSpec> {
        match self {
            Self::Conv2d(c) => c.fake,
            Self::Linear(l) => l.fake,
            Self::Input
            | Self::QuantStub
            | Self::DeQuantStub
            | Self::BatchNorm2d(_)
            | Self::Activation(_)
            | Self::MaxPool2d(_)
            | Self::AdaptiveAvgPool2d
            | Self::MeanHw
            | Self::Add { .. }
            | Self::Mul
            | Self::Cat
            | Self::Chunk { .. }
            | Self::ChannelShuffle { .. }
            | Self::Flatten
            | Self::Dropout { .. }
            | Self::StochasticDepth { .. } => None,
        }
    }

    /// How many inputs it takes: `(least, most)`.
    pub(super) fn arity(&self) -> (usize, usize, &'static str) {
        match self {
            Self::Input => (0, 0, "none"),
            Self::Add { .. } | Self::Mul => (2, 2, "2"),
            Self::Cat => (2, usize::MAX, "2 or more"),
            Self::QuantStub
            | Self::DeQuantStub
            | Self::Conv2d(_)
            | Self::BatchNorm2d(_)
            | Self::Linear(_)
            | Self::Activation(_)
            | Self::MaxPool2d(_)
            | Self::AdaptiveAvgPool2d
            | Self::MeanHw
            | Self::Chunk { .. }
            | Self::ChannelShuffle { .. }
            | Self::Flatten
            | Self::Dropout { .. }
            | Self::StochasticDepth { .. } => (1, 1, "1"),
        }
    }

    /// Shape of the output for inputs of these shapes. `Input` has no inputs: its node's own shape is the source.
    ///
    /// # Errors
    /// [`GraphError::Shape`] naming `node`, where the shapes do not fit; [`GraphError::Arity`] for a wrong number.
    pub fn infer_shape(&self, node: &str, inputs: &[Shape]) -> Result<Shape, GraphError> {
        let (least, most, expected) = self.arity();
        if inputs.len() < least || inputs.len() > most {
            return Err(GraphError::Arity { node: node.to_owned(), op: self.name(), found: inputs.len(), expected });
        }
        let refuse = |detail: String| GraphError::Shape { node: node.to_owned(), op: self.name(), detail };
        match self {
            Self::Input => Err(refuse("an input's shape is given, not inferred".to_owned())),
            Self::QuantStub
            | Self::DeQuantStub
            | Self::Activation(_)
            | Self::Dropout { .. }
            | Self::StochasticDepth { .. } => Ok(inputs[0]),
            Self::Conv2d(c) => {
                let found = inputs[0].c;
                if found != c.in_channels() {
                    return Err(refuse(format!("found {found} input channels, expected {}", c.in_channels())));
                }
                inputs[0].windowed(c.out_channels(), c.kernel(), c.stride, c.padding).ok_or_else(|| {
                    refuse(format!("its {:?} kernel does not fit an input of {}", c.kernel(), inputs[0]))
                })
            }
            Self::BatchNorm2d(b) => {
                if inputs[0].c != b.weight.len() {
                    return Err(refuse(format!("found {} channels, expected {}", inputs[0].c, b.weight.len())));
                }
                Ok(inputs[0])
            }
            Self::Linear(l) => {
                let (found, expected) = (inputs[0], l.weight.shape()[1]);
                if found != Shape::flat(expected) {
                    return Err(refuse(format!("found an input of {found}, expected a vector of {expected}")));
                }
                Ok(Shape::flat(l.weight.shape()[0]))
            }
            Self::MaxPool2d(p) => inputs[0]
                .windowed(inputs[0].c, [p.kernel; 2], p.stride, p.padding)
                .ok_or_else(|| refuse(format!("its {0}x{0} window does not fit {1}", p.kernel, inputs[0]))),
            Self::AdaptiveAvgPool2d | Self::MeanHw => Ok(Shape::flat(inputs[0].c)),
            Self::Add { .. } => {
                if inputs[0] != inputs[1] {
                    return Err(refuse(format!("cannot add {} and {}", inputs[0], inputs[1])));
                }
                Ok(inputs[0])
            }
            Self::Mul => {
                if inputs[0] != inputs[1] && inputs[1] != Shape::flat(inputs[0].c) {
                    return Err(refuse(format!("cannot multiply {} by {}", inputs[0], inputs[1])));
                }
                Ok(inputs[0])
            }
            Self::Cat => {
                let first = inputs[0];
                if let Some(odd) = inputs.iter().find(|s| (s.h, s.w) != (first.h, first.w)) {
                    return Err(refuse(format!("cannot join {first} and {odd}")));
                }
                Ok(Shape { c: inputs.iter().map(|s| s.c).sum(), ..first })
            }
            Self::Chunk { index, chunks } => {
                if *chunks == 0 || index >= chunks || !inputs[0].c.is_multiple_of(*chunks) {
                    return Err(refuse(format!("part {index} of {chunks} of {} channels", inputs[0].c)));
                }
                Ok(Shape { c: inputs[0].c / chunks, ..inputs[0] })
            }
            Self::ChannelShuffle { groups } => {
                if *groups == 0 || !inputs[0].c.is_multiple_of(*groups) {
                    return Err(refuse(format!("{} channels in {groups} groups", inputs[0].c)));
                }
                Ok(inputs[0])
            }
            Self::Flatten => Ok(Shape::flat(inputs[0].len())),
        }
    }

    /// Multiply-accumulates of one image (convolutions and linear layers; 0 elsewhere, as is usual).
    pub fn macs(&self, output: Shape) -> u64 {
        match self.weight() {
            Some(weight) => {
                let shape = weight.shape();
                (output.len() * shape[1..].iter().product::<usize>()) as u64
            }
            None => 0,
        }
    }
}
