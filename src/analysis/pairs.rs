use crate::graph::{Graph, Node, NodeId, Op, QTensor, Shape, Weight};

/// Which products an engine adds in pairs: `vpmaddubsw` adds those of neighbouring bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// Input channels 2i and 2i + 1 of a tap, as NHWC engines lay out a window.
    Channels,
    /// Taps 2i and 2i + 1 of a channel, row by row: a depthwise convolution has one channel a filter.
    Taps,
}

impl Neighbours {
    /// As a table says it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Taps => "taps",
        }
    }
}

/// An int8 layer as a list of filters over windows.
///
/// A filter's bytes lie tap by tap (row-major), the channels of its group innermost; byte 2i and byte 2i + 1 are a pair,
/// and a last byte without a neighbour is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filters<'a> {
    pub weight: &'a QTensor,
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: usize,
    /// Of the node whose levels it reads.
    pub input: NodeId,
    pub from: Shape,
    pub to: Shape,
}

impl<'a> Filters<'a> {
    /// The filters of a convolution or linear layer; `None` for other nodes and for layers left in float.
    pub fn of(graph: &Graph, node: &'a Node) -> Option<Self> {
        let Weight::Int8(weight) = node.op.weight()? else { return None };
        let input = *node.inputs.first()?;
        let (groups, kernel, stride, padding) = match &node.op {
            Op::Conv2d(conv) => (conv.groups, conv.kernel(), conv.stride, conv.padding),
            _ => (1, [1, 1], 1, 0),
        };
        Some(Self { weight, groups, kernel, stride, padding, input, from: graph.node(input).shape, to: node.shape })
    }

    pub fn neighbours(&self) -> Neighbours {
        if self.channels() == 1 && self.taps() > 1 { Neighbours::Taps } else { Neighbours::Channels }
    }

    /// Input channels of a group.
    pub fn channels(&self) -> usize {
        self.weight.shape[1]
    }

    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Output channels of a group.
    pub fn outputs(&self) -> usize {
        self.weight.shape[0] / self.groups
    }

    /// Pairs of a filter.
    pub fn pairs(&self) -> usize {
        self.channels() * self.taps() / 2
    }

    /// Tap and channel of byte `k` of a filter.
    pub fn place(&self, k: usize) -> (usize, usize) {
        (k / self.channels(), k % self.channels())
    }

    /// The two weights of pair `pair` of the filter of output channel `output`.
    pub fn weights(&self, output: usize, pair: usize) -> [i32; 2] {
        let filter = &self.weight.data[output * self.channels() * self.taps()..];
        [2 * pair, 2 * pair + 1].map(|k| {
            let (tap, channel) = self.place(k);
            i32::from(filter[channel * self.taps() + tap])
        })
    }
}
