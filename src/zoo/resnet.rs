//! ResNet, as `torchvision/models/resnet.py` and its quantizable twin.

use crate::graph::{Activation, Builder, ConvSpec, Graph, NodeId, Op, Shape};

const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

#[derive(Clone, Copy)]
pub(super) enum Block {
    Basic,
    Bottleneck,
}

impl Block {
    /// How many times wider a block's output is than its 3x3 convolution.
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

pub(super) fn build(name: &str, input: Shape, classes: usize, block: Block, repeats: [usize; 4]) -> Graph {
    let (mut b, x) = Builder::new(name, input);
    let x = b.conv("conv1", x, ConvSpec::new(64, 7).stride(2));
    let x = b.bn("bn1", x, EPS, MOMENTUM);
    let x = b.act("relu", x, Activation::Relu);
    let mut x = b.max_pool("maxpool", x);
    for (stage, (repeats, width)) in repeats.into_iter().zip([64, 128, 256, 512]).enumerate() {
        for i in 0..repeats {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let path = format!("layer{}.{i}", stage + 1);
            x = match block {
                Block::Basic => basic(&mut b, &path, x, width, stride),
                Block::Bottleneck => bottleneck(&mut b, &path, x, width, stride),
            };
        }
    }
    let x = b.push("avgpool", Op::AdaptiveAvgPool2d, &[x]);
    let x = b.push("flatten", Op::Flatten, &[x]);
    b.linear("fc", x, classes);
    b.finish()
}

fn basic(b: &mut Builder, path: &str, x: NodeId, width: usize, stride: usize) -> NodeId {
    let y = conv_bn(b, path, 1, x, ConvSpec::new(width, 3).stride(stride));
    let y = b.act(format!("{path}.relu"), y, Activation::Relu);
    let y = conv_bn(b, path, 2, y, ConvSpec::new(width, 3));
    let skip = shortcut(b, path, x, width * Block::Basic.expansion(), stride);
    b.push(format!("{path}.add_relu"), Op::Add { relu: true }, &[y, skip])
}

fn bottleneck(b: &mut Builder, path: &str, x: NodeId, width: usize, stride: usize) -> NodeId {
    let out = width * Block::Bottleneck.expansion();
    let y = conv_bn(b, path, 1, x, ConvSpec::new(width, 1));
    let y = b.act(format!("{path}.relu1"), y, Activation::Relu);
    let y = conv_bn(b, path, 2, y, ConvSpec::new(width, 3).stride(stride));
    let y = b.act(format!("{path}.relu2"), y, Activation::Relu);
    let y = conv_bn(b, path, 3, y, ConvSpec::new(out, 1));
    let skip = shortcut(b, path, x, out, stride);
    b.push(format!("{path}.skip_add_relu"), Op::Add { relu: true }, &[y, skip])
}

fn conv_bn(b: &mut Builder, path: &str, index: usize, x: NodeId, spec: ConvSpec) -> NodeId {
    let y = b.conv(format!("{path}.conv{index}"), x, spec);
    b.bn(format!("{path}.bn{index}"), y, EPS, MOMENTUM)
}

fn shortcut(b: &mut Builder, path: &str, x: NodeId, out: usize, stride: usize) -> NodeId {
    if stride == 1 && b.channels(x) == out {
        return x;
    }
    let y = b.conv(format!("{path}.downsample.0"), x, ConvSpec::new(out, 1).stride(stride));
    b.bn(format!("{path}.downsample.1"), y, EPS, MOMENTUM)
}
