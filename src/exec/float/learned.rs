use candle_core::{Result as Candle, Tensor};

use super::{
    ops::{change, map1, map2, map3},
    parameters::Parameters,
    trainable::{Fake, FakeWeight, Pass, Trainable},
};
use crate::{
    exec::ExecError,
    graph::{
        ActivationSpec, FakeQuants, Graph, LearnedRange, NodeId, Numeric, ObserverKind, QParams, QatLevels, Scheme,
        StepSize, WeightSpec, activation_levels, weight_levels,
    },
    kernels::{
        cuda::qat::{self as gpu, WeightKind},
        float::{self as kernel, ChannelGrids, Grid},
    },
};

/// How far one batch moves a range: PyTorch's `averaging_constant`.
const AVERAGING: f32 = 0.01;
/// Numbers of an output's levels on the device: scale, zero point, least and largest level.
pub(super) const LEVELS: usize = kernel::conv_bn::GRID;

/// Which parts of training with fake quantization are on; all of them at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Ranges follow what is seen (PyTorch's `enable_observer`). Levels are derived from them either way.
    pub observe: bool,
    /// Values are moved to levels (`enable_fake_quant`).
    pub fake_quantize: bool,
    /// A convolution's batch norm uses and moves the batch's statistics; else it keeps its running ones
    /// (`freeze_bn_stats`).
    pub batch_statistics: bool,
}

impl Default for Phase {
    fn default() -> Self {
        Self { observe: true, fake_quantize: true, batch_statistics: true }
    }
}

/// The fake quantization of a graph in the QAT form, its state on the device; empty for any other graph.
#[derive(Debug)]
pub(super) struct Learned {
    pub phase: Phase,
    pub step: StepSize,
    levels: QatLevels,
    outputs: Vec<Option<Output>>,
    weights: Vec<Option<OfWeight>>,
}

/// The fake quantization of a node's output.
#[derive(Debug)]
enum Output {
    /// Smallest and largest value, `[2]`; infinite, the wrong way round, before the first batch.
    Learned { spec: ActivationSpec, range: Tensor },
    /// Levels that are known, `[LEVELS]`.
    Fixed { levels: Tensor },
}

/// That of a layer's weight: `[2 * groups]`, one group, or one an output channel.
#[derive(Debug)]
struct OfWeight {
    spec: WeightSpec,
    channels: usize,
    groups: usize,
    range: Tensor,
}

impl Learned {
    /// The state of `graph`, from what was learnt before; step sizes that are learnt become parameters.
    pub fn new(
        graph: &Graph,
        levels: QatLevels,
        step: StepSize,
        state: &FakeQuants,
        device: &candle_core::Device,
        params: &mut Parameters,
    ) -> Result<Self, ExecError> {
        let mut this = Self { phase: Phase::default(), step, levels, outputs: Vec::new(), weights: Vec::new() };
        for (id, node) in graph.iter() {
            let upload = |known: Option<&LearnedRange>, groups: usize| -> Result<Tensor, ExecError> {
                let mut range = vec![f32::INFINITY; groups];
                range.resize(2 * groups, f32::NEG_INFINITY);
                if let Some(known) = known {
                    if known.min.len() != groups || known.max.len() != groups {
                        return Err(ExecError::Unsupported {
                            node: node.name.clone(),
                            op: node.op.name(),
                            detail: format!(
                                "found {} ranges of fake quantization, expected {groups}: they are of another graph",
                                known.min.len()
                            ),
                        });
                    }
                    range[..groups].copy_from_slice(&known.min);
                    range[groups..].copy_from_slice(&known.max);
                }
                Ok(Tensor::from_vec(range, 2 * groups, device)?)
            };
            let mut add_step = |part, key: &str, known: Option<&LearnedRange>, groups: usize| -> Candle<()> {
                if step == StepSize::MovingAverage {
                    return Ok(());
                }
                // 0 until the first batch says what it starts from.
                let step = known.filter(|k| k.step.len() == groups).map_or(vec![0.0; groups], |k| k.step.clone());
                params.push(id, part, format!("{}.{key}.scale", node.name), Tensor::from_vec(step, groups, device)?);
                Ok(())
            };
            this.outputs.push(match node.numeric {
                Numeric::Learned(spec) => {
                    let known = state.activations.get(&node.name);
                    add_step(OUTPUT_STEP, "activation_post_process", known, 1)?;
                    Some(Output::Learned { spec, range: upload(known, 1)? })
                }
                Numeric::FakeQuantized(q) => {
                    Some(Output::Fixed { levels: Tensor::from_slice(&numbers(q), LEVELS, device)? })
                }
                Numeric::Float | Numeric::Observed(_) | Numeric::Int8(_) => None,
            });
            this.weights.push(match (node.op.fake(), node.op.weight()) {
                (Some(spec), Some(weight)) => {
                    let channels = weight.shape()[0];
                    let groups = if spec.observer == ObserverKind::MinMax { 1 } else { channels };
                    let known = state.weights.get(&node.name);
                    add_step(WEIGHT_STEP, "weight_fake_quant", known, groups)?;
                    Some(OfWeight { spec, channels, groups, range: upload(known, groups)? })
                }
                _ => None,
            });
        }
        Ok(this)
    }

