use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::{Augment, Preprocess, Skipped, Split};
use crate::buffers;

/// Images ready for a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// `[images, 3, size, size]`, normalized.
    pub images: Vec<f32>,
    /// One a readable image; empty where the split has no labels.
    pub labels: Vec<usize>,
    /// Which images of the split these are. May be empty, where none of them could be read.
    pub indices: Vec<usize>,
    /// Which could not be read, and are not in `images`.
    pub skipped: Vec<Skipped>,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// Batches in order; made by [`Split::batches`].
///
/// Worker `w` of `n` makes batches `w`, `w + n`, … and waits while one of them lies unfetched: the memory is bounded,
/// and asking the workers in turn gives the order back.
#[derive(Debug)]
pub struct Batches {
    channels: Vec<Receiver<Batch>>,
    workers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    next: usize,
    count: usize,
}

const MAX_WORKERS: usize = 8;
/// What the system refuses with a thread: its stack.
const STACK: usize = 2 << 20;

struct Job {
    split: Split,
    order: Vec<usize>,
    batch: usize,
    preprocess: Preprocess,
    augment: Option<Augment>,
}

impl Batches {
    pub(super) fn start(
        split: Split,
        order: Vec<usize>,
        batch: usize,
        preprocess: Preprocess,
        augment: Option<Augment>,
    ) -> Self {
        let count = order.len().div_ceil(batch);
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS).min(count);
        let job = Arc::new(Job { split, order, batch, preprocess, augment });
        let stop = Arc::new(AtomicBool::new(false));
        let (mut channels, mut workers) = (Vec::new(), Vec::new());
        for first in 0..threads {
            let (sender, receiver) = sync_channel(1);
            let (job, stop) = (job.clone(), stop.clone());
            channels.push(receiver);
            let work = move || {
                for number in (first..count).step_by(threads) {
                    let Some(batch) = job.make(number, &stop) else { return };
                    if sender.send(batch).is_err() {
                        return;
                    }
                }
            };
            match thread::Builder::new().name("octet-images".to_owned()).spawn(work) {
                Ok(worker) => workers.push(worker),
                Err(_) => buffers::refuse(STACK),
            }
        }
        Self { channels, workers, stop, next: 0, count }
    }
}

impl Job {
    /// Batch `number`, or nothing once nobody waits for it.
    fn make(&self, number: usize, stop: &AtomicBool) -> Option<Batch> {
        let start = number * self.batch;
        let indices = &self.order[start..self.order.len().min(start + self.batch)];
        let mut batch = Batch::default();
        let values = indices.len() * 3 * self.preprocess.size * self.preprocess.size;
        batch.images = buffers::with_capacity(values);
        for &index in indices {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            match self.split.image(index) {
                Ok(image) => {
                    let mut fitted = self.preprocess.fit(&image);
                    if let Some(augment) = self.augment {
                        fitted = augment.apply(&fitted, index);
                    }
                    self.preprocess.normalize(&fitted, &mut batch.images);
                    batch.labels.extend(self.split.label(index));
                    batch.indices.push(index);
                }
                Err(error) => {
                    batch.skipped.push(Skipped { name: self.split.name(index), reason: error.to_string() });
                }
            }
        }
        Some(batch)
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.next == self.count {
            return None;
        }
        let worker = self.next % self.channels.len();
        self.next += 1;
        Some(self.channels[worker].recv().unwrap_or_else(|_| match self.workers.remove(worker).join() {
            // Decoders' panics are caught: the worker had no room for its batch.
            Err(panic) => resume_unwind(panic),
            Ok(()) => unreachable!("a worker sends each of its batches"),
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count - self.next, Some(self.count - self.next))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A worker that waits to send wakes when its receiver is gone.
        self.channels.clear();
        for worker in self.workers.drain(..) {
            // A panic was already seen by `next`, or nobody asked for its batch.
            let _ = worker.join();
        }
    }
}
