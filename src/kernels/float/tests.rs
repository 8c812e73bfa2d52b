//! Every gradient against finite differences in `f64`, and results against the number of threads.

use super::*;

/// Numbers in -1..1 that do not repeat.
pub(super) fn numbers(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729 + 13) as f64 * 0.618_033_988_75).fract() * 2.0 - 1.0).collect()
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Checks `gradient`, that of `<direction, f(x)>` by `x`, one value at a time.
pub(super) fn check(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    for i in 0..x.len() {
        let at = |by: f64| {
            let mut x = x.to_vec();
            x[i] += by;
            f(&x)
        };
        let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let off = (slope - gradient[i]).abs();
        assert!(off < 1e-6 * (1.0 + slope.abs()), "{what}, value {i}: slope {slope}, gradient {}", gradient[i]);
    }
}

pub(super) fn geometry(
    input: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
    channels: [usize; 2],
) -> Geometry {
    let along = |size: usize| (size + 2 * padding - kernel) / stride + 1;
    Geometry {
        batch: 2,
        input,
        output: input.map(along),
        channels: channels[0],
        out_channels: channels[1],
        kernel: [kernel; 2],
        stride,
        padding: [padding; 2],
    }
}

/// Kernels, strides and paddings of the zoo, odd sizes, and inputs so small that the kernel is trimmed.
fn geometries(channels: [usize; 2]) -> Vec<Geometry> {
    [
        ([5, 4], 1, 1, 0),
        ([5, 4], 1, 2, 0),
        ([5, 4], 3, 1, 1),
        ([6, 5], 3, 2, 1),
        ([1, 1], 3, 1, 1),
        ([2, 2], 3, 2, 1),
        ([2, 1], 5, 1, 2),
        ([7, 7], 7, 2, 3),
        ([6, 9], 3, 2, 0),
    ]
    .map(|(input, kernel, stride, padding)| geometry(input, kernel, stride, padding, channels))
    .to_vec()
}

pub(super) fn sizes(g: &Geometry) -> [usize; 3] {
    let taps = g.kernel[0] * g.kernel[1];
    [g.batch * g.image(), taps * g.channels * g.out_channels, g.batch * g.output[0] * g.output[1] * g.out_channels]
}

/// The definition of a convolution.
fn direct(g: &Geometry, x: &[f64], w: &[f64], bias: &[f64], depthwise: bool) -> Vec<f64> {
    let mut y = Vec::new();
    for (image, oy, ox) in
        (0..g.batch).flat_map(|b| (0..g.output[0]).flat_map(move |oy| (0..g.output[1]).map(move |ox| (b, oy, ox))))
    {
        for o in 0..g.out_channels {
            let mut sum = bias[o];
            for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
                let row = (oy * g.stride + ky).wrapping_sub(g.padding[0]);
                let column = (ox * g.stride + kx).wrapping_sub(g.padding[1]);
                if row >= g.input[0] || column >= g.input[1] {
                    continue;
                }
                let pixel = ((image * g.input[0] + row) * g.input[1] + column) * g.channels;
                let tap = ky * g.kernel[1] + kx;
                if depthwise {
                    sum += x[pixel + o] * w[tap * g.channels + o];
                } else {
                    for i in 0..g.channels {
                        sum += x[pixel + i] * w[(tap * g.channels + i) * g.out_channels + o];
                    }
                }
            }
            y.push(sum.max(0.0));
        }
    }
    y
}

#[test]
fn convolution() {
    for g in geometries([3, 5]) {
        let [nx, nw, ny] = sizes(&g);
        let (x, w, bias, dy) = (numbers(nx, 1), numbers(nw, 2), numbers(g.out_channels, 3), numbers(ny, 4));
        let run = |x: &[f64], w: &[f64]| {
            let mut y = vec![f64::NAN; ny];
            conv(&g, x, w, None, false, &mut y);
            y
        };
        let mut y = vec![f64::NAN; ny];
        conv(&g, &x, &w, Some(&bias), true, &mut y);
        let expected = direct(&g, &x, &w, &bias, false);
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{g:?}");
        let (mut dx, mut dw) = (vec![f64::NAN; nx], vec![f64::NAN; nw]);
        conv_input_grad(&g, &dy, &w, &mut dx);
        conv_weight_grad(&g, &x, &dy, &mut dw);
        check(&format!("input of {g:?}"), &x, &dx, |x| dot(&run(x, &w), &dy));
        check(&format!("weight of {g:?}"), &w, &dw, |w| dot(&run(&x, w), &dy));
    }
}

