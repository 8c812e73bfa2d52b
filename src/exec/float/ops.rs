//! A kernel over slices as a candle operation without a gradient of candle's.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, InplaceOp2, Layout, Result, Shape, Tensor, WithDType,
};

/// A kernel, the shape of what it computes, and its name in error messages.
struct Kernel<F> {
    name: &'static str,
    shape: Shape,
    run: F,
}

fn slice<'a>(name: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((first, last)) => Ok(&f32::cpu_storage_as_slice(storage)?[first..last]),
        None => Err(Error::RequiresContiguous { op: name }.bt()),
    }
}

impl<F> Kernel<F> {
    fn compute(&self, run: impl FnOnce(&mut [f32])) -> (CpuStorage, Shape) {
        let mut out = vec![0.0; self.shape.elem_count()];
        run(&mut out);
        (CpuStorage::F32(out), self.shape.clone())
    }
}

impl<F: Fn(&[f32], &mut [f32])> CustomOp1 for Kernel<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(self.name, s, l)?;
        Ok(self.compute(|out| (self.run)(x, out)))
    }
}

impl<F: Fn(&[f32], &[f32], &mut [f32])> CustomOp2 for Kernel<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(self.name, s1, l1)?, slice(self.name, s2, l2)?);
        Ok(self.compute(|out| (self.run)(a, b, out)))
    }
}

impl<F: Fn(&[f32], &[f32], &[f32], &mut [f32])> CustomOp3 for Kernel<F> {
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
        Ok(self.compute(|out| (self.run)(a, b, c, out)))
    }
}

/// A kernel that changes its first operand.
struct InPlace<F> {
    name: &'static str,
    run: F,
}

impl<F: Fn(&mut [f32], &[f32])> InplaceOp2 for InPlace<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let source = slice(self.name, s2, l2)?;
        let (Some((first, last)), CpuStorage::F32(values)) = (l1.contiguous_offsets(), s1) else {
            return Err(Error::RequiresContiguous { op: self.name }.bt());
        };
        (self.run)(&mut values[first..last], source);
        Ok(())
    }
}

/// A new tensor of `shape` from one.
pub(super) fn map1(
    name: &'static str,
    x: &Tensor,
    shape: impl Into<Shape>,
    run: impl Fn(&[f32], &mut [f32]),
) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Kernel { name, shape: shape.into(), run })
}

/// A new tensor of `shape` from two.
pub(super) fn map2(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    shape: impl Into<Shape>,
    run: impl Fn(&[f32], &[f32], &mut [f32]),
) -> Result<Tensor> {
    a.apply_op2_no_bwd(b, &Kernel { name, shape: shape.into(), run })
}

/// A new tensor of `shape` from three.
pub(super) fn map3(
    name: &'static str,
    [a, b, c]: [&Tensor; 3],
    shape: impl Into<Shape>,
    run: impl Fn(&[f32], &[f32], &[f32], &mut [f32]),
) -> Result<Tensor> {
    a.apply_op3_no_bwd(b, c, &Kernel { name, shape: shape.into(), run })
}

/// Changes `target`, which nothing else may be reading, by `source`.
pub(super) fn change(
    name: &'static str,
    target: &Tensor,
    source: &Tensor,
    run: impl Fn(&mut [f32], &[f32]),
) -> Result<()> {
    target.inplace_op2(source, &InPlace { name, run })
}
