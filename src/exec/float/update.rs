//! What training does on a GPU beside forward and backward, so that nothing but the loss leaves it.

use candle_core::{Result as Candle, Tensor};

use super::{
    ops::{change2, map2, runs_programs},
    trainable::Pass,
    walk::live,
};
use crate::{exec::ExecError, graph::NodeId, kernels::cuda};

/// A batch's loss on the device.
#[derive(Debug)]
pub struct Loss {
    /// The mean's gradient by the logits, then each image's loss and whether it is right.
    all: Tensor,
    images: usize,
    classes: usize,
}

impl Loss {
    /// The gradient by the logits, `[images * classes]`.
    pub(super) fn gradient(&self) -> Candle<Tensor> {
        self.all.narrow(0, 0, self.images * self.classes)
    }

    /// Mean loss, and how many images' largest logit is their label's; waits for the device.
    ///
    /// # Errors
    /// [`ExecError::Candle`] where the device fails.
    pub fn read(&self) -> Result<(f32, usize), ExecError> {
        let pairs = self.all.narrow(0, self.images * self.classes, 2 * self.images)?.to_vec1::<f32>()?;
        let (sum, correct) = pairs
            .chunks_exact(2)
            .fold((0.0, 0), |(sum, correct), pair| (sum + f64::from(pair[0]), correct + usize::from(pair[1] > 0.5)));
        Ok(((sum / self.images as f64) as f32, correct))
    }
}

impl Pass {
    /// Cross-entropy on the device, as `torch.nn.CrossEntropyLoss(label_smoothing=...)`; `None` on the CPU. Labels are
    /// below the number of classes.
    ///
    /// # Errors
    /// [`ExecError::Candle`] where the device fails.
    pub fn cross_entropy(&self, labels: &[usize], smoothing: f32) -> Result<Option<Loss>, ExecError> {
        let logits = live(&self.values, NodeId(self.values.len() as u32 - 1));
        if !runs_programs(logits.device()) {
            return Ok(None);
        }
        let images = labels.len();
        let classes = logits.elem_count() / images;
        // Whole numbers up to 2^24 are floats as well.
        let labels: Vec<f32> = labels.iter().map(|l| *l as f32).collect();
        let labels = Tensor::from_vec(labels, images, logits.device())?;
        let program = || cuda::cross_entropy(images, classes, smoothing);
        let all = map2("cross-entropy", [logits, &labels], images * (classes + 2), on_gpu_only2, program)?;
        Ok(Some(Loss { all, images, classes }))
    }
}

fn on_gpu_only2(_: &[f32], _: &[f32], _: &mut [f32]) {
    unreachable!("the CPU has its own loss")
}

fn on_gpu_only(_: &mut [f32], _: &[f32], _: &[f32]) {
    unreachable!("the CPU's optimizer steps in one pass")
}

/// Whether an optimizer is to step by [`sgd`] and [`adamw`].
pub fn steps_on_device(parameter: &Tensor) -> bool {
    runs_programs(parameter.device())
}

/// A step of SGD in place: `p` by its gradient `g`; `velocity` is as long. `rates` are the learning rate, momentum and weight
/// decay.
///
/// # Errors
/// Where the device fails.
pub fn sgd([p, g, velocity]: [&Tensor; 3], rates: [f32; 3], nesterov: bool, first: bool) -> Candle<()> {
    let len = p.elem_count();
    let [_, momentum, decay] = rates;
    let kept = if first { 0.0 } else { momentum };
    change2("velocity", velocity, [g, p], on_gpu_only, || cuda::sgd_velocity(len, kept, decay))?;
    change2("optimizer step", p, [g, velocity], on_gpu_only, || cuda::sgd_step(len, rates, nesterov))
}

/// A step of AdamW in place; `moments` are `[2 * p.len()]`.
///
/// # Errors
/// Where the device fails.
pub fn adamw([p, g, moments]: [&Tensor; 3], betas: [f32; 2], rates: AdamWRates) -> Candle<()> {
    let len = p.elem_count();
    change2("moments", moments, [g, p], on_gpu_only, || cuda::adamw_moments(len, betas))?;
    let AdamWRates { rate, root, kept, eps, relative } = rates;
    let program = || cuda::adamw_step(len, [rate, root, kept, eps], relative);
    change2("optimizer step", p, [moments, g], on_gpu_only, program)
}

/// `p = kept * p - rate * m / (sqrt(v) / root + eps)`; where `relative`, the step is times `|kept * p|`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the formula says it")]
pub struct AdamWRates {
    pub rate: f32,
    pub root: f32,
    pub kept: f32,
    pub eps: f32,
    pub relative: bool,
}
