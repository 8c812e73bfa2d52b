//! Every program on the kernels compiled as C++, beside the function of `kernels::float` that it stands for.

use std::collections::BTreeSet;

use super::{
    Program, Step,
    qat::{self, WeightKind},
    shim::{Shim, kernels, shim, sources},
};
use crate::kernels::{
    self,
    float::{self, ChannelGrids, Function, Geometry, Grid, NormToGrid},
};

/// Numbers around zero, with some zeros and some equal ones among them.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..len)
        .map(|_| match (next() * 16.0) as u32 {
            0 => 0.0,
            1 => 1.5,
            _ => next() * 8.0 - 4.0,
        })
        .collect()
}

/// Holds a program to what `expected` writes; `tolerance` is a share of the largest value.
#[track_caller]
fn check(
    name: &str,
    program: &Program,
    inputs: &[&[f32]],
    len: usize,
    tolerance: f32,
    expected: impl FnOnce(&mut [f32]),
) {
    let Some(shim) = shim() else { return };
    let mut right = vec![0.0; len];
    expected(&mut right);
    let mut found = vec![0.0; len];
    shim.run(program, inputs, &mut found, false);
    compare(name, &right, &found, tolerance);
}

/// The same for an operation in place.
#[track_caller]
fn check_in_place(
    name: &str,
    program: &Program,
    inputs: &[&[f32]],
    start: &[f32],
    tolerance: f32,
    expected: impl FnOnce(&mut [f32]),
) {
    let Some(shim) = shim() else { return };
    let (mut right, mut found) = (start.to_vec(), start.to_vec());
    expected(&mut right);
    shim.run(program, inputs, &mut found, true);
    compare(name, &right, &found, tolerance);
}

#[track_caller]
fn compare(name: &str, right: &[f32], found: &[f32], tolerance: f32) {
    let largest = right.iter().fold(0.0f32, |m, v| if v.is_finite() { m.max(v.abs()) } else { m });
    for (i, (a, b)) in right.iter().zip(found).enumerate() {
        let same = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * largest;
        assert!(same, "{name}: value {i} of {}: expected {a}, found {b}", right.len());
    }
}

const EXACT: f32 = 0.0;
const ROUNDED: f32 = 1e-6;
const SUMMED: f32 = 1e-5;

fn geometry(
    batch: usize,
    input: [usize; 2],
    io: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    pad: [usize; 2],
) -> Geometry {
    let output = [0, 1].map(|d| (input[d] + 2 * pad[d] - kernel[d]) / stride + 1);
    Geometry { batch, input, output, channels: io[0], out_channels: io[1], kernel, stride, padding: pad }
}

fn geometries(same_channels: bool) -> Vec<Geometry> {
    let io = |i, o| if same_channels { [i, i] } else { [i, o] };
    vec![
        geometry(2, [7, 9], io(3, 8), [3, 3], 1, [1, 1]),
        geometry(3, [9, 6], io(5, 4), [3, 3], 2, [1, 1]),
        geometry(2, [8, 8], io(6, 10), [5, 5], 2, [2, 2]),
        geometry(2, [6, 7], io(12, 5), [1, 1], 1, [0, 0]),
        geometry(2, [8, 8], io(4, 7), [1, 1], 2, [0, 0]),
        geometry(4, [1, 1], io(6, 3), [3, 3], 1, [1, 1]),
        geometry(1, [17, 19], io(3, 6), [7, 7], 2, [3, 3]),
        geometry(6, [23, 21], io(2, 3), [3, 3], 1, [1, 1]),
    ]
}

