//! Nothing trained: batch norm frozen, one forward pass over the first images with observers on, then evaluated as it was
//! trained and as int8.

use octet::{
    exec::{
        float::{Device, Model, Phase},
        int8::{Plan, PlanOptions},
    },
    graph::{FakeQuants, Graph, QatLevels},
    quant,
};

use crate::{
    compare::{equal, of_largest, relative, wide},
    golden::Network,
    network::{EVALUATION, GO_ON, images, qat_form, text, trainable},
};

/// Images that the logits are of.
const PROBE: (usize, usize) = (1000, 4);

pub fn compare(golden: &Network) -> Result<(), String> {
    let graph = qat_form(golden)?;
    let mut model = trainable(&graph)?;
    model.set_phase(Phase { observe: true, ..EVALUATION });
    model.forward(&images(golden, 0, golden.batch), golden.batch, 0, &GO_ON).map_err(text)?;
    model.set_phase(EVALUATION);
    let state = model.fake_quants().map_err(text)?;
    compare_weights(golden, &state)?;

    let (number, count) = PROBE;
    let probe = images(golden, number, count);
    let expected = golden.tensors.get("still_fake_logits")?;
    let logits = model.forward(&probe, count, 0, &GO_ON).and_then(|p| p.logits()).map_err(text)?;
    of_largest("still_fake_logits", &wide(&logits), expected, 0.15)?;
    // What is evaluated apart from training is the same.
    let (fake, _) = quant::fake_quantize_qat(&graph, &state, QatLevels::PyTorch).map_err(text)?;
    let evaluated = Model::new(&fake, &Device::Cpu).and_then(|m| m.run(&probe, count)).map_err(text)?;
    of_largest("still_fake_logits, evaluated", &wide(&evaluated), expected, 0.15)?;
    let expected = golden.tensors.get("still_int8_logits")?;
    of_largest("still_int8_logits", &int8_logits(&graph, &state, &probe, count)?, expected, 0.15)?;
    let theirs = golden.ranges("still_", &graph)?;
    equal("still_int8_logits with PyTorch's ranges", &int8_logits(&graph, &theirs, &probe, count)?, expected)
}

fn compare_weights(golden: &Network, state: &FakeQuants) -> Result<(), String> {
    let of = |which: fn(&octet::graph::LearnedRange) -> &[f32]| {
        let layers = golden.weight_fake_quants.iter().map(|layer| {
            state.weights.get(&layer.module).map(which).ok_or_else(|| format!("`{}` saw nothing", layer.module))
        });
        Ok::<_, String>(wide(&layers.collect::<Result<Vec<_>, _>>()?.concat()))
    };
    relative("still_weight_min", &of(|r| &r.min)?, golden.tensors.get("still_weight_min")?, 1e-6)?;
    relative("still_weight_max", &of(|r| &r.max)?, golden.tensors.get("still_weight_max")?, 1e-6)
}

fn int8_logits(graph: &Graph, state: &FakeQuants, images: &[f32], count: usize) -> Result<Vec<f64>, String> {
    let (int8, _) = quant::convert_qat(graph, state, QatLevels::PyTorch).map_err(text)?;
    let mut plan = Plan::new(&int8, &PlanOptions { isa: None, threads: 2 }).map_err(text)?;
    Ok(wide(&plan.run(images, count)))
}

crate::for_each_model!(compare);
