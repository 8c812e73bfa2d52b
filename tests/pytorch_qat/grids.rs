//! Scales and zero points from PyTorch's own ranges, bit for bit, and the weights' path.

use octet::{
    graph::{Conv2d, Graph, Linear, Numeric, Op, QatLevels, Weight},
    quant,
};
use sha2::{Digest, Sha256};

use crate::{
    compare::{equal, relative, wide},
    golden::{Network, ensure},
    network::{GO_ON, images, qat_form, text, trainable},
};

pub fn compare(golden: &Network) -> Result<(), String> {
    let graph = qat_form(golden)?;
    for prefix in ["still_", "first_", ""] {
        compare_outputs(golden, prefix, &graph)?;
    }
    compare_weight_grids(golden, &graph)?;
    compare_digests(golden, &graph)?;
    compare_first(golden, &graph)
}

/// Of the fake quantization and of int8, from the file's smallest and largest values.
fn compare_outputs(golden: &Network, prefix: &str, graph: &Graph) -> Result<(), String> {
    let state = golden.output_ranges(prefix, graph)?;
    let int8 = quant::qat_qparams(&without_weights(graph), &state, QatLevels::PyTorch).map_err(text)?;
    let of = |what: &str| golden.tensors.get(&format!("{prefix}act_{what}"));
    for (i, module) in golden.act_fake_quants.iter().enumerate() {
        let node = graph.node(graph.require(&module.module).map_err(text)?);
        let trained = match node.numeric {
            Numeric::Learned(spec) => state.activations[&node.name].activation_levels(&spec),
            Numeric::FakeQuantized(q) => q,
            other => return Err(format!("`{}` is {other:?}", module.module)),
        };
        let converted = int8.get(&node.name).copied().unwrap_or(trained);
        for (q, scale, zero_point) in
            [(trained, "scale", "zero_point"), (converted, "convert_scale", "convert_zero_point")]
        {
            let name = format!("{prefix}act_{scale} of {}", module.module);
            equal(&name, &[f64::from(q.scale)], &of(scale)?[i..=i])?;
            equal(&name, &[f64::from(q.zero_point)], &of(zero_point)?[i..=i])?;
        }
    }
    Ok(())
}

/// The file has weights' ranges of some runs only.
fn without_weights(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for node in &mut graph.nodes {
        if let Op::Conv2d(Conv2d { fake, .. }) | Op::Linear(Linear { fake, .. }) = &mut node.op {
            *fake = None;
        }
    }
    graph
}

fn compare_weight_grids(golden: &Network, graph: &Graph) -> Result<(), String> {
    let state = golden.ranges("still_", graph)?;
    let (scales, zero_points) = weight_grids(golden, graph, &state)?;
    equal("still_weight_scale", &scales, golden.tensors.get("still_weight_scale")?)?;
    equal("still_weight_zero_point", &zero_points, golden.tensors.get("still_weight_zero_point")?)
}

/// Scales and zero points of all fake-quantized weights, in the file's order.
fn weight_grids(
    golden: &Network,
    graph: &Graph,
    state: &octet::graph::FakeQuants,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let (mut scales, mut zero_points) = (Vec::new(), Vec::new());
    for layer in &golden.weight_fake_quants {
        let node = graph.node(graph.require(&layer.module).map_err(text)?);
        let spec = node.op.fake().ok_or_else(|| format!("`{}` is not fake-quantized", layer.module))?;
        let range = state.weights.get(&layer.module).ok_or_else(|| format!("`{}` saw nothing", layer.module))?;
        for (scale, zero_point) in range.weight_levels(&spec, QatLevels::PyTorch) {
            scales.push(f64::from(scale));
            zero_points.push(f64::from(zero_point));
        }
    }
    Ok((scales, zero_points))
}

/// int8 weights of the untrained network.
fn compare_digests(golden: &Network, graph: &Graph) -> Result<(), String> {
    let state = golden.ranges("still_", graph)?;
    let (int8, _) = quant::convert_qat(graph, &state, QatLevels::PyTorch).map_err(text)?;
    for (name, record) in &golden.still_int8_weights {
        let node = int8.node(int8.require(name).map_err(text)?);
        let Some(Weight::Int8(weight)) = node.op.weight() else { return Err(format!("`{name}` is not int8")) };
        let bytes: Vec<u8> = weight.data.iter().map(|q| *q as u8).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        ensure(digest == record.int8_sha256, || format!("digest of `{name}`: {digest}"))?;
        ensure(weight.data.starts_with(&record.first_int8), || format!("first weights of `{name}`"))?;
        equal(
            &format!("first scales of `{name}`"),
            &wide(&weight.scales[..record.scales_first.len()]),
            &wide(&record.scales_first),
        )?;
        relative(
            &format!("sum of the scales of `{name}`"),
            &[wide(&weight.scales).iter().sum()],
            &[record.scales_sum],
            1e-12,
        )?;
    }
    Ok(())
}

/// The first batch's weights, scaled by batch norm's running factor: from our own ranges.
fn compare_first(golden: &Network, graph: &Graph) -> Result<(), String> {
    let mut model = trainable(graph)?;
    model.forward(&images(golden, 0, golden.batch), golden.batch, 0, &GO_ON).map_err(text)?;
    let (scales, zero_points) = weight_grids(golden, graph, &model.fake_quants().map_err(text)?)?;
    relative("first_weight_scale", &scales, golden.tensors.get("first_weight_scale")?, 1e-6)?;
    equal("first_weight_zero_point", &zero_points, golden.tensors.get("first_weight_zero_point")?)
}

crate::for_each_model!(compare);