    /// What was learnt so far, by the names of the nodes.
    pub fn download(&self, graph: &Graph, params: &Parameters) -> Result<FakeQuants, ExecError> {
        let mut state = FakeQuants::default();
        for (id, node) in graph.iter() {
            let of = |range: &Tensor, part| -> Result<Option<LearnedRange>, ExecError> {
                let values = range.to_vec1::<f32>()?;
                let (min, max) = values.split_at(values.len() / 2);
                if min[0] > max[0] {
                    return Ok(None);
                }
                let step = params.find(id, part).map(|t| t.to_vec1::<f32>()).transpose()?.unwrap_or_default();
                Ok(Some(LearnedRange { min: min.to_vec(), max: max.to_vec(), step }))
            };
            if let Some(Output::Learned { range, .. }) = &self.outputs[id.index()]
                && let Some(range) = of(range, OUTPUT_STEP)?
            {
                state.activations.insert(node.name.clone(), range);
            }
            if let Some(weight) = &self.weights[id.index()]
                && let Some(range) = of(&weight.range, WEIGHT_STEP)?
            {
                state.weights.insert(node.name.clone(), range);
            }
        }
        Ok(state)
    }

    /// Lets a range see the extremes of one batch.
    fn observe(&self, range: &Tensor, seen: &Tensor) -> Candle<()> {
        let step = self.step;
        let run = |range: &mut [f32], seen: &[f32]| {
            let groups = seen.len() / 2;
            for i in 0..groups {
                let (new_min, new_max) = (seen[i], seen[groups + i]);
                let (min, max) = (range[i], range[groups + i]);
                if new_min > new_max {
                    continue; // Nothing but NaN.
                }
                if min > max {
                    (range[i], range[groups + i]) = (new_min, new_max);
                } else if step == StepSize::MovingAverage {
                    range[i] = min + AVERAGING * (new_min - min);
                    range[groups + i] = max + AVERAGING * (new_max - max);
                }
            }
        };
        let averages = step == StepSize::MovingAverage;
        change("observer", range, seen, run, || gpu::observe(seen.elem_count() / 2, averages, AVERAGING))
    }
}

/// Parts of the parameters that hold learnt step sizes.
pub(super) const OUTPUT_STEP: &str = "activation_post_process.scale";
pub(super) const WEIGHT_STEP: &str = "weight_fake_quant.scale";

fn numbers(q: QParams) -> [f32; LEVELS] {
    [q.scale, f32::from(q.zero_point), 0.0, f32::from(q.qmax)]
}

