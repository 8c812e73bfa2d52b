//! An int8 graph as the state dict of torchvision's quantizable twin, prepared and converted in PyTorch's eager mode.

use std::path::Path;

use super::{WeightsError, quantized::keeps_levels, torch_pickle::Pickle};
use crate::graph::{BatchNorm2d, Graph, Node, Op, QParams, QTensor, Tensor, Weight};

/// Families with a quantizable twin in `torchvision.models.quantization`.
const TWINS: [&str; 3] = ["resnet", "shufflenet_v2", "mobilenet_v3"];

/// Writes the int8 `graph` as a quantized state dict, versions and all, that its twin loads with `strict=True`: what
/// `torchvision.models.quantization.NAME(quantize=True)` makes, and for MobileNetV3 a model that was fused, prepared and
/// converted. Returns the bytes of the file; the same graph gives the same bytes.
///
/// # Errors
/// [`WeightsError::NoTwin`] for a model without twin, layers left in float, and levels that PyTorch does not have;
/// [`WeightsError::Write`].
pub fn write_torch_int8(path: &Path, graph: &Graph) -> Result<u64, WeightsError> {
    if let Some(detail) = refusal(graph) {
        return Err(WeightsError::NoTwin { model: graph.name.clone(), detail });
    }
    let mut writer = Writer { pickle: Pickle::new(), versions: vec![(String::new(), 1)] };
    for node in &graph.nodes {
        if let Some(q) = node.numeric.qparams() {
            writer.node(node, q);
        }
    }
    for name in idle_sums(graph) {
        writer.version(&name, 1);
        writer.levels(&name, QParams::new(1.0, 0), &[]);
    }
    writer.pickle.write(path, &writer.versions)
}

/// Why PyTorch cannot have this graph, where it cannot.
fn refusal(graph: &Graph) -> Option<String> {
    if !TWINS.iter().any(|family| graph.name.starts_with(family)) {
        return Some(
            "torchvision.models.quantization has no twin of it, nor PyTorch a quantized SiLU; export it as onnx"
                .to_owned(),
        );
    }
    let int8 = |n: &Node| n.numeric.qparams().is_some();
    if !graph.nodes.iter().any(int8) {
        return Some("it is not converted; torch-float writes float weights".to_owned());
    }
    let float: Vec<&str> =
        graph.nodes.iter().filter(|n| !int8(n) && n.op.weight().is_some()).map(|n| n.name.as_str()).collect();
    if !float.is_empty() {
        return Some(format!(
            "{} left in float, and the twin quantizes every layer: convert without overrides, or export as onnx",
            listed(&float)
        ));
    }
    let clamped = |n: &&Node| n.numeric.qparams().is_some_and(|q| q.qmax < u8::MAX);
    let most = graph.nodes.iter().find_map(|n| n.numeric.qparams().filter(|q| q.qmax < u8::MAX))?.qmax;
    let clamped: Vec<&str> = graph.nodes.iter().filter(clamped).map(|n| n.name.as_str()).collect();
    Some(format!(
        "{} clamped at level {most}, where PyTorch's kernels go on to 255, so its logits would differ: train with \
         --levels pytorch or --qconfig onednn (0..255), take 8 bits, or export as onnx",
        listed(&clamped)
    ))
}

/// A few names, then a count.
fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(|n| format!("`{n}`")).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    match names.len() - shown.len() {
        0 => format!("{} {verb}", shown.join(", ")),
        more => format!("{} and {more} more are", shown.join(", ")),
    }
}

/// `skip_add` of MobileNetV3's blocks without a sum: the twin declares one in every block and never runs it.
fn idle_sums(graph: &Graph) -> Vec<String> {
    if !graph.name.starts_with("mobilenet_v3") {
        return Vec::new();
    }
    let mut blocks: Vec<&str> = graph.nodes.iter().filter_map(|n| Some(n.name.split_once(".block.")?.0)).collect();
    blocks.dedup();
    let sums = blocks.into_iter().map(|block| format!("{block}.skip_add"));
    sums.filter(|name| graph.find(name).is_none()).collect()
}

struct Writer {
    pickle: Pickle,
    /// Of each module that has something to say.
    versions: Vec<(String, u8)>,
}

impl Writer {
    fn node(&mut self, node: &Node, q: QParams) {
        let name = &node.name;
        match &node.op {
            Op::Conv2d(conv) => {
                self.version(name, 1);
                if let Weight::Int8(weight) = &conv.weight {
                    self.weight(name, weight, conv.bias.as_ref());
                }
                self.levels(name, q, &[]);
            }
            Op::Linear(linear) => {
                self.version(name, 3);
                self.version(&format!("{name}._packed_params"), 3);
                self.levels(name, q, &[]);
                if let Weight::Int8(weight) = &linear.weight {
                    self.packed(name, weight, linear.bias.as_ref());
                }
            }
            Op::BatchNorm2d(bn) => {
                self.version(name, 2);
                self.norm(name, bn);
                self.levels(name, q, &[]);
            }
            Op::QuantStub => {
                self.version(name, 1);
                self.levels(name, q, &[1]);
            }
            Op::Mul => {
                // torchvision counts its squeeze-excitation's layout.
                if let Some((excitation, _)) = name.rsplit_once('.') {
                    self.version(excitation, 2);
                }
                self.version(name, 1);
                self.levels(name, q, &[]);
            }
            op if keeps_levels(op) => {
                self.version(name, 1);
                self.levels(name, q, &[]);
            }
            _ => {}
        }
    }

    fn version(&mut self, module: &str, version: u8) {
        self.versions.push((module.to_owned(), version));
    }

    fn levels(&mut self, name: &str, q: QParams, shape: &[usize]) {
        self.pickle.text(&format!("{name}.scale"));
        self.pickle.floats(shape, &[q.scale]);
        self.pickle.text(&format!("{name}.zero_point"));
        self.pickle.longs(shape, &[i64::from(q.zero_point)]);
    }

    fn weight(&mut self, name: &str, weight: &QTensor, bias: Option<&Tensor>) {
        self.pickle.text(&format!("{name}.weight"));
        self.pickle.quantized(weight);
        self.pickle.text(&format!("{name}.bias"));
        self.bias(bias);
    }

    fn packed(&mut self, name: &str, weight: &QTensor, bias: Option<&Tensor>) {
        self.pickle.text(&format!("{name}._packed_params.dtype"));
        self.pickle.qint8();
        self.pickle.text(&format!("{name}._packed_params._packed_params"));
        self.pickle.quantized(weight);
        self.bias(bias);
        self.pickle.pair();
    }

    fn bias(&mut self, bias: Option<&Tensor>) {
        match bias {
            Some(bias) => self.pickle.floats(&bias.shape, &bias.data),
            None => self.pickle.none(),
        }
    }

    fn norm(&mut self, name: &str, bn: &BatchNorm2d) {
        let BatchNorm2d { weight, bias, running_mean, running_var, .. } = bn;
        for (part, tensor) in
            [("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var)]
        {
            self.pickle.text(&format!("{name}.{part}"));
            self.pickle.floats(&tensor.shape, &tensor.data);
        }
        self.pickle.text(&format!("{name}.num_batches_tracked"));
        self.pickle.longs(&[], &[0]);
    }
}
