//! Step 6, last: which layers would overflow on other engines, counted on the user's images.

use super::state::Reporter;
use super::{Opened, SessionError};
use crate::analysis::{Saturation, SaturationDetector};
use crate::exec::int8::Plan;
use crate::graph::Graph;

/// Images that are counted: a layer that overflows at all does so on the first few.
const IMAGES: usize = 32;
/// Images between two looks at whether to go on.
const BATCH: usize = 4;

/// Counts on held-out images, or on training images where none are held out. `plan` is that of `graph`.
pub(super) fn saturation(
    opened: &Opened,
    graph: &Graph,
    plan: &mut Plan,
    to: &mut Reporter<'_>,
) -> Result<Saturation, SessionError> {
    const WHAT: &str = "Counting 16-bit overflows";
    let mut detector = SaturationDetector::new(graph);
    let split = if opened.dataset.valid.is_empty() { &opened.dataset.train } else { &opened.dataset.valid };
    // Evenly over the split: a folder's images come class by class.
    let total = split.len().min(IMAGES);
    let order = (0..total).map(|i| i * split.len() / total).collect();
    let mut seen = 0;
    for batch in split.batches(order, BATCH, &opened.preprocess, None) {
        to.progress(WHAT, seen, total);
        to.checkpoint()?;
        to.unreadable(opened, &batch.skipped);
        if !batch.is_empty() {
            detector.count(plan, &batch.images, batch.indices.len())?;
            seen += batch.indices.len();
        }
    }
    let found = detector.finish();
    let overflowing = found.overflowing().count();
    if overflowing > 0 {
        to.warn(format!(
            "{overflowing} of {} layers would overflow 16 bits on CPUs without VNNI under fbgemm, oneDNN or ONNX Runtime \
             (counted on {} images); here they never do.",
            found.layers.len(),
            found.images
        ));
    }
    Ok(found)
}
