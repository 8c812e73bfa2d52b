use super::{Float, Geometry, parallel::for_each_part, simd::vectorize};

/// Channels that are accumulated in registers at a time.
const LANES: usize = 16;

/// `out = act(depthwise(x, weight) + bias)`, the activation being ReLU or none. `g.out_channels == g.channels`. Each output
/// starts at its bias and takes a fused multiply-add for each tap, row by row, as oneDNN's `jit_uni_dw_conv` does.
pub fn depthwise<T: Float>(g: &Geometry, x: &[T], weight: &[T], bias: Option<&[T]>, relu: bool, out: &mut [T]) {
    let line = g.output[1] * g.channels;
    let part = lines_per_part(g.batch * g.output[0]);
    for_each_part(out, part * line, out_operations(g), |index, out| {
        forward_lines(g, x, weight, bias, relu, index * part, out);
    });
}

/// `dx` from `dy`.
pub fn depthwise_input_grad<T: Float>(g: &Geometry, dy: &[T], weight: &[T], dx: &mut [T]) {
    let line = g.input[1] * g.channels;
    let part = lines_per_part(g.batch * g.input[0]);
    for_each_part(dx, part * line, out_operations(g), |index, dx| {
        input_grad_lines(g, dy, weight, index * part, dx);
    });
}

/// `dw` from `x` and `dy`: a sum over up to eight parts of the batch.
pub fn depthwise_weight_grad<T: Float>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let lines = g.batch * g.output[0];
    let part = lines.div_ceil(8).max(1);
    let mut sums = vec![T::ZERO; dw.len() * lines.div_ceil(part)];
    for_each_part(&mut sums, dw.len(), out_operations(g), |index, sum| {
        weight_grad_lines(g, x, dy, index * part, ((index + 1) * part).min(lines), sum);
    });
    dw.fill(T::ZERO);
    for sum in sums.chunks_exact(dw.len()) {
        dw.iter_mut().zip(sum).for_each(|(a, b)| *a += *b);
    }
}

fn lines_per_part(lines: usize) -> usize {
    lines.div_ceil(8).max(1)
}

pub(super) fn out_operations(g: &Geometry) -> usize {
    g.batch * g.output[0] * g.output[1] * g.channels * g.kernel[0] * g.kernel[1] / 8
}

/// Kernel rows (or columns) that meet the input at output position `at`.
#[inline(always)]
pub(super) fn taps(g: &Geometry, dim: usize, at: usize) -> std::ops::Range<usize> {
    let start = at * g.stride;
    let first = g.padding[dim].saturating_sub(start);
    let last = (g.input[dim] + g.padding[dim]).saturating_sub(start).min(g.kernel[dim]);
    first..last.max(first)
}

vectorize! {
    fn forward_lines<T: Float>(
        g: &Geometry, x: &[T], weight: &[T], bias: Option<&[T]>, relu: bool, first: usize, out: &mut [T],
    ) {
        let c = g.channels;
        for (i, line) in out.chunks_exact_mut(g.output[1] * c).enumerate() {
            let (image, oy) = ((first + i) / g.output[0], (first + i) % g.output[0]);
            let kys = taps(g, 0, oy);
            for (ox, pixel) in line.chunks_exact_mut(c).enumerate() {
                let kxs = taps(g, 1, ox);
                let mut done = 0;
                while done < c {
                    let lanes = (c - done).min(LANES);
                    let mut acc = [T::ZERO; LANES];
                    if let Some(bias) = bias {
                        acc[..lanes].copy_from_slice(&bias[done..done + lanes]);
                    }
                    for ky in kys.clone() {
                        let y = oy * g.stride + ky - g.padding[0];
                        for kx in kxs.clone() {
                            let column = ox * g.stride + kx - g.padding[1];
                            let from = ((image * g.input[0] + y) * g.input[1] + column) * c + done;
                            let tap = (ky * g.kernel[1] + kx) * c + done;
                            multiply_add(&mut acc, &x[from..from + lanes], &weight[tap..tap + lanes]);
                        }
                    }
                    if relu {
                        acc.iter_mut().for_each(|v| *v = v.most(T::ZERO));
                    }
                    pixel[done..done + lanes].copy_from_slice(&acc[..lanes]);
                    done += lanes;
                }
            }
        }
    }
}

