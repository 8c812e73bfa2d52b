use super::Float;

/// A matrix in a slice: value `(r, c)` is at `r * rows + c * cols`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a, T> {
    pub data: &'a [T],
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row-major with rows of `cols` values.
    pub fn rows(data: &'a [T], cols: usize) -> Self {
        Self { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row_stride + (cols - 1) * self.col_stride < self.data.len()
    }
}

/// Products that are summed one after the other. The rounding error of a sum grows with the root of its length, so a long
/// one is summed in stretches: half the error of the whole at no cost that can be measured, which observers see.
const STRETCH: usize = 64;

/// `out = a * b` as [`matmul`] has it, long sums in stretches.
pub(super) fn matmul_in_stretches<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    out: &mut [T],
    threads: bool,
) {
    for first in (0..k).step_by(STRETCH) {
        let a = Matrix { data: &a.data[first * a.col_stride..], ..a };
        let b = Matrix { data: &b.data[first * b.row_stride..], ..b };
        matmul([m, STRETCH.min(k - first), n], a, b, out, first > 0, threads);
    }
}

/// `out = a * b`, or `out += a * b`; `a` is `m` x `k`, `b` is `k` x `n`, `out` is row-major `m` x `n`.
///
/// `threads` lets the product itself be split, which does not change its result: each value is summed by one thread.
pub(super) fn matmul<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    out: &mut [T],
    accumulate: bool,
    threads: bool,
) {
    assert!(a.holds(m, k) && b.holds(k, n) && out.len() >= m * n, "matrices of {m}x{k} and {k}x{n}");
    let parallelism = if threads { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the assertion bounds every element that the strides reach; `out` is borrowed mutably, so it overlaps
    // neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `c = a * b` or `c += a * b` of dense matrices, each stored as it is or as its transpose: what the GPU's tests compare.
#[cfg(test)]
pub(in crate::kernels) fn matmul_strided(
    [m, k, n]: [usize; 3],
    (a, a_transposed): (&[f32], bool),
    (b, b_transposed): (&[f32], bool),
    c: &mut [f32],
    accumulate: bool,
) {
    let a = if a_transposed { Matrix::rows(a, m).t() } else { Matrix::rows(a, k) };
    let b = if b_transposed { Matrix::rows(b, k).t() } else { Matrix::rows(b, n) };
    matmul([m, k, n], a, b, c, accumulate, true);
}
