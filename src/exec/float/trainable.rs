use candle_core::{Result as Candle, Tensor};

use super::{
    Device, Phase,
    conv_bn::ConvBn,
    forward::{dims, evaluate, function, scale_and_shift},
    learned::{Learned, OUTPUT_STEP},
    ops::{change, in_pool_of, map1, map2, map3},
    parameters::{Parameter, Parameters},
    walk::{last_use, live, refuse_int8, upload},
};
use crate::{
    exec::{Checkpoint, ExecError},
    graph::{BatchNorm2d, FakeQuants, Graph, NodeId, Numeric, Op, QatLevels, StepSize},
    kernels::{
        cuda,
        float::{self as kernel, Function, moments},
    },
};

/// A float graph with parameters that can be trained: forward with the batch's statistics, then backward. A graph in the
/// QAT form is trained with its fake quantization.
#[derive(Debug)]
pub struct Trainable {
    pub(super) graph: Graph,
    pub(super) params: Parameters,
    pub(super) device: candle_core::Device,
    last_use: Vec<NodeId>,
    /// Which outputs the backward walk reads.
    kept: Vec<bool>,
    /// Which nodes have a parameter at or above them.
    pub(super) trained: Vec<bool>,
    /// The batch norm that each activation computes along with itself.
    pub(super) norm_of: Vec<Option<NodeId>>,
    /// Which batch norms are computed by the activation behind them.
    deferred: Vec<bool>,
    pub(super) learned: Learned,
    /// Whether a pass keeps every output.
    keep_all: bool,
}

/// What a forward pass leaves for the backward one.
#[derive(Debug)]
pub struct Pass {
    pub(super) batch: usize,
    pub(super) values: Vec<Option<Tensor>>,
    /// By batch norm: `[scale, shift, mean, 1 / deviation]`, `[4, channels]`.
    pub(super) coefficients: Vec<Option<Tensor>>,
    /// By dropout or stochastic depth: what its values were multiplied by.
    pub(super) factors: Vec<Option<Tensor>>,
    /// By fake-quantized output.
    pub(super) fake: Vec<Option<Fake>>,
    /// By layer without batch norm whose weight is fake-quantized.
    pub(super) weights: Vec<Option<FakeWeight>>,
    /// By convolution in the QAT form.
    pub(super) conv_bn: Vec<Option<ConvBn>>,
}

/// An output before it was moved to levels, and those levels.
#[derive(Debug)]
pub(super) struct Fake {
    pub before: Tensor,
    pub levels: Tensor,
}

/// A weight on its levels, and those levels; `None` where fake quantization is off.
#[derive(Debug)]
pub(super) struct FakeWeight {
    pub tensor: Tensor,
    pub levels: Option<Tensor>,
}

