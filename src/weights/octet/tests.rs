use std::fs;

use safetensors::serialize;
use serde_json::json;

use super::*;
use crate::{
    graph::{
        Activation, ActivationSpec, Builder, ConvSpec, Graph, NodeId, Numeric, ObserverKind, Op, QParams, QTensor,
        Scheme, Shape, Tensor, Weight, check,
    },
    weights::safe::Raw,
    zoo::{ModelConfig, ModelId, build, init},
};

/// What conversion makes of a float graph, without its arithmetic: batch norm and ReLU vanish into the convolution
/// before them, weights are rounded, every value between the stubs is uint8.
fn int8(float: &Graph) -> Graph {
    let mut nodes = vec![float.nodes[0].clone()];
    let mut moved = vec![NodeId(0)];
    let border = |name: &str, op: Op, input: NodeId, nodes: &mut Vec<crate::graph::Node>| {
        let shape = nodes[input.index()].shape;
        let numeric = if matches!(op, Op::QuantStub) { quantized(1) } else { Numeric::Float };
        nodes.push(crate::graph::Node {
            name: name.to_owned(),
            op,
            inputs: vec![input],
            shape,
            numeric,
            fused: vec![],
        });
        NodeId(nodes.len() as u32 - 1)
    };
    moved[0] = border("quant", Op::QuantStub, NodeId(0), &mut nodes);
    for (_, node) in float.iter().skip(1) {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|i| moved[i.index()]).collect();
        let last = nodes[inputs[0].index()].clone();
        let absorbed = matches!(node.op, Op::BatchNorm2d(_) | Op::Activation(Activation::Relu));
        if absorbed && matches!(last.op, Op::Conv2d(_)) {
            let conv = &mut nodes[inputs[0].index()];
            if conv.fused.is_empty() {
                conv.fused.push(conv.name.clone());
            }
            conv.fused.push(node.name.clone());
            if let Op::Conv2d(c) = &mut conv.op {
                c.relu |= matches!(node.op, Op::Activation(_));
                c.bias = Some(Tensor::full([c.out_channels()], 0.1 + conv.fused.len() as f32));
            }
            moved.push(inputs[0]);
            continue;
        }
        let mut next = node.clone();
        next.inputs = inputs;
        next.numeric = quantized(nodes.len());
        match &mut next.op {
            Op::Conv2d(c) => c.weight = rounded(&c.weight),
            Op::Linear(l) => l.weight = rounded(&l.weight),
            _ => {}
        }
        nodes.push(next);
        moved.push(NodeId(nodes.len() as u32 - 1));
    }
    border("dequant", Op::DeQuantStub, *moved.last().expect("an output"), &mut nodes);
    Graph { name: float.name.clone(), nodes }
}

fn quantized(i: usize) -> Numeric {
    Numeric::Int8(QParams {
        scale: 1.0 / (3.0 + i as f32),
        zero_point: (i * 37 % 256) as u8,
        qmax: if i.is_multiple_of(5) { 127 } else { 255 },
    })
}

fn rounded(weight: &Weight) -> Weight {
    let t = weight.float().expect("a float weight");
    let data = t.data.iter().map(|v| (v * 300.0) as i8).collect();
    let scales = (0..t.shape[0]).map(|c| 1.0 / (300.0 + c as f32)).collect();
    Weight::Int8(QTensor { shape: t.shape.clone(), data, scales })
}

fn model(id: ModelId) -> Graph {
    init(&build(id, ModelConfig { classes: 33, size: 224 }).expect("a valid configuration"), 1)
}

