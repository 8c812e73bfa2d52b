//! Every kernel on every instruction set that this CPU has, against the scalar reference, level by level.

use super::*;

/// One kernel on one instruction set; the output is returned whole, with what it was filled with before.
type Case = Box<dyn Fn(&Kernels) -> Vec<u8>>;

/// SplitMix64's finalizer: numbers that look random, the same each time.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mix = |i: u64| {
        let z = (seed << 32 | i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 56) as u8
    };
    (0..count as u64).map(mix).collect()
}

fn activation(seed: u64, map: Map) -> Vec<u8> {
    bytes(seed, map.bytes() + SLACK)
}

/// The same in all 256 levels, in the lower half of them, and with few in the upper half: kernels may tell them apart.
fn ranges(activation: Vec<u8>) -> [Vec<u8>; 3] {
    let halved = |often: usize| {
        let halve = |(i, q): (usize, &u8)| if i * i % 97 < often { *q } else { q & 127 };
        activation.iter().enumerate().map(halve).collect()
    };
    let [low, few] = [halved(0), halved(2)];
    [activation, low, few]
}

/// What outputs hold before a kernel writes them: it must neither read nor spread it.
fn garbage(map: Map) -> Vec<u8> {
    bytes(99, map.bytes() + SLACK)
}

/// Random weights with runs of both extremes.
fn weights(seed: u64, count: usize) -> Vec<i8> {
    let extreme = |i: usize, w: u8| match i % 7 {
        0 => -128,
        1 => 127,
        _ => w as i8,
    };
    bytes(seed, count).into_iter().enumerate().map(|(i, w)| extreme(i, w)).collect()
}

fn requant(channels: usize, taps: usize, input_zero_point: u8, levels: Levels) -> Requant {
    let unit = 1.0 / (90.0 * (taps as f32).sqrt());
    Requant {
        input_zero_point,
        bias: (0..channels).map(|c| (c as f32 * 1.37).sin() * 3000.0).collect(),
        multiplier: (0..channels).map(|c| unit * (1.0 + c as f32 % 5.0) / 40.0).collect(),
        levels,
    }
}

/// Zero points at both ends and between, with and without ReLU, and a reduced range.
fn levels() -> [Levels; 4] {
    [Levels::new(0, 255, false), Levels::new(255, 255, false), Levels::new(77, 255, true), Levels::new(64, 127, false)]
}

/// `map` is the input's; a border as wide as the padding is added.
fn windows_case(
    geometry: ConvGeometry,
    [h, w]: [usize; 2],
    view: bool,
    [channels, out]: [usize; 2],
) -> Option<(Map, Map)> {
    let along = |size: usize, kernel: usize| (size + 2 * geometry.padding).checked_sub(kernel);
    let (oh, ow) =
        (along(h, geometry.kernel[0])? / geometry.stride + 1, along(w, geometry.kernel[1])? / geometry.stride + 1);
    let whole = |h, w, c, border| {
        if view { Map::bordered(h, w, c + 5, border).channels(3, c) } else { Map::bordered(h, w, c, border) }
    };
    Some((whole(h, w, channels, geometry.padding), whole(oh, ow, out, 1)))
}

fn gemm_cases(cases: &mut Vec<(String, Case)>) {
    let point = ConvGeometry::POINT;
    let mut shapes = Vec::new();
    // Widths around every block, depths around every quad, rows around every tile.
    for out in [1, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 80, 130] {
        for (channels, size) in [(1, [1, 1]), (3, [1, 5]), (4, [2, 3]), (58, [1, 7]), (66, [3, 9])] {
            shapes.push((point, size, false, [channels, out]));
        }
    }
    for size in (1..=20).map(|w| [1, w]) {
        shapes.push((point, size, false, [8, 64]));
        shapes.push((point, size, true, [8, 24]));
    }
    for kernel in [[1, 1], [3, 3], [5, 5], [7, 7], [1, 3]] {
        for (stride, padding) in [(1, 0), (1, 1), (2, 1), (2, 3)] {
            for view in [false, true] {
                let geometry = ConvGeometry { kernel, stride, padding };
                shapes.push((geometry, [9, 11], view, [3, 24]));
                shapes.push((geometry, [8, 7], view, [17, 70]));
            }
        }
    }
    // Enough pixels for kernels that need fewer products than the sum itself, in odd and even numbers.
    for channels in [[16, 16], [17, 70], [32, 24], [70, 40]] {
        for (size, padding) in [([17, 15], 0), ([14, 12], 1), ([13, 18], 2)] {
            for view in [false, true] {
                shapes.push((ConvGeometry { kernel: [3, 3], stride: 1, padding }, size, view, channels));
            }
        }
    }
    for (i, (geometry, size, view, channels)) in shapes.into_iter().enumerate() {
        let Some((input, output)) = windows_case(geometry, size, view, channels) else { continue };
        let (zero_point, levels) = ([0, 255, 77][i % 3], levels()[i % 4]);
        let taps = input.c * geometry.taps();
        let weight = weights(i as u64, output.c * taps);
        let requant = requant(output.c, taps, zero_point, levels);
        cases.push((
            format!("gemm {geometry:?} {input:?} {output:?}"),
            Box::new(move |kernels| {
                let gemm = Gemm::new(kernels, &weight, geometry, input, output, requant.clone());
                let run = |activation: Vec<u8>| {
                    let mut out = garbage(output);
                    gemm.run(kernels, &activation, &mut out);
                    out
                };
                ranges(activation(i as u64, input)).into_iter().flat_map(run).collect()
            }),
        ));
    }
}

