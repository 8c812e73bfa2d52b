//! EfficientNetV2-S, as `torchvision/models/efficientnet.py`.

use crate::graph::{
    Activation::{Sigmoid, Silu},
    Builder, ConvSpec, Graph, NodeId, Op, Shape,
};

const EPS: f32 = 1e-3;
const MOMENTUM: f32 = 0.1;
const STOCHASTIC_DEPTH: f32 = 0.2;

struct Stage {
    /// The expansion is one 3x3 convolution in place of 1x1 and depthwise.
    fused: bool,
    expand: usize,
    stride: usize,
    out: usize,
    repeats: usize,
}

const fn stage(fused: bool, expand: usize, stride: usize, out: usize, repeats: usize) -> Stage {
    Stage { fused, expand, stride, out, repeats }
}

const V2_S: [Stage; 6] = [
    stage(true, 1, 1, 24, 2),
    stage(true, 4, 2, 48, 4),
    stage(true, 4, 2, 64, 4),
    stage(false, 4, 2, 128, 6),
    stage(false, 6, 1, 160, 9),
    stage(false, 6, 2, 256, 15),
];

pub(super) fn build_v2_s(name: &str, input: Shape, classes: usize) -> Graph {
    let (mut b, x) = Builder::new(name, input);
    let mut x = conv_bn(&mut b, "features.0", x, ConvSpec::new(24, 3).stride(2), true);
    let total: usize = V2_S.iter().map(|s| s.repeats).sum();
    let mut block = 0;
    for (i, stage) in V2_S.iter().enumerate() {
        for j in 0..stage.repeats {
            let stride = if j == 0 { stage.stride } else { 1 };
            let path = format!("features.{}.{j}", i + 1);
            let p = STOCHASTIC_DEPTH * block as f32 / total as f32;
            let y = if stage.fused {
                fused_mbconv(&mut b, &path, x, stage, stride)
            } else {
                mbconv(&mut b, &path, x, stage, stride)
            };
            x = if stride == 1 && b.channels(x) == stage.out {
                let y = b.push(format!("{path}.stochastic_depth"), Op::StochasticDepth { p }, &[y]);
                b.push(format!("{path}.skip_add"), Op::Add { relu: false }, &[y, x])
            } else {
                y
            };
            block += 1;
        }
    }
    let x = conv_bn(&mut b, "features.7", x, ConvSpec::new(1280, 1), true);
    let x = b.push("avgpool", Op::AdaptiveAvgPool2d, &[x]);
    let x = b.push("flatten", Op::Flatten, &[x]);
    let x = b.push("classifier.0", Op::Dropout { p: 0.2 }, &[x]);
    b.linear("classifier.1", x, classes);
    b.finish()
}

fn fused_mbconv(b: &mut Builder, path: &str, x: NodeId, stage: &Stage, stride: usize) -> NodeId {
    if stage.expand == 1 {
        return conv_bn(b, &format!("{path}.block.0"), x, ConvSpec::new(stage.out, 3).stride(stride), true);
    }
    let expanded = b.channels(x) * stage.expand;
    let y = conv_bn(b, &format!("{path}.block.0"), x, ConvSpec::new(expanded, 3).stride(stride), true);
    conv_bn(b, &format!("{path}.block.1"), y, ConvSpec::new(stage.out, 1), false)
}

fn mbconv(b: &mut Builder, path: &str, x: NodeId, stage: &Stage, stride: usize) -> NodeId {
    let channels = b.channels(x);
    let expanded = channels * stage.expand;
    let y = conv_bn(b, &format!("{path}.block.0"), x, ConvSpec::new(expanded, 1), true);
    let spec = ConvSpec::new(expanded, 3).stride(stride).depthwise();
    let y = conv_bn(b, &format!("{path}.block.1"), y, spec, true);
    let y = squeeze_excitation(b, &format!("{path}.block.2"), y, (channels / 4).max(1));
    conv_bn(b, &format!("{path}.block.3"), y, ConvSpec::new(stage.out, 1), false)
}

fn squeeze_excitation(b: &mut Builder, path: &str, x: NodeId, squeezed: usize) -> NodeId {
    let channels = b.channels(x);
    let y = b.push(format!("{path}.avgpool"), Op::AdaptiveAvgPool2d, &[x]);
    let y = b.conv(format!("{path}.fc1"), y, ConvSpec::new(squeezed, 1).bias());
    let y = b.act(format!("{path}.activation"), y, Silu);
    let y = b.conv(format!("{path}.fc2"), y, ConvSpec::new(channels, 1).bias());
    let y = b.act(format!("{path}.scale_activation"), y, Sigmoid);
    b.push(format!("{path}.skip_mul"), Op::Mul, &[x, y])
}

fn conv_bn(b: &mut Builder, path: &str, x: NodeId, spec: ConvSpec, silu: bool) -> NodeId {
    let y = b.conv(format!("{path}.0"), x, spec);
    let y = b.bn(format!("{path}.1"), y, EPS, MOMENTUM);
    if silu { b.act(format!("{path}.2"), y, Silu) } else { y }
}
