//! A kernel over slices as a candle operation without a gradient of candle's: on the CPU a function of `kernels::float`, on
//! a GPU a [`Program`] of `kernels::cuda`.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, InplaceOp2, InplaceOp3, Layout, Result, Shape, Tensor,
    WithDType,
};
#[cfg(feature = "cuda")]
use {crate::kernels::cuda::Gpu, candle_core::CudaStorage, std::ops::Range};

use crate::buffers;
use crate::kernels::{cuda::Program, float::in_pool};

/// A kernel, the shape of what it computes, and its name in error messages.
struct Kernel<F, P> {
    name: &'static str,
    shape: Shape,
    run: F,
    program: P,
}

fn slice<'a>(name: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((first, last)) => Ok(&f32::cpu_storage_as_slice(storage)?[first..last]),
        None => Err(Error::RequiresContiguous { op: name }.bt()),
    }
}

impl<F, P: Fn() -> Program> Kernel<F, P> {
    fn compute(&self, inputs: &[&[f32]], run: impl FnOnce(&mut [f32])) -> (CpuStorage, Shape) {
        let mut out = buffers::zeroed(self.shape.elem_count());
        if !simulated(&self.program, inputs, &mut out, false) {
            run(&mut out);
        }
        (CpuStorage::F32(out), self.shape.clone())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self, operands: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
        let views = operands.iter().map(|(s, l)| view(self.name, s, l)).collect::<Result<Vec<_>>>()?;
        let device = &operands[0].0.device;
        let gpu = Gpu::of(&device.cuda_stream()).map_err(Error::wrap)?;
        let out = gpu.run(&(self.program)(), &views, self.shape.elem_count()).map_err(Error::wrap)?;
        Ok((CudaStorage::wrap_cuda_slice(out, device.clone()), self.shape.clone()))
    }
}

/// Whether a test has the program run on the CPU, and it did.
#[cfg(test)]
fn simulated(program: &impl Fn() -> Program, inputs: &[&[f32]], out: &mut [f32], in_place: bool) -> bool {
    use crate::kernels::cuda::shim;
    if !shim::is_on() {
        return false;
    }
    shim::shim().expect("switched on only where it is").run(&program(), inputs, out, in_place);
    true
}

#[cfg(not(test))]
fn simulated(_: &impl Fn() -> Program, _: &[&[f32]], _: &mut [f32], _: bool) -> bool {
    false
}

/// Whether operations on a device's tensors are programs.
pub(super) fn runs_programs(device: &candle_core::Device) -> bool {
    #[cfg(test)]
    if crate::kernels::cuda::shim::is_on() {
        return true;
    }
    device.is_cuda()
}

/// Runs `f` where operations on a device's tensors start best: on a thread of the pool, or, of a GPU, right here.
pub(super) fn in_pool_of<R: Send>(device: &candle_core::Device, f: impl FnOnce() -> R + Send) -> R {
    if runs_programs(device) { f() } else { in_pool(f) }
}

#[cfg(feature = "cuda")]
fn range(name: &'static str, layout: &Layout) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((first, last)) => Ok(first..last),
        None => Err(Error::RequiresContiguous { op: name }.bt()),
    }
}

#[cfg(feature = "cuda")]
fn view<'a>(
    name: &'static str,
    storage: &'a CudaStorage,
    layout: &Layout,
) -> Result<cudarc::driver::CudaView<'a, f32>> {
    Ok(storage.as_cuda_slice::<f32>()?.slice(range(name, layout)?))
}

impl<F: Fn(&[f32], &mut [f32]), P: Fn() -> Program> CustomOp1 for Kernel<F, P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(self.name, s, l)?;
        Ok(self.compute(&[x], |out| (self.run)(x, out)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        self.launch(&[(s, l)])
    }
}

impl<F: Fn(&[f32], &[f32], &mut [f32]), P: Fn() -> Program> CustomOp2 for Kernel<F, P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(self.name, s1, l1)?, slice(self.name, s2, l2)?);
        Ok(self.compute(&[a, b], |out| (self.run)(a, b, out)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        self.launch(&[(s1, l1), (s2, l2)])
    }
}