#[test]
fn pointwise_programs() {
    for len in [1, 255, 256, 257, 5000] {
        let (x, dy) = (numbers(len, 1), numbers(len, 2));
        for f in Function::ALL {
            check("apply", &super::apply(len, f), &[&x], len, ROUNDED, |y| float::apply(&x, f, y));
            let program = super::apply_grad(len, f);
            check("apply_grad", &program, &[&x, &dy], len, ROUNDED, |dx| float::apply_grad(&x, &dy, f, dx));
        }
        let program = super::relu_grad_from_output(len);
        check("relu_grad", &program, &[&x, &dy], len, EXACT, |dx| float::relu_grad_from_output(&x, &dy, dx));
        for relu in [false, true] {
            check("add", &super::add(len, relu), &[&x, &dy], len, EXACT, |y| float::add(&x, &dy, relu, y));
        }
        check_in_place("accumulate", &super::accumulate(len), &[&x], &dy, EXACT, |s| float::accumulate(s, &x));
        for qmax in [255, 127, 15] {
            let program = super::fake_quantize(len, 0.03, 60, qmax);
            check("fake_quantize", &program, &[&x], len, EXACT, |y| kernels::fake_quantize(&x, 0.03, 60, qmax, y));
        }
    }
    let levels: Vec<f32> = (0..2 * 64 * 5).map(|i| (i * i * 31 % 128) as f32 - 37.0).map(|l| l * 0.0371).collect();
    for values in [false, true] {
        let program = super::fake_average(2, 5, 64, 0.0371, values);
        check("fake_average", &program, &[&levels], 2 * 5, EXACT, |y| {
            kernels::fake_average(&levels, 5, 64, 0.0371, values, y);
        });
    }
    let (images, pixels, c) = (3, 35, 7);
    let len = images * pixels * c;
    let (x, dy, factors) = (numbers(len, 3), numbers(len, 4), numbers(images * c, 5));
    let program = super::mul_channels(len, c, pixels);
    check("mul_channels", &program, &[&x, &factors], len, EXACT, |y| float::mul_channels(&x, &factors, c, pixels, y));
    let program = super::scale_samples(len, images);
    check("scale_samples", &program, &[&x, &factors[..images]], len, EXACT, |y| {
        float::scale_samples(&x, &factors[..images], y);
    });
    for (images, pixels, c) in [(3, 35, 7), (2, 900, 5), (1, 1, 4), (2, 40_000, 3)] {
        let (x, dy) = if pixels == 35 {
            (x.clone(), dy.clone())
        } else {
            (numbers(images * pixels * c, 6), numbers(images * pixels * c, 7))
        };
        let program = super::mul_channels_grad(images * pixels * c, c, pixels);
        check("mul_channels_grad", &program, &[&x, &dy], images * c, SUMMED, |f| {
            float::mul_channels_grad(&x, &dy, c, pixels, f);
        });
        let program = super::mean_pixels(images, c, pixels);
        check("mean_pixels", &program, &[&x], images * c, SUMMED, |y| float::mean_pixels(&x, c, pixels, y));
        let program = super::mean_pixels_grad(images, c, pixels);
        let small = &dy[..images * c];
        check("mean_pixels_grad", &program, &[small], images * pixels * c, ROUNDED, |dx| {
            float::mean_pixels_grad(small, c, pixels, dx);
        });
    }
}

#[test]
fn channel_programs() {
    let (rows, c) = (37, 12);
    let x = numbers(rows * c, 1);
    check("chunk", &super::chunk(rows, (c, 4), 6), &[&x], rows * 6, EXACT, |y| {
        float::copy_channels((&x, c, 4), (y, 6, 0), 6);
    });
    let (a, b) = (numbers(rows * 5, 2), numbers(rows * 3, 3));
    check("cat", &super::concatenate(rows, &[5, 3]), &[&a, &b], rows * 8, EXACT, |y| {
        float::copy_channels((&a, 5, 0), (y, 8, 0), 5);
        float::copy_channels((&b, 3, 0), (y, 8, 5), 3);
    });
    check_in_place("add_channels", &super::add_channels(rows, 5, (c, 6)), &[&a], &x, EXACT, |to| {
        float::add_channels(&a, 5, (to, c, 6));
    });
    for groups in [2, 3] {
        check("shuffle", &super::shuffle(rows * c, c, groups), &[&x], rows * c, EXACT, |y| {
            float::shuffle(&x, c, groups, y);
        });
        check("unshuffle", &super::unshuffle(rows * c, c, groups), &[&x], rows * c, EXACT, |y| {
            float::unshuffle(&x, c, groups, y);
        });
    }
    let (batch, pixels) = (3, 35);
    let x = numbers(batch * pixels * c, 4);
    check("to_nhwc", &super::to_nhwc(x.len(), c, pixels), &[&x], x.len(), EXACT, |y| float::to_nhwc(&x, c, pixels, y));
    check("to_nchw", &super::to_nchw(x.len(), c, pixels), &[&x], x.len(), EXACT, |y| float::to_nchw(&x, c, pixels, y));
}