fn meta() -> Meta {
    Meta {
        labels: (0..33).map(|i| format!("a class with a name, {i}")).collect(),
        preprocess: json!({"size": 224, "fit": "crop", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
        recipe: json!({"model": "shufflenet_v2_x0_5", "qconfig": "x86", "seed": 0, "batches": 16, "batch": 64}),
    }
}

#[test]
fn int8_models_come_back_and_are_small() {
    let folder = tempfile::tempdir().expect("a folder");
    for (id, limit) in [(ModelId::ShuffleNetV2X05, 430_000), (ModelId::ResNet18, 11_300_000)] {
        let (path, graph) = (folder.path().join("m.octet.safetensors"), int8(&model(id)));
        check(&graph).expect("the test's own conversion");
        let bytes = write(&path, &graph, &meta()).expect("written");
        let file = fs::read(&path).expect("a file");
        let header = u64::from_le_bytes(file[..8].try_into().expect("eight bytes"));
        println!("{id}: {bytes} bytes, header {header}");
        assert!(bytes <= limit && header <= 30_000, "{id}: {bytes} bytes, header {header}");
        let (again, its_meta) = read(&path).expect("read");
        assert_eq!((&again, &its_meta), (&graph, &meta()), "{id}");
        write(&path, &again, &its_meta).expect("written again");
        assert_eq!(fs::read(&path).expect("a file"), file, "{id}: the same bytes");
    }
}

#[test]
fn float_and_prepared_models_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.octet.safetensors");
    for id in [ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small] {
        let mut graph = model(id);
        let plain = ActivationSpec::new(ObserverKind::Histogram, 127);
        let chosen = ActivationSpec { scheme: Scheme::Symmetric, percentile: 99.5, ..plain.with_bits(4) };
        let levels = QParams { scale: 0.3, zero_point: 8, qmax: 15 };
        for numeric in [Numeric::Observed(plain), Numeric::Observed(chosen), Numeric::FakeQuantized(levels)] {
            graph.nodes[1].numeric = numeric;
            write(&path, &graph, &Meta::default()).expect("written");
            assert_eq!(read(&path).expect("read"), (graph.clone(), Meta::default()), "{id}: {numeric:?}");
        }
    }
}

/// Operations that no model of the zoo has together, some int8 and some float.
fn mixed() -> Graph {
    let (mut b, x) = Builder::new("mixed", Shape::new(4, 9, 7));
    let x = b.conv("conv", x, ConvSpec::new(8, 3).stride(2).bias());
    let y = b.act("six", x, Activation::Relu6);
    let z = b.push("drop", Op::StochasticDepth { p: 0.2 }, &[y]);
    let x = b.push("sum", Op::Add { relu: true }, &[x, z]);
    let p = b.push("pool", Op::AdaptiveAvgPool2d, &[x]);
    let x = b.push("scale", Op::Mul, &[x, p]);
    let x = b.push("shuffle", Op::ChannelShuffle { groups: 4 }, &[x]);
    let c = b.push("part", Op::Chunk { index: 1, chunks: 2 }, &[x]);
    let x = b.push("join", Op::Cat, &[x, c, x]);
    let x = b.max_pool("max", x);
    let x = b.push("flat", Op::Flatten, &[x]);
    let x = b.push("dropout", Op::Dropout { p: 0.1 }, &[x]);
    b.linear("fc", x, 3);
    let mut graph = int8(&init(&b.finish(), 3));
    let x = graph.output();
    let weight = Weight::Float(Tensor::new([2, 3], vec![0.1, -2.0, 1e-30, 3.0, 0.25, 7.5]));
    let float = crate::graph::Linear { weight, bias: None, relu: true, fake: None };
    graph.nodes.push(crate::graph::Node {
        name: "float".to_owned(),
        op: Op::Linear(float),
        inputs: vec![x],
        shape: Shape::flat(2),
        numeric: Numeric::Float,
        fused: vec!["float".to_owned(), "else.where".to_owned()],
    });
    graph
}

#[test]
fn a_mixed_graph_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.octet.safetensors");
    let graph = mixed();
    check(&graph).expect("the test's own graph");
    write(&path, &graph, &Meta::default()).expect("written");
    assert_eq!(read(&path).expect("read").0, graph);
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.octet.safetensors");
    write(&path, &mixed(), &Meta::default()).expect("written");
    let whole = fs::read(&path).expect("a file");
    for cut in (0..whole.len()).step_by(53) {
        fs::write(&path, &whole[..cut]).expect("a file");
        let error = read(&path).expect_err("truncated").to_string();
        assert!(error.contains("m.octet.safetensors"), "{error}");
    }
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
    for at in 0..header {
        for flip in [1, 4, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            fs::write(&path, bytes).expect("a file");
            if let Ok((graph, _)) = read(&path) {
                check(&graph).expect("what is read holds");
            }
        }
    }
}

