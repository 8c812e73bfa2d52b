//! Fake quantization and what is built on it: each gradient against its definition, a straight line through the value
//! where it lies in the range, by finite differences in `f64`.

use super::{
    conv_bn::{self as site, Statistics},
    tests::{check, dot, geometry, numbers, sizes},
    *,
};

const GRID: Grid<f64> = Grid { scale: 0.07, zero_point: 9.0, least: 0.0, most: 15.0 };

/// Written from the definition.
fn fake(x: f64, grid: Grid<f64>) -> f64 {
    let q = (x * (1.0 / grid.scale)).round_ties_even() + grid.zero_point;
    (q.clamp(grid.least, grid.most) - grid.zero_point) * grid.scale
}

/// 1 where the level is in the range before it is clamped.
fn inside(x: f64, grid: Grid<f64>) -> f64 {
    let q = (x * (1.0 / grid.scale)).round_ties_even() + grid.zero_point;
    f64::from(u8::from(q >= grid.least && q <= grid.most))
}

/// The line that the straight-through gradient takes fake quantization for, around `at`.
fn line(x: f64, at: f64, grid: Grid<f64>) -> f64 {
    fake(at, grid) + inside(at, grid) * (x - at)
}

#[test]
fn values_and_gradients_are_the_definition() {
    let ties = (-12..12).map(|i| (f64::from(i) + 0.5) * GRID.scale);
    let x: Vec<f64> = numbers(5000, 1).into_iter().chain(ties).chain([1e30, -1e30, 0.0]).collect();
    let dy = numbers(x.len(), 2);
    let (mut y, mut dx) = (vec![f64::NAN; x.len()], vec![f64::NAN; x.len()]);
    to_grid(&x, GRID, &mut y);
    for relu in [false, true] {
        to_grid_grad(&x, &dy, GRID, relu, &mut dx);
        for (i, x) in x.iter().enumerate() {
            assert_eq!(y[i], fake(*x, GRID), "{x}");
            let stopped = relu && *x <= 0.0;
            assert_eq!(dx[i], if stopped { 0.0 } else { dy[i] * inside(*x, GRID) }, "{x}, relu {relu}");
        }
    }
}

#[test]
fn float32_rounds_like_pytorch() {
    let grid = Grid { scale: 0.021_f32, zero_point: 50.0, least: 0.0, most: 127.0 };
    let x: Vec<f32> = (-3000..3000).map(|i| i as f32 * 0.000_73).chain([f32::MAX, f32::MIN]).collect();
    let mut y = vec![f32::NAN; x.len()];
    to_grid(&x, grid, &mut y);
    for (x, y) in x.iter().zip(&y) {
        let q = ((x * (1.0 / grid.scale)).round_ties_even() + grid.zero_point).clamp(grid.least, grid.most);
        assert_eq!((q - grid.zero_point) * grid.scale, *y, "{x}");
    }
    to_grid(&[f32::NAN], grid, &mut y[..1]);
    assert!(y[0].is_nan(), "a diverged value stays one");
}

#[test]
fn extremes_are_found_wherever_they_are() {
    for count in [1, 31, 32, 33, 70_000] {
        for at in [0, count / 2, count - 1] {
            let mut x = numbers(count, 3);
            x[at] = 5.0;
            x[count - 1 - at] = -7.0;
            let expected = x.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[l, h], v| [l.min(*v), h.max(*v)]);
            assert_eq!(extremes(&x), expected, "{count} values, {at}");
        }
    }
}

#[test]
fn a_step_sizes_gradient_is_lsqs() {
    let (x, dy) = (numbers(40_000, 1), numbers(40_000, 2));
    let found = step_grad(&x, &dy, GRID);
    let expected: f64 = x.iter().zip(&dy).map(|(x, dy)| dy * by_step(*x, GRID)).sum();
    assert!((found - expected).abs() < 1e-9 * expected.abs().max(1.0), "{found}, expected {expected}");
    // Within the range the level of a value stands still while the step grows: a slope that can be measured.
    for x in [0.31, -0.2, 3.0, -3.0] {
        let at = |scale: f64| {
            let grid = Grid { scale, ..GRID };
            let limited = ((x / GRID.scale).round_ties_even() + 9.0).clamp(0.0, 15.0) - 9.0;
            // The level that x / scale would have without rounding, straight through.
            let rounded = limited + inside(x, GRID) * (x / scale - x / GRID.scale);
            rounded * grid.scale
        };
        let slope = (at(GRID.scale + 1e-6) - at(GRID.scale - 1e-6)) / 2e-6;
        assert!((slope - step_grad(&[x], &[1.0], GRID)).abs() < 1e-6, "{x}");
    }
}

