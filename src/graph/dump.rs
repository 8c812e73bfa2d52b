use std::fmt::{self, Write as _};

use super::{Graph, Node, Numeric, Op, Scheme};

/// One line a node: name, operation, inputs, shape, numbers. For tests, logs and `octet inspect`.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} -> {}", self.name, self.input_shape(), self.classes())?;
        for node in &self.nodes {
            let inputs: Vec<&str> = node.inputs.iter().map(|i| self.node(*i).name.as_str()).collect();
            writeln!(f, "{} = {}({}) {}{}", node.name, describe(node), inputs.join(", "), node.shape, numeric(node))?;
        }
        Ok(())
    }
}

fn describe(node: &Node) -> String {
    let mut text = node.op.name().to_owned();
    match &node.op {
        Op::Conv2d(c) => {
            let [h, w] = c.kernel();
            let _ = write!(text, " {h}x{w}");
            if c.stride != 1 {
                let _ = write!(text, " s{}", c.stride);
            }
            if c.padding != 0 {
                let _ = write!(text, " p{}", c.padding);
            }
            if c.groups != 1 {
                let _ = write!(text, " g{}", c.groups);
            }
        }
        Op::MaxPool2d(p) => {
            let _ = write!(text, " {0}x{0} s{1} p{2}", p.kernel, p.stride, p.padding);
        }
        Op::Chunk { index, chunks } => {
            let _ = write!(text, " {index}/{chunks}");
        }
        Op::ChannelShuffle { groups } => {
            let _ = write!(text, " {groups}");
        }
        Op::Dropout { p } | Op::StochasticDepth { p } => {
            let _ = write!(text, " {p}");
        }
        Op::Input
        | Op::QuantStub
        | Op::DeQuantStub
        | Op::BatchNorm2d(_)
        | Op::Linear(_)
        | Op::Activation(_)
        | Op::AdaptiveAvgPool2d
        | Op::MeanHw
        | Op::Add { .. }
        | Op::Mul
        | Op::Cat
        | Op::Flatten => {}
    }
    text
}

fn numeric(node: &Node) -> String {
    match node.numeric {
        Numeric::Float => String::new(),
        Numeric::Observed(spec) => {
            let scheme = if spec.scheme == Scheme::Symmetric { " symmetric" } else { "" };
            format!(" observed {:?} 0..{}{scheme}", spec.observer, spec.quant_max)
        }
        Numeric::Learned(spec) => {
            let scheme = if spec.scheme == Scheme::Symmetric { " symmetric" } else { "" };
            format!(" learned 0..{}{scheme}", spec.quant_max)
        }
        Numeric::FakeQuantized(q) => {
            format!(" fake-quantized scale {:e} zero point {} of 0..{}", q.scale, q.zero_point, q.qmax)
        }
        Numeric::Int8(q) => format!(" int8 scale {:e} zero point {}", q.scale, q.zero_point),
    }
}
