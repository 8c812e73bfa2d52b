//! Accuracy, bytes and milliseconds.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::state::Reporter;
use super::{Opened, SessionError};
use crate::analysis::Saturation;
use crate::data::{Preprocess, Skipped, Split};
use crate::exec::float::{Device, Model};
use crate::exec::int8::Plan;
use crate::graph::Graph;
use crate::weights;

/// Images a batch while measuring accuracy.
const BATCH: usize = 64;
/// Single-image runs whose median is the latency; fewer where one takes long.
const LATENCY_RUNS: usize = 25;
/// Seconds after which the latency is taken from the runs so far.
const LATENCY_SECONDS: f64 = 1.5;

/// One side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Fraction of the held-out images that it names rightly, where labels allow.
    pub accuracy: Option<f64>,
    /// Size of its file.
    pub bytes: u64,
    /// Median time of one image, from float pixels to logits.
    pub latency_ms: f64,
}

/// The result of a run, all of the reloaded file.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The int8 file.
    pub file: PathBuf,
    /// Held-out images that accuracy was measured on.
    pub images: usize,
    /// float32.
    pub float: Side,
    /// int8.
    pub int8: Side,
    /// `float.bytes / int8.bytes`.
    pub shrink: f64,
    /// Which layers would overflow 16 bits on other engines.
    pub saturation: Saturation,
}

/// Any way to run a network: `[batch, 3, size, size]` and the batch in, `[batch, classes]` out.
pub(super) type Logits<'a> = dyn FnMut(&[f32], usize) -> Result<Vec<f32>, SessionError> + 'a;

/// Hears how many images were seen and which could not be read; an error ends the work.
type Ask<'a> = dyn FnMut(usize, &[Skipped]) -> Result<(), SessionError> + 'a;

/// A few images, ready for a network.
pub(super) struct Inputs {
    pub images: Vec<f32>,
    pub count: usize,
}

impl Inputs {
    /// The first readable images of a split.
    pub fn first(split: &Split, count: usize, preprocess: &Preprocess, source: &str) -> Result<Self, SessionError> {
        Self::of((0..split.len()).collect(), split, count, preprocess, source)
    }

    /// Readable images of a split in this order.
    pub fn of(
        order: Vec<usize>,
        split: &Split,
        count: usize,
        preprocess: &Preprocess,
        source: &str,
    ) -> Result<Self, SessionError> {
        for batch in split.batches(order, count, preprocess, None) {
            if !batch.is_empty() {
                return Ok(Self { count: batch.indices.len(), images: batch.images });
            }
        }
        Err(SessionError::NothingToSee { path: source.to_owned() })
    }
}

/// Held-out accuracy of a float graph; `None` where labels do not allow one.
pub(super) fn float_accuracy(
    opened: &Opened,
    graph: &Graph,
    device: &Device,
    to: &mut Reporter<'_>,
) -> Result<Option<f64>, SessionError> {
    let model = Model::new(graph, device)?;
    accuracy(opened, "Measuring float", &mut |images, batch| Ok(model.run(images, batch)?), to)
}

/// Held-out accuracy of a fake-quantized graph; `None` where labels do not allow one.
pub(super) fn fake_accuracy(
    opened: &Opened,
    graph: &Graph,
    device: &Device,
    to: &mut Reporter<'_>,
) -> Result<Option<f64>, SessionError> {
    let model = Model::new(graph, device)?;
    accuracy(opened, "Measuring fake quantization", &mut |images, batch| Ok(model.run(images, batch)?), to)
}

/// Held-out accuracy of an int8 plan; `None` where labels do not allow one.
pub(super) fn int8_accuracy(
    opened: &Opened,
    plan: &mut Plan,
    to: &mut Reporter<'_>,
) -> Result<Option<f64>, SessionError> {
    int8_accuracy_and_ties(opened, plan, to).map(|(accuracy, _)| accuracy)
}

/// The same, and on how many of the images two classes share the largest logit.
pub(super) fn int8_accuracy_and_ties(
    opened: &Opened,
    plan: &mut Plan,
    to: &mut Reporter<'_>,
) -> Result<(Option<f64>, usize), SessionError> {
    let mut tied = 0;
    let mut run = |images: &[f32], batch| {
        let logits = plan.run(images, batch);
        tied += logits.chunks_exact(opened.classes).filter(|row| is_tied(row)).count();
        Ok(logits)
    };
    let accuracy = accuracy(opened, "Measuring int8", &mut run, to)?;
    Ok((accuracy, tied))
}

fn is_tied(logits: &[f32]) -> bool {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().filter(|l| **l == largest).count() > 1
}

fn accuracy(
    opened: &Opened,
    what: &'static str,
    logits: &mut Logits<'_>,
    to: &mut Reporter<'_>,
) -> Result<Option<f64>, SessionError> {
    if opened.why_no_accuracy().is_some() {
        return Ok(None);
    }
    let (accuracy, _) = accuracy_of(opened, logits, &mut |seen, skipped| {
        to.unreadable(opened, skipped);
        to.progress(what, seen, opened.dataset.valid.len());
        to.checkpoint()
    })?;
    Ok(Some(accuracy))
}

/// Fraction of the held-out images whose largest logit is their label's, and how many could be read. Before each batch
/// `ask` hears how many were seen and which could not be read, and may end it.
pub(super) fn accuracy_of(
    opened: &Opened,
    logits: &mut Logits<'_>,
    ask: &mut Ask<'_>,
) -> Result<(f64, usize), SessionError> {
    let split = &opened.dataset.valid;
    let (mut right, mut seen) = (0, 0);
    for batch in split.batches((0..split.len()).collect(), BATCH, &opened.preprocess, None) {
        opened.require_there(batch.len(), &batch.skipped)?;
        ask(seen, &batch.skipped)?;
        if batch.is_empty() {
            continue;
        }
        let logits = logits(&batch.images, batch.indices.len())?;
        for (row, label) in logits.chunks_exact(opened.classes).zip(&batch.labels) {
            right += usize::from(argmax(row)? == *label);
        }
        seen += batch.indices.len();
    }
    if seen == 0 {
        return Err(SessionError::NothingToSee { path: opened.source.clone() });
    }
    Ok((right as f64 / seen as f64, seen))
}

/// Index of the largest logit, the first of equals.
pub(super) fn argmax(row: &[f32]) -> Result<usize, SessionError> {
    if row.iter().any(|v| v.is_nan()) {
        return Err(SessionError::NotANumber);
    }
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    Ok(best)
}

/// Median milliseconds of one image.
pub(super) fn latency_ms(
    run: &mut dyn FnMut() -> Result<(), SessionError>,
    to: &Reporter<'_>,
) -> Result<f64, SessionError> {
    run()?;
    let begin = Instant::now();
    let mut times = Vec::with_capacity(LATENCY_RUNS);
    while times.len() < LATENCY_RUNS && (times.len() < 3 || begin.elapsed().as_secs_f64() < LATENCY_SECONDS) {
        to.checkpoint()?;
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Bytes of the float model's file, from a file really written (beside `near`) and removed again.
///
/// # Errors
/// Those of writing it.
pub fn float_bytes(graph: &Graph, near: &Path) -> Result<u64, SessionError> {
    Ok(weights::safetensors_bytes(near, graph)?)
}