#[test]
fn convolution_programs() {
    for g in geometries(false) {
        let pixels = g.batch * g.output[0] * g.output[1];
        let (x, w) = (numbers(g.batch * g.image(), 1), numbers(g.depth() * g.out_channels, 2));
        let (bias, dy) = (numbers(g.out_channels, 3), numbers(pixels * g.out_channels, 4));
        for relu in [false, true] {
            let program = super::conv(&g, true, relu);
            check("conv", &program, &[&x, &w, &bias], dy.len(), SUMMED, |y| {
                float::conv(&g, &x, &w, Some(&bias), relu, y)
            });
            let program = super::conv(&g, false, relu);
            check("conv", &program, &[&x, &w], dy.len(), SUMMED, |y| float::conv(&g, &x, &w, None, relu, y));
        }
        let program = super::conv_input_grad(&g);
        check("conv_input_grad", &program, &[&dy, &w], x.len(), SUMMED, |dx| float::conv_input_grad(&g, &dy, &w, dx));
        let program = super::conv_weight_grad(&g);
        check("conv_weight_grad", &program, &[&x, &dy], w.len(), SUMMED, |dw| float::conv_weight_grad(&g, &x, &dy, dw));
    }
    for g in geometries(true) {
        let pixels = g.batch * g.output[0] * g.output[1];
        let (x, w) = (numbers(g.batch * g.image(), 5), numbers(g.depth(), 6));
        let (bias, dy) = (numbers(g.channels, 7), numbers(pixels * g.channels, 8));
        for relu in [false, true] {
            let program = super::depthwise(&g, true, relu);
            check("depthwise", &program, &[&x, &w, &bias], dy.len(), ROUNDED, |y| {
                float::depthwise(&g, &x, &w, Some(&bias), relu, y);
            });
            let program = super::depthwise(&g, false, relu);
            check("depthwise", &program, &[&x, &w], dy.len(), ROUNDED, |y| float::depthwise(&g, &x, &w, None, relu, y));
        }
        let program = super::depthwise_input_grad(&g);
        check("depthwise_input_grad", &program, &[&dy, &w], x.len(), ROUNDED, |dx| {
            float::depthwise_input_grad(&g, &dy, &w, dx);
        });
        let program = super::depthwise_weight_grad(&g);
        check("depthwise_weight_grad", &program, &[&x, &dy], w.len(), SUMMED, |dw| {
            float::depthwise_weight_grad(&g, &x, &dy, dw);
        });
        let pool = Geometry { out_channels: g.channels, ..g };
        let mut y = vec![0.0; dy.len()];
        float::max_pool(&pool, &x, &mut y);
        check("max_pool", &super::max_pool(&pool), &[&x], y.len(), EXACT, |y| float::max_pool(&pool, &x, y));
        check("max_pool_grad", &super::max_pool_grad(&pool), &[&x, &y, &dy], x.len(), ROUNDED, |dx| {
            float::max_pool_grad(&pool, &x, &y, &dy, dx);
        });
    }
}

/// A batch whose patches do not fit at a time.
#[test]
fn convolutions_go_through_a_large_batch_in_pieces() {
    let g = geometry(3, [256, 256], [80, 2], [3, 3], 1, [1, 1]);
    let x: Vec<f32> = (0..g.batch * g.image()).map(|i| (i % 17) as f32 - 8.0).collect();
    let (w, pixels) = (numbers(g.depth() * g.out_channels, 2), g.batch * g.output[0] * g.output[1]);
    let dy = numbers(pixels * 2, 3);
    assert!(super::conv(&g, false, false).steps.len() > 2, "one piece only");
    check("conv", &super::conv(&g, false, false), &[&x, &w], pixels * 2, SUMMED, |y| {
        float::conv(&g, &x, &w, None, false, y);
    });
    check("conv_weight_grad", &super::conv_weight_grad(&g), &[&x, &dy], w.len(), SUMMED, |dw| {
        float::conv_weight_grad(&g, &x, &dy, dw);
    });
    check("conv_input_grad", &super::conv_input_grad(&g), &[&dy, &w], x.len(), SUMMED, |dx| {
        float::conv_input_grad(&g, &dy, &w, dx);
    });
}