/// The path of large weights sums the same products in another order.
#[test]
fn weight_gradients_of_large_layers() {
    for (input, kernel, stride, padding) in [([4, 4], 3, 1, 1), ([4, 4], 1, 1, 0), ([4, 4], 1, 2, 0), ([2, 2], 3, 2, 1)]
    {
        let g = geometry(input, kernel, stride, padding, [256, 260]);
        let [nx, nw, ny] = sizes(&g);
        let (x, dy) = (numbers(nx, 1), numbers(ny, 2));
        let mut dw = vec![f64::NAN; nw];
        conv_weight_grad(&g, &x, &dy, &mut dw);
        let small = Geometry { channels: 1, out_channels: 1, ..g };
        for (i, o) in [(0, 0), (127, 3), (128, 259), (255, 100)] {
            let of = |values: &[f64], channels: usize, c: usize| -> Vec<f64> {
                values.iter().skip(c).step_by(channels).copied().collect()
            };
            let mut expected = vec![f64::NAN; kernel * kernel];
            conv_weight_grad(&small, &of(&x, 256, i), &of(&dy, 260, o), &mut expected);
            for (tap, expected) in expected.iter().enumerate() {
                let found = dw[(tap * 256 + i) * 260 + o];
                assert!((found - expected).abs() < 1e-12, "{g:?} tap {tap}: {found} {expected}");
            }
        }
    }
}

#[test]
fn depthwise_convolution() {
    for channels in [3, 8, 24, 35] {
        for g in geometries([channels, channels]) {
            let nw = g.kernel[0] * g.kernel[1] * channels;
            let [nx, _, ny] = sizes(&g);
            let (x, w, bias, dy) = (numbers(nx, 1), numbers(nw, 2), numbers(channels, 3), numbers(ny, 4));
            let run = |x: &[f64], w: &[f64]| {
                let mut y = vec![f64::NAN; ny];
                depthwise(&g, x, w, None, false, &mut y);
                y
            };
            let mut y = vec![f64::NAN; ny];
            depthwise(&g, &x, &w, Some(&bias), true, &mut y);
            let expected = direct(&g, &x, &w, &bias, true);
            assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{g:?}");
            if channels > 8 {
                continue; // The lanes are covered; slopes are slow to take.
            }
            let (mut dx, mut dw) = (vec![f64::NAN; nx], vec![f64::NAN; nw]);
            depthwise_input_grad(&g, &dy, &w, &mut dx);
            depthwise_weight_grad(&g, &x, &dy, &mut dw);
            check(&format!("input of {g:?}"), &x, &dx, |x| dot(&run(x, &w), &dy));
            check(&format!("weight of {g:?}"), &w, &dw, |w| dot(&run(&x, w), &dy));
        }
    }
}

#[test]
fn point_wise_functions() {
    for f in Function::ALL {
        let x: Vec<f64> = numbers(200, 1).iter().map(|v| v * 7.0).collect();
        let dy = numbers(200, 2);
        let run = |x: &[f64]| {
            let mut y = vec![f64::NAN; x.len()];
            apply(x, f, &mut y);
            dot(&y, &dy)
        };
        let mut dx = vec![f64::NAN; x.len()];
        apply_grad(&x, &dy, f, &mut dx);
        check(&format!("{f:?}"), &x, &dx, run);
    }
}

#[test]
fn relu_has_no_slope_at_zero() {
    let mut dx = [f64::NAN; 2];
    apply_grad(&[0.0, -0.0], &[1.0, 1.0], Function::Relu, &mut dx);
    assert_eq!(dx, [0.0, 0.0]);
}

