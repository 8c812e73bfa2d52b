//! Observers: they see what each observed node computes, batch after batch, and turn it into a scale and a zero point.
//! Plain data: tensors are asked for their extremes and histogram through [`Values`].

mod effect;
mod entropy;
mod histogram;
mod mse;
mod percentile;
mod range;
mod search;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;

use super::QuantError;
use crate::graph::{ActivationSpec, Graph, NodeId, Numeric, ObserverKind, QParams};

pub use effect::RangeEffect;
pub use histogram::{BINS, Histogram};
pub use range::Range;
pub use values::Values;

/// How far one batch moves a moving average: PyTorch's `averaging_constant`.
const AVERAGING: f32 = 0.01;

/// The observers of a prepared graph, by node.
#[derive(Clone, Debug)]
pub struct Observers {
    observers: BTreeMap<NodeId, Observer>,
}

#[derive(Clone, Debug)]
struct Observer {
    name: String,
    spec: ActivationSpec,
    state: State,
    history: Vec<Range>,
}

/// What an observer remembers; `None` before the first batch.
#[derive(Clone, Debug)]
enum State {
    MinMax(Option<Range>),
    MovingAverage(Option<Range>),
    Histogram(Option<Histogram>),
}

impl Observers {
    /// One observer for every node that [`super::prepare`] marked.
    ///
    /// # Errors
    /// [`QuantError::NotPrepared`] where there is none, [`QuantError::ActivationObserver`] for one that activations
    /// cannot have.
    pub fn new(prepared: &Graph) -> Result<Self, QuantError> {
        let mut observers = BTreeMap::new();
        for (id, node) in prepared.iter() {
            let Numeric::Observed(spec) = node.numeric else { continue };
            let state = match spec.observer {
                ObserverKind::MinMax => State::MinMax(None),
                ObserverKind::MovingAverageMinMax => State::MovingAverage(None),
                ObserverKind::Histogram | ObserverKind::Percentile | ObserverKind::Mse | ObserverKind::Entropy => {
                    State::Histogram(None)
                }
                ObserverKind::PerChannelMinMax => {
                    return Err(QuantError::ActivationObserver { found: spec.observer });
                }
            };
            observers.insert(id, Observer { name: node.name.clone(), spec, state, history: Vec::new() });
        }
        if observers.is_empty() {
            return Err(QuantError::NotPrepared { graph: prepared.name.clone() });
        }
        Ok(Self { observers })
    }

    /// Shows the observer of `node` one batch of its output; a node without an observer, or no values, change nothing.
    ///
    /// # Errors
    /// [`QuantError::NotFiniteActivation`] where a value is NaN or infinite; the observer stays as it was.
    pub fn observe(&mut self, node: NodeId, values: &dyn Values) -> Result<(), QuantError> {
        self.observers.get_mut(&node).map_or(Ok(()), |o| o.observe(values))
    }

