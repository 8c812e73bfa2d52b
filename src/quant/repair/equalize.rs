use super::scaling::{Readers, Scalable, Uneven, readers};
use crate::{
    graph::{self, Activation, Graph, NodeId, Op},
    quant::QuantError,
};

/// Rounds over all pairs at most; a chain of three layers settles within a few.
const ROUNDS: usize = 40;
/// No scale moves by more than this part of itself any more.
const SETTLED: f32 = 1e-3;

/// What [`equalize`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EqualizeReport {
    /// Every layer whose channels were scaled, in the order of the graph.
    pub pairs: Vec<EqualizedPair>,
    /// Layers whose channels cannot be, and why.
    pub refusals: Vec<(String, Uneven)>,
    /// ReLU6 that became ReLU, since a scaled channel would be clipped elsewhere than at 6: where it clipped before, the
    /// model now computes something else.
    pub relu6: Vec<String>,
}

/// A layer and those that read it.
#[derive(Clone, Debug, PartialEq)]
pub struct EqualizedPair {
    /// Whose output channels were divided.
    pub layer: String,
    /// Whose input channels were multiplied.
    pub readers: Vec<String>,
    /// The smallest and the largest of the scales.
    pub scales: (f32, f32),
}

/// Cross-layer equalization (Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction,
/// section 4.1): scales each output channel of a layer down and the weights that read it up, so that both have the same
/// range:
///
/// ```text
/// s_i = sqrt(r1_i / r2_i)      r1_i = max|W1[i, …]|, r2_i = max|W2[…, i]|
/// W1[i] / s_i    b1[i] / s_i    W2[.., i] * s_i
/// ```
///
/// round after round until nothing moves, so that it also goes across depthwise layers. What lies between the layers must
/// scale with its input: ReLU, pools, a squeeze-excitation's product. The float model computes the same but for rounding
/// (and see [`EqualizeReport::relu6`]); hardswish, SiLU and sums allow no scaling, which is said.
///
/// # Errors
/// [`QuantError::Graph`]: a check of what comes out.
pub fn equalize(fused: &Graph) -> Result<(Graph, EqualizeReport), QuantError> {
    let users = fused.users();
    let mut weights = Scalable::new(fused);
    let mut report = EqualizeReport::default();
    let mut pairs: Vec<(NodeId, Readers, Vec<f32>)> = Vec::new();
    for (id, node) in fused.iter().filter(|(id, _)| weights.has(*id)) {
        match readers(fused, &users, id) {
            Ok(found) => pairs.push((id, found, vec![1.0; weights.channels(id)])),
            Err(why) => report.refusals.push((node.name.clone(), why)),
        }
    }
    for _ in 0..ROUNDS {
        let mut moved = 0.0_f32;
        for (id, readers, scales) in &mut pairs {
            for (i, total) in scales.iter_mut().enumerate() {
                let own = weights.output_range(*id, i);
                let theirs = readers.layers.iter().map(|r| weights.input_range(*r, i)).fold(0.0, f32::max);
                let s = (own / theirs).sqrt();
                // A channel without weights on one side stays as it is.
                if !(s.is_finite() && s > 0.0) {
                    continue;
                }
                weights.scale_output(*id, i, 1.0 / s);
                readers.layers.iter().for_each(|r| weights.scale_input(*r, i, s));
                *total *= s;
                moved = moved.max((s - 1.0).abs());
            }
        }
        if moved < SETTLED {
            break;
        }
    }
    let mut next = weights.write(fused);
    let name = |id: &NodeId| fused.node(*id).name.clone();
    for (id, readers, scales) in &pairs {
        for relu6 in &readers.relu6 {
            next.nodes[relu6.index()].op = Op::Activation(Activation::Relu);
            report.relu6.push(name(relu6));
        }
        let ends = |f: fn(f32, f32) -> f32| scales.iter().copied().reduce(f).unwrap_or(1.0);
        report.pairs.push(EqualizedPair {
            layer: name(id),
            readers: readers.layers.iter().map(name).collect(),
            scales: (ends(f32::min), ends(f32::max)),
        });
    }
    graph::check(&next)?;
    Ok((next, report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, ConvSpec, Shape, Tensor, Weight};

    /// Two 1x1 convolutions with ReLU between, two channels each.
    fn pair(between: Activation) -> Graph {
        let (mut b, x) = Builder::new("pair", Shape::new(1, 1, 1));
        let y = b.conv("a", x, ConvSpec::new(2, 1).bias());
        let y = b.act("act", y, between);
        b.conv("b", y, ConvSpec::new(2, 1).bias());
        let mut graph = b.finish();
        let set = |graph: &mut Graph, name: &str, values: Vec<f32>, biases: Vec<f32>| {
            let id = graph.find(name).expect("a node");
            let Op::Conv2d(c) = &mut graph.nodes[id.index()].op else { panic!("a convolution") };
            c.weight = Weight::Float(Tensor::new(c.weight.shape(), values));
            c.bias = Some(Tensor::new([biases.len()], biases));
        };
        set(&mut graph, "a", vec![8.0, 0.5], vec![2.0, 1.0]);
        set(&mut graph, "b", vec![0.5, 2.0, -0.25, 1.0], vec![0.0, 3.0]);
        graph
    }

    fn weights(graph: &Graph, name: &str) -> (Vec<f32>, Vec<f32>) {
        let Op::Conv2d(c) = &graph.node(graph.find(name).expect("a node")).op else { panic!("a convolution") };
        (c.weight.float().expect("float").data.to_vec(), c.bias.as_ref().expect("a bias").data.to_vec())
    }

    #[test]
    fn both_sides_of_a_pair_get_the_same_ranges() {
        let (graph, report) = equalize(&pair(Activation::Relu)).expect("a float graph");
        // s = sqrt(8 / 0.5) = 4 and sqrt(0.5 / 2) = 0.5.
        assert_eq!(weights(&graph, "a"), (vec![2.0, 1.0], vec![0.5, 2.0]));
        assert_eq!(weights(&graph, "b"), (vec![2.0, 1.0, -1.0, 0.5], vec![0.0, 3.0]));
        assert_eq!(report.pairs[0].scales, (0.5, 4.0));
        assert_eq!((report.pairs[0].layer.as_str(), &report.pairs[0].readers[..]), ("a", &["b".to_owned()][..]));
        assert_eq!(report.refusals, [("b".to_owned(), Uneven::Output)]);
    }

    #[test]
    fn relu6_becomes_relu_and_hardswish_is_refused() {
        let (graph, report) = equalize(&pair(Activation::Relu6)).expect("a float graph");
        assert_eq!((report.relu6.as_slice(), report.pairs.len()), (&["act".to_owned()][..], 1));
        assert_eq!(graph.node(graph.find("act").expect("a node")).op, Op::Activation(Activation::Relu));
        let before = pair(Activation::Hardswish);
        let (graph, report) = equalize(&before).expect("a float graph");
        assert_eq!(graph, before);
        let said = report.refusals[0].1.to_string();
        assert!(report.pairs.is_empty() && said.contains("Hardswish") && said.contains("`act`"), "{said}");
    }
}