#[test]
fn the_exponential_is_exact_to_a_few_units() {
    for i in -8700..8800 {
        let x = i as f32 * 0.01;
        let (found, expected) = (exp_f32(x), f64::from(x).exp());
        assert!((f64::from(found) / expected - 1.0).abs() < 3e-7, "{x}: {found} {expected}");
    }
    assert!(exp_f32(f32::NAN).is_nan() && exp_f32(f32::INFINITY) > 1e38 && exp_f32(f32::NEG_INFINITY) < 1e-37);
}

/// PyTorch 2.9's own results, on AVX2: functions and means round where its vectorized kernels round.
#[test]
fn functions_and_means_equal_pytorchs_to_the_bit() {
    let x: Vec<f32> = numbers(4096, 1).iter().map(|v| (v * 12.0) as f32).collect();
    for (f, expected) in [
        (Function::Hardswish, 0x9a77_7c18),
        (Function::Hardsigmoid, 0x647a_fcee),
        (Function::Sigmoid, 0x854a_b21f),
        (Function::Silu, 0xfaab_00de),
    ] {
        let mut y = vec![f32::NAN; x.len()];
        apply(&x, f, &mut y);
        let digest = y.iter().fold(0_u32, |h, v| h.wrapping_mul(31).wrapping_add(v.to_bits()));
        assert_eq!(digest, expected, "{f:?}");
    }
    for (pixels, expected) in [
        (4, 0x3ceb_cfe0),
        (9, 0xbcd9_6c55),
        (16, 0xbd7f_4f3e),
        (49, 0xbca5_4374),
        (64, 0xbca8_57d0),
        (196, 0xba07_4288),
        (256, 0xbaf3_d2fa),
        (1024, 0x3a25_abf4),
        (3136, 0xb963_dca7_u32),
    ] {
        // Seventeen equal channels: one more than are summed side by side.
        let x: Vec<f32> = numbers(pixels, 2).iter().flat_map(|v| [*v as f32; 17]).collect();
        let mut y = [f32::NAN; 17];
        mean_pixels(&x, 17, pixels, &mut y);
        assert_eq!(y.map(f32::to_bits), [expected; 17], "{pixels} pixels");
    }
}

/// The whole of batch norm with its function, as the executor puts it together.
#[test]
fn batch_norm_with_its_function() {
    let (rows, c, eps) = (7, 3, 1e-3);
    let (x, dy) = (numbers(rows * c, 1), numbers(rows * c, 2));
    let parameters: Vec<f64> = numbers(2 * c, 3).iter().map(|v| v + 1.5).collect();
    for f in Function::ALL {
        let coefficients = |x: &[f64], p: &[f64]| {
            let m = moments(x, c);
            let inverse: Vec<f64> = m.variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
            let scale: Vec<f64> = (0..c).map(|i| p[i] * inverse[i]).collect();
            let shift: Vec<f64> = (0..c).map(|i| p[c + i] - m.mean[i] * scale[i]).collect();
            (scale, shift, m.mean, inverse)
        };
        let run = |x: &[f64], p: &[f64]| {
            let (scale, shift, ..) = coefficients(x, p);
            let mut y = vec![f64::NAN; x.len()];
            scale_shift(x, &scale, &shift, f, &mut y);
            dot(&y, &dy)
        };
        let (scale, shift, mean, inverse) = coefficients(&x, &parameters);
        let mut sums = vec![f64::NAN; 2 * c];
        norm_grad_sums(&x, &dy, [&scale, &shift, &mean], f, &mut sums);
        let slope: Vec<f64> = (0..c).map(|i| scale[i] * inverse[i] * inverse[i] * sums[c + i] / rows as f64).collect();
        let constant: Vec<f64> = (0..c).map(|i| scale[i] * sums[i] / rows as f64 - slope[i] * mean[i]).collect();
        let mut dx = vec![f64::NAN; x.len()];
        norm_input_grad(&x, &dy, [&scale, &shift, &constant, &slope], f, &mut dx);
        let dp: Vec<f64> = (0..c).map(|i| sums[c + i] * inverse[i]).chain((0..c).map(|i| sums[i])).collect();
        check(&format!("input of batch norm and {f:?}"), &x, &dx, |x| run(x, &parameters));
        check(&format!("parameters of batch norm and {f:?}"), &parameters, &dp, |p| run(&x, p));
    }
}