fn depthwise_cases(cases: &mut Vec<(String, Case)>) {
    let mut i = 0;
    for channels in [1, 3, 16, 24, 58, 63, 64, 65, 96, 130] {
        for kernel in [[3, 3], [5, 5], [1, 1], [2, 3]] {
            for (stride, padding) in [(1, 0), (1, 1), (2, 1), (1, 2), (2, 2)] {
                for view in [false, true] {
                    i += 1;
                    let geometry = ConvGeometry { kernel, stride, padding };
                    let Some((input, output)) = windows_case(geometry, [7, 9], view, [channels; 2]) else { continue };
                    let weight = weights(i, channels * geometry.taps());
                    let index = i as usize;
                    let requant = requant(channels, geometry.taps(), [0, 255, 77][index % 3], levels()[index % 4]);
                    cases.push((
                        format!("depthwise {geometry:?} {input:?} {output:?}"),
                        Box::new(move |kernels| {
                            let mut out = garbage(output);
                            let layer = Depthwise::new(kernels, &weight, geometry, input, output, requant.clone());
                            layer.run(kernels, &activation(i, input), &mut out);
                            out
                        }),
                    ));
                }
            }
        }
    }
}

/// Sums as large as they get: weights all at one end, activations all at one end, zero points at both. What rounds or
/// saturates on the way, in 16 bits say, shows here.
fn extreme_cases(cases: &mut Vec<(String, Case)>) {
    for (weight, level, zero_point) in [(-128, 255, 0), (127, 255, 0), (-128, 0, 255), (127, 0, 255), (-128, 255, 255)]
    {
        // The larger images have enough pixels for products that wrap around, with as many channels as they allow, and more.
        for (kernel, size, channels) in [
            ([1, 1], [5, 7], [130, 33]),
            ([3, 3], [5, 7], [66, 17]),
            ([3, 3], [5, 7], [1, 1]),
            ([3, 3], [12, 14], [114, 17]),
            ([3, 3], [12, 14], [116, 17]),
        ] {
            let geometry = ConvGeometry { kernel, stride: 1, padding: kernel[0] / 2 };
            let Some((input, output)) = windows_case(geometry, size, false, channels) else { continue };
            let largest = (input.c * geometry.taps() * 255 * 128) as f32;
            let fit = move |channels: usize, inputs: f32| Requant {
                input_zero_point: zero_point,
                bias: vec![0.5; channels],
                multiplier: (0..channels).map(|c| inputs * (100.0 + c as f32) / largest).collect(),
                levels: Levels::new(128, 255, false),
            };
            cases.push((
                format!("extreme gemm {weight} {level} {zero_point} {geometry:?}"),
                Box::new(move |kernels| {
                    let (mut out, weight) = (garbage(output), vec![weight; output.c * input.c * geometry.taps()]);
                    let gemm = Gemm::new(kernels, &weight, geometry, input, output, fit(output.c, 1.0));
                    gemm.run(kernels, &vec![level; input.bytes() + SLACK], &mut out);
                    out
                }),
            ));
            let output = Map { c: input.c, ..Map::bordered(output.h, output.w, input.c, 1) };
            cases.push((
                format!("extreme depthwise {weight} {level} {zero_point} {geometry:?}"),
                Box::new(move |kernels| {
                    let (mut out, weight) = (garbage(output), vec![weight; input.c * geometry.taps()]);
                    let requant = fit(input.c, input.c as f32);
                    let layer = Depthwise::new(kernels, &weight, geometry, input, output, requant);
                    layer.run(kernels, &vec![level; input.bytes() + SLACK], &mut out);
                    out
                }),
            ));
        }
    }
}

