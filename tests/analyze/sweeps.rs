use std::ops::ControlFlow;

use octet::analysis::{Labelled, SensitivityMeter, Sweeps};
use octet::exec::ExecError;
use octet::exec::float::{Device, Model, Parts, Twins};
use octet::exec::int8::{Plan, PlanOptions};
use octet::quant::{self, Backend, QConfig};
use octet::session::ModelId;

use super::{converted, images, recipe, sample};

/// What is computed again from a kept run is what a graph with that one layer changed computes, bit for bit.
#[test]
fn a_sweep_is_the_model_with_one_layer_changed() {
    let (_, _, pair) = converted(recipe(ModelId::MobileNetV3Small, QConfig::default()));
    let (float, fake) = quant::twins(&pair.float, &pair.converted).expect("of one model");
    let twins = Twins::new(&float, &fake).expect("float graphs");
    let (images, _) = images(&sample().valid, 0, 4);
    let run = |graph: &octet::graph::Graph| {
        Model::new(graph, &Device::Cpu).expect("float").run(&images, 4).expect("four images")
    };
    let kept = [Parts::FIRST, Parts::SECOND].map(|parts| twins.run(&images, 4, |_| parts).expect("it runs"));
    assert_eq!(kept[0].logits().expect("logits"), run(&float));
    assert_eq!(kept[1].logits().expect("logits"), run(&fake));
    // The first, one within a residual block, one in a squeeze-excitation, the last.
    for name in
        ["features.0.0", "features.3.block.1.0", "features.4.block.2.fc2", "features.8.skip_add", "classifier.3"]
    {
        let id = float.find(name).unwrap_or_else(|| panic!("no {name}"));
        for (base, other, kept, parts) in
            [(&float, &fake, &kept[0], Parts::SECOND), (&fake, &float, &kept[1], Parts::FIRST)]
        {
            let mut mixed = base.clone();
            mixed.nodes[id.index()] = other.node(id).clone();
            assert_eq!(twins.rerun(kept, &[(id, parts)]).expect("it runs"), run(&mixed), "{name}, {parts:?}");
        }
        let mut weights = float.clone();
        weights.nodes[id.index()].op = fake.node(id).op.clone();
        let alone = Parts { weight: true, output: false };
        assert_eq!(twins.rerun(&kept[0], &[(id, alone)]).expect("it runs"), run(&weights), "{name}: its weight");
    }
}

/// The quantized twin names images as the int8 engine does, within rounding.
#[test]
fn the_twin_is_what_int8_computes() {
    for backend in [Backend::X86, Backend::Qnnpack] {
        let (_, _, pair) = converted(recipe(ModelId::ShuffleNetV2X05, QConfig::new(backend)));
        let (_, fake) = quant::twins(&pair.float, &pair.converted).expect("of one model");
        let (images, labels) = images(&sample().valid, 0, 64);
        let twin = Model::new(&fake, &Device::Cpu).expect("float").run(&images, 64).expect("64 images");
        let int8 = Plan::new(&pair.converted, &PlanOptions::default()).expect("int8").run(&images, 64);
        let step = pair.converted.nodes.iter().rev().find_map(|n| n.numeric.qparams()).expect("int8").scale;
        let far = twin.iter().zip(&int8).filter(|(a, b)| (*a - *b).abs() > 2.5 * step).count();
        assert!(far * 50 < twin.len(), "{backend}: {far} of {} logits are more than 2 levels away", twin.len());
        assert_eq!(labels.len(), 64);
    }
}

#[test]
fn a_meter_adds_up_and_stops_when_it_is_told() {
    let (_, _, pair) = converted(recipe(ModelId::ShuffleNetV2X05, QConfig::default()));
    let (float, fake) = quant::twins(&pair.float, &pair.converted).expect("of one model");
    let mut meter = SensitivityMeter::new((&float, &fake), Sweeps::ALL).expect("twins");
    let mut heard = Vec::new();
    for part in 0..2 {
        let (images, labels) = images(&sample().valid, part * 24, 24);
        let indices: Vec<usize> = (part * 24..part * 24 + 24).collect();
        let batch = Labelled { images: &images, labels: &labels, indices: &indices };
        let hear = &mut |_: &_, done, of| {
            heard.push((done, of));
            ControlFlow::Continue(())
        };
        meter.add(&batch, hear).expect("it runs");
    }
    let found = meter.found().clone();
    assert!(heard.len() == 20 && heard.last().is_some_and(|(done, of)| done == of), "{heard:?}");
    for score in [found.float, found.int8, found.weights, found.activations] {
        assert_eq!(score.images, 48);
    }
    assert!(found.float.logit_mse() == 0.0 && found.int8.logit_mse() > found.weights.logit_mse());
    for layer in &found.layers {
        assert_eq!((layer.quantized.images, layer.left_float.images), (48, 48), "{}", layer.name);
        assert!(layer.quantized.logit_mse() <= 4.0 * found.int8.logit_mse() + 1e-9, "{}", layer.name);
    }
    // The image is where error begins: alone or with everything before it is the same.
    assert_eq!(found.layers[0].alone, found.layers[0].accumulated);
    let lost = found.flips.len() as i64;
    assert!(lost >= found.float.right as i64 - found.int8.right as i64);
    assert!(found.flips.iter().all(|f| f.layer.is_some() && f.label != f.named));
    let suspects = found.suspects();
    let mse = |i: usize| found.layers[i].quantized.logit_mse();
    assert!(suspects.windows(2).all(|w| mse(w[0]) >= mse(w[1])) && suspects.len() == found.layers.len());

    let (images, labels) = images(&sample().valid, 0, 8);
    let batch = Labelled { images: &images, labels: &labels, indices: &[0, 1, 2, 3, 4, 5, 6, 7] };
    let stopped = meter.add(&batch, &mut |_, _, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(ExecError::Stopped)));
}
