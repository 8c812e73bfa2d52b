//! What a user is warned of, and what fusing moves.

use octet::exec::float::Model;
use octet::graph::{Graph, Op, Tensor};
use octet::session::{
    Calibration, Command, Device, FuseOptions, ModelConfig, ModelId, QConfig, Session, Stage, Step, View,
};
use tempfile::TempDir;

use crate::{after, apply, command_of, recipe};

fn kinds(view: &View) -> Vec<(&str, &'static str)> {
    view.warnings().map(|w| (w.node.as_str(), w.kind())).collect()
}

#[test]
fn a_switched_off_fusion_leaves_its_batch_norm_in_float_with_a_warning_and_still_runs() {
    let dir = TempDir::new().expect("a folder");
    let (mut session, mut view) = after(Some(Step::Weights));
    let disabled = ["conv5.0".to_owned()].into();
    apply(&mut session, &mut view, Command::Fuse(FuseOptions { disabled })).expect("fused but for one");
    assert!(view.stage().expect("fused").graph().find("conv5.1").is_some());
    assert_eq!(view.steps()[Step::Fuse.index()].result.as_deref(), Some("55 fused"));
    apply(&mut session, &mut view, Command::Prepare(QConfig::default())).expect("prepared");
    assert!(kinds(&view).contains(&("conv5.1", "no_kernel")), "{:?}", kinds(&view));
    assert!(view.log.iter().any(|l| l.text.contains("`conv5.1`") && l.text.contains("fuse it")), "it is in the log");
    apply(&mut session, &mut view, Command::Calibrate(Calibration { batches: 4, batch: 32, foresee: false }))
        .expect("calibrated");
    apply(&mut session, &mut view, Command::Convert).expect("a mixed graph");
    apply(&mut session, &mut view, Command::Save(dir.path().join("mixed"))).expect("saved, read back and run");
    let Some(Stage::Saved { measured, .. }) = view.stage().map(AsRef::as_ref) else { panic!("saved") };
    let (float, int8) = (measured.float.accuracy.expect("labels"), measured.int8.accuracy.expect("labels"));
    assert!(int8 > float - 0.02, "float {float}, mixed {int8}");
}

#[test]
fn the_sample_gives_no_warning_and_images_normalized_otherwise_do() {
    let (_, view) = after(Some(Step::Calibrate));
    // The shipped weights have dead channels, which is true and said.
    let other = |view: &View| -> Vec<(String, &'static str)> {
        let all = view.warnings().filter(|w| w.kind() != "zero_channels");
        all.map(|w| (w.node.clone(), w.kind())).collect()
    };
    assert_eq!(other(&view), []);
    for (mean, std) in [([0.0; 3], [1.0; 3]), ([0.5; 3], [0.5; 3]), ([0.0; 3], [1.0 / 255.0; 3])] {
        let (mut session, mut view) = (Session::new(Device::Cpu), View::default());
        let mut recipe = recipe();
        (recipe.preprocess.mean, recipe.preprocess.std) = (Some(mean), Some(std));
        apply(&mut session, &mut view, Command::Open(Box::new(recipe))).expect("the sample opens");
        for step in [Step::Stubs, Step::Weights, Step::Fuse, Step::Prepare] {
            apply(&mut session, &mut view, command_of(step)).expect("it runs");
        }
        assert_eq!(other(&view), [("conv1.1".to_owned(), "normalization")], "{mean:?} {std:?}");
        assert_eq!(session.warnings().count(), view.warnings().count());
    }
}

/// Every batch norm with statistics as training would leave them, so that folding has something to do.
fn trained(graph: &Graph) -> Graph {
    let mut state = 1_u64;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    let mut values = std::collections::HashMap::new();
    for param in graph.params() {
        let (low, high) = match (param.part, &graph.node(param.node).op) {
            ("running_mean", _) => (-0.2, 0.2),
            ("running_var", _) => (0.5, 1.5),
            ("weight", Op::BatchNorm2d(_)) => (0.5, 1.0),
            ("bias", _) => (-0.1, 0.1),
            (_, _) => continue,
        };
        let data: Vec<f32> = (0..param.tensor.len()).map(|_| low + (high - low) * unit()).collect();
        values.insert(graph.key(&param), Tensor::new(param.tensor.shape.clone(), data));
    }
    graph.with_params(&values)
}

#[test]
fn fusing_moves_the_output_of_no_model_by_more_than_rounding() {
    for model in ModelId::ALL {
        let graph = octet::zoo::build(model, ModelConfig { classes: 10, size: 64 }).expect("a valid size");
        let graph = trained(&octet::zoo::init(&graph, 3));
        let (graph, _) = octet::quant::insert_stubs(&graph).expect("a float model");
        let (fused, _) = octet::quant::fuse(&graph, &FuseOptions::default()).expect("a float model");
        let images: Vec<f32> = (0..2 * 3 * 64 * 64).map(|i| ((i * 7919 % 1013) as f32 / 253.0) - 2.0).collect();
        let run = |graph: &Graph| Model::new(graph, &Device::Cpu).expect("float").run(&images, 2).expect("it runs");
        let (before, after) = (run(&graph), run(&fused));
        let largest = before.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let moved = before.iter().zip(&after).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        println!("{model}: moved by {:e} of the largest logit", moved / largest);
        assert!(moved > 0.0 && octet::quant::fusion_warning(&fused, moved / largest).is_none(), "{model}: {moved}");
    }
}
