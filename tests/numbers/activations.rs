//! Activations, images and weights at the ends of float32.

use octet::exec::float::{Device, Model};
use octet::graph::{
    Activation, ActivationSpec, Builder, ConvSpec, Graph, ObserverKind, Op, QParams, Scheme, Shape, Tensor,
};
use octet::quant::{self, FuseOptions, Observers, QConfig};
use octet::weights::{self, StateDict};
use octet::zoo::{self, ModelConfig, ModelId};

use crate::{converted, run};

fn shufflenet() -> Graph {
    let config = ModelConfig { classes: 10, size: 32 };
    zoo::init(&zoo::build(ModelId::ShuffleNetV2X05, config).expect("a valid configuration"), 3)
}

const ODD: [f32; 12] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    1e30,
    -1e30,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    -0.0,
    0.0,
];

/// Whatever an image holds, it becomes levels: what is no number the lowest one, as in the specification; on every
/// instruction set the same.
#[test]
fn images_that_are_no_numbers_become_levels_and_the_same_everywhere() {
    let graph = converted(&shufflenet(), QParams::new(0.03, 57));
    let len = graph.input_shape().len();
    for value in ODD {
        let whole = run(&graph, &vec![value; len]);
        assert!(whole.iter().all(|v| v.is_finite()), "{value}: {whole:?}");
    }
    let mixed: Vec<f32> =
        (0..len).map(|i| if i % 3 == 0 { ODD[i / 3 % ODD.len()] } else { (i % 7) as f32 - 3.0 }).collect();
    assert!(run(&graph, &mixed).iter().all(|v| v.is_finite()));
}

/// A float graph of one convolution and what follows, its weights and batch norm given.
fn one_layer(weight: f32, variance: f32, eps: f32) -> Graph {
    let (mut b, x) = Builder::new("one", Shape::new(3, 8, 8));
    let x = b.conv("conv", x, ConvSpec::new(8, 3));
    let x = b.bn("bn", x, eps, 0.1);
    let x = b.act("relu", x, Activation::Relu);
    let x = b.push("mean", Op::MeanHw, &[x]);
    b.linear("fc", x, 4);
    let graph = b.finish();
    let mut values = std::collections::HashMap::new();
    for param in graph.params() {
        let key = graph.key(&param);
        let value = match key.as_str() {
            "conv.weight" => weight,
            "bn.running_var" => variance,
            "bn.weight" => 1.0,
            "fc.weight" => 0.25,
            _ => 0.0,
        };
        values.insert(key, Tensor::full(param.tensor.shape.clone(), value));
    }
    graph.with_params(&values)
}

/// The int8 graph of a float one, calibrated on these images; or why there is none.
fn calibrated(float: &Graph, images: &[Vec<f32>], observer: ObserverKind) -> Result<Graph, String> {
    let config = QConfig::default().with_observer(observer);
    let (stubbed, _) = quant::insert_stubs(float).map_err(|e| e.to_string())?;
    let (fused, _) = quant::fuse(&stubbed, &FuseOptions::default()).map_err(|e| e.to_string())?;
    let (prepared, _) = quant::prepare(&fused, &config).map_err(|e| e.to_string())?;
    let model = Model::with_threads(&prepared, &Device::Cpu, 1).map_err(|e| e.to_string())?;
    let mut observers = Observers::new(&prepared).map_err(|e| e.to_string())?;
    for image in images {
        let mut failure = Ok(());
        let watched = model.run_observed(image, 1, &mut |node, values| match observers.observe(node, values) {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(e) => {
                failure = Err(e.to_string());
                std::ops::ControlFlow::Break(())
            }
        });
        failure?;
        watched.map_err(|e| e.to_string())?;
    }
    let qparams = observers.qparams().map_err(|e| e.to_string())?;
    quant::convert(&prepared, &qparams, &config).map(|(graph, _)| graph).map_err(|e| e.to_string())
}

const OBSERVERS: [ObserverKind; 6] = ObserverKind::OF_ACTIVATIONS;

/// Constant images, all of them zero, huge, or smaller than any normal number: every observer finds levels.
#[test]
fn constant_images_have_levels() {
    let graph = one_layer(0.1, 1.0, 1e-5);
    let len = graph.input_shape().len();
    for observer in OBSERVERS {
        for value in [0.0, 1.0, -1.0, 1e-45, -1e-40, 1e20, -1e30] {
            let images = vec![vec![value; len]; 2];
            let int8 = calibrated(&graph, &images, observer).unwrap_or_else(|e| panic!("{observer:?} {value}: {e}"));
            let logits = run(&int8, &images[0]);
            assert!(logits.iter().all(|v| v.is_finite()), "{observer:?} {value}: {logits:?}");
        }
    }
}

