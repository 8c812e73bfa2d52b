//! Small networks to mutate the files of, and how what was opened is run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use octet::exec::float::{Device, Model};
use octet::exec::int8::{Plan, PlanOptions};
use octet::graph::{Activation, Builder, ConvSpec, Graph, MaxPool2d, Numeric, Op, QParams, Shape, Tensor};
use octet::quant::{self, FuseOptions, Override, QConfig};
use octet::weights::{self, AnyDict};

use crate::mutate::Random;
use crate::tiny::tiny;

/// What a test runs of a file that opens: more would say nothing new, and take the others' time. An operation on each
/// value counts as one.
const WORK: u64 = 50_000_000;

/// A network with an operation of every kind, its weights random.
pub fn every_op() -> Graph {
    let (mut b, x) = Builder::new("every", Shape::new(3, 9, 9));
    let x = b.conv("stem", x, ConvSpec::new(16, 3));
    let x = b.bn("stem_bn", x, 1e-5, 0.1);
    let x = b.act("stem_act", x, Activation::Hardswish);
    let x = b.push("pool", Op::MaxPool2d(MaxPool2d { kernel: 3, stride: 1, padding: 1 }), &[x]);
    let left = b.push("left", Op::Chunk { index: 0, chunks: 2 }, &[x]);
    let right = b.push("right", Op::Chunk { index: 1, chunks: 2 }, &[x]);
    let right = b.conv("right_dw", right, ConvSpec::new(8, 3).depthwise());
    let right = b.bn("right_bn", right, 1e-5, 0.1);
    let right = b.act("right_act", right, Activation::Relu);
    let x = b.push("cat", Op::Cat, &[left, right]);
    let x = b.push("shuffle", Op::ChannelShuffle { groups: 2 }, &[x]);
    let gate = b.push("squeeze", Op::AdaptiveAvgPool2d, &[x]);
    let gate = b.conv("excite", gate, ConvSpec::new(16, 1).bias());
    let gate = b.act("gate", gate, Activation::Hardsigmoid);
    let x = b.push("scale", Op::Mul, &[x, gate]);
    let y = b.conv("down", x, ConvSpec::new(16, 3).bias());
    let y = b.act("silu", y, Activation::Silu);
    let x = b.push("sum", Op::Add { relu: false }, &[x, y]);
    let x = b.act("sum_relu", x, Activation::Relu);
    let x = b.push("mean", Op::MeanHw, &[x]);
    let x = b.push("flat", Op::Flatten, &[x]);
    let x = b.push("drop", Op::Dropout { p: 0.2 }, &[x]);
    b.linear("fc", x, 5);
    filled(&quant::insert_stubs(&b.finish()).expect("a float graph").0)
}

/// Every parameter random, variances above zero.
pub fn filled(graph: &Graph) -> Graph {
    let mut random = Random::new(3, 0);
    let mut value = |low: f32| (random.below(2000) as f32 / 1000.0 - 1.0).max(low);
    let mut values = std::collections::HashMap::new();
    for param in graph.params() {
        let low = if param.part.ends_with("running_var") { 0.5 } else { -1.0 };
        let data: Vec<f32> = (0..param.tensor.len()).map(|_| value(low)).collect();
        values.insert(graph.key(&param), Tensor::new(param.tensor.shape.clone(), data));
    }
    graph.with_params(&values)
}

/// The int8 form of a float graph, or a mixed one where layers are left in float.
pub fn converted(float: &Graph, left_in_float: &[&str]) -> Graph {
    let mut config = QConfig::default();
    for layer in left_in_float {
        config = config.with_override(*layer, Override::Float);
    }
    let (fused, _) = quant::fuse(float, &FuseOptions::default()).expect("a float graph");
    let (prepared, _) = quant::prepare(&fused, &config).expect("every operation can be quantized");
    let observed = prepared.nodes.iter().filter(|n| matches!(n.numeric, Numeric::Observed(_)));
    let qparams: BTreeMap<String, QParams> =
        observed.zip(1_u8..).map(|(n, i)| (n.name.clone(), QParams::new(0.02 + 0.001 * f32::from(i), 3 * i))).collect();
    quant::convert(&prepared, &qparams, &config).expect("a scale for each").0
}

/// What PyTorch quantized or trained with fake quantization, as an int8 graph of [`tiny`]; float weights in it.
pub fn of_dict(dict: &AnyDict) -> Result<Graph, String> {
    let say = |e: &dyn std::fmt::Display| e.to_string();
    match dict {
        AnyDict::Float(dict) => {
            let _ = weights::classes(dict);
            let graph = tiny();
            let _ = weights::caution(&graph, dict);
            weights::load_without_head(&graph, dict).map_err(|e| say(&e))?;
            weights::load(&graph, dict).map_err(|e| say(&e))
        }
        AnyDict::Quantized(dict) => {
            let float = tiny();
            let disabled: BTreeSet<String> = dict.apart(&float).into_iter().collect();
            let (fused, _) = quant::fuse(&float, &FuseOptions { disabled }).map_err(|e| say(&e))?;
            let (fused, state) = dict.take(&fused).map_err(|e| say(&e))?;
            quant::assemble(&fused, &state.qparams, &state.layers).map_err(|e| say(&e))
        }
        AnyDict::Qat(dict) => {
            let layout = weights::qat_layout(dict).map_err(|e| say(&e))?;
            let backend = match (layout.quant_max, layout.per_channel) {
                (127, _) => quant::Backend::X86,
                (_, true) => quant::Backend::Onednn,
                (_, false) => quant::Backend::Qnnpack,
            };
            let (fused, _) = quant::fuse_qat(&tiny(), &FuseOptions::default()).map_err(|e| say(&e))?;
            let (prepared, _) = quant::prepare_qat(&fused, &QConfig::qat(backend)).map_err(|e| say(&e))?;
            let mut state = weights::qat_state(&prepared, dict).map_err(|e| say(&e))?;
            let trained = prepared.with_params(&state.params);
            quant::observe_folded(&trained, &mut state.ranges, &state.watched).map_err(|e| say(&e))?;
            let levels = octet::graph::QatLevels::PyTorch;
            Ok(quant::convert_qat(&trained, &state.ranges, levels).map_err(|e| say(&e))?.0)
        }
    }
}

/// Operations of one image.
pub fn work(graph: &Graph) -> u64 {
    graph
        .nodes
        .iter()
        .map(|n| n.op.macs(n.shape).saturating_add(16 * n.shape.len() as u64))
        .fold(0, u64::saturating_add)
}

/// Whether it is one that a test runs.
pub fn is_small(graph: &Graph) -> bool {
    work(graph) <= WORK
}

/// Gives a graph an image, whatever numbers it is of; whether it ran.
pub fn run(graph: &Graph) -> bool {
    if !is_small(graph) {
        return false;
    }
    let image: Vec<f32> = (0..graph.input_shape().len()).map(|i| (i * 37 % 101) as f32 / 25.0 - 2.0).collect();
    if graph.nodes.iter().any(|n| n.numeric.qparams().is_some()) {
        let Ok(mut plan) = Plan::new(graph, &PlanOptions::default()) else { return false };
        let logits = plan.run(&image, 1);
        assert_eq!(logits.len(), graph.node(graph.output()).shape.len(), "as many logits as the last node has values");
        return true;
    }
    let Ok(model) = Model::with_threads(graph, &Device::Cpu, 1) else { return false };
    model.run(&image, 1).is_ok()
}

/// A file of the fixtures.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
