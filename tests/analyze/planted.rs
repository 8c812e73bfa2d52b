use std::ops::ControlFlow;

use octet::exec::float::{Device, Model};
use octet::quant::{self, Backend, QConfig};
use octet::session::{Command, ModelId, Repair, Sweeps, WeightsChoice, save_float};
use tempfile::TempDir;

use super::{apply, converted, images, recipe, sample};

/// Where the ranges are spoiled: between an expansion and its depthwise layer, and behind a depthwise layer.
const PLANTED: [&str; 2] = ["features.2.block.0.0", "features.3.block.1.0"];

/// From 1/32 to 32, channel by channel.
fn scale(channel: usize) -> f32 {
    32.0_f32.powf((channel * 7919 % 97) as f32 / 48.0 - 1.0)
}

/// MobileNetV3 small with planted channel scaling, one scale a tensor: it collapses; the sweep names the planted layers
/// among its first three suspects; equalization alone brings it back within a point of what it was before.
#[test]
fn planted_ranges_are_found_and_equalized_away() {
    let folder = TempDir::new().expect("a folder");
    let per_tensor = || recipe(ModelId::MobileNetV3Small, QConfig::new(Backend::Qnnpack));
    let (session, _, sound) = converted(per_tensor());
    let weighted = session.weighted_graph().expect("weights").clone();
    let spoiled = quant::spoil_ranges(&weighted, &PLANTED, &scale).expect("ReLU between");

    let (images, _) = images(&sample().valid, 0, 8);
    let run = |graph| Model::new(graph, &Device::Cpu).expect("float").run(&images, 8).expect("8 images");
    let (a, b) = (run(&weighted), run(&spoiled));
    let moved = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved < 1e-4 * a.iter().map(|a| a.abs()).fold(0.0, f32::max), "the function moved by {moved}");

    let file = folder.path().join("spoiled.safetensors");
    save_float(&file, &spoiled, false).expect("written");
    let recipe = octet::session::Recipe { weights: WeightsChoice::File(file), ..per_tensor() };
    let (mut session, mut view, pair) = converted(recipe);
    let mut last = None;
    pair.sensitivity(96, Sweeps { one_quantized: true, one_float: false }, &mut |sweeping| {
        last = Some(sweeping);
        ControlFlow::Continue(())
    })
    .expect("it runs");
    let found = last.expect("layers").found;
    let suspects: Vec<&str> = found.suspects().iter().map(|i| found.layers[*i].name.as_str()).collect();
    for layer in PLANTED {
        assert!(suspects[..3].contains(&layer), "{layer} is not among {:?}", &suspects[..6]);
    }

    let repair = Repair::equalize(session.recipe());
    apply(&mut session, &mut view, Command::Repair(Box::new(repair))).expect("a converted model");
    let done = view.repairs.last().expect("one repair");
    let (before, after) = (done.before.expect("labels"), done.after.expect("labels"));
    let mut unspoiled = 0.0;
    sound
        .verdicts(usize::MAX, &mut |so_far| {
            unspoiled = f64::from(so_far.found.int8.right()) / f64::from(so_far.found.int8.total());
            ControlFlow::Continue(())
        })
        .expect("it runs");
    assert!(before < unspoiled - 0.3, "spoiled to {before}: a case that says nothing");
    assert!(after > unspoiled - 0.01, "{before} spoiled, {after} equalized, {unspoiled} before it was spoiled");
}
