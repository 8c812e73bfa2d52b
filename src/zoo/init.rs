use std::collections::HashMap;

use crate::graph::{Graph, Op, Tensor};

/// Fills every weight with seeded random values: He's normal initialization over the fan out for convolutions
/// (<https://arxiv.org/abs/1502.01852>), a small normal one for linear layers, zeros for biases, batch norm at the
/// identity. The same seed gives the same values on any machine.
pub fn init(graph: &Graph, seed: u64) -> Graph {
    let mut values = HashMap::new();
    for (id, node) in graph.iter() {
        let Some(weight) = node.op.weight().and_then(|w| w.float()) else { continue };
        let deviation = match &node.op {
            Op::Conv2d(c) => {
                let [h, w] = c.kernel();
                (2.0 / (c.out_channels() / c.groups * h * w) as f64).sqrt()
            }
            _ => 0.01,
        };
        let mut normal = Normal::new(seed ^ (u64::from(id.0) << 32));
        let data: Vec<f32> = (0..weight.len()).map(|_| (normal.next() * deviation) as f32).collect();
        values.insert(format!("{}.weight", node.name), Tensor::new(weight.shape.clone(), data));
    }
    graph.with_params(&values)
}

/// Standard normal numbers by Box and Muller's method over SplitMix64.
struct Normal {
    state: u64,
}

impl Normal {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}
