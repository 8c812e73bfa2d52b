use super::program::{
    Buffer::{Input, Output},
    Program,
};

/// Cross-entropy of logits and labels (as floats): the gradient of the mean, `[images, classes]`, then each image's loss and
/// whether it is right, `[images, 2]`. `smoothing` is spread over all classes.
pub fn cross_entropy(images: usize, classes: usize, smoothing: f32) -> Program {
    let (low, high) = (smoothing / classes as f32, 1.0 - smoothing);
    Program::of(
        "cross_entropy",
        images,
        [Input(0).into(), Input(1).into(), Output.into(), low.into(), high.into(), classes.into()],
    )
}

/// SGD's velocity, in place, from the gradient and the parameter: `kept * velocity + (gradient + decay * parameter)`.
pub fn sgd_velocity(len: usize, kept: f32, decay: f32) -> Program {
    Program::of("sgd_velocity", len, [Output.into(), Input(0).into(), Input(1).into(), kept.into(), decay.into()])
}

/// SGD's step, in place, from the gradient and the moved velocity; `rates` are the learning rate, momentum and decay.
pub fn sgd_step(len: usize, rates: [f32; 3], nesterov: bool) -> Program {
    let [rate, momentum, decay] = rates;
    Program::of(
        "sgd_step",
        len,
        [Output.into(), Input(0).into(), Input(1).into(), rate.into(), momentum.into(), decay.into(), nesterov.into()],
    )
}

/// AdamW's two moments, `[2, len]`, in place, from the gradient.
pub fn adamw_moments(len: usize, betas: [f32; 2]) -> Program {
    Program::of("adamw_moments", len, [Output.into(), Input(0).into(), betas[0].into(), betas[1].into()])
}

/// AdamW's step, in place, from the moved moments: `kept * p - rate * m / (sqrt(v) / root + eps)`; where `relative`, the
/// step is times `|kept * p|`.
pub fn adamw_step(len: usize, [rate, root, kept, eps]: [f32; 4], relative: bool) -> Program {
    Program::of(
        "adamw_step",
        len,
        [Output.into(), Input(0).into(), rate.into(), root.into(), kept.into(), eps.into(), relative.into()],
    )
}
