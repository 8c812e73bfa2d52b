//! Whole networks with rounding, as far as what they compute is determined.

use crate::{
    compare::{errors, median, norm, of_largest, relative},
    golden::{Network, ensure},
    network::{act_ranges, parameters, qat_form, step, stepper, text, trainable},
};

pub fn compare(golden: &Network) -> Result<(), String> {
    let graph = qat_form(golden)?;
    let mut model = trainable(&graph)?;
    model.keep_outputs(true);
    let mut stepper = stepper(&golden.recipe, &model);
    let first = step(golden, &mut model, &graph, 0, &mut stepper)?;
    let tensors = &golden.tensors;
    let expected = tensors.get("losses")?[0];
    ensure((first.loss - expected).abs() <= 0.3, || format!("the first loss is {}, expected {expected}", first.loss))?;
    relative("first_act_norm", &first.output_norms, tensors.get("first_act_norm")?, 0.1)?;
    let norms: Vec<f64> = first.gradients.iter().map(|g| norm(g)).collect();
    median("grad_norm", &norms, tensors.get("grad_norm")?, 0.3)?;
    compare_ranges(golden, "first_", &act_ranges(golden, &model.fake_quants().map_err(text)?)?)?;
    let after = model.graph().map_err(text)?;
    let running: Vec<f64> = parameters(&after, &golden.bn_buffers)?.iter().map(|v| norm(v)).collect();
    relative("first_bn_norm", &running, tensors.get("first_bn_norm")?, 0.02)?;
    for k in 1..golden.recipe.steps {
        step(golden, &mut model, &graph, k, &mut stepper)?;
    }
    let trained = model.graph().map_err(text)?;
    for (keys, what) in [(&golden.params, "param_norm"), (&golden.bn_buffers, "bn_norm")] {
        let norms: Vec<f64> = parameters(&trained, keys)?.iter().map(|v| norm(v)).collect();
        median(what, &norms, tensors.get(what)?, 0.01)?;
    }
    let ranges = act_ranges(golden, &model.fake_quants().map_err(text)?)?;
    of_the_images(golden, "", &ranges)
}

/// What the images are rounded with is not disturbed by anything.
fn of_the_images(golden: &Network, prefix: &str, found: &[(usize, f64, f64)]) -> Result<(), String> {
    let (min, max) =
        (golden.tensors.get(&format!("{prefix}act_min"))?, golden.tensors.get(&format!("{prefix}act_max"))?);
    let quant = found.iter().find(|(i, _, _)| golden.act_fake_quants[*i].module == "quant");
    let (i, low, high) = quant.ok_or("no fake quantization of the images")?;
    of_largest(&format!("{prefix}act of quant"), &[*low, *high], &[min[*i], max[*i]], 1e-6)
}

fn compare_ranges(golden: &Network, prefix: &str, found: &[(usize, f64, f64)]) -> Result<(), String> {
    of_the_images(golden, prefix, found)?;
    let expected = golden.tensors.get(&format!("{prefix}act_scale"))?;
    let scale = |low: f64, high: f64| (high.max(0.0) - low.min(0.0)) / 127.0;
    let scales: Vec<f64> = found.iter().map(|(_, low, high)| scale(*low, *high)).collect();
    let expected: Vec<f64> = found.iter().map(|(i, _, _)| expected[*i]).collect();
    let name = format!("{prefix}act_scale");
    let worst = errors(&scales, &expected).into_iter().fold(0.0, f64::max);
    ensure(worst <= 0.4, || format!("`{name}`: one is off by {worst} of it"))?;
    median(&name, &scales, &expected, 0.05)
}

crate::for_each_model!(compare);