#[test]
fn moments_of_many_blocks() {
    let (rows, c) = (1000, 3);
    let x: Vec<f64> = numbers(rows * c, 1).iter().map(|v| v * 0.01 + 100.0).collect();
    let m = moments(&x, c);
    for i in 0..c {
        let column: Vec<f64> = x.iter().skip(i).step_by(c).copied().collect();
        let mean = column.iter().sum::<f64>() / rows as f64;
        let variance = column.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows as f64;
        assert!((m.mean[i] - mean).abs() < 1e-10 && (m.variance[i] / variance - 1.0).abs() < 1e-9);
    }
}

#[test]
fn max_pooling() {
    for (input, kernel, stride, padding) in [([5, 4], 3, 2, 1), ([6, 6], 2, 2, 0), ([1, 1], 3, 2, 1), ([5, 5], 3, 1, 1)]
    {
        let g = geometry(input, kernel, stride, padding, [3, 3]);
        let [nx, _, ny] = sizes(&g);
        let (x, dy) = (numbers(nx, 1), numbers(ny, 2));
        let run = |x: &[f64]| {
            let mut y = vec![f64::NAN; ny];
            max_pool(&g, x, &mut y);
            y
        };
        let mut dx = vec![f64::NAN; nx];
        max_pool_grad(&g, &x, &run(&x), &dy, &mut dx);
        check(&format!("{g:?}"), &x, &dx, |x| dot(&run(x), &dy));
    }
}

#[test]
fn of_equal_maxima_the_first_gets_the_gradient() {
    let g = Geometry { batch: 1, ..geometry([2, 2], 2, 2, 0, [1, 1]) };
    let mut dx = [f64::NAN; 4];
    max_pool_grad(&g, &[1.0, 2.0, 2.0, 2.0], &[2.0], &[5.0], &mut dx);
    assert_eq!(dx, [0.0, 5.0, 0.0, 0.0]);
}

#[test]
fn means_products_and_moves() {
    let (c, pixels, batch) = (4, 3, 2);
    let n = batch * c * pixels;
    let (x, factor) = (numbers(n, 1), numbers(batch * c, 2));
    let (dy, dmean) = (numbers(n, 3), numbers(batch * c, 4));
    let mean = |x: &[f64]| {
        let mut y = vec![f64::NAN; batch * c];
        mean_pixels(x, c, pixels, &mut y);
        dot(&y, &dmean)
    };
    let mul = |x: &[f64], f: &[f64]| {
        let mut y = vec![f64::NAN; n];
        mul_channels(x, f, c, pixels, &mut y);
        dot(&y, &dy)
    };
    let moved = |x: &[f64]| {
        let mut y = vec![f64::NAN; n];
        shuffle(x, c, 2, &mut y);
        dot(&y, &dy)
    };
    let (mut dx, mut df) = (vec![f64::NAN; n], vec![f64::NAN; batch * c]);
    mean_pixels_grad(&dmean, c, pixels, &mut dx);
    check("mean", &x, &dx, mean);
    mul_channels(&dy, &factor, c, pixels, &mut dx);
    check("product", &x, &dx, |x| mul(x, &factor));
    mul_channels_grad(&x, &dy, c, pixels, &mut df);
    check("factor", &factor, &df, |f| mul(&x, f));
    unshuffle(&dy, c, 2, &mut dx);
    check("shuffle", &x, &dx, moved);
}