/// An output's levels as the kernels want them.
pub(super) fn grid(levels: &[f32]) -> Grid<f32> {
    Grid { scale: levels[0], zero_point: levels[1], least: levels[2], most: levels[3] }
}

/// Output channels of a weight whose levels these are.
fn levels_channels(levels: &Tensor) -> usize {
    (levels.elem_count() - 2) / 3
}

/// A weight's factors and levels in one tensor: factors, scales and zero points, `[channels]` each, then the limits.
pub(super) fn channel_grids(levels: &[f32]) -> (&[f32], ChannelGrids<'_, f32>) {
    let c = (levels.len() - 2) / 3;
    let grids = ChannelGrids {
        scales: &levels[c..2 * c],
        zero_points: &levels[2 * c..3 * c],
        least: levels[3 * c],
        most: levels[3 * c + 1],
    };
    (&levels[..c], grids)
}

impl Trainable {
    /// The levels of a node's output now, once its range has seen `seen` (smallest and largest value, `[2]`); `None` where
    /// it has none or fake quantization is off.
    pub(super) fn output_levels(&self, id: NodeId, seen: impl FnOnce() -> Candle<Tensor>) -> Candle<Option<Tensor>> {
        let phase = self.learned.phase;
        let (spec, range) = match &self.learned.outputs[id.index()] {
            None => return Ok(None),
            Some(Output::Fixed { levels }) => return Ok(phase.fake_quantize.then(|| levels.clone())),
            Some(Output::Learned { spec, range }) => (*spec, range),
        };
        if phase.observe {
            self.learned.observe(range, &seen()?)?;
        }
        if !phase.fake_quantize {
            return Ok(None);
        }
        let derive = |range: &[f32], out: &mut [f32]| {
            out.copy_from_slice(&numbers(activation_levels(range[0], range[1], &spec)));
        };
        let affine = spec.scheme == Scheme::Affine;
        let program = |step| gpu::activation_levels(step, affine, spec.quant_max);
        let Some(step) = self.params.find(id, OUTPUT_STEP) else {
            return map1("levels", range, LEVELS, derive, || program(false)).map(Some);
        };
        let run = |range: &[f32], step: &[f32], out: &mut [f32]| {
            derive(range, out);
            out[0] = if step[0] > 0.0 { step[0] } else { out[0] };
        };
        let levels = map2("levels", [range, step], LEVELS, run, || program(true))?;
        let run = |step: &mut [f32], levels: &[f32]| step[0] = levels[0];
        change("step size", step, &levels, run, || gpu::copy(1, 0))?;
        Ok(Some(levels))
    }

    /// A node's output on its levels, if it has any.
    pub(super) fn fake_quantize_output(&self, id: NodeId, x: Tensor, pass: &mut Pass) -> Candle<Tensor> {
        let len = x.elem_count();
        let run = |x: &[f32], out: &mut [f32]| out.copy_from_slice(&kernel::extremes(x));
        let seen = || map1("extremes", &x, 2, run, || gpu::extremes(len));
        let Some(levels) = self.output_levels(id, seen)? else { return Ok(x) };
        let run = |x: &[f32], levels: &[f32], y: &mut [f32]| kernel::to_grid(x, grid(levels), y);
        let y = map2("fake quantize", [&x, &levels], x.shape(), run, || gpu::to_grid(len))?;
        pass.fake[id.index()] = Some(Fake { before: x, levels });
        Ok(y)
    }

