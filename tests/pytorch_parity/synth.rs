//! Synthetic numbers that anyone can make again from a name: FNV-1a seeds SplitMix64.

use std::collections::HashMap;

use octet::graph::{Graph, Tensor};

/// `count` numbers in [0, 1), multiples of 2^-24.
pub fn uniform(name: &str, seed: u64, count: usize) -> impl Iterator<Item = f64> + use<> {
    let start =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
            ^ seed;
    (1..=count as u64).map(move |i| {
        let mut z = start.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / (1u64 << 24) as f64
    })
}

/// `count` synthetic values of normalized images, within -2..2.
pub fn images(name: &str, seed: u64, count: usize) -> Vec<f32> {
    uniform(name, seed, count).map(|u| ((2.0 * u - 1.0) * 2.0) as f32).collect()
}

/// The graph with synthetic values for all its parameters, by their state-dict keys.
pub fn weights(graph: &Graph, seed: u64) -> Graph {
    let values: HashMap<String, Tensor> = graph
        .params()
        .iter()
        .map(|param| {
            let key = graph.key(param);
            let tensor = parameter(&key, seed, &param.tensor.shape);
            (key, tensor)
        })
        .collect();
    graph.with_params(&values)
}

pub fn parameter(key: &str, seed: u64, shape: &[usize]) -> Tensor {
    let part = key.rsplit('.').next().expect("a key has a last part");
    let fan_in: usize = shape[1..].iter().product();
    let value = |u: f64| match (part, shape.len()) {
        ("running_mean", _) => (2.0 * u - 1.0) * 0.2,
        ("running_var", _) => 0.5 + u,
        ("weight", 1) => 0.5 + 0.5 * u,
        ("weight", _) => (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt(),
        ("bias", _) => (2.0 * u - 1.0) * 0.1,
        _ => panic!("{key}: not a parameter of the golden models"),
    };
    let data: Vec<f32> = uniform(key, seed, shape.iter().product()).map(|u| value(u) as f32).collect();
    Tensor::new(shape, data)
}