/// Activations that leave float32, and levels that would: refused by the node, not a number later on.
#[test]
fn activations_that_are_no_numbers_are_refused_by_the_node() {
    let len = 3 * 8 * 8;
    for observer in OBSERVERS {
        // The sum of 27 products is infinite.
        let error = calibrated(&one_layer(1e30, 1.0, 1e-5), &[vec![1e30; len]], observer).expect_err("infinite");
        assert!(error.contains("conv"), "{observer:?}: {error}");
        // The image itself.
        for value in [f32::NAN, f32::INFINITY] {
            let error = calibrated(&one_layer(0.1, 1.0, 1e-5), &[vec![value; len]], observer).expect_err("no number");
            assert!(error.contains('`'), "{observer:?}: {error}");
        }
        // Both ends are numbers, and their distance is none.
        let image: Vec<f32> = (0..len).map(|i| if i % 2 == 0 { f32::MAX } else { f32::MIN }).collect();
        match calibrated(&one_layer(1e-38, 1.0, 1e-5), std::slice::from_ref(&image), observer) {
            Ok(int8) => assert!(run(&int8, &image).iter().all(|v| v.is_finite()), "{observer:?}"),
            Err(error) => assert!(error.contains('`'), "{observer:?}: {error}"),
        }
    }
}

/// Every observer on values from one end of float32 to the other, on its own.
#[test]
fn observers_of_the_widest_ranges_give_a_scale_or_a_refusal() {
    for observer in OBSERVERS {
        for scheme in [Scheme::Affine, Scheme::Symmetric] {
            for (low, high) in [(f32::MIN, f32::MAX), (0.0, f32::MAX), (f32::MIN, 0.0), (-1e-45, 1e-45), (3e38, 3e38)] {
                let config = QConfig {
                    activation: ActivationSpec { scheme, ..ActivationSpec::new(observer, 127) },
                    ..QConfig::default()
                };
                let (stubbed, _) = quant::insert_stubs(&one_layer(0.1, 1.0, 1e-5)).expect("a float graph");
                let (prepared, _) = quant::prepare(&stubbed, &config).expect("a float graph");
                let mut observers = Observers::new(&prepared).expect("prepared");
                let nodes: Vec<_> = observers.nodes().collect();
                for node in nodes {
                    for _ in 0..3 {
                        observers.observe(node, &vec![low, high, 0.0, high, low]).expect("numbers");
                    }
                }
                let qparams = observers.qparams().expect("each saw data");
                let named = || format!("{observer:?} {scheme:?} {low} to {high}");
                match quant::convert(&prepared, &qparams, &config) {
                    Ok(_) => assert!(qparams.values().all(|q| q.scale.is_finite() && q.scale > 0.0), "{}", named()),
                    Err(e) => assert!(e.to_string().contains('`'), "{}: {e}", named()),
                }
            }
        }
    }
}

/// A layer whose outputs are all below zero, so that its ReLU gives nothing but zeros.
#[test]
fn a_layer_of_negative_outputs_alone_is_zero() {
    let graph = one_layer(-0.5, 1.0, 1e-5);
    let len = graph.input_shape().len();
    for observer in OBSERVERS {
        let int8 = calibrated(&graph, &[vec![1.0; len], vec![0.5; len]], observer).expect("zeros have levels");
        assert_eq!(run(&int8, &vec![1.0; len]), [0.0; 4], "{observer:?}");
    }
}

/// Batch norm over what never varied.
#[test]
fn batch_norm_without_variance_folds_or_is_refused() {
    let len = 3 * 8 * 8;
    for (variance, eps) in [(0.0, 1e-5), (1e-45, 1e-5), (f32::MAX, 1e-5)] {
        let int8 = calibrated(&one_layer(0.1, variance, eps), &[vec![0.5; len]], ObserverKind::Histogram);
        assert!(run(&int8.expect("a finite factor"), &vec![0.5; len]).iter().all(|v| v.is_finite()));
    }
    for (variance, eps) in [(0.0, 0.0), (-1.0, 1e-5), (f32::NAN, 1e-5)] {
        let error = calibrated(&one_layer(0.1, variance, eps), &[vec![0.5; len]], ObserverKind::Histogram);
        let error = error.expect_err("no factor");
        assert!(error.contains("bn"), "{variance} {eps}: {error}");
    }
}

/// A state dict with a value that is no number is refused by its key and place, before anything is computed with it.
#[test]
fn weights_that_are_no_numbers_are_refused_by_the_key() {
    let graph = shufflenet();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let entries = graph.params().into_iter().map(|param| {
            let (key, mut data) = (graph.key(&param), param.tensor.data.to_vec());
            if key == "stage2.0.branch2.0.weight" {
                data[17] = value;
            }
            (key, Tensor::new(param.tensor.shape.clone(), data))
        });
        let dict = StateDict::new(std::path::Path::new("w.pth"), entries.collect());
        let error = weights::load(&graph, &dict).expect_err("no number").to_string();
        assert!(error.contains("stage2.0.branch2.0.weight") && error.contains("17"), "{error}");
    }
}

/// Weights as large as float32 gets, or as small: levels that stand for them, or one sentence.
#[test]
fn weights_at_the_ends_of_float32_are_quantized_or_refused() {
    let len = 3 * 8 * 8;
    for weight in [f32::MAX, 1e30, 1e-30, 1e-45] {
        match calibrated(&one_layer(weight, 1.0, 1e-5), &[vec![1e-3; len]], ObserverKind::Histogram) {
            Ok(int8) => assert!(run(&int8, &vec![1e-3; len]).iter().all(|v| v.is_finite()), "{weight}"),
            Err(error) => assert!(error.contains('`'), "{weight}: {error}"),
        }
    }
}