/// A file with this metadata and a weight `w.weight` of 2x3.
fn made(path: &std::path::Path, document: &serde_json::Value) -> String {
    let weight = Raw::float(vec![2, 3], &[0.5; 6]);
    let entry = [("octet".to_owned(), document.to_string())].into();
    fs::write(path, serialize([("w.weight", weight)], Some(entry)).expect("bytes")).expect("a file");
    match read(path) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.octet.safetensors");
    let with = |format: u32, nodes: serde_json::Value, labels: serde_json::Value| json!({"format": format, "model": "m", "nodes": nodes, "labels": labels, "preprocess": null, "recipe": null});
    let input = json!(["x", {"input": [3, 1, 1]}, null, []]);
    let linear = |name: &str, scales: u32, reads: u32| json!([name, {"linear": [false, false, scales]}, null, [reads]]);
    let conv = json!(["w", {"conv": [0, 18446744073709551615u64, 1, false, false, 0]}, null, [0]]);
    assert_eq!(made(&path, &with(1, json!([input, linear("w", 0, 0)]), json!(["a", "b"]))), "", "a good one");
    for (document, expected) in [
        (with(2, json!([]), json!([])), "format 2"),
        (json!({"format": 2}), "format 2"),
        (with(1, json!([]), json!([])), "0 nodes"),
        (with(1, json!([input, linear("w", 0, 1)]), json!([])), "does not come before"),
        (with(1, json!([input, linear("v", 0, 0)]), json!([])), "`v.weight` is missing"),
        (with(1, json!([input, linear("w", 2, 0)]), json!([])), "expected I8"),
        (with(1, json!([input, linear("w", 0, 0)]), json!(["a"])), "1 labels for 2 classes"),
        (with(1, json!([input]), json!([])), "1 tensors, the graph takes 0"),
        (with(1, json!([input, conv]), json!([])), "extent 0"),
        (
            with(1, json!([["x", {"input": [3, 4000000000u64, 4000000000u64]}, null, []]]), json!([])),
            "extent 4000000000",
        ),
        (with(1, json!([["x", {"input": [3, 100000, 100000]}, null, []]]), json!([])), "no machine holds"),
        (with(1, json!([linear("w", 0, 0)]), json!([])), "does not come before"),
    ] {
        let error = made(&path, &document);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    fs::write(&path, serialize([("w", Raw::float(vec![1], &[0.5]))], None).expect("bytes")).expect("a file");
    assert!(read(&path).expect_err("not ours").to_string().contains("not an int8 file"));
}

/// As files were before observers had schemes and bits, and before layers were left in float.
#[test]
fn files_of_the_first_form_still_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.octet.safetensors");
    let nodes = json!([
        ["x", {"input": [3, 1, 1]}, null, []],
        ["y", "quant", {"observer": "histogram", "quant_max": 127}, [0]],
        ["w", {"linear": [false, false, 0]}, null, [1]],
    ]);
    let document = json!({"format": 1, "model": "m", "nodes": nodes, "labels": [], "preprocess": null, "recipe": null});
    assert_eq!(made(&path, &document), "");
    let (graph, _) = read(&path).expect("read");
    assert_eq!(graph.nodes[1].numeric, Numeric::Observed(ActivationSpec::new(ObserverKind::Histogram, 127)));
}

/// Float where int8 stands beside it, and the other way round.
#[test]
fn a_border_without_its_stub_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.octet.safetensors");
    let graph = mixed();
    let last = graph.output();
    let mut direct = graph.clone();
    let before = graph.node(graph.node(last).inputs[0]).inputs[0];
    direct.nodes[last.index()].inputs = vec![before];
    direct.nodes.remove(last.index() - 1);
    let error = write(&path, &direct, &Meta::default()).expect_err("a dequantize is missing").to_string();
    assert!(error.contains("`float`") && error.contains("dequantize is missing"), "{error}");
    // The same by a file that says so.
    let nodes = json!([
        ["x", {"input": [3, 1, 1]}, null, []],
        ["y", "quant", 3, [0]],
        ["w", {"linear": [false, false, 0]}, null, [1]],
    ]);
    let document = json!({"format": 1, "model": "m", "nodes": nodes, "labels": [], "preprocess": null, "recipe": null});
    let weight = Raw::float(vec![2, 3], &[0.5; 6]);
    let scales = Raw::float(vec![1], &[0.1]);
    let entry = [("octet".to_owned(), document.to_string())].into();
    let bytes = serialize([("w.weight", weight), ("activation_scales", scales)], Some(entry)).expect("bytes");
    fs::write(&path, bytes).expect("a file");
    let error = read(&path).expect_err("a dequantize is missing").to_string();
    assert!(error.contains("`w`") && error.contains("dequantize is missing"), "{error}");
}

#[test]
fn labels_must_be_one_a_class() {
    let folder = tempfile::tempdir().expect("a folder");
    let meta = Meta { labels: vec!["only".to_owned()], ..Meta::default() };
    let error = write(&folder.path().join("m"), &mixed(), &meta).expect_err("two classes").to_string();
    assert!(error.contains("1 labels for the 2 classes"), "{error}");
}
