//! MobileNetV3, as `torchvision/models/mobilenetv3.py` and its quantizable twin.

use crate::graph::{
    Activation::{self, Hardsigmoid, Hardswish, Relu},
    Builder, ConvSpec, Graph, NodeId, Op, Shape,
};

const EPS: f32 = 1e-3;
const MOMENTUM: f32 = 0.01;

/// One inverted residual: kernel, expanded channels, output channels, squeeze-excitation, activation, stride.
type Block = (usize, usize, usize, bool, Activation, usize);

pub(super) struct Setting {
    blocks: &'static [Block],
    hidden: usize,
}

pub(super) static SMALL: Setting = Setting {
    blocks: &[
        (3, 16, 16, true, Relu, 2),
        (3, 72, 24, false, Relu, 2),
        (3, 88, 24, false, Relu, 1),
        (5, 96, 40, true, Hardswish, 2),
        (5, 240, 40, true, Hardswish, 1),
        (5, 240, 40, true, Hardswish, 1),
        (5, 120, 48, true, Hardswish, 1),
        (5, 144, 48, true, Hardswish, 1),
        (5, 288, 96, true, Hardswish, 2),
        (5, 576, 96, true, Hardswish, 1),
        (5, 576, 96, true, Hardswish, 1),
    ],
    hidden: 1024,
};

pub(super) static LARGE: Setting = Setting {
    blocks: &[
        (3, 16, 16, false, Relu, 1),
        (3, 64, 24, false, Relu, 2),
        (3, 72, 24, false, Relu, 1),
        (5, 72, 40, true, Relu, 2),
        (5, 120, 40, true, Relu, 1),
        (5, 120, 40, true, Relu, 1),
        (3, 240, 80, false, Hardswish, 2),
        (3, 200, 80, false, Hardswish, 1),
        (3, 184, 80, false, Hardswish, 1),
        (3, 184, 80, false, Hardswish, 1),
        (3, 480, 112, true, Hardswish, 1),
        (3, 672, 112, true, Hardswish, 1),
        (5, 672, 160, true, Hardswish, 2),
        (5, 960, 160, true, Hardswish, 1),
        (5, 960, 160, true, Hardswish, 1),
    ],
    hidden: 1280,
};

pub(super) fn build(name: &str, input: Shape, classes: usize, setting: &Setting) -> Graph {
    let (mut b, x) = Builder::new(name, input);
    let mut x = conv_bn_act(&mut b, "features.0", x, ConvSpec::new(16, 3).stride(2), Some(Hardswish));
    for (i, block) in setting.blocks.iter().enumerate() {
        x = inverted_residual(&mut b, &format!("features.{}", i + 1), x, *block);
    }
    let last = format!("features.{}", setting.blocks.len() + 1);
    let spec = ConvSpec::new(6 * b.channels(x), 1);
    let x = conv_bn_act(&mut b, &last, x, spec, Some(Hardswish));
    let x = b.push("avgpool", Op::AdaptiveAvgPool2d, &[x]);
    let x = b.push("flatten", Op::Flatten, &[x]);
    let x = b.linear("classifier.0", x, setting.hidden);
    let x = b.act("classifier.1", x, Hardswish);
    let x = b.push("classifier.2", Op::Dropout { p: 0.2 }, &[x]);
    b.linear("classifier.3", x, classes);
    b.finish()
}

fn inverted_residual(b: &mut Builder, path: &str, x: NodeId, block: Block) -> NodeId {
    let (kernel, expanded, out, excite, activation, stride) = block;
    let inside = format!("{path}.block");
    let mut member = 0;
    let mut next = || {
        member += 1;
        format!("{inside}.{}", member - 1)
    };
    let mut y = x;
    if expanded != b.channels(x) {
        y = conv_bn_act(b, &next(), y, ConvSpec::new(expanded, 1), Some(activation));
    }
    let spec = ConvSpec::new(expanded, kernel).stride(stride).depthwise();
    y = conv_bn_act(b, &next(), y, spec, Some(activation));
    if excite {
        y = squeeze_excitation(b, &next(), y);
    }
    y = conv_bn_act(b, &next(), y, ConvSpec::new(out, 1), None);
    if stride == 1 && b.channels(x) == out {
        y = b.push(format!("{path}.skip_add"), Op::Add { relu: false }, &[x, y]);
    }
    y
}

fn squeeze_excitation(b: &mut Builder, path: &str, x: NodeId) -> NodeId {
    let channels = b.channels(x);
    let y = b.push(format!("{path}.avgpool"), Op::AdaptiveAvgPool2d, &[x]);
    let y = b.conv(format!("{path}.fc1"), y, ConvSpec::new(divisible_by_8(channels / 4), 1).bias());
    let y = b.act(format!("{path}.activation"), y, Relu);
    let y = b.conv(format!("{path}.fc2"), y, ConvSpec::new(channels, 1).bias());
    let y = b.act(format!("{path}.scale_activation"), y, Hardsigmoid);
    b.push(format!("{path}.skip_mul"), Op::Mul, &[x, y])
}

/// torchvision's `_make_divisible(v, 8)`: to the nearest multiple of 8, never losing more than a tenth.
fn divisible_by_8(v: usize) -> usize {
    let rounded = ((v + 4) / 8 * 8).max(8);
    if rounded * 10 < v * 9 { rounded + 8 } else { rounded }
}

fn conv_bn_act(b: &mut Builder, path: &str, x: NodeId, spec: ConvSpec, activation: Option<Activation>) -> NodeId {
    let y = b.conv(format!("{path}.0"), x, spec);
    let y = b.bn(format!("{path}.1"), y, EPS, MOMENTUM);
    match activation {
        Some(a) => b.act(format!("{path}.2"), y, a),
        None => y,
    }
}