fn by_step(x: f64, grid: Grid<f64>) -> f64 {
    let level = (x / grid.scale).round_ties_even();
    let limited = level.clamp(grid.least - grid.zero_point, grid.most - grid.zero_point);
    if level == limited { level - x / grid.scale } else { limited }
}

#[test]
fn weights_have_a_grid_for_each_channel() {
    let (c, rows) = (5, 150);
    let (w, factors, dq) = (numbers(rows * c, 1), numbers(c, 2), numbers(rows * c, 3));
    let scales = [0.004, 0.002, 0.01, 0.001, 0.003];
    let zero_points = [0.0, 0.0, -8.0, 7.0, 0.0];
    let grids = ChannelGrids { scales: &scales, zero_points: &zero_points, least: -8.0, most: 7.0 };
    let grid = |i: usize| Grid { scale: scales[i], zero_point: zero_points[i], least: -8.0, most: 7.0 };
    let mut seen = vec![f64::NAN; 2 * c];
    weight_extremes(&w, &factors, &mut seen);
    let mut q = vec![f64::NAN; w.len()];
    weight_to_grid(&w, &factors, &grids, &mut q);
    let (mut dw, mut by_factor) = (vec![f64::NAN; w.len()], vec![f64::NAN; c]);
    weight_to_grid_grad(&w, &factors, &grids, &dq, &mut dw, &mut by_factor);
    for i in 0..c {
        let scaled: Vec<f64> = (0..rows).map(|row| w[row * c + i] * factors[i]).collect();
        let low = scaled.iter().copied().fold(f64::INFINITY, f64::min);
        let high = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!((seen[i], seen[c + i]), (low, high));
        assert!(scaled.iter().enumerate().all(|(row, v)| q[row * c + i] == fake(*v, grid(i))));
        assert!(scaled.iter().any(|v| inside(*v, grid(i)) == 0.0), "some are clipped");
    }
    let through = |w: &[f64], f: &[f64]| -> f64 {
        let values = w
            .iter()
            .enumerate()
            .map(|(j, v)| line(v * f[j % c], numbers(rows * c, 1)[j] * factors[j % c], grid(j % c)));
        dot(&values.collect::<Vec<_>>(), &dq)
    };
    check("factor", &factors, &by_factor, |f| through(&w, f));
    let few: Vec<usize> = (0..40).collect();
    let slopes: Vec<f64> = few.iter().map(|j| dw[*j]).collect();
    let base: Vec<f64> = few.iter().map(|j| w[*j]).collect();
    check("weight", &base, &slopes, |some| {
        let mut w = w.clone();
        w[..some.len()].copy_from_slice(some);
        through(&w, &factors)
    });
}

/// A convolution with batch norm, ReLU and fake quantization of weight and output, and its parameters.
#[derive(Clone)]
struct ConvBn {
    x: Vec<f64>,
    w: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    bias: Vec<f64>,
}

const EPS: f64 = 1e-3;
/// Narrower than the weights, so that some are clipped.
const WEIGHT_GRID: Grid<f64> = Grid { scale: 0.05, zero_point: 0.0, least: -8.0, most: 7.0 };
const RUNNING: ([f64; 4], [f64; 4]) = ([0.1, -0.2, 0.3, 0.0], [0.6, 1.2, 0.9, 2.0]);

/// What stands on grids, where the straight lines are laid.
struct Around {
    weight: Vec<f64>,
    output: Vec<f64>,
}