    /// The nodes that are watched, in the order of the graph.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.observers.keys().copied()
    }

    /// What the observer of `node` has seen so far: its extremes, or their moving average.
    pub fn range(&self, node: NodeId) -> Option<Range> {
        self.observers.get(&node)?.range()
    }

    /// [`Observers::range`] after each batch, the first one first.
    pub fn history(&self, node: NodeId) -> &[Range] {
        self.observers.get(&node).map_or(&[], |o| &o.history)
    }

    /// What a histogram observer has counted so far.
    pub fn histogram(&self, node: NodeId) -> Option<&Histogram> {
        match &self.observers.get(&node)?.state {
            State::Histogram(histogram) => histogram.as_ref(),
            State::MinMax(_) | State::MovingAverage(_) => None,
        }
    }

    /// Every observer: its node's name, what it is, and the range it has seen.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &ActivationSpec, Option<Range>)> {
        self.observers.values().map(|o| (o.name.as_str(), &o.spec, o.range()))
    }

    /// The range that the levels would span, were calibration to end now: within [`Observers::range`] where a histogram
    /// clips. Milliseconds for a histogram.
    pub fn clip(&self, node: NodeId) -> Option<Range> {
        self.observers.get(&node)?.clip()
    }

    /// The same of what was seen alone, whatever range the user has set.
    pub fn own_clip(&self, node: NodeId) -> Option<Range> {
        self.observers.get(&node)?.own_clip()
    }

    /// How the observer of `node` makes levels.
    pub fn spec(&self, node: NodeId) -> Option<&ActivationSpec> {
        self.observers.get(&node).map(|o| &o.spec)
    }

    /// The same observers with the range of `node` set by hand, or (`None`) by what was seen again.
    pub fn with_fixed(&self, node: NodeId, fixed: Option<Range>) -> Self {
        let mut next = self.clone();
        if let Some(observer) = next.observers.get_mut(&node) {
            observer.spec.fixed = fixed.map(|r| [r.min, r.max]);
        }
        next
    }

    /// The same observers for another preparation of the same model: each node is watched as `prepared` says, by what was
    /// seen of it already. Behind a node that is left in float its border sees what the node gives. Kept histograms serve
    /// every observer but moving averages.
    pub fn respecified(&self, prepared: &Graph) -> Self {
        let by_name: BTreeMap<&str, &Observer> = self.observers.values().map(|o| (o.name.as_str(), o)).collect();
        let mut observers = BTreeMap::new();
        for (id, node) in prepared.iter() {
            let Numeric::Observed(spec) = node.numeric else { continue };
            let behind = node.inputs.first().map(|i| prepared.node(*i).name.as_str());
            let seen = by_name.get(node.name.as_str()).or_else(|| behind.and_then(|name| by_name.get(name)));
            if let Some(seen) = seen {
                observers.insert(id, Observer { name: node.name.clone(), spec, ..(*seen).clone() });
            }
        }
        Self { observers }
    }

    /// What levels over `range` would do to the values seen; `None` where no histogram was kept.
    pub fn effect(&self, node: NodeId, range: Range) -> Option<RangeEffect> {
        Some(RangeEffect::of(self.histogram(node)?, range, self.spec(node)?))
    }

    /// Scale and zero point of every observed node, by name.
    ///
    /// # Errors
    /// [`QuantError::NotCalibrated`] naming every node that saw no data.
    pub fn qparams(&self) -> Result<BTreeMap<String, QParams>, QuantError> {
        let mut qparams = BTreeMap::new();
        let mut nodes = Vec::new();
        for observer in self.observers.values() {
            match observer.clip() {
                Some(range) => {
                    qparams.insert(observer.name.clone(), range.qparams(&observer.spec));
                }
                None => nodes.push(observer.name.clone()),
            }
        }
        if nodes.is_empty() { Ok(qparams) } else { Err(QuantError::NotCalibrated { nodes }) }
    }
}

impl Observer {
    fn observe(&mut self, values: &dyn Values) -> Result<(), QuantError> {
        let (min, max) = values.min_max();
        if min == f32::INFINITY && max == f32::NEG_INFINITY {
            return Ok(());
        }
        if !(min.is_finite() && max.is_finite()) {
            return Err(QuantError::NotFiniteActivation { node: self.name.clone(), min, max });
        }
        let new = Range { min, max };
        match &mut self.state {
            State::MinMax(seen) => *seen = Some(seen.map_or(new, |old| old.union(new))),
            State::MovingAverage(seen) => *seen = Some(seen.map_or(new, |old| old.toward(new, AVERAGING))),
            State::Histogram(None) => self.state = State::Histogram(Some(Histogram::first(new, values))),
            State::Histogram(Some(histogram)) => histogram.add(new, values),
        }
        self.history.extend(self.range());
        Ok(())
    }

    fn range(&self) -> Option<Range> {
        match &self.state {
            State::MinMax(range) | State::MovingAverage(range) => *range,
            State::Histogram(histogram) => histogram.as_ref().map(|h| h.range),
        }
    }

    fn clip(&self) -> Option<Range> {
        match self.spec.fixed {
            Some([min, max]) => self.range().map(|_| Range { min, max }),
            None => self.own_clip(),
        }
    }

    /// What it would take, had the user set nothing.
    fn own_clip(&self) -> Option<Range> {
        match &self.state {
            State::MinMax(range) | State::MovingAverage(range) => *range,
            State::Histogram(histogram) => histogram.as_ref().map(|h| clip(h, &self.spec)),
        }
    }
}

/// Where an observer that keeps a histogram cuts it.
fn clip(histogram: &Histogram, spec: &ActivationSpec) -> Range {
    match spec.observer {
        ObserverKind::Percentile => percentile::percentile_clip(histogram, spec.percentile),
        ObserverKind::Mse => mse::mse_clip(histogram, spec),
        ObserverKind::Entropy => entropy::entropy_clip(histogram, spec),
        ObserverKind::Histogram => search::best_clip(histogram),
        // They keep no histogram.
        ObserverKind::MinMax | ObserverKind::MovingAverageMinMax | ObserverKind::PerChannelMinMax => histogram.range,
    }
}