/// A case for a kernel of maps alone, over shapes around the width of a vector, packed and as views.
fn map_cases(
    cases: &mut Vec<(String, Case)>,
    name: &str,
    f: impl Fn(&Kernels, Map, Map, &mut [u8], usize) + Clone + 'static,
) {
    for (i, channels) in [1, 2, 3, 31, 32, 63, 64, 65, 128, 200].into_iter().enumerate() {
        for view in [false, true] {
            let point = ConvGeometry::POINT;
            let Some((input, output)) = windows_case(point, [3, 5], view, [channels; 2]) else { continue };
            let f = f.clone();
            cases.push((
                format!("{name} {input:?}"),
                Box::new(move |kernels| {
                    let mut out = garbage(output);
                    f(kernels, input, output, &mut out, i);
                    out
                }),
            ));
        }
    }
}

/// All kernels; `covered.rs` holds that none is missing.
pub(super) fn cases() -> Vec<(String, Case)> {
    let mut cases = Vec::new();
    gemm_cases(&mut cases);
    depthwise_cases(&mut cases);
    extreme_cases(&mut cases);
    for (groups, [channels, out]) in [(2, [6, 10]), (3, [9, 3]), (1, [5, 4])] {
        let geometry = ConvGeometry { kernel: [3, 3], stride: 2, padding: 1 };
        let (input, output) = windows_case(geometry, [7, 9], true, [channels, out]).expect("it fits");
        cases.push((
            format!("grouped {groups}"),
            Box::new(move |kernels| {
                let (mut out, taps) = (garbage(output), input.c / groups * 9);
                let requant = requant(output.c, taps, 77, levels()[groups]);
                let weight = weights(groups as u64, output.c * taps);
                let layer = Grouped::new(&weight, groups, geometry, input, output, requant);
                layer.run(kernels, &activation(3, input), &mut out);
                out
            }),
        ));
    }
    map_cases(&mut cases, "table", |kernels, from, to, out, i| {
        Table::new(|q| q.wrapping_mul(37) ^ i as u8).run(kernels, (&activation(1, from), from), (out, to));
    });
    map_cases(&mut cases, "table in place", |kernels, _, to, out, i| {
        Table::new(|q| q.wrapping_mul(91) ^ i as u8).run_in_place(kernels, out, to);
    });
    map_cases(&mut cases, "add", |kernels, from, to, out, i| {
        let term = |scale: f32, zero_point: f32| (scale, -zero_point * scale);
        for levels in levels() {
            let add =
                Add { inputs: [term(0.031, 255.0), term(0.0173 + i as f32, 0.0)], inverse_scale: 1.0 / 0.04, levels };
            add.run(kernels, (&activation(1, from), from), (&activation(2, from), from), (out, to));
            assert!(levels.low <= out[to.start] && out[to.start] <= levels.high);
        }
    });
    map_cases(&mut cases, "mul", |kernels, from, to, out, i| {
        let mul = Mul { zero_points: [77, [0, 255][i % 2]], multiplier: 0.0071, levels: levels()[i % 4] };
        let factor = Map::dense(1, 1, from.c);
        mul.run(kernels, (&activation(1, from), from), (&activation(2, factor), factor), (out, to));
    });
    map_cases(&mut cases, "interleave", |kernels, _, to, out, i| {
        if to.c % 2 == 0 {
            let half = Map::dense(to.h, to.w, to.c / 2);
            let tables = [Table::new(|q| !q), Table::new(|q| q.rotate_left(i as u32))];
            let operands = (&activation(1, half)[..], &activation(2, half)[..]);
            interleave(kernels, (operands.0, half), (operands.1, half), [&tables[0], &tables[1]], (out, to));
        }
    });
    for (stride, kernel) in [(1, 1), (2, 3), (1, 3)] {
        let (input, output) = (Map::dense(9, 8, 70), Map::bordered((9 - 1) / stride + 1, (8 - 1) / stride + 1, 70, 1));
        cases.push((
            format!("max pool {kernel} by {stride}"),
            Box::new(move |kernels| {
                let mut out = garbage(output);
                let pool = MaxPool { kernel, stride, padding: kernel / 2 };
                pool.run(kernels, (&activation(1, input), input), (&mut out, output));
                out
            }),
        ));
    }
    map_cases(&mut cases, "average pool", |kernels, from, to, out, i| {
        let to = Map { h: 1, w: 1, ..to };
        average_pool(kernels, (&activation(1, from), from), levels()[i % 4], (out, to));
    });
    // More pixels than levels fit 16 bits, all of them large.
    for channels in [24, 70] {
        let (from, to) = (Map::dense(20, 17, channels), Map::dense(1, 1, channels));
        cases.push((
            format!("average pool of 340 pixels, {channels} channels"),
            Box::new(move |kernels| {
                let mut out = garbage(to);
                let large: Vec<u8> = activation(1, from).iter().map(|q| q | 0xF0).collect();
                average_pool(kernels, (&large, from), levels()[0], (&mut out, to));
                out
            }),
        ));
    }
    map_cases(&mut cases, "mean", |kernels, from, to, out, i| {
        let to = Map { h: 1, w: 1, ..to };
        mean(kernels, (&activation(1, from), from), 0.0371, levels()[i % 4], (out, to));
    });
    map_cases(&mut cases, "quantize", |kernels, _, to, out, i| {
        let image: Vec<f32> = bytes(5, to.len()).iter().map(|b| f32::from(*b) / 32.0 - 4.0).collect();
        quantize_image(kernels, &image, 0.0625, levels()[i % 4], (out, to));
    });
    cases
}