/// Few rows, enough for two stages, enough for three; few and many columns.
const ROWS_AND_CHANNELS: [(usize, usize); 6] = [(2, 3), (128, 5), (129, 7), (1000, 16), (20_000, 24), (300_000, 2)];

#[test]
fn sums_and_norms() {
    for (rows, c) in ROWS_AND_CHANNELS {
        let (x, dy) = (numbers(rows * c, 1), numbers(rows * c, 2));
        check("channel_sums", &super::channel_sums(rows, c), &[&dy], c, SUMMED, |s| float::channel_sums(&dy, s));
        // Far from zero: a sum of squares without its origin would lose the variance.
        let far: Vec<f32> = x.iter().map(|v| v * 1e-2 + 50.0).collect();
        for (x, tolerance) in [(&x, SUMMED), (&far, SUMMED)] {
            let m = float::moments(x, c);
            check("mean", &super::moments(rows, c), &[x], 2 * c, tolerance, |out| {
                out[..c].copy_from_slice(&m.mean);
                out[c..].copy_from_slice(&m.variance);
            });
            if let Some(shim) = shim() {
                let mut found = vec![0.0; 2 * c];
                shim.run(&super::moments(rows, c), &[x], &mut found, false);
                compare("variance", &m.variance, &found[c..], 1e-4);
            }
            check("moments and extremes", &qat::moments_and_extremes(rows, c), &[x], 4 * c, tolerance, |out| {
                float::moments_and_extremes(x, c, out);
            });
        }
        let k = numbers(4 * c, 3);
        for f in Function::ALL {
            check("scale_shift", &super::scale_shift(x.len(), c, f), &[&x, &k], x.len(), ROUNDED, |y| {
                float::scale_shift(&x, &k[..c], &k[c..2 * c], f, y);
            });
            check("norm_grad_sums", &super::norm_grad_sums(rows, c, f), &[&x, &dy, &k[..3 * c]], 2 * c, SUMMED, |s| {
                float::norm_grad_sums(&x, &dy, [&k[..c], &k[c..2 * c], &k[2 * c..3 * c]], f, s);
            });
            check("norm_input_grad", &super::norm_input_grad(x.len(), c, f), &[&x, &dy, &k], x.len(), ROUNDED, |dx| {
                float::norm_input_grad(&x, &dy, [&k[..c], &k[c..2 * c], &k[2 * c..3 * c], &k[3 * c..]], f, dx);
            });
        }
        check("min_max", &super::min_max(x.len()), &[&x], 2, EXACT, |o| (o[0], o[1]) = float::min_max(&x));
        check("extremes", &qat::extremes(x.len()), &[&x], 2, EXACT, |o| o.copy_from_slice(&float::extremes(&x)));
        for bins in [7, 2048] {
            check("histogram", &super::histogram(x.len(), bins, -3.0, 2.5), &[&x], bins, EXACT, |o| {
                o.copy_from_slice(&float::histogram(&x, bins, -3.0, 2.5));
            });
        }
    }
    let mut x = numbers(70_000, 9);
    x[33_333] = f32::NAN;
    check("min_max", &super::min_max(x.len()), &[&x], 2, EXACT, |o| o.fill(f32::NAN));
    check("extremes", &qat::extremes(x.len()), &[&x], 2, EXACT, |o| o.copy_from_slice(&float::extremes(&x)));
}