impl Trainable {
    /// Uploads the parameters. A graph in the QAT form starts with nothing learnt, on [`QatLevels::Int8`].
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] for an int8 or fake-quantized node, [`ExecError::Device`] for a device that is not there.
    pub fn new(graph: &Graph, device: &Device) -> Result<Self, ExecError> {
        Self::qat(graph, QatLevels::default(), StepSize::default(), &FakeQuants::default(), device)
    }

    /// The same for a graph in the QAT form, its fake quantization going on from `state`.
    ///
    /// # Errors
    /// Those of [`Trainable::new`]; [`ExecError::Unsupported`] where `state` is of another graph.
    pub fn qat(
        graph: &Graph,
        levels: QatLevels,
        step: StepSize,
        state: &FakeQuants,
        device: &Device,
    ) -> Result<Self, ExecError> {
        refuse_int8(graph)?;
        let in_qat_form = graph.nodes.iter().any(|n| matches!(n.numeric, Numeric::Learned(_)));
        if let Some(node) = graph.nodes.iter().find(|n| !in_qat_form && matches!(n.numeric, Numeric::FakeQuantized(_)))
        {
            return Err(ExecError::Unsupported {
                node: node.name.clone(),
                op: node.op.name(),
                detail: "its levels are fixed, and steps pass no gradient: train the float graph".to_owned(),
            });
        }
        let device = device.open()?;
        let mut params = Parameters::new(graph, &device)?;
        let learned = Learned::new(graph, levels, step, state, &device, &mut params)?;
        let users = graph.users();
        let mut norm_of = vec![None; graph.nodes.len()];
        let mut deferred = vec![false; graph.nodes.len()];
        let mut trained = vec![false; graph.nodes.len()];
        for (id, node) in graph.iter() {
            trained[id.index()] = params.position(id, "weight").is_some()
                || params.position(id, OUTPUT_STEP).is_some()
                || node.inputs.iter().any(|i| trained[i.index()]);
            if let (Op::Activation(_), [input]) = (&node.op, node.inputs.as_slice())
                && matches!(graph.node(*input).op, Op::BatchNorm2d(_))
                && users[input.index()].len() == 1
            {
                norm_of[id.index()] = Some(*input);
                deferred[input.index()] = true;
            }
        }
        let last_use = last_use(graph);
        let kept = kept(graph);
        let graph = graph.clone();
        Ok(Self { graph, params, device, last_use, kept, trained, norm_of, deferred, learned, keep_all: false })
    }

    /// Which parts of training with fake quantization run from now on; without effect on other graphs.
    pub fn set_phase(&mut self, phase: Phase) {
        self.learned.phase = phase;
    }

    /// Whether passes keep every output for [`Pass::output`], which costs memory.
    pub fn keep_outputs(&mut self, keep: bool) {
        self.keep_all = keep;
    }

    /// What fake quantization has learnt so far.
    ///
    /// # Errors
    /// [`ExecError::Candle`] where the device fails.
    pub fn fake_quants(&self) -> Result<FakeQuants, ExecError> {
        self.learned.download(&self.graph, &self.params)
    }

    /// Every parameter, in the order of [`Trainable::backward`]'s gradients. An optimizer changes the tensors in place.
    pub fn parameters(&self) -> &[Parameter] {
        &self.params.list
    }

    /// The graph with the present weights and running statistics.
    ///
    /// # Errors
    /// [`ExecError::Candle`] where the device fails.
    pub fn graph(&self) -> Result<Graph, ExecError> {
        Ok(self.graph.with_params(&self.params.download()?))
    }

    /// Runs a batch of images, `[batch, channels, height, width]`, in training: batch norm by the batch's statistics,
    /// which move the running ones; dropout and stochastic depth drawn from `seed`.
    ///
    /// # Errors
    /// [`ExecError::Input`] where `images` is not that long.
    pub fn forward(
        &mut self,
        images: &[f32],
        batch: usize,
        seed: u64,
        checkpoint: Checkpoint<'_>,
    ) -> Result<Pass, ExecError> {
        let input = upload(&self.graph, images, batch, &self.device)?;
        let this = &*self;
        in_pool_of(&this.device, || this.walk(input, batch, seed, checkpoint))
    }

    fn walk(&self, input: Tensor, batch: usize, seed: u64, checkpoint: Checkpoint<'_>) -> Result<Pass, ExecError> {
        let count = self.graph.nodes.len();
        let mut pass = Pass {
            batch,
            values: vec![None; count],
            coefficients: vec![None; count],
            factors: vec![None; count],
            fake: (0..count).map(|_| None).collect(),
            weights: (0..count).map(|_| None).collect(),
            conv_bn: (0..count).map(|_| None).collect(),
        };
        for (id, node) in self.graph.iter() {
            if self.deferred[id.index()] {
                continue;
            }
            if checkpoint().is_break() {
                return Err(ExecError::Stopped);
            }
            let value = if node.inputs.is_empty() { input.clone() } else { self.node_forward(id, &mut pass, seed)? };
            pass.values[id.index()] = Some(value);
            // An activation with its batch norm reads the norm's input.
            let reader = self.norm_of[id.index()];
            for by in [Some(id), reader].into_iter().flatten() {
                for i in &self.graph.node(by).inputs {
                    if self.last_use[i.index()] == by && !self.kept[i.index()] && !self.keep_all {
                        pass.values[i.index()] = None;
                    }
                }
            }
        }
        Ok(pass)
    }

    fn node_forward(&self, id: NodeId, pass: &mut Pass, seed: u64) -> Result<Tensor, ExecError> {
        if let Op::Conv2d(conv) = &self.graph.node(id).op
            && let Some(bn) = &conv.bn
        {
            return self.conv_bn_forward(id, conv, bn, pass);
        }
        let value = self.float_forward(id, pass, seed)?;
        Ok(self.fake_quantize_output(id, value, pass)?)
    }

    /// The output before any fake quantization of it.
    fn float_forward(&self, id: NodeId, pass: &mut Pass, seed: u64) -> Result<Tensor, ExecError> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Conv2d(_) | Op::Linear(_) if node.op.fake().is_some() => self.fake_layer_forward(id, pass),
            Op::Activation(a) => match self.norm_of[id.index()] {
                Some(norm) => self.norm_forward(norm, function(*a), pass),
                None => self.as_in_evaluation(id, pass),
            },
            Op::BatchNorm2d(_) => self.norm_forward(id, Function::Identity, pass),
            Op::Dropout { p } if *p > 0.0 => Ok(self.drop_out(id, *p, pass.batch * node.shape.len(), pass, seed)?),
            Op::StochasticDepth { p } if *p > 0.0 => Ok(self.drop_out(id, *p, pass.batch, pass, seed)?),
            Op::Input
            | Op::QuantStub
            | Op::DeQuantStub
            | Op::Conv2d(_)
            | Op::Linear(_)
            | Op::MaxPool2d(_)
            | Op::AdaptiveAvgPool2d
            | Op::MeanHw
            | Op::Add { .. }
            | Op::Mul
            | Op::Cat
            | Op::Chunk { .. }
            | Op::ChannelShuffle { .. }
            | Op::Flatten
            | Op::Dropout { .. }
            | Op::StochasticDepth { .. } => self.as_in_evaluation(id, pass),
        }
    }

    /// An operation that does the same in training as in evaluation.
    fn as_in_evaluation(&self, id: NodeId, pass: &Pass) -> Result<Tensor, ExecError> {
        let inputs: Vec<&Tensor> = self.graph.node(id).inputs.iter().map(|i| live(&pass.values, *i)).collect();
        evaluate(&self.graph, id, &inputs, &self.params)
    }

    /// Multiplies `factors` equal stretches by 0 with probability `p`, else by `1 / (1 - p)`.
    fn drop_out(&self, id: NodeId, p: f32, factors: usize, pass: &mut Pass, seed: u64) -> Candle<Tensor> {
        let keep = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
        let mut state = seed ^ (u64::from(id.0) << 40);
        let drawn: Vec<f32> = (0..factors).map(|_| if uniform(&mut state) < p { 0.0 } else { keep }).collect();
        let factors = Tensor::from_vec(drawn, factors, &self.device)?;
        let x = live(&pass.values, self.graph.node(id).inputs[0]);
        let program = || cuda::scale_samples(x.elem_count(), factors.elem_count());
        let y = map2("dropout", [x, &factors], x.shape(), kernel::scale_samples, program)?;
        pass.factors[id.index()] = Some(factors);
        Ok(y)
    }

    /// Batch norm by the batch's statistics and the function behind it, as one operation.
    fn norm_forward(&self, norm: NodeId, f: Function, pass: &mut Pass) -> Result<Tensor, ExecError> {
        let node = self.graph.node(norm);
        let Op::BatchNorm2d(BatchNorm2d { eps, momentum, .. }) = &node.op else {
            unreachable!("`norm_of` holds batch norms only")
        };
        let x = live(&pass.values, node.inputs[0]);
        let (c, rows) = (node.shape.c, pass.batch * node.shape.pixels());
        let run = |x: &[f32], out: &mut [f32]| {
            let m = moments(x, c);
            out[..c].copy_from_slice(&m.mean);
            out[c..].copy_from_slice(&m.variance);
        };
        let statistics = map1("batch statistics", x, (2, c), run, || cuda::moments(rows, c))?;
        let running = [self.params.get(norm, "running_mean"), self.params.get(norm, "running_var")];
        self.move_running(running, &statistics, *momentum, rows)?;
        let (weight, bias) = (self.params.get(norm, "weight"), self.params.get(norm, "bias"));
        let run = |s: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]| {
            for i in 0..c {
                let inverse = 1.0 / (s[c + i] + eps).sqrt();
                out[i] = weight[i] * inverse;
                out[c + i] = bias[i] - s[i] * out[i];
                out[2 * c + i] = s[i];
                out[3 * c + i] = inverse;
            }
        };
        let program = || cuda::norm_coefficients(c, *eps);
        let coefficients = map3("batch norm", [&statistics, weight, bias], (4, c), run, program)?;
        let y = scale_and_shift(x, &coefficients, f)?;
        debug_assert_eq!(y.dims4()?, dims(pass.batch, node.shape));
        pass.coefficients[norm.index()] = Some(coefficients);
        Ok(y)
    }

    /// `running += momentum * (batch - running)`, the variance unbiased.
    pub(super) fn move_running(
        &self,
        [mean, variance]: [&Tensor; 2],
        statistics: &Tensor,
        momentum: f32,
        rows: usize,
    ) -> Candle<()> {
        let unbias = rows as f32 / (rows as f32 - 1.0).max(1.0);
        let step = |running: &mut [f32], new: &[f32], factor: f32| {
            running.iter_mut().zip(new).for_each(|(r, n)| *r = (1.0 - momentum) * *r + momentum * (n * factor));
        };
        let c = mean.elem_count();
        let run = |r: &mut [f32], s: &[f32]| step(r, s, 1.0);
        change("running mean", mean, statistics, run, || cuda::move_running(c, 0, momentum, 1.0))?;
        let run = |r: &mut [f32], s: &[f32]| step(r, &s[r.len()..], unbias);
        change("running variance", variance, statistics, run, || cuda::move_running(c, 1, momentum, unbias))
    }
}

