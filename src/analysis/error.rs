use std::{collections::HashMap, ops::ControlFlow};

use crate::{
    exec::{ExecError, float::Model, int8::Plan},
    graph::{Graph, NodeId, QParams},
};

/// How far one layer's int8 output is from the float one, over all values of all images so far.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// The layer, by the name that it bears in both graphs.
    pub name: String,
    /// [`crate::graph::Op::name`].
    pub op: &'static str,
    /// `10 * log10(sum(x^2) / sum((x - y)^2))`, infinite where both are equal.
    pub sqnr_db: f64,
    /// `sum(x * y) / sqrt(sum(x^2) * sum(y^2))`; 1 where both are zero throughout.
    pub cosine: f64,
    /// Mean of `(x - y)^2`.
    pub mse: f64,
}

/// Sums over the values `x` of float and `y` of int8.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    xx: f64,
    yy: f64,
    xy: f64,
    difference: f64,
    count: u64,
}

impl Sums {
    /// Of values in the same order.
    pub fn of(x: &[f32], y: &[f32]) -> Self {
        let mut sums = Self::default();
        x.iter().zip(y).for_each(|(x, y)| sums.add(*x, *y));
        sums
    }

    /// Takes in what other values summed to.
    pub fn merge(&mut self, other: &Self) {
        self.xx += other.xx;
        self.yy += other.yy;
        self.xy += other.xy;
        self.difference += other.difference;
        self.count += other.count;
    }

    /// Takes in one pair of values.
    pub fn add(&mut self, x: f32, y: f32) {
        let (x, y) = (f64::from(x), f64::from(y));
        self.xx += x * x;
        self.yy += y * y;
        self.xy += x * y;
        self.difference += (x - y) * (x - y);
        self.count += 1;
    }

    /// Mean of `(x - y)^2`; 0 before the first pair.
    pub fn mse(&self) -> f64 {
        self.difference / self.count.max(1) as f64
    }

    /// `10 * log10(sum(x^2) / sum((x - y)^2))`, infinite where both are equal.
    pub fn sqnr_db(&self) -> f64 {
        if self.difference == 0.0 { f64::INFINITY } else { 10.0 * (self.xx / self.difference).log10() }
    }

    /// `sum(x * y) / sqrt(sum(x^2) * sum(y^2))`; 1 where both are zero throughout.
    pub fn cosine(&self) -> f64 {
        match (self.xx == 0.0, self.yy == 0.0) {
            (true, true) => 1.0,
            (false, false) => self.xy / (self.xx.sqrt() * self.yy.sqrt()),
            (true, false) | (false, true) => 0.0,
        }
    }
}

/// Compares a converted graph with its fused float graph, node by node, image by image. An error is what has come together
/// up to a node: its own rounding, and those of all layers before it.
#[derive(Debug)]
pub struct ErrorMeter {
    /// The float graph's nodes that the converted graph has too.
    layers: Vec<Layer>,
    /// Position in `layers` by the node of the converted graph, and how its levels become values.
    converted: HashMap<NodeId, (usize, Option<QParams>)>,
    float: Vec<Option<usize>>,
    /// What float computed of the image at hand.
    values: Vec<Vec<f32>>,
}

#[derive(Debug)]
struct Layer {
    name: String,
    op: &'static str,
    sums: Sums,
}

/// What runs the converted graph.
#[derive(Debug)]
pub enum Runner {
    /// On integers.
    Int8(Box<Plan>),
    /// In float, on int8's levels.
    Fake(Box<Model>),
}

impl ErrorMeter {
    /// For a fused float graph and what it was converted to.
    pub fn new(float: &Graph, converted: &Graph) -> Self {
        let mut meter = Self {
            layers: Vec::new(),
            converted: HashMap::new(),
            float: vec![None; float.nodes.len()],
            values: Vec::new(),
        };
        for (id, node) in float.iter().filter(|(_, node)| !node.inputs.is_empty()) {
            let Some(twin) = converted.find(&node.name) else { continue };
            let numeric = converted.node(twin).numeric;
            let quantized = matches!(numeric, crate::graph::Numeric::Int8(_) | crate::graph::Numeric::FakeQuantized(_));
            if quantized {
                meter.float[id.index()] = Some(meter.layers.len());
                meter.converted.insert(twin, (meter.layers.len(), numeric.qparams()));
                meter.layers.push(Layer { name: node.name.clone(), op: node.op.name(), sums: Sums::default() });
            }
        }
        meter.values = vec![Vec::new(); meter.layers.len()];
        meter
    }

    /// Takes in one image, normalized float32, `[c, h, w]`.
    ///
    /// # Errors
    /// Those of running it.
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn add(&mut self, float: &Model, converted: &mut Runner, image: &[f32]) -> Result<(), ExecError> {
        let Self { layers, converted: twins, float: places, values } = self;
        float.run_traced(image, 1, &|id| places[id.index()].is_some(), &mut |id, activation| {
            if let Some(place) = places[id.index()] {
                values[place].clear();
                values[place].extend_from_slice(activation.as_slice());
            }
            ControlFlow::Continue(())
        })?;
        match converted {
            Runner::Int8(plan) => {
                plan.run_traced(image, 1, &mut |id, levels| {
                    let Some((place, Some(q))) = twins.get(&id) else { return };
                    let sums = &mut layers[*place].sums;
                    values[*place].iter().zip(levels).for_each(|(x, level)| sums.add(*x, q.dequantize(*level)));
                })?;
            }
            Runner::Fake(model) => {
                model.run_traced(image, 1, &|id| twins.contains_key(&id), &mut |id, activation| {
                    if let Some((place, _)) = twins.get(&id) {
                        let sums = &mut layers[*place].sums;
                        values[*place].iter().zip(activation.as_slice()).for_each(|(x, y)| sums.add(*x, *y));
                    }
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(())
    }

    /// The errors so far, in the order of the graph.
    pub fn errors(&self) -> Vec<LayerError> {
        let error = |l: &Layer| LayerError {
            name: l.name.clone(),
            op: l.op,
            sqnr_db: l.sums.sqnr_db(),
            cosine: l.sums.cosine(),
            mse: l.sums.mse(),
        };
        self.layers.iter().map(error).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqnr_and_cosine_are_their_formulas() {
        let mut sums = Sums::default();
        [(3.0, 2.0), (-4.0, -4.0)].into_iter().for_each(|(x, y)| sums.add(x, y));
        assert!((sums.sqnr_db() - 10.0 * 25f64.log10()).abs() < 1e-12);
        assert_eq!(sums.mse(), 0.5);
        assert!((sums.cosine() - 22.0 / (25f64 * 20.0).sqrt()).abs() < 1e-12);
        let same = Sums::default();
        assert_eq!((same.sqnr_db(), same.cosine()), (f64::INFINITY, 1.0));
    }
}