#[test]
fn every_instruction_set_gives_the_scalar_levels() {
    let reference = Kernels::new(Some(Isa::Scalar), 1).expect("always there");
    let cases = cases();
    let expected: Vec<Vec<u8>> = cases.iter().map(|(_, run)| run(&reference)).collect();
    for isa in Isa::ALL.iter().copied().filter(|i| i.is_available()) {
        for threads in [1, 3] {
            let kernels = Kernels::new(Some(isa), threads).expect("it is available");
            for ((name, run), expected) in cases.iter().zip(&expected) {
                assert!(run(&kernels) == *expected, "{isa}, {threads} threads: {name}");
            }
        }
    }
}

/// A grouped convolution of one group is a dense one, and one of as many groups as channels a depthwise one.
#[test]
fn a_grouped_convolution_agrees_with_the_others() {
    let kernels = Kernels::new(None, 1).expect("some instruction set");
    let geometry = ConvGeometry { kernel: [3, 3], stride: 1, padding: 1 };
    let (input, output) = windows_case(geometry, [5, 6], false, [7; 2]).expect("it fits");
    let x = activation(1, input);
    let (mut grouped, mut other) = (garbage(output), garbage(output));
    let (dense, depthwise) = (weights(1, 7 * 7 * 9), weights(2, 7 * 9));
    let requant = |taps| requant(7, taps, 77, levels()[2]);
    Grouped::new(&dense, 1, geometry, input, output, requant(63)).run(&kernels, &x, &mut grouped);
    Gemm::new(&kernels, &dense, geometry, input, output, requant(63)).run(&kernels, &x, &mut other);
    assert!(grouped == other, "one group");
    Grouped::new(&depthwise, 7, geometry, input, output, requant(9)).run(&kernels, &x, &mut grouped);
    Depthwise::new(&kernels, &depthwise, geometry, input, output, requant(9)).run(&kernels, &x, &mut other);
    assert!(grouped == other, "a group a channel");
}

/// The specification itself, on figures small enough to check by hand.
#[test]
fn the_scalar_reference_follows_the_formulas() {
    let kernels = Kernels::new(Some(Isa::Scalar), 1).expect("always there");
    let (input, output) = (Map::dense(1, 1, 2), Map::dense(1, 1, 1));
    let levels = Levels::new(10, 255, false);
    let requant = Requant { input_zero_point: 3, bias: vec![0.5], multiplier: vec![0.5], levels };
    let gemm = Gemm::new(&kernels, &[2, -1], ConvGeometry::POINT, input, output, requant);
    let mut x = vec![0; 2 + SLACK];
    x[..2].copy_from_slice(&[7, 4]);
    let mut out = [0];
    gemm.run(&kernels, &x, &mut out);
    // (7 - 3) * 2 - (4 - 3) = 7; (7 + 0.5) * 0.5 = 3.75, to 4, plus 10.
    assert_eq!(out, [14]);
    let pool = |level: [u8; 2]| {
        let (mut out, map) = ([0], Map::dense(1, 1, 1));
        average_pool(&kernels, (&level, Map::dense(1, 2, 1)), levels, (&mut out, map));
        out[0]
    };
    // 2.5 and 3.5 above the zero point: ties go to even.
    assert_eq!([pool([12, 13]), pool([13, 14])], [12, 14]);
    assert_eq!([levels.round(-0.5), levels.round(0.5), levels.round(1.5), levels.round(1e9)], [10, 10, 12, 255]);
}

#[test]
fn a_border_is_filled_and_the_image_left_alone() {
    let map = Map::bordered(2, 3, 2, 2);
    let mut data = vec![7; map.bytes()];
    map.fill_border(&mut data, 9);
    assert_eq!(data.iter().filter(|q| **q == 7).count(), map.len());
    assert!(map.gather(&data).iter().all(|q| *q == 7));
}

#[test]
fn an_unknown_instruction_set_is_refused_by_name() {
    let error = "avx3".parse::<Isa>().expect_err("no such one").to_string();
    assert!(error.contains("avx3") && error.contains("scalar"), "{error}");
}
