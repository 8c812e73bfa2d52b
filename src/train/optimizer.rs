use std::cell::RefCell;

use candle_core::{CpuStorage, DType, Error, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

use super::{Optimizer, OptimizerState, TrainError};
use crate::exec::float::{
    Parameter,
    update::{self, AdamWRates},
};

/// Values a thread takes at a time.
const PART: usize = 32 * 1024;

/// An optimizer with the state it keeps for each parameter.
pub struct Stepper {
    rule: Optimizer,
    steps: i32,
    /// For each parameter: velocity (SGD), or first and second moment (AdamW).
    state: Vec<Slots>,
}

/// What is remembered of one parameter, where the parameter is.
enum Slots {
    Host([Vec<f32>; 2]),
    /// One behind the other; `None` of what is not trained.
    Device(Option<Tensor>),
}

impl Slots {
    /// What there is, on the host.
    fn read(&self, len: usize) -> Result<Vec<Vec<f32>>> {
        Ok(match self {
            Self::Host(slots) => slots.iter().filter(|s| !s.is_empty()).cloned().collect(),
            Self::Device(None) => Vec::new(),
            Self::Device(Some(slots)) => {
                slots.to_vec1::<f32>()?.chunks_exact(len.max(1)).map(<[f32]>::to_vec).collect()
            }
        })
    }
}

impl Stepper {
    /// State at zero for each trained parameter of [`crate::exec::float::Trainable::parameters`].
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(rule: Optimizer, parameters: &[Parameter]) -> Result<Self> {
        let state = parameters
            .iter()
            .map(|p| {
                let len = if p.is_trainable() { p.tensor.elem_count() } else { 0 };
                let second = match rule {
                    Optimizer::Sgd { .. } => 0,
                    Optimizer::AdamW { .. } => len,
                };
                if !update::steps_on_device(&p.tensor) {
                    return Ok(Slots::Host([vec![0.0; len], vec![0.0; second]]));
                }
                let slots = || Tensor::zeros(len + second, DType::F32, p.tensor.device());
                Ok(Slots::Device(p.is_trainable().then(slots).transpose()?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { rule, steps: 0, state })
    }

    /// What it remembers, by the keys of the parameters that it was made for.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn export(&self, parameters: &[Parameter]) -> Result<OptimizerState> {
        let slots = parameters.iter().zip(&self.state).filter(|(p, _)| p.is_trainable());
        let read = |(p, state): (&Parameter, &Slots)| Ok((p.key.clone(), state.read(p.tensor.elem_count())?));
        Ok(OptimizerState { steps: self.steps, slots: slots.map(read).collect::<Result<_>>()? })
    }

    /// Goes on from what [`Stepper::export`] gave.
    ///
    /// # Errors
    /// [`TrainError::Resume`] where it is of other parameters or of another optimizer.
    pub fn import(&mut self, parameters: &[Parameter], from: &OptimizerState) -> std::result::Result<(), TrainError> {
        for (parameter, state) in parameters.iter().zip(&mut self.state) {
            let expected: Vec<usize> = state.read(parameter.tensor.elem_count())?.iter().map(Vec::len).collect();
            if expected.is_empty() {
                continue;
            }
            let lengths = |slots: &[Vec<f32>]| slots.iter().map(Vec::len).collect::<Vec<_>>();
            let found = from.slots.get(&parameter.key).map_or(&[][..], Vec::as_slice);
            if lengths(found) != expected {
                return Err(TrainError::Resume {
                    detail: format!(
                        "the optimizer's state of `{}` has lengths {:?}, expected {expected:?}",
                        parameter.key,
                        lengths(found)
                    ),
                });
            }
            match state {
                Slots::Host(own) => own.iter_mut().zip(found).for_each(|(own, found)| own.copy_from_slice(found)),
                Slots::Device(own) => {
                    let all = found.concat();
                    *own = Some(Tensor::from_vec(all, expected.iter().sum::<usize>(), parameter.tensor.device())?);
                }
            }
        }
        self.steps = from.steps;
        Ok(())
    }

    /// Moves every parameter that has a gradient, in place.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn step(&mut self, parameters: &[Parameter], gradients: &[Option<Tensor>], lr: f64) -> Result<()> {
        self.steps += 1;
        for ((parameter, gradient), state) in parameters.iter().zip(gradients).zip(&mut self.state) {
            let Some(gradient) = gradient else { continue };
            let rule = if parameter.is_step_size() { self.rule.without_decay() } else { self.rule };
            let relative = parameter.is_step_size();
            let (lr, number) = (lr as f32, self.steps);
            match state {
                Slots::Host(state) => {
                    let step = Step { rule, lr, number, relative, state: RefCell::new(state) };
                    parameter.tensor.inplace_op2(gradient, &step)?;
                }
                Slots::Device(Some(state)) => {
                    device_step([&parameter.tensor, gradient, state], rule, lr, number, relative)?;
                }
                Slots::Device(None) => {}
            }
        }
        Ok(())
    }
}

/// One parameter's step on a GPU: the parameter, its gradient, and what is remembered of it.
fn device_step(tensors: [&Tensor; 3], rule: Optimizer, lr: f32, number: i32, relative: bool) -> Result<()> {
    match rule {
        Optimizer::Sgd { momentum, weight_decay, nesterov } => {
            update::sgd(tensors, [lr, momentum, weight_decay], nesterov, number == 1)
        }
        Optimizer::AdamW { weight_decay } => {
            let [first, second] = corrections(number);
            let (rate, root, kept) = (lr / first, second.sqrt(), 1.0 - lr * weight_decay);
            update::adamw(tensors, BETAS, AdamWRates { rate, root, kept, eps: EPS, relative })
        }
    }
}

/// One parameter's step: reads and writes everything once.
struct Step<'a> {
    rule: Optimizer,
    lr: f32,
    number: i32,
    /// Whether AdamW's rate is a share of the value: step sizes are small, and its steps do not see the size.
    relative: bool,
    state: RefCell<&'a mut [Vec<f32>; 2]>,
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let refuse = || Error::RequiresContiguous { op: "optimizer step" }.bt();
        let (CpuStorage::F32(values), CpuStorage::F32(gradient)) = (s1, s2) else { return Err(refuse()) };
        let (first, last) = l1.contiguous_offsets().ok_or_else(refuse)?;
        let values = &mut values[first..last];
        let (first, last) = l2.contiguous_offsets().ok_or_else(refuse)?;
        let gradient = &gradient[first..last];
        let mut state = self.state.borrow_mut();
        let [a, b] = &mut **state;
        let (lr, number) = (self.lr, self.number);
        let parts = values.par_chunks_mut(PART).zip(gradient.par_chunks(PART));
        match self.rule {
            Optimizer::Sgd { momentum, weight_decay, nesterov } => {
                parts.zip(a.par_chunks_mut(PART)).for_each(|((p, g), velocity)| {
                    sgd(p, g, velocity, [lr, momentum, weight_decay], nesterov, number == 1);
                });
            }
            Optimizer::AdamW { weight_decay } => {
                let relative = self.relative;
                parts.zip(a.par_chunks_mut(PART)).zip(b.par_chunks_mut(PART)).for_each(|(((p, g), m), v)| {
                    adamw(p, g, m, v, [lr, weight_decay], number, relative);
                });
            }
        }
        Ok(())
    }
}