impl<F: Fn(&[f32], &[f32], &[f32], &mut [f32]), P: Fn() -> Program> CustomOp3 for Kernel<F, P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b, c) = (slice(self.name, s1, l1)?, slice(self.name, s2, l2)?, slice(self.name, s3, l3)?);
        Ok(self.compute(&[a, b, c], |out| (self.run)(a, b, c, out)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.launch(&[(s1, l1), (s2, l2), (s3, l3)])
    }
}

/// A kernel that changes its first operand.
struct InPlace<F, P> {
    name: &'static str,
    run: F,
    program: P,
}

impl<F, P: Fn() -> Program> InPlace<F, P> {
    fn compute(
        &self,
        (s1, l1): (&mut CpuStorage, &Layout),
        inputs: &[&[f32]],
        run: impl FnOnce(&mut [f32]),
    ) -> Result<()> {
        let (Some((first, last)), CpuStorage::F32(values)) = (l1.contiguous_offsets(), s1) else {
            return Err(Error::RequiresContiguous { op: self.name }.bt());
        };
        let values = &mut values[first..last];
        if !simulated(&self.program, inputs, values, true) {
            run(values);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn launch(&self, (s1, l1): (&mut CudaStorage, &Layout), operands: &[(&CudaStorage, &Layout)]) -> Result<()> {
        let views = operands.iter().map(|(s, l)| view(self.name, s, l)).collect::<Result<Vec<_>>>()?;
        let gpu = Gpu::of(&s1.device.cuda_stream()).map_err(Error::wrap)?;
        let mut target = s1.as_cuda_slice_mut::<f32>()?.slice_mut(range(self.name, l1)?);
        gpu.run_in_place(&(self.program)(), &views, &mut target).map_err(Error::wrap)
    }
}

impl<F: Fn(&mut [f32], &[f32]), P: Fn() -> Program> InplaceOp2 for InPlace<F, P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let source = slice(self.name, s2, l2)?;
        self.compute((s1, l1), &[source], |values| (self.run)(values, source))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &mut CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<()> {
        self.launch((s1, l1), &[(s2, l2)])
    }
}

impl<F: Fn(&mut [f32], &[f32], &[f32]), P: Fn() -> Program> InplaceOp3 for InPlace<F, P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        let (a, b) = (slice(self.name, s2, l2)?, slice(self.name, s3, l3)?);
        self.compute((s1, l1), &[a, b], |values| (self.run)(values, a, b))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &mut CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<()> {
        self.launch((s1, l1), &[(s2, l2), (s3, l3)])
    }
}

/// A new tensor of `shape` from one: by `run` on the CPU, by `program` on a GPU.
pub(super) fn map1(
    name: &'static str,
    x: &Tensor,
    shape: impl Into<Shape>,
    run: impl Fn(&[f32], &mut [f32]),
    program: impl Fn() -> Program,
) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Kernel { name, shape: shape.into(), run, program })
}

/// A new tensor of `shape` from two.
pub(super) fn map2(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    shape: impl Into<Shape>,
    run: impl Fn(&[f32], &[f32], &mut [f32]),
    program: impl Fn() -> Program,
) -> Result<Tensor> {
    a.apply_op2_no_bwd(b, &Kernel { name, shape: shape.into(), run, program })
}

/// A new tensor of `shape` from three.
pub(super) fn map3(
    name: &'static str,
    [a, b, c]: [&Tensor; 3],
    shape: impl Into<Shape>,
    run: impl Fn(&[f32], &[f32], &[f32], &mut [f32]),
    program: impl Fn() -> Program,
) -> Result<Tensor> {
    a.apply_op3_no_bwd(b, c, &Kernel { name, shape: shape.into(), run, program })
}

/// Changes `target`, which nothing else may be reading, by `source`.
pub(super) fn change(
    name: &'static str,
    target: &Tensor,
    source: &Tensor,
    run: impl Fn(&mut [f32], &[f32]),
    program: impl Fn() -> Program,
) -> Result<()> {
    target.inplace_op2(source, &InPlace { name, run, program })
}

/// Changes `target`, which nothing else may be reading, by two.
pub(super) fn change2(
    name: &'static str,
    target: &Tensor,
    [a, b]: [&Tensor; 2],
    run: impl Fn(&mut [f32], &[f32], &[f32]),
    program: impl Fn() -> Program,
) -> Result<()> {
    target.inplace_op3(a, b, &InPlace { name, run, program })
}
