//! A training loop in PyTorch.

use super::CodeJob;
use super::images::{dataset, transform};
use crate::train::{Optimizer, TrainConfig};

/// The images and the loop of a training with the choices of `config`, in float or with fake quantization; `each_epoch` is
/// what an epoch starts with, indented, once the model is in training mode.
pub(super) fn code(job: &CodeJob<'_>, config: &TrainConfig, each_epoch: &str) -> String {
    // Rates are products such as 3e-3 times 0.1: single precision prints what was meant.
    let rate = config.learning_rate as f32;
    let optimizer = match config.optimizer {
        Optimizer::AdamW { weight_decay } => {
            format!("torch.optim.AdamW(model.parameters(), lr={rate}, weight_decay={weight_decay})")
        }
        Optimizer::Sgd { momentum, weight_decay, nesterov } => format!(
            "torch.optim.SGD(\n    model.parameters(), lr={rate}, momentum={momentum}, weight_decay={weight_decay}, nesterov={})",
            if nesterov { "True" } else { "False" }
        ),
    };
    let augment = if config.augment { "# Octet also flips and shifts the images at random.\n" } else { "" };
    let (transform, dataset) = (transform(job.preprocess, &job.recipe.data), dataset(&job.recipe.data));
    let TrainConfig { batch, warmup, epochs, label_smoothing, .. } = config;
    format!(
        "{transform}images = torch.utils.data.DataLoader(\n    {dataset},\n    batch_size={batch}, shuffle=True, drop_last=True)\n{augment}\
         optimizer = {optimizer}\n\nsteps = len(images)\nwarmup = int({warmup} * steps)\n\
         schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [\n\
         \x20   torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=warmup),\n\
         \x20   torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, {epochs} * steps - warmup),\n], [warmup])\n\n\
         for epoch in range({epochs}):\n    model.train()\n{each_epoch}    for x, y in images:\n        optimizer.zero_grad()\n        \
         loss = torch.nn.functional.cross_entropy(model(x), y, label_smoothing={label_smoothing})\n        loss.backward()\n        \
         optimizer.step()\n        schedule.step()\nmodel.eval()\n"
    )
}
