//! The accuracy that a model would have if it were converted now: on a sample of held-out images, while calibrating and
//! while a range is dragged.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::measure::{Logits, argmax};
use super::{Opened, SessionError};
use crate::exec::float::{Device, Model};
use crate::exec::int8::{Plan, PlanOptions};
use crate::graph::{Graph, NodeId, QParams};
use crate::quant::{self, Observers, QConfig, Range, Study};

/// Images of a sample, and the bytes that they may take.
const IMAGES: usize = 256;
const BYTES: usize = 64 << 20;
/// How often a calibration looks ahead, whatever its length.
const LOOKS: usize = 8;
/// Seconds that the looks of one calibration may take whatever it takes itself; beyond, no more than half of the time.
const FREE_SECONDS: f64 = 10.0;
/// Images between two looks at whether to go on.
const BATCH: usize = 16;

/// Labelled held-out images, ready for a model, spread evenly over the split: a folder's images come class by class.
#[derive(Debug)]
pub(super) struct Sample {
    images: Vec<f32>,
    labels: Vec<usize>,
}

impl Sample {
    /// `None` where labels do not allow an accuracy, or no image can be read.
    pub fn held_out(opened: &Opened) -> Option<Self> {
        let split = &opened.dataset.valid;
        if opened.why_no_accuracy().is_some() || split.is_empty() {
            return None;
        }
        let image = 3 * opened.preprocess.size * opened.preprocess.size;
        let count = split.len().min(IMAGES).min((BYTES / (size_of::<f32>() * image)).max(1));
        let order: Vec<usize> = (0..count).map(|i| i * split.len() / count).collect();
        let mut sample = Self { images: crate::buffers::with_capacity(count * image), labels: Vec::new() };
        for batch in split.batches(order, BATCH, &opened.preprocess, None) {
            sample.images.extend(batch.images);
            sample.labels.extend(batch.labels);
        }
        (!sample.labels.is_empty()).then_some(sample)
    }

    fn batches(&self) -> impl Iterator<Item = (&[f32], &[usize])> {
        let image = self.images.len() / self.labels.len();
        self.images.chunks(BATCH * image).zip(self.labels.chunks(BATCH))
    }

    /// Runs what `graph` becomes with these observers, and says after each batch how many were right of how many.
    fn run(
        &self,
        (graph, qparams, qconfig): (&Graph, &BTreeMap<String, QParams>, &QConfig),
        opened: &Opened,
        hear: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(), SessionError> {
        let mut int8;
        let fake;
        let logits: &mut Logits<'_> = match qconfig.study() {
            Some(Study::AffineWeights) => {
                let (graph, _) = quant::fake_quantize(graph, qparams, qconfig)?;
                fake = Model::new(&graph, &Device::Cpu)?;
                &mut |images, batch| Ok(fake.run(images, batch)?)
            }
            Some(Study::FewerBits { .. }) | None => {
                let (graph, _) = quant::convert(graph, qparams, qconfig)?;
                // One thread: what it looks ahead for may want the others.
                int8 = Plan::new(&graph, &PlanOptions::default())?;
                &mut |images, batch| Ok(int8.run(images, batch))
            }
        };
        let (mut right, mut seen) = (0, 0);
        for (images, labels) in self.batches() {
            for (row, label) in logits(images, labels.len())?.chunks_exact(opened.classes).zip(labels) {
                right += usize::from(argmax(row)? == *label);
            }
            seen += labels.len();
            if hear(right, seen).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a look ahead found.
pub(super) struct Look {
    /// Fraction of the sample that was named rightly.
    pub accuracy: f64,
    /// The range that each observer would take.
    pub clips: BTreeMap<NodeId, Range>,
}

/// Looks ahead a few times while a calibration goes on.
pub(super) struct Foresight {
    sample: Sample,
    every: usize,
    batches: usize,
    seen: usize,
    begin: Instant,
    /// Seconds that looking took so far.
    spent: f64,
}

impl Foresight {
    /// For a calibration of so many batches.
    pub fn new(opened: &Opened, batches: usize) -> Option<Self> {
        let every = batches.div_ceil(LOOKS).max(1);
        Some(Self { sample: Sample::held_out(opened)?, every, batches, seen: 0, begin: Instant::now(), spent: 0.0 })
    }

    /// Images in the sample.
    pub fn sample(&self) -> usize {
        self.sample.labels.len()
    }

    /// What is there now, where it is time for a look: after every few batches, and after the last.
    pub fn after_a_batch(
        &mut self,
        graph: &Graph,
        observers: &Observers,
        qconfig: &QConfig,
        opened: &Opened,
    ) -> Result<Option<Look>, SessionError> {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.every) && self.seen != self.batches {
            return Ok(None);
        }
        if self.spent > FREE_SECONDS.max(self.begin.elapsed().as_secs_f64() / 2.0) {
            return Ok(None);
        }
        let start = Instant::now();
        let mut found = (0, 0);
        let clips: BTreeMap<NodeId, Range> = observers.nodes().filter_map(|n| Some((n, observers.clip(n)?))).collect();
        let name = |n: NodeId| graph.node(n).name.clone();
        let spec = |n: NodeId| observers.spec(n).copied();
        let qparams = clips.iter().filter_map(|(n, range)| Some((name(*n), range.qparams(&spec(*n)?))));
        let qparams: BTreeMap<String, QParams> = qparams.collect();
        self.sample.run((graph, &qparams, qconfig), opened, &mut |right, seen| {
            found = (right, seen);
            ControlFlow::Continue(())
        })?;
        self.spent += start.elapsed().as_secs_f64();
        Ok(Some(Look { accuracy: found.0 as f64 / found.1.max(1) as f64, clips }))
    }
}

/// How many of a sample a model would name rightly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleScore {
    /// Named rightly.
    pub right: usize,
    /// Looked at.
    pub seen: usize,
    /// In the sample.
    pub of: usize,
}

/// What a calibrated model would be worth with another range on one node; for a [`super::Probe`]. Holds its sample, which
/// is read once.
#[derive(Clone, Debug)]
pub struct WhatIf {
    /// Where the sample is from.
    pub opened: Arc<Opened>,
    /// The prepared graph.
    pub graph: Arc<Graph>,
    /// What its observers saw.
    pub observers: Arc<Observers>,
    /// The choices.
    pub qconfig: QConfig,
    sample: Arc<OnceLock<Option<Sample>>>,
}

impl WhatIf {
    /// Of one calibration.
    pub fn new(opened: Arc<Opened>, graph: Arc<Graph>, observers: Arc<Observers>, qconfig: QConfig) -> Self {
        Self { opened, graph, observers, qconfig, sample: Arc::default() }
    }

    /// The accuracy on the sample with `range` on `node`, or (`None`) with what was seen; handed over as it grows, until
    /// `emit` breaks off. Says nothing where labels do not allow an accuracy.
    ///
    /// # Errors
    /// Those of converting and running.
    pub fn run(
        &self,
        node: NodeId,
        range: Option<Range>,
        emit: &mut dyn FnMut(SampleScore) -> ControlFlow<()>,
    ) -> Result<(), SessionError> {
        let Some(sample) = self.sample.get_or_init(|| Sample::held_out(&self.opened)) else { return Ok(()) };
        let observers = self.observers.with_fixed(node, range);
        let of = sample.labels.len();
        let qparams = observers.qparams()?;
        sample.run((&self.graph, &qparams, &self.qconfig), &self.opened, &mut |right, seen| {
            emit(SampleScore { right, seen, of })
        })
    }
}