/// The definition, one step after the other: the scaled weight, the output before its fake quantization, and the result.
fn definition(g: &Geometry, p: &ConvBn, of: Statistics, relu: bool, around: Option<&Around>) -> (Around, Vec<f64>) {
    let c = p.gamma.len();
    let f: Vec<f64> = p.gamma.iter().zip(RUNNING.1).map(|(gamma, var)| gamma / (var + EPS).sqrt()).collect();
    let weight: Vec<f64> = p.w.iter().enumerate().map(|(i, w)| w * f[i % c]).collect();
    let at = around.map_or(&weight, |a| &a.weight);
    let q: Vec<f64> = weight.iter().zip(at).map(|(w, at)| line(*w, *at, WEIGHT_GRID)).collect();
    let mut z = vec![f64::NAN; sizes(g)[2]];
    conv(g, &p.x, &q, None, false, &mut z);
    let y: Vec<f64> = z.iter().enumerate().map(|(i, z)| z / f[i % c] + p.bias[i % c]).collect();
    let rows = (y.len() / c) as f64;
    let (mut mean, mut variance) = (RUNNING.0.to_vec(), RUNNING.1.to_vec());
    if of == Statistics::Batch {
        for i in 0..c {
            let values = || y.iter().skip(i).step_by(c);
            mean[i] = values().sum::<f64>() / rows;
            variance[i] = values().map(|v| (v - mean[i]).powi(2)).sum::<f64>() / rows;
        }
    }
    let normed =
        |(i, y): (usize, &f64)| (y - mean[i % c]) / (variance[i % c] + EPS).sqrt() * p.gamma[i % c] + p.beta[i % c];
    let output: Vec<f64> = y.iter().enumerate().map(normed).map(|v| if relu { v.max(0.0) } else { v }).collect();
    let at = around.map_or(&output, |a| &a.output);
    let result = output.iter().zip(at).map(|(v, at)| line(*v, *at, GRID)).collect();
    (Around { weight, output }, result)
}