impl Pass {
    /// Logits, `[batch, classes]`.
    ///
    /// # Errors
    /// [`ExecError::Candle`] where the device fails.
    pub fn logits(&self) -> Result<Vec<f32>, ExecError> {
        let last = NodeId(self.values.len() as u32 - 1);
        Ok(live(&self.values, last).flatten_all()?.to_vec1()?)
    }

    /// A node's output, `[batch, height, width, channels]`; `None` where it was not kept.
    ///
    /// # Errors
    /// [`ExecError::Candle`] where the device fails.
    pub fn output(&self, node: NodeId) -> Result<Option<Vec<f32>>, ExecError> {
        let value = self.values[node.index()].as_ref();
        Ok(value.map(|v| v.flatten_all()?.to_vec1()).transpose()?)
    }
}

/// SplitMix64, to 24 bits of a number in `0..1`.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

/// Which outputs a gradient reads: its operation's own output, or its operands.
fn kept(graph: &Graph) -> Vec<bool> {
    let mut kept = vec![false; graph.nodes.len()];
    kept[graph.output().index()] = true;
    for (id, node) in graph.iter() {
        let (output, operands) = match &node.op {
            Op::Conv2d(c) => (c.relu && c.bn.is_none(), true),
            Op::Linear(l) => (l.relu, true),
            Op::Add { relu } => (*relu, false),
            Op::MaxPool2d(_) => (true, true),
            Op::BatchNorm2d(_) | Op::Activation(_) | Op::Mul => (false, true),
            Op::Input
            | Op::QuantStub
            | Op::DeQuantStub
            | Op::AdaptiveAvgPool2d
            | Op::MeanHw
            | Op::Cat
            | Op::Chunk { .. }
            | Op::ChannelShuffle { .. }
            | Op::Flatten
            | Op::Dropout { .. }
            | Op::StochasticDepth { .. } => (false, false),
        };
        kept[id.index()] |= output;
        for input in &node.inputs {
            kept[input.index()] |= operands;
        }
    }
    kept
}