#[test]
fn values_move_to_levels_and_gradients_through_them() {
    for len in [1, 300, 50_000] {
        let (x, dy) = (numbers(len, 1), numbers(len, 2));
        for levels in [[0.05, 30.0, 0.0, 127.0], [0.01, 0.0, 0.0, 255.0], [0.5, 7.0, 0.0, 15.0]] {
            let grid = Grid { scale: levels[0], zero_point: levels[1], least: levels[2], most: levels[3] };
            check("to_grid", &qat::to_grid(len), &[&x, &levels], len, EXACT, |y| float::to_grid(&x, grid, y));
            for relu in [false, true] {
                check("to_grid_grad", &qat::to_grid_grad(len, relu), &[&x, &dy, &levels], len, EXACT, |dx| {
                    float::to_grid_grad(&x, &dy, grid, relu, dx);
                });
            }
            check("step_grad", &qat::step_grad(len, 9.0), &[&x, &dy, &levels], 1, SUMMED, |out| {
                out[0] = float::step_grad(&x, &dy, grid) / (9.0 * levels[3]).sqrt();
            });
        }
    }
    for (rows, c) in ROWS_AND_CHANNELS {
        let (x, dy, mut k) = (numbers(rows * c, 3), numbers(rows * c, 4), numbers(7 * c, 5));
        k.extend([0.04, 20.0, 0.0, 127.0]);
        let grid = Grid { scale: 0.04, zero_point: 20.0, least: 0.0, most: 127.0 };
        for relu in [false, true] {
            let norm = NormToGrid { scale: &k[..c], shift: &k[c..2 * c], relu, grid };
            check("norm_to_grid", &qat::norm_to_grid(x.len(), c, relu), &[&x, &k], x.len(), EXACT, |y| norm.run(&x, y));
            let program = qat::conv_bn_grad_sums(rows, c, relu, true);
            check("grad sums", &program, &[&x, &dy, &k], 2 * c, SUMMED, |s| {
                norm.grad_sums(&x, &dy, &k[2 * c..3 * c], s)
            });
            let f = if relu { Function::Relu } else { Function::Identity };
            let program = qat::conv_bn_grad_sums(rows, c, relu, false);
            check("grad sums", &program, &[&x, &dy, &k], 2 * c, SUMMED, |s| {
                float::norm_grad_sums(&x, &dy, [&k[..c], &k[c..2 * c], &k[2 * c..3 * c]], f, s);
            });
            let ab = numbers(2 * c, 6);
            let all = [&ab[..], &k[..]].concat();
            let program = qat::conv_bn_input_grad(x.len(), c, relu, true);
            check("input grad", &program, &[&x, &dy, &all], x.len(), ROUNDED, |dx| {
                norm.input_grad(&x, &dy, [&ab[..c], &ab[c..]], dx);
            });
            let program = qat::conv_bn_input_grad(x.len(), c, relu, false);
            check("input grad", &program, &[&x, &dy, &all], x.len(), ROUNDED, |dx| {
                float::norm_input_grad(&x, &dy, [&k[..c], &k[c..2 * c], &ab[..c], &ab[c..]], f, dx);
            });
        }
    }
}

