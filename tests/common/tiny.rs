use octet::graph::{Activation, Builder, ConvSpec, Graph, Op, Shape};
use octet::quant;

/// The network of `tests/fixtures/make_quantized.py`, between stubs.
pub fn tiny() -> Graph {
    let (mut b, x) = Builder::new("tiny", Shape::new(3, 7, 7));
    let x = b.conv("conv1", x, ConvSpec::new(8, 3));
    let x = b.bn("bn1", x, 1e-5, 0.1);
    let x = b.act("relu", x, Activation::Relu);
    let y = b.conv("conv2", x, ConvSpec::new(8, 3).depthwise());
    let y = b.bn("bn2", y, 1e-5, 0.1);
    let x = b.push("add", Op::Add { relu: false }, &[x, y]);
    let x = b.push("mean", Op::MeanHw, &[x]);
    b.linear("fc", x, 5);
    quant::insert_stubs(&b.finish()).expect("a float graph").0
}
