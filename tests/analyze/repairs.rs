use octet::analysis::{MomentMeter, bias_corrections};
use octet::exec::float::{Device, Model};
use octet::graph::Graph;
use octet::quant::{self, AdaRound, Backend, QConfig, Uneven};
use octet::session::{Calibration, Command, ModelId, Recipe, Repair, Session, View};

use super::{apply, converted, fused, images, layer, recipe, sample};

/// Equalization moves weights and no output, on every shipped model; and says why it leaves layers alone.
#[test]
fn equalization_keeps_the_float_function() {
    let (images, _) = images(&sample().valid, 0, 16);
    for model in [ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small, ModelId::ResNet18] {
        let float = fused(model);
        let (equalized, report) = quant::equalize(&float).expect("a float graph");
        let run = |graph: &Graph| Model::new(graph, &Device::Cpu).expect("float").run(&images, 16).expect("16 images");
        let (old, new) = (run(&float), run(&equalized));
        let moved = old.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = old.iter().map(|a| a.abs()).fold(0.0, f32::max);
        assert!(moved < 1e-4 * largest, "{model}: {moved} of {largest}");
        assert!(report.relu6.is_empty());
        match model {
            ModelId::MobileNetV3Small => {
                let readers = |name: &str| {
                    let pair = report.pairs.iter().find(|p| p.layer == name);
                    pair.unwrap_or_else(|| panic!("{name} was not equalized")).readers.clone()
                };
                // Across a depthwise layer, and through a squeeze-excitation.
                assert_eq!(readers("features.2.block.0.0"), ["features.2.block.1.0"]);
                assert_eq!(readers("features.2.block.1.0"), ["features.2.block.2.0"]);
                let mut both = readers("features.1.block.0.0");
                both.sort();
                assert_eq!(both, ["features.1.block.1.fc1", "features.1.block.2.0"]);
                let why = &report.refusals.iter().find(|(name, _)| name == "features.4.block.0.0").expect("refused").1;
                assert!(matches!(why, Uneven::NotHomogeneous { op: "Hardswish", .. }), "{why}");
            }
            ModelId::ResNet18 => assert!(report.pairs.iter().any(|p| p.layer == "layer1.0.conv1")),
            _ => assert!(report.pairs.iter().any(|p| p.layer.starts_with("stage")), "{:?}", report.pairs),
        }
    }
}

/// After the correction nothing is left of the mean error on the same images, and less than half on others.
#[test]
fn bias_correction_takes_the_mean_error_back() {
    let (_, _, pair) = converted(recipe(ModelId::MobileNetV3Small, QConfig::new(Backend::Qnnpack)));
    let data = sample();
    let (seen, _) = images(&data.train, 0, 96);
    let (others, _) = images(&data.valid, 0, 96);
    let error = |graph: &Graph, images: &[f32]| -> f64 {
        let all = bias_corrections(&pair.float, graph, images, 96).expect("it runs");
        all.values().flatten().map(|v| f64::from(v.abs())).sum()
    };
    let corrections = bias_corrections(&pair.float, &pair.converted, &seen, 96).expect("it runs");
    let (corrected, report) = quant::correct_bias(&pair.converted, &corrections).expect("of this graph");
    assert_eq!(report.layers.len(), corrections.len());
    let [before, after] = [&*pair.converted, &corrected].map(|g| error(g, &seen));
    assert!(after < 0.01 * before, "{before} before, {after} after");
    let [before, after] = [&*pair.converted, &corrected].map(|g| first_layer_error(&pair.float, g, &others));
    assert!(after < 0.5 * before, "on other images {before} before, {after} after");
}

/// Mean error of the first layer alone: those behind it are measured with it corrected already.
fn first_layer_error(float: &Graph, graph: &Graph, images: &[f32]) -> f32 {
    let all = bias_corrections(float, graph, images, 96).expect("it runs");
    all["features.0.0"].iter().map(|v| v.abs()).sum()
}

