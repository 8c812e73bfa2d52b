use super::{Levels, Map};

/// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even, in plain arithmetic, for what lies
/// within 2^22 of zero; between the two the low bits are that integer.
const ROUND: f32 = 12_582_912.0;

/// Float values without gaps (NHWC) to levels: `rne(x * (1 / scale)) + zero point`, clamped, as [`Levels::round`] does it.
///
/// # Panics
/// If there are not as many values as the map has levels.
pub fn quantize_values(x: &[f32], scale: f32, levels: Levels, output: (&mut [u8], Map)) {
    let (out, to) = output;
    assert_eq!(x.len(), to.len(), "values for {to:?}");
    let (inverse, zero_point) = (1.0 / scale, levels.zero_point);
    // Clamping before the zero point is added gives the same as clamping last; a value that is no number becomes `low`.
    let least = f32::from(levels.low) - f32::from(zero_point);
    let most = f32::from(levels.high) - f32::from(zero_point);
    let level = |x: f32| (((x * inverse).max(least).min(most) + ROUND).to_bits() as u8).wrapping_add(zero_point);
    each_run(x, to, |x, at| out[at..at + x.len()].iter_mut().zip(x).for_each(|(q, x)| *q = level(*x)));
}

/// Levels to float values without gaps (NHWC): `(q - zero point) * scale`.
///
/// # Panics
/// If there are not as many values as the map has levels.
pub fn dequantize_values(input: (&[u8], Map), scale: f32, zero_point: u8, out: &mut [f32]) {
    let (x, from) = input;
    assert_eq!(out.len(), from.len(), "values of {from:?}");
    let run = run(from);
    for (i, out) in out.chunks_exact_mut(run).enumerate() {
        let at = start(from, run, i);
        for (v, q) in out.iter_mut().zip(&x[at..at + run]) {
            *v = (i32::from(*q) - i32::from(zero_point)) as f32 * scale;
        }
    }
}

/// Calls `f` with each stretch of values whose levels lie next to each other, and where the first of them is.
fn each_run(x: &[f32], map: Map, mut f: impl FnMut(&[f32], usize)) {
    let run = run(map);
    x.chunks_exact(run).enumerate().for_each(|(i, x)| f(x, start(map, run, i)));
}

/// Levels next to each other: a row, or a pixel where a map sees some channels alone.
fn run(map: Map) -> usize {
    if map.is_packed() { map.w * map.c } else { map.c }
}

/// Where run `i` starts.
fn start(map: Map, run: usize, i: usize) -> usize {
    if run == map.c { map.at(i / map.w, i % map.w) } else { map.at(i, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps() -> [Map; 5] {
        [
            Map::dense(3, 5, 4),
            Map::bordered(3, 5, 4, 2),
            Map::bordered(2, 3, 8, 1).channels(4, 4),
            Map::dense(1, 1, 7),
            Map::dense(4, 1, 2),
        ]
    }

    #[test]
    fn quantizing_rounds_as_the_specification() {
        let odd = [0.5, 1.5, -2.5, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, 63.5, 127.5];
        for map in maps() {
            for levels in [Levels::new(0, 255, false), Levels::new(128, 255, true), Levels::new(64, 127, false)] {
                for scale in [1.0, 0.037, 3e-7] {
                    let x: Vec<f32> = (0..map.len())
                        .map(|i| if i % 3 == 0 { odd[i / 3 % odd.len()] } else { (i as f32 - 20.0) * 0.7 })
                        .collect();
                    let mut out = vec![77; map.bytes()];
                    quantize_values(&x, scale, levels, (&mut out, map));
                    let expected: Vec<u8> = x.iter().map(|x| levels.round(x * (1.0 / scale))).collect();
                    assert_eq!(map.gather(&out), expected, "{map:?} {levels:?} {scale}");
                    let untouched = out.len() - map.len();
                    assert!(out.iter().filter(|q| **q == 77).count() >= untouched, "{map:?}: wrote outside");
                }
            }
        }
    }

    #[test]
    fn dequantizing_is_one_product() {
        for map in maps() {
            let x: Vec<u8> = (0..map.bytes()).map(|i| (i * 37) as u8).collect();
            let mut out = vec![0.0; map.len()];
            dequantize_values((&x, map), 0.37, 113, &mut out);
            let expected: Vec<f32> = map.gather(&x).iter().map(|q| (f32::from(*q) - 113.0) * 0.37).collect();
            assert_eq!(out, expected, "{map:?}");
        }
    }
}