#[test]
fn convolution_with_batch_norm_trained_on_levels() {
    let g = geometry([5, 4], 3, 2, 1, [3, 4]);
    let [nx, nw, ny] = sizes(&g);
    let c = 4;
    let mut p = ConvBn {
        x: numbers(nx, 1),
        w: numbers(nw, 2),
        gamma: numbers(c, 3).iter().map(|v| v + 1.5).collect(),
        beta: numbers(c, 4),
        bias: numbers(c, 5),
    };
    p.gamma[2] = -0.7;
    let dy = numbers(ny, 6);
    for (of, relu) in [Statistics::Batch, Statistics::Running].into_iter().flat_map(|of| [(of, false), (of, true)]) {
        // By the kernels.
        let mut f = vec![f64::NAN; c];
        site::factors(&p.gamma, &RUNNING.1, EPS, true, &mut f);
        let (scales, zeros) = ([WEIGHT_GRID.scale; 4], [0.0; 4]);
        let grids = ChannelGrids { scales: &scales, zero_points: &zeros, least: -8.0, most: 7.0 };
        let (mut q, mut z) = (vec![f64::NAN; nw], vec![f64::NAN; ny]);
        weight_to_grid(&p.w, &f, &grids, &mut q);
        conv(&g, &p.x, &q, None, false, &mut z);
        let (mut statistics, mut k) = (vec![f64::NAN; 4 * c], vec![f64::NAN; site::ROWS * c]);
        moments_and_extremes(&z, c, &mut statistics);
        let own = [&p.gamma[..], &p.beta, &RUNNING.0, &RUNNING.1, &p.bias].concat();
        site::coefficients([&statistics, &own, &f], EPS, of, true, &mut k);
        let mut seen = [f64::NAN; 2];
        site::output_extremes(&statistics, &k, relu, &mut seen);
        k.extend([GRID.scale, GRID.zero_point, GRID.least, GRID.most]);
        let norm = site::norm_to_grid(&k, relu);
        let mut y = vec![f64::NAN; ny];
        norm.run(&z, &mut y);
        let (mut sums, mut constants) = (vec![f64::NAN; 2 * c], vec![f64::NAN; 2 * c]);
        norm.grad_sums(&z, &dy, site::mean(&k), &mut sums);
        site::input_constants(&sums, &k, of, (ny / c) as f64, &mut constants);
        let mut dz = vec![f64::NAN; ny];
        norm.input_grad(&z, &dy, [&constants[..c], &constants[c..]], &mut dz);
        let (mut dx, mut dq) = (vec![f64::NAN; nx], vec![f64::NAN; nw]);
        conv_input_grad(&g, &dz, &q, &mut dx);
        conv_weight_grad(&g, &p.x, &dz, &mut dq);
        let (mut dw, mut by_factor, mut gamma, mut bias) =
            (vec![f64::NAN; nw], vec![f64::NAN; c], vec![f64::NAN; c], vec![f64::NAN; c]);
        weight_to_grid_grad(&p.w, &f, &grids, &dq, &mut dw, &mut by_factor);
        site::gamma_grad([&sums, &k, &by_factor], of, &mut gamma);
        site::bias_grad(&sums, &k, of, &mut bias);

        // By the definition.
        let (around, expected) = definition(&g, &p, of, relu, None);
        let what = format!("{of:?}, relu {relu}");
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{what}");
        assert!(around.weight.iter().any(|w| inside(*w, WEIGHT_GRID) == 0.0), "{what}: weights are clipped");
        assert!(around.output.iter().any(|v| inside(*v, GRID) == 0.0), "{what}: outputs are clipped");
        let extremes = extremes(&around.output);
        assert!((0..2).all(|i| (seen[i] - extremes[i]).abs() < 1e-9), "{what}: {seen:?}, expected {extremes:?}");
        let objective = |p: &ConvBn| dot(&definition(&g, p, of, relu, Some(&around)).1, &dy);
        let moved = |change: fn(&mut ConvBn, &[f64])| {
            let (p, objective) = (&p, &objective);
            move |values: &[f64]| {
                let mut p = p.clone();
                change(&mut p, values);
                objective(&p)
            }
        };
        check(&format!("input, {what}"), &p.x, &dx, moved(|p, v| p.x = v.to_vec()));
        check(&format!("weight, {what}"), &p.w, &dw, moved(|p, v| p.w = v.to_vec()));
        check(&format!("gamma, {what}"), &p.gamma, &gamma, moved(|p, v| p.gamma = v.to_vec()));
        check(&format!("beta, {what}"), &p.beta, &sums[..c], moved(|p, v| p.beta = v.to_vec()));
        check(&format!("bias, {what}"), &p.bias, &bias, moved(|p, v| p.bias = v.to_vec()));
    }
}

#[test]
fn a_channel_without_gamma_is_not_divided_by_zero() {
    let mut f = [f64::NAN; 2];
    site::factors(&[0.0, 2.0], &[1.0, 4.0], 0.0, true, &mut f);
    assert_eq!(f, [1.0, 1.0]);
    let mut k = vec![f64::NAN; site::ROWS * 2];
    let own = [[0.0, 2.0], [0.25, 0.5], [0.0, 0.0], [1.0, 4.0], [0.0, 0.0]].concat();
    site::coefficients([&[1.0, 1.0, 2.0, 2.0], &own, &f], 0.0, Statistics::Batch, true, &mut k);
    k.extend([GRID.scale, GRID.zero_point, GRID.least, GRID.most]);
    let [scale, shift] = site::scale_and_shift(&k);
    assert_eq!((scale[0], shift[0]), (0.0, 0.25), "its output is beta");
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let x: Vec<f32> = numbers(64 * 1024, 1).iter().map(|v| *v as f32).collect();
    let dy: Vec<f32> = numbers(64 * 1024, 2).iter().map(|v| *v as f32).collect();
    let grid = Grid { scale: 0.01_f32, zero_point: 3.0, least: 0.0, most: 127.0 };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| {
            let (scale, shift) = (vec![0.7; 64], vec![0.1; 64]);
            let norm = NormToGrid { scale: &scale, shift: &shift, relu: true, grid };
            let mut all = vec![0.0; 4 * 64 + 2 * 64 + 1];
            moments_and_extremes(&x, 64, &mut all[..256]);
            norm.grad_sums(&x, &dy, &shift, &mut all[256..384]);
            all[384] = step_grad(&x, &dy, grid);
            all
        })
    };
    assert_eq!(on(1), on(3));
}