#[test]
fn weights_move_to_levels_and_gradients_through_them() {
    for (rows, c) in [(1, 3), (27, 8), (1152, 20), (9, 960), (20_000, 4)] {
        let n = rows * c;
        let (w, dq, factors) = (numbers(n, 1), numbers(n, 2), numbers(c, 3));
        let mut levels = factors.clone();
        levels.extend((0..c).map(|i| 0.01 + i as f32 * 1e-3));
        levels.extend((0..c).map(|i| if i % 3 == 0 { -20.0 } else { 0.0 }));
        levels.extend([-128.0, 127.0]);
        let grids =
            ChannelGrids { scales: &levels[c..2 * c], zero_points: &levels[2 * c..3 * c], least: -128.0, most: 127.0 };
        check("weight extremes", &qat::weight_extremes(n, c, c), &[&w, &factors], 2 * c, EXACT, |out| {
            float::weight_extremes(&w, &factors, out);
        });
        check("weight extremes", &qat::weight_extremes(n, c, 1), &[&w, &factors], 2, EXACT, |out| {
            let mut all = vec![0.0; 2 * c];
            float::weight_extremes(&w, &factors, &mut all);
            out[0] = all[..c].iter().copied().fold(f32::INFINITY, f32::min);
            out[1] = all[c..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        });
        check("weight_to_grid", &qat::weight_to_grid(n, c), &[&w, &levels], n, EXACT, |out| {
            float::weight_to_grid(&w, &factors, &grids, out);
        });
        let program = qat::weight_to_grid_grad(n, c, true);
        check("weight_to_grid_grad", &program, &[&dq, &w, &levels], n + c, SUMMED, |out| {
            let (dw, by_factor) = out.split_at_mut(n);
            float::weight_to_grid_grad(&w, &factors, &grids, &dq, dw, by_factor);
        });
        for groups in [1, c] {
            let program = qat::weight_step_grad(n, c, groups, 5.0);
            check("weight_step_grad", &program, &[&dq, &w, &levels], groups, SUMMED, |out| {
                let mut each = vec![0.0; c];
                float::weight_step_grad(&w, &factors, &grids, &dq, &mut each);
                for (out, of) in out.iter_mut().zip(each.chunks_exact(c / groups)) {
                    *out = of.iter().sum::<f32>() / (5.0 * 127.0f32).sqrt();
                }
            });
        }
    }
}

/// Levels are held to the graph's own functions by the training steps in `exec::float`; here only that ranges move.
#[test]
fn a_range_moves_as_the_observer_says() {
    let Some(shim) = shim() else { return };
    let seen = [-2.0, 1.0, 3.0, 4.0, 2.0, 1.0];
    let mut range = [f32::INFINITY, -1.0, f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY];
    shim.run(&qat::observe(3, true, 0.01), &[&seen], &mut range, true);
    // The first sees its first batch; the second averages; the third saw nothing but NaN.
    assert_eq!(range[..2], [-2.0, -1.0 + 0.01 * 2.0]);
    assert_eq!(range[3..5], [4.0, 1.0 + 0.01]);
    assert!(range[2] > range[5]);
    let levels = qat::weight_levels(1, 1, false, WeightKind::BySign, 128.0);
    let mut out = [0.0; 5];
    shim.run(&levels, &[&[0.2, 2.55], &[1.0]], &mut out, false);
    assert_eq!(out, [1.0, 0.01, -128.0, -128.0, 127.0]);
}

#[test]
fn every_kernel_is_launched_by_some_program_and_has_its_arguments() {
    let text = sources();
    let used: BTreeSet<String> = kernels().into_iter().filter(|k| k != "name").collect();
    let rust: String = ["channels", "conv", "fake", "norm", "pointwise", "pool", "qat", "reduce", "train"]
        .iter()
        .map(|f| {
            let path = format!("{}/src/kernels/cuda/{f}.rs", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).expect("a source file")
        })
        .collect();
    for kernel in &used {
        assert!(rust.contains(&format!("\"{kernel}\"")), "no program launches `{kernel}`");
        assert_eq!(text.matches(&format!("KERNEL({kernel})")).count(), 1, "`{kernel}` is there twice");
    }
}

/// The stand-in itself must not pass over a fault.
#[test]
fn the_stand_in_sees_faults() {
    let Some(shim) = shim() else { return };
    let fails = |program: Program, inputs: &[&[f32]], len: usize| {
        let inputs: Vec<Vec<f32>> = inputs.iter().map(|i| i.to_vec()).collect();
        std::panic::catch_unwind(move || {
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            Shim::run(shim, &program, &inputs, &mut vec![0.0; len], false);
        })
        .is_err()
    };
    let x = [1.0; 4];
    assert!(!fails(super::apply(4, Function::Relu), &[&x], 4));
    assert!(fails(super::apply(5, Function::Relu), &[&x], 4), "one value too many");
    let unknown =
        Program { temporaries: vec![], steps: vec![Step::Launch { kernel: "none", threads: 1, args: vec![] }] };
    assert!(fails(unknown, &[&x], 4), "no such kernel");
    let mut short = super::apply(4, Function::Relu);
    if let Step::Launch { args, .. } = &mut short.steps[0] {
        args.pop();
    }
    assert!(fails(short, &[&x], 4), "an argument less");
}