fn sgd(p: &mut [f32], g: &[f32], velocity: &mut [f32], rates: [f32; 3], nesterov: bool, first: bool) {
    let [lr, momentum, decay] = rates;
    let kept = if first { 0.0 } else { momentum };
    for ((p, g), v) in p.iter_mut().zip(g).zip(velocity) {
        let g = g + decay * *p;
        *v = kept * *v + g;
        *p -= lr * if nesterov { g + momentum * *v } else { *v };
    }
}

const BETAS: [f32; 2] = [0.9, 0.999];
const EPS: f32 = 1e-8;

/// How much of the moments' true size there is after so many steps from 0.
fn corrections(number: i32) -> [f32; 2] {
    BETAS.map(|b| (1.0 - f64::from(b).powi(number)) as f32)
}

fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], [lr, decay]: [f32; 2], number: i32, relative: bool) {
    let correction = corrections(number);
    let (rate, root) = (lr / correction[0], correction[1].sqrt());
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        *p *= 1.0 - lr * decay;
        *m += (1.0 - BETAS[0]) * (g - *m);
        *v = BETAS[1] * *v + (1.0 - BETAS[1]) * g * g;
        let share = if relative { p.abs() } else { 1.0 };
        *p -= share * (rate * *m / (v.sqrt() / root + EPS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps of `torch.optim` on gradients 1, -2, 0.5 from 1, at a rate of 0.1 and a decay of 0.01.
    #[test]
    fn three_steps_are_torchs() {
        let gradients = [1.0, -2.0, 0.5];
        for (nesterov, expected) in [(false, 1.053_574_7), (true, 1.095_372)] {
            let (mut p, mut v) = ([1.0f32], [0.0]);
            for (i, g) in gradients.into_iter().enumerate() {
                sgd(&mut p, &[g], &mut v, [0.1, 0.9, 0.01], nesterov, i == 0);
            }
            assert!((p[0] - expected).abs() < 1e-6, "SGD, nesterov {nesterov}: {p:?}");
        }
        let (mut p, mut m, mut v) = ([1.0f32], [0.0], [0.0]);
        for (number, g) in (1..).zip(gradients) {
            adamw(&mut p, &[g], &mut m, &mut v, [0.1, 0.01], number, false);
        }
        assert!((p[0] - 0.947_445_75).abs() < 1e-6, "AdamW: {p:?}");
    }
}