vectorize! {
    fn input_grad_lines<T: Float>(g: &Geometry, dy: &[T], weight: &[T], first: usize, dx: &mut [T]) {
        let c = g.channels;
        for (i, line) in dx.chunks_exact_mut(g.input[1] * c).enumerate() {
            let (image, y) = ((first + i) / g.input[0], (first + i) % g.input[0]);
            for (column, pixel) in line.chunks_exact_mut(c).enumerate() {
                let mut done = 0;
                while done < c {
                    let lanes = (c - done).min(LANES);
                    let mut acc = [T::ZERO; LANES];
                    for ky in 0..g.kernel[0] {
                        let Some(oy) = source(g, 0, y, ky) else { continue };
                        for kx in 0..g.kernel[1] {
                            let Some(ox) = source(g, 1, column, kx) else { continue };
                            let from = ((image * g.output[0] + oy) * g.output[1] + ox) * c + done;
                            let tap = (ky * g.kernel[1] + kx) * c + done;
                            multiply_add(&mut acc, &dy[from..from + lanes], &weight[tap..tap + lanes]);
                        }
                    }
                    pixel[done..done + lanes].copy_from_slice(&acc[..lanes]);
                    done += lanes;
                }
            }
        }
    }
}

/// The output position whose tap `k` reads input position `at`.
#[inline(always)]
fn source(g: &Geometry, dim: usize, at: usize, k: usize) -> Option<usize> {
    let from = (at + g.padding[dim]).checked_sub(k)?;
    let position = from / g.stride;
    (from % g.stride == 0 && position < g.output[dim]).then_some(position)
}

vectorize! {
    fn weight_grad_lines<T: Float>(g: &Geometry, x: &[T], dy: &[T], first: usize, last: usize, dw: &mut [T]) {
        let c = g.channels;
        for line in first..last {
            let (image, oy) = (line / g.output[0], line % g.output[0]);
            for ky in taps(g, 0, oy) {
                let y = oy * g.stride + ky - g.padding[0];
                for kx in 0..g.kernel[1] {
                    let tap = (ky * g.kernel[1] + kx) * c;
                    let mut done = 0;
                    while done < c {
                        let lanes = (c - done).min(LANES);
                        let mut acc = [T::ZERO; LANES];
                        for ox in 0..g.output[1] {
                            let column = (ox * g.stride + kx).wrapping_sub(g.padding[1]);
                            if column >= g.input[1] {
                                continue;
                            }
                            let a = ((image * g.input[0] + y) * g.input[1] + column) * c + done;
                            let b = (line * g.output[1] + ox) * c + done;
                            multiply_add(&mut acc, &x[a..a + lanes], &dy[b..b + lanes]);
                        }
                        dw[tap + done..tap + done + lanes].iter_mut().zip(&acc).for_each(|(w, a)| *w += *a);
                        done += lanes;
                    }
                }
            }
        }
    }
}

/// `acc += a * b` over up to [`LANES`] channels; the full case has a constant length, and so stays in registers.
#[inline(always)]
fn multiply_add<T: Float>(acc: &mut [T; LANES], a: &[T], b: &[T]) {
    if let (Ok(a), Ok(b)) = (<&[T; LANES]>::try_from(a), <&[T; LANES]>::try_from(b)) {
        for j in 0..LANES {
            acc[j] = a[j].mul_add(b[j], acc[j]);
        }
    } else if let (Ok(a), Ok(b)) = (<&[T; LANES / 2]>::try_from(a), <&[T; LANES / 2]>::try_from(b)) {
        for j in 0..LANES / 2 {
            acc[j] = a[j].mul_add(b[j], acc[j]);
        }
    } else {
        for ((s, a), b) in acc.iter_mut().zip(a).zip(b) {
            *s = a.mul_add(*b, *s);
        }
    }
}