/// Sums, joins, parts, flattening, biases and dropped branches: what a graph's walk puts together.
#[test]
fn sums_joins_and_drops() {
    let (batch, pixels, a, b) = (2, 6, 3, 5);
    let (na, nb) = (batch * pixels * a, batch * pixels * b);
    let (x, z, dy) = (numbers(na, 1), numbers(nb, 2), numbers(na + nb, 3));

    // Concatenation: a part's gradient is its channels, a chunk's is added to them.
    let cat = |x: &[f64], z: &[f64]| {
        let mut y = vec![f64::NAN; na + nb];
        copy_channels((x, a, 0), (&mut y, a + b, 0), a);
        copy_channels((z, b, 0), (&mut y, a + b, a), b);
        y
    };
    let (mut dx, mut dz) = (vec![f64::NAN; na], vec![f64::NAN; nb]);
    copy_channels((&dy, a + b, 0), (&mut dx, a, 0), a);
    copy_channels((&dy, a + b, a), (&mut dz, b, 0), b);
    check("cat, first", &x, &dx, |x| dot(&cat(x, &z), &dy));
    check("cat, second", &z, &dz, |z| dot(&cat(&x, z), &dy));

    let whole = cat(&x, &z);
    let chunk = |whole: &[f64]| {
        let mut y = vec![f64::NAN; nb];
        copy_channels((whole, a + b, a), (&mut y, b, 0), b);
        y
    };
    let d = numbers(nb, 4);
    // Two readers of the same channels: their gradients add up.
    let mut dwhole = vec![0.0; na + nb];
    add_channels(&d, b, (&mut dwhole, a + b, a));
    add_channels(&d, b, (&mut dwhole, a + b, a));
    check("chunk", &whole, &dwhole, |w| 2.0 * dot(&chunk(w), &d));

    // A residual sum, with ReLU and without, read twice.
    let (p, q, d) = (numbers(40, 5), numbers(40, 6), numbers(40, 7));
    for relu in [false, true] {
        let sum = |p: &[f64]| {
            let mut y = vec![f64::NAN; 40];
            add(p, &q, relu, &mut y);
            y
        };
        let mut dp = d.clone();
        if relu {
            relu_grad_from_output(&sum(&p), &d, &mut dp);
        }
        let mut twice = dp.clone();
        accumulate(&mut twice, &dp);
        check("sum", &p, &twice, |p| 2.0 * dot(&sum(p), &d));
    }

    // A bias over all rows.
    let (bias, d) = (numbers(a, 8), numbers(na, 9));
    let mut db = vec![f64::NAN; a];
    channel_sums(&d, &mut db);
    check("bias", &bias, &db, |bias| x.iter().zip(bias.iter().cycle()).zip(&d).map(|((x, b), d)| (x + b) * d).sum());

    // Stochastic depth drops a whole image's branch, dropout single values.
    for factors in [vec![0.0, 1.25], (0..na).map(|i| if i % 3 == 0 { 0.0 } else { 1.5 }).collect()] {
        let dropped = |x: &[f64]| {
            let mut y = vec![f64::NAN; na];
            scale_samples(x, &factors, &mut y);
            y
        };
        let mut dx = vec![f64::NAN; na];
        scale_samples(&d, &factors, &mut dx);
        check("dropout", &x, &dx, |x| dot(&dropped(x), &d));
    }

    // Flattening in PyTorch's order.
    let flat = |x: &[f64]| {
        let mut y = vec![f64::NAN; na];
        to_nchw(x, a, pixels, &mut y);
        y
    };
    let mut dx = vec![f64::NAN; na];
    to_nhwc(&d, a, pixels, &mut dx);
    check("flatten", &x, &dx, |x| dot(&flat(x), &d));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| {
            let mut all = Vec::new();
            for (input, kernel, channels) in [([16, 16], 3, [24, 40]), ([2, 2], 3, [256, 256]), ([9, 9], 1, [64, 200])]
            {
                let g = Geometry { batch: 16, ..geometry(input, kernel, 1, kernel / 2, channels) };
                let [nx, nw, ny] = sizes(&g);
                let f32s = |n, seed| -> Vec<f32> { numbers(n, seed).iter().map(|v| *v as f32).collect() };
                let (x, w, dy) = (f32s(nx, 1), f32s(nw, 2), f32s(ny, 3));
                let (mut y, mut dx, mut dw) = (vec![0.0; ny], vec![0.0; nx], vec![0.0; nw]);
                conv(&g, &x, &w, None, false, &mut y);
                conv_input_grad(&g, &dy, &w, &mut dx);
                conv_weight_grad(&g, &x, &dy, &mut dw);
                let m = moments(&y, g.out_channels);
                all.extend([y, dx, dw, m.mean, m.variance]);
            }
            all
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3), "the same bits");
}