    /// The gradient of [`Trainable::fake_quantize_output`], that of a ReLU right before it included; with the gradient of
    /// a learnt step size.
    pub(super) fn fake_quantize_output_grad(
        &self,
        id: NodeId,
        fake: &Fake,
        dy: &Tensor,
        relu: bool,
        batch: usize,
    ) -> Candle<(Tensor, Option<Tensor>)> {
        let Fake { before: x, levels } = fake;
        let len = x.elem_count();
        let run = |x: &[f32], dy: &[f32], levels: &[f32], dx: &mut [f32]| {
            kernel::to_grid_grad(x, dy, grid(levels), relu, dx);
        };
        let program = || gpu::to_grid_grad(len, relu);
        let dx = map3("fake quantize gradient", [x, dy, levels], x.shape(), run, program)?;
        if self.params.find(id, OUTPUT_STEP).is_none() {
            return Ok((dx, None));
        }
        let count = (x.elem_count() / batch) as f32;
        let run = |x: &[f32], dy: &[f32], levels: &[f32], out: &mut [f32]| {
            out[0] = kernel::step_grad(x, dy, grid(levels)) / (count * levels[3]).sqrt();
        };
        let step = map3("step size gradient", [x, dy, levels], 1, run, || gpu::step_grad(len, count))?;
        Ok((dx, Some(step)))
    }

