//! Whole networks without rounding: fake quantization off, observers on.

use octet::{
    exec::float::Phase,
    graph::{Op, QatLevels, Weight},
    quant,
};

use crate::{
    compare::{absolute, equal, norm, of_largest, relative, wide},
    golden::{Network, ensure},
    network::{Step, act_ranges, parameters, qat_form, step, stepper, text, trainable},
};

pub fn compare(golden: &Network) -> Result<(), String> {
    let graph = qat_form(golden)?;
    let mut model = trainable(&graph)?;
    model.set_phase(Phase { observe: true, fake_quantize: false, batch_statistics: true });
    model.keep_outputs(true);
    let mut stepper = stepper(&golden.recipe, &model);
    let chaotic = golden.model.starts_with("shufflenet");
    let first = step(golden, &mut model, &graph, 0, &mut stepper)?;
    compare_first(golden, &first, if chaotic { 1e-2 } else { 1e-3 })?;
    let seen = model.fake_quants().map_err(text)?;
    compare_ranges(golden, "plain_first_", &act_ranges(golden, &seen)?)?;
    let mut losses = vec![first.loss];
    for k in 1..golden.recipe.steps {
        losses.push(step(golden, &mut model, &graph, k, &mut stepper)?.loss);
    }
    let expected = golden.tensors.get("plain_losses")?;
    if chaotic {
        // Without any rounding its third loss is chaos already.
        return relative("plain_losses, the first two", &losses[..2], &expected[..2], 1e-2);
    }
    relative("plain_losses", &losses, expected, 1e-4)?;
    let trained = model.graph().map_err(text)?;
    for (keys, what) in [(&golden.params, "param"), (&golden.bn_buffers, "bn")] {
        let values = parameters(&trained, keys)?;
        compare_values(golden, &format!("plain_{what}"), &values)?;
    }
    let state = model.fake_quants().map_err(text)?;
    compare_ranges(golden, "plain_", &act_ranges(golden, &state)?)?;
    compare_scales(golden, &trained, &state)
}

fn compare_first(golden: &Network, first: &Step, tolerance: f64) -> Result<(), String> {
    let tensors = &golden.tensors;
    absolute("plain_first_logits", &wide(&first.logits), tensors.get("plain_first_logits")?, 1e-3)?;
    relative("plain_losses, the first", &[first.loss], &tensors.get("plain_losses")?[..1], 1e-4)?;
    let (norms, sums) = (tensors.get("plain_grad_norm")?, tensors.get("plain_grad_sum")?);
    let entries = tensors.get("plain_grad_first")?;
    let all = norms.iter().map(|n| n * n).sum::<f64>().sqrt();
    ensure(first.gradients.len() == norms.len(), || format!("{} gradients", first.gradients.len()))?;
    for (i, gradient) in first.gradients.iter().enumerate() {
        let room = tolerance * norms[i].max(all / 1000.0);
        let name = |what: &str| format!("plain_grad_{what} of {}", golden.params[i].key);
        absolute(&name("norm"), &[norm(gradient)], &norms[i..=i], room)?;
        absolute(&name("sum"), &[gradient.iter().map(|g| f64::from(*g)).sum()], &sums[i..=i], room)?;
        let few = gradient.len().min(4);
        absolute(&name("first"), &wide(&gradient[..few]), &entries[4 * i..4 * i + few], room)?;
    }
    Ok(())
}

/// Norm and first values of each tensor.
fn compare_values(golden: &Network, what: &str, found: &[Vec<f32>]) -> Result<(), String> {
    let (norms, entries) =
        (golden.tensors.get(&format!("{what}_norm"))?, golden.tensors.get(&format!("{what}_first"))?);
    for (i, values) in found.iter().enumerate() {
        relative(&format!("{what}_norm {i}"), &[norm(values)], &norms[i..=i], 1e-4)?;
        let few = values.len().min(4);
        // Beside the size of the tensor's values.
        let room = 1e-4 * norms[i] / (values.len() as f64).sqrt();
        absolute(&format!("{what}_first {i}"), &wide(&values[..few]), &entries[4 * i..4 * i + few], room)?;
    }
    Ok(())
}

/// Smallest and largest value of each output, beside the wider of the two; those of the images almost exactly.
fn compare_ranges(golden: &Network, prefix: &str, found: &[(usize, f64, f64)]) -> Result<(), String> {
    let (min, max) =
        (golden.tensors.get(&format!("{prefix}act_min"))?, golden.tensors.get(&format!("{prefix}act_max"))?);
    let chaotic = golden.model.starts_with("shufflenet");
    for (i, low, high) in found {
        let module = &golden.act_fake_quants[*i].module;
        let tolerance = match module.as_str() {
            "quant" => 1e-6,
            _ if chaotic => continue,
            _ => 1e-4,
        };
        of_largest(&format!("{prefix}act of {module}"), &[*low, *high], &[min[*i], max[*i]], tolerance)?;
    }
    Ok(())
}

/// The scales that the trained weights would have in int8.
fn compare_scales(
    golden: &Network,
    trained: &octet::graph::Graph,
    state: &octet::graph::FakeQuants,
) -> Result<(), String> {
    let (int8, _) = quant::convert_qat(trained, state, QatLevels::PyTorch).map_err(text)?;
    equal("layers", &[golden.plain_int8_weights.len() as f64], &[golden.weight_fake_quants.len() as f64])?;
    for (name, record) in &golden.plain_int8_weights {
        let node = int8.node(int8.require(name).map_err(text)?);
        let (Op::Conv2d(_) | Op::Linear(_), Some(Weight::Int8(weight))) = (&node.op, node.op.weight()) else {
            return Err(format!("`{name}` is not int8"));
        };
        let scales = wide(&weight.scales);
        relative(
            &format!("first scales of {name}"),
            &scales[..record.scales_first.len()],
            &wide(&record.scales_first),
            1e-4,
        )?;
        relative(&format!("sum of the scales of {name}"), &[scales.iter().sum()], &[record.scales_sum], 1e-4)?;
    }
    Ok(())
}

crate::for_each_model!(compare);