#[test]
fn learnt_rounding_beats_the_nearest_on_images_that_it_has_not_seen() {
    let (_, _, pair) = converted(recipe(ModelId::ShuffleNetV2X05, QConfig::new(Backend::Qnnpack)));
    let data = sample();
    // Dense, depthwise, linear.
    let layers = ["stage3.1.branch2.0", "stage2.0.branch2.3", "fc"].map(str::to_owned);
    let moments = |images: &[f32], count: usize| {
        let mut meter = MomentMeter::new(&pair.float, &pair.converted, &layers).expect("they are there");
        meter.add(images, count).expect("it runs");
        meter.moments().cloned().collect::<Vec<_>>()
    };
    let seen = moments(&images(&data.train, 0, 128).0, 128);
    let held_out = moments(&images(&data.valid, 0, 128).0, 128);
    for ((name, seen), held_out) in layers.iter().zip(&seen).zip(&held_out) {
        let (graph, report) = quant::round_weights(&pair.converted, &pair.float, name, seen, &AdaRound::default())
            .expect("an int8 layer");
        assert!(report.changed > 0 && report.mse < report.nearest_mse, "{report:?}");
        let weight = |graph: &Graph| layer(graph, name).op.weight().expect("a weight").clone();
        let float = weight(&pair.float);
        let float = &float.float().expect("float").data;
        let mse = |graph: &Graph| held_out.output_mse(float, &weight(graph).int8().expect("int8").dequantized().data);
        let (nearest, learnt) = (mse(&pair.converted), mse(&graph));
        assert!(learnt < 0.95 * nearest, "{name}: {nearest} by rounding to nearest, {learnt} as learnt");
    }
}

/// A repair is one command, measured before and after, and can be taken back; its recipe alone gives the same model.
#[test]
fn repairs_are_measured_undone_and_replayed() {
    let begin = recipe(ModelId::ShuffleNetV2X05, QConfig::default());
    let (mut session, mut view, pair) = converted(begin.clone());
    let repair = Repair::adaround(session.recipe(), ["fc".to_owned()]);
    apply(&mut session, &mut view, Command::Repair(Box::new(repair))).expect("a layer with weights");
    let repair = Repair::correct_bias(session.recipe());
    apply(&mut session, &mut view, Command::Repair(Box::new(repair))).expect("a converted model");
    let repair = Repair::leave_float(session.recipe(), &["conv1.0".to_owned()]);
    apply(&mut session, &mut view, Command::Repair(Box::new(repair))).expect("a layer");
    let repair = Repair::equalize(session.recipe());
    apply(&mut session, &mut view, Command::Repair(Box::new(repair))).expect("a converted model");
    let titles: Vec<&str> = view.repairs.iter().map(|r| r.title.as_str()).collect();
    assert_eq!(titles, ["AdaRound", "Correct biases", "Leave in float", "Equalize"]);
    for pair in view.repairs.windows(2) {
        assert_eq!(pair[0].after, pair[1].before, "what one left is what the next found");
    }
    assert!(view.repairs.iter().all(|r| r.images == 2500 && r.after.is_some_and(|a| a > 0.9)), "{:?}", view.repairs);
    let repaired = session.stage().expect("converted").graph().clone();
    assert_eq!(view.stage().expect("converted").graph(), &repaired);

    // The recipe alone.
    let (mut again, mut other): (Session, View) = (Session::new(Default::default()), View::default());
    let replay: Recipe =
        serde_json::from_str(&serde_json::to_string(session.recipe()).expect("JSON")).expect("as written");
    let dir = tempfile::tempdir().expect("a folder");
    apply(&mut again, &mut other, Command::Open(Box::new(replay))).expect("the sample");
    apply(&mut again, &mut other, Command::RunAll(dir.path().join("a.octet.safetensors"))).expect("all steps");
    assert_eq!(again.stage().expect("saved").graph(), &repaired);

    for _ in 0..4 {
        apply(&mut session, &mut view, Command::UndoRepair).expect("a repair to undo");
    }
    assert_eq!((session.recipe(), session.stage().expect("converted").graph()), (&begin, &pair.converted));
    assert!(view.repairs.is_empty() && !view.allows(octet::session::CommandKind::UndoRepair));
    assert_eq!(view.stage().expect("converted").graph(), &pair.converted);
    assert!(apply(&mut session, &mut view, Command::UndoRepair).is_err());
}

/// A repair that fails leaves all as it was.
#[test]
fn a_repair_that_cannot_be_is_refused_and_changes_nothing() {
    let calibration = Calibration { batches: 1, batch: 8, foresee: false };
    let (mut session, mut view, pair) =
        converted(Recipe { calibration, ..recipe(ModelId::ResNet18, QConfig::default()) });
    let before = session.recipe().clone();
    let repair = Repair::adaround(session.recipe(), ["layer4.1.conv2".to_owned()]);
    let error =
        apply(&mut session, &mut view, Command::Repair(Box::new(repair))).expect_err("too many weights a filter");
    assert!(error.to_string().contains("layer4.1.conv2") && error.to_string().contains("4608"), "{error}");
    assert_eq!((session.recipe(), session.stage().expect("converted").graph()), (&before, &pair.converted));
    assert!(view.repairs.is_empty() && view.stage().expect("converted").graph() == &pair.converted);
}
