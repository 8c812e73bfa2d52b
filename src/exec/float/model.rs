use std::ops::ControlFlow;

use super::{Activation, Device, host_model::HostModel, ops::runs_programs, tensor_model::TensorModel};
use crate::{
    exec::ExecError,
    graph::{Graph, NodeId, Numeric},
};

/// A float graph, its weights packed or uploaded, ready to run.
#[derive(Debug)]
pub struct Model {
    runner: Runner,
}

#[derive(Debug)]
enum Runner {
    Host(HostModel),
    Tensors(TensorModel),
}

impl Model {
    /// Packs or uploads the parameters of a float graph: plain, stubbed, fused, observed or fake-quantized. On the CPU it
    /// runs on as many threads as the process has for it.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] for an int8 node or one in the QAT form, [`ExecError::Device`] for a device that is not
    /// there.
    pub fn new(graph: &Graph, device: &Device) -> Result<Self, ExecError> {
        Self::with_threads(graph, device, rayon::current_num_threads())
    }

    /// The same on `threads` threads of the CPU, the caller's included; 0 counts as 1. A GPU has its own.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn with_threads(graph: &Graph, device: &Device, threads: usize) -> Result<Self, ExecError> {
        let device = device.open()?;
        let runner = if runs_programs(&device) {
            Runner::Tensors(TensorModel::new(graph, device)?)
        } else {
            Runner::Host(HostModel::new(graph, threads)?)
        };
        Ok(Self { runner })
    }

    /// Logits, `[batch, classes]`, of `batch` images, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// [`ExecError::Input`] where `images` is not that long, [`ExecError::Candle`] where a GPU fails.
    pub fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, ExecError> {
        match &self.runner {
            Runner::Host(model) => model.run(images, batch),
            Runner::Tensors(model) => model.run(images, batch),
        }
    }

    /// Runs a batch and shows the output of every observed node to `visit`, in order; stops at once when it says so.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn run_observed(
        &self,
        images: &[f32],
        batch: usize,
        visit: &mut dyn FnMut(NodeId, &Activation<'_>) -> ControlFlow<()>,
    ) -> Result<(), ExecError> {
        let graph = match &self.runner {
            Runner::Host(model) => model.graph(),
            Runner::Tensors(model) => model.graph(),
        };
        let observed = |id: NodeId| matches!(graph.node(id).numeric, Numeric::Observed(_));
        self.run_traced(images, batch, &observed, visit)
    }

    /// As [`Model::run_observed`] for the nodes that `wanted` picks.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn run_traced(
        &self,
        images: &[f32],
        batch: usize,
        wanted: &dyn Fn(NodeId) -> bool,
        visit: &mut dyn FnMut(NodeId, &Activation<'_>) -> ControlFlow<()>,
    ) -> Result<(), ExecError> {
        match &self.runner {
            Runner::Host(model) => model.run_traced(images, batch, wanted, visit),
            Runner::Tensors(model) => model.run_traced(images, batch, wanted, visit),
        }
    }
}
