//! ShuffleNetV2, as `torchvision/models/shufflenetv2.py` and its quantizable twin.

use crate::graph::{Activation, Builder, ConvSpec, Graph, NodeId, Op, Shape};

const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

pub(super) fn build(name: &str, input: Shape, classes: usize, channels: [usize; 5]) -> Graph {
    let (mut b, x) = Builder::new(name, input);
    let x = conv_bn_relu(&mut b, "conv1", 0, x, ConvSpec::new(channels[0], 3).stride(2));
    let mut x = b.max_pool("maxpool", x);
    for (stage, (repeats, out)) in [4, 8, 4].into_iter().zip(&channels[1..4]).enumerate() {
        let path = format!("stage{}", stage + 2);
        x = downsampling_unit(&mut b, &format!("{path}.0"), x, *out);
        for i in 1..repeats {
            x = unit(&mut b, &format!("{path}.{i}"), x, *out);
        }
    }
    let x = conv_bn_relu(&mut b, "conv5", 0, x, ConvSpec::new(channels[4], 1));
    let x = b.push("mean", Op::MeanHw, &[x]);
    b.linear("fc", x, classes);
    b.finish()
}

/// Both branches see the whole input and halve its height and width.
fn downsampling_unit(b: &mut Builder, path: &str, x: NodeId, out: usize) -> NodeId {
    let left = format!("{path}.branch1");
    let spec = ConvSpec::new(b.channels(x), 3).stride(2).depthwise();
    let y = conv_bn(b, &left, 0, x, spec);
    let y = conv_bn_relu(b, &left, 2, y, ConvSpec::new(out / 2, 1));
    let z = branch2(b, path, x, out / 2, 2);
    join(b, path, y, z)
}

/// One half of the channels passes by, the other goes through the branch.
fn unit(b: &mut Builder, path: &str, x: NodeId, out: usize) -> NodeId {
    let y = b.push(format!("{path}.x1"), Op::Chunk { index: 0, chunks: 2 }, &[x]);
    let z = b.push(format!("{path}.x2"), Op::Chunk { index: 1, chunks: 2 }, &[x]);
    let z = branch2(b, path, z, out / 2, 1);
    join(b, path, y, z)
}

fn branch2(b: &mut Builder, path: &str, x: NodeId, width: usize, stride: usize) -> NodeId {
    let path = format!("{path}.branch2");
    let y = conv_bn_relu(b, &path, 0, x, ConvSpec::new(width, 1));
    let y = conv_bn(b, &path, 3, y, ConvSpec::new(width, 3).stride(stride).depthwise());
    conv_bn_relu(b, &path, 5, y, ConvSpec::new(width, 1))
}

fn join(b: &mut Builder, path: &str, y: NodeId, z: NodeId) -> NodeId {
    let x = b.push(format!("{path}.cat"), Op::Cat, &[y, z]);
    b.push(format!("{path}.channel_shuffle"), Op::ChannelShuffle { groups: 2 }, &[x])
}

/// Members `index` and `index + 1` of the `Sequential` at `path`.
fn conv_bn(b: &mut Builder, path: &str, index: usize, x: NodeId, spec: ConvSpec) -> NodeId {
    let y = b.conv(format!("{path}.{index}"), x, spec);
    b.bn(format!("{path}.{}", index + 1), y, EPS, MOMENTUM)
}

fn conv_bn_relu(b: &mut Builder, path: &str, index: usize, x: NodeId, spec: ConvSpec) -> NodeId {
    let y = conv_bn(b, path, index, x, spec);
    b.act(format!("{path}.{}", index + 2), y, Activation::Relu)
}
