//! Comparisons with a tolerance, each of which says where it fails.

use crate::golden::ensure;

/// Lengths must agree before values are.
fn same_length(name: &str, found: usize, expected: usize) -> Result<(), String> {
    ensure(found == expected, || format!("`{name}`: {found} values, expected {expected}"))
}

/// Each value within `tolerance` times its own size.
pub fn relative(name: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Result<(), String> {
    same_length(name, found.len(), expected.len())?;
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        ensure((a - b).abs() <= tolerance * b.abs(), || {
            format!("`{name}`, value {i}: {a}, expected {b} within {tolerance} of it")
        })?;
    }
    Ok(())
}

/// Each value within `tolerance`.
pub fn absolute(name: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Result<(), String> {
    same_length(name, found.len(), expected.len())?;
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        ensure((a - b).abs() <= tolerance, || format!("`{name}`, value {i}: {a}, expected {b} within {tolerance}"))?;
    }
    Ok(())
}

/// Each value within `tolerance` times the largest.
pub fn of_largest(name: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Result<(), String> {
    let largest = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    absolute(name, found, expected, tolerance * largest)
}

/// As [`of_largest`], but for one value in 1,000, which may be one level off.
pub fn of_largest_or_a_level(
    name: &str,
    found: &[f64],
    expected: &[f64],
    tolerance: f64,
    level: f64,
) -> Result<(), String> {
    same_length(name, found.len(), expected.len())?;
    let largest = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let errors: Vec<f64> = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).collect();
    let off = errors.iter().filter(|e| **e > tolerance * largest).count();
    let worst = errors.iter().fold(0.0_f64, |m, e| m.max(*e));
    ensure(off <= found.len() / 1000 && (off == 0 || worst <= 1.001 * level), || {
        format!("`{name}`: {off} of {} values are off, the worst by {worst} (a level is {level})", found.len())
    })
}

/// Bit for bit, or integer for integer.
pub fn equal(name: &str, found: &[f64], expected: &[f64]) -> Result<(), String> {
    absolute(name, found, expected, 0.0)
}

/// Relative errors.
pub fn errors(found: &[f64], expected: &[f64]) -> Vec<f64> {
    found.iter().zip(expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() / b.abs() }).collect()
}

/// The median of the relative errors.
pub fn median(name: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Result<(), String> {
    same_length(name, found.len(), expected.len())?;
    let mut errors = errors(found, expected);
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    ensure(median <= tolerance, || format!("`{name}`: the median of the relative errors is {median}"))
}

/// Exact.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// L2.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}