    /// A weight times its channels' factors, on its levels if it has any.
    pub(super) fn fake_quantize_weight(&self, id: NodeId, factors: &Tensor) -> Candle<FakeWeight> {
        let weight = self.params.get(id, "weight");
        let phase = self.learned.phase;
        let scaled = |w: &[f32], factors: &[f32], out: &mut [f32]| {
            for (out, w) in out.chunks_exact_mut(factors.len()).zip(w.chunks_exact(factors.len())) {
                out.iter_mut().zip(w).zip(factors).for_each(|((out, w), f)| *out = w * f);
            }
        };
        let len = weight.elem_count();
        let Some(of) = &self.learned.weights[id.index()] else {
            let program = || gpu::scale_columns(len, factors.elem_count());
            let tensor = map2("scaled weight", [weight, factors], weight.shape(), scaled, program)?;
            return Ok(FakeWeight { tensor, levels: None });
        };
        let (c, groups, spec, levels) = (of.channels, of.groups, of.spec, self.learned.levels);
        if phase.observe {
            let run = |w: &[f32], factors: &[f32], out: &mut [f32]| {
                if groups == c {
                    return kernel::weight_extremes(w, factors, out);
                }
                let mut all = vec![0.0; 2 * c];
                kernel::weight_extremes(w, factors, &mut all);
                out[0] = all[..c].iter().copied().fold(f32::INFINITY, f32::min);
                out[1] = all[c..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            };
            let program = || gpu::weight_extremes(len, c, groups);
            let seen = map2("weight extremes", [weight, factors], 2 * groups, run, program)?;
            self.learned.observe(&of.range, &seen)?;
        }
        if !phase.fake_quantize {
            let program = || gpu::scale_columns(len, c);
            let tensor = map2("scaled weight", [weight, factors], weight.shape(), scaled, program)?;
            return Ok(FakeWeight { tensor, levels: None });
        }
        let half = f32::from(1_u16 << (spec.bits - 1));
        let derive = |range: &[f32], factors: &[f32], step: &[f32], out: &mut [f32]| {
            out[..c].copy_from_slice(factors);
            for i in 0..c {
                let group = if groups == 1 { 0 } else { i };
                let (scale, zero_point) = weight_levels(range[group], range[groups + group], &spec, levels);
                let step = step.get(group).copied().unwrap_or(0.0);
                (out[c + i], out[2 * c + i]) = (if step > 0.0 { step } else { scale }, zero_point);
            }
            (out[3 * c], out[3 * c + 1]) = (-half, half - 1.0);
        };
        let size = 3 * c + 2;
        let kind = match (spec.scheme, levels) {
            (Scheme::Affine, _) => WeightKind::Affine,
            (Scheme::Symmetric, QatLevels::Int8) => WeightKind::Symmetric,
            (Scheme::Symmetric, QatLevels::PyTorch) => WeightKind::BySign,
        };
        let program = |step| gpu::weight_levels(c, groups, step, kind, half);
        let levels = match self.params.find(id, WEIGHT_STEP) {
            None => {
                let run = |r: &[f32], f: &[f32], out: &mut [f32]| derive(r, f, &[], out);
                map2("weight levels", [&of.range, factors], size, run, || program(false))?
            }
            Some(step) => {
                let levels = map3("weight levels", [&of.range, factors, step], size, derive, || program(true))?;
                let run = |step: &mut [f32], levels: &[f32]| step.copy_from_slice(&levels[c..c + step.len()]);
                change("step size", step, &levels, run, || gpu::copy(step.elem_count(), c))?;
                levels
            }
        };
        let run = |w: &[f32], levels: &[f32], out: &mut [f32]| {
            let (factors, grids) = channel_grids(levels);
            kernel::weight_to_grid(w, factors, &grids, out);
        };
        let program = || gpu::weight_to_grid(len, c);
        let tensor = map2("fake quantize weight", [weight, &levels], weight.shape(), run, program)?;
        Ok(FakeWeight { tensor, levels: Some(levels) })
    }

    /// From the gradient of [`Trainable::fake_quantize_weight`]'s result that of the weight, and of each channel's factor.
    pub(super) fn fake_quantize_weight_grad(
        &self,
        id: NodeId,
        fake: &FakeWeight,
        factors: &Tensor,
        dq: &Tensor,
    ) -> Candle<(Tensor, Tensor)> {
        let weight = self.params.get(id, "weight");
        let (n, c) = (weight.elem_count(), factors.elem_count());
        let both = match &fake.levels {
            Some(levels) => {
                let run = |dq: &[f32], w: &[f32], levels: &[f32], out: &mut [f32]| {
                    let (factors, grids) = channel_grids(levels);
                    let (dw, by_factor) = out.split_at_mut(n);
                    kernel::weight_to_grid_grad(w, factors, &grids, dq, dw, by_factor);
                };
                let program = || gpu::weight_to_grid_grad(n, c, true);
                map3("fake quantize weight gradient", [dq, weight, levels], n + c, run, program)?
            }
            None => {
                let run = |dq: &[f32], w: &[f32], factors: &[f32], out: &mut [f32]| {
                    let (dw, by_factor) = out.split_at_mut(n);
                    for ((dw, dq), w) in dw.chunks_exact_mut(c).zip(dq.chunks_exact(c)).zip(w.chunks_exact(c)) {
                        for i in 0..c {
                            dw[i] = dq[i] * factors[i];
                            by_factor[i] += dq[i] * w[i];
                        }
                    }
                };
                let program = || gpu::weight_to_grid_grad(n, c, false);
                map3("scaled weight gradient", [dq, weight, factors], n + c, run, program)?
            }
        };
        Ok((both.narrow(0, 0, n)?.reshape(weight.shape())?, both.narrow(0, n, c)?))
    }

    /// The gradient of a weight's learnt step sizes, if they are learnt.
    pub(super) fn weight_step_grad(&self, id: NodeId, fake: &FakeWeight, dq: &Tensor) -> Candle<Option<Tensor>> {
        let (Some(step), Some(levels)) = (self.params.find(id, WEIGHT_STEP), &fake.levels) else { return Ok(None) };
        let weight = self.params.get(id, "weight");
        let groups = step.elem_count();
        let count = (weight.elem_count() / groups) as f32;
        let run = |dq: &[f32], w: &[f32], levels: &[f32], out: &mut [f32]| {
            let (factors, grids) = channel_grids(levels);
            let mut channels = vec![0.0; factors.len()];
            kernel::weight_step_grad(w, factors, &grids, dq, &mut channels);
            let all = channels.len() / groups;
            for (out, of) in out.iter_mut().zip(channels.chunks_exact(all)) {
                *out = of.iter().sum::<f32>() / (count * grids.most).sqrt();
            }
        };
        let program = || gpu::weight_step_grad(weight.elem_count(), levels_channels(levels), groups, count);
        map3("step size gradient", [dq, weight, levels], groups, run, program).map(Some)
    }
}
