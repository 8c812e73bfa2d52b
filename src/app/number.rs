//! Numbers as the window writes them: three significant digits, units always, thin spaces, never "NaN" or "inf".

pub use crate::session::wilson;

/// Between a number and its unit, and between groups of three digits.
pub const THIN: char = '\u{2009}';
/// A true minus sign, as wide as a plus.
pub const MINUS: char = '\u{2212}';
/// What stands where there is no number.
pub const NONE: &str = "\u{2013}";

/// Three significant digits: `0.00123`, `12.3`, `1 230`; powers of ten beyond a million and below a ten-thousandth.
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return NONE.to_owned();
    }
    if x == 0.0 {
        return "0".to_owned();
    }
    let rounded: f64 = format!("{x:.2e}").parse().unwrap_or(x);
    let magnitude = rounded.abs().log10().floor() as i32;
    let text = match magnitude {
        -4..=1 => format!("{rounded:.*}", (2 - magnitude) as usize),
        2..=5 => grouped(&format!("{:.0}", rounded)),
        _ => format!("{:.2}\u{b7}10{}", rounded / 10f64.powi(magnitude), superscript(magnitude)),
    };
    signless(text)
}

/// A mark on an axis: as short as it is exact to three digits.
pub fn axis(x: f64) -> String {
    let text = number(x);
    match text.split_once('.') {
        Some((whole, rest)) if rest.bytes().all(|b| b.is_ascii_digit()) => {
            let rest = rest.trim_end_matches('0');
            if rest.is_empty() { whole.to_owned() } else { format!("{whole}.{rest}") }
        }
        Some(_) | None => text,
    }
}

/// A mark on an axis whose marks are `step` apart: with as many digits as tell it from its neighbours.
pub fn mark(x: f64, step: f64) -> String {
    let rounded: f64 = format!("{x:.2e}").parse().unwrap_or(x);
    if !x.is_finite() || step.is_nan() || step <= 0.0 || (rounded - x).abs() < step / 20.0 {
        return axis(x);
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{x:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let rest = rest.trim_end_matches('0');
    signless(if rest.is_empty() { grouped(whole) } else { format!("{}.{rest}", grouped(whole)) })
}

/// A count in full: `12 345`.
pub fn count(n: usize) -> String {
    grouped(&n.to_string())
}

/// Large counts with a prefix: `39.5 M`.
pub fn prefixed(n: u64) -> String {
    let (value, prefix) = match n {
        0..1_000 => return n.to_string(),
        1_000..1_000_000 => (n as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (n as f64 / 1e6, "M"),
        1_000_000_000.. => (n as f64 / 1e9, "G"),
    };
    format!("{}{THIN}{prefix}", number(value))
}

/// A fraction as percent with one decimal: `91.3 %`.
pub fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1}{THIN}%", fraction * 100.0) } else { NONE.to_owned() }
}

/// A difference of two fractions in percentage points, signed: `−0.3 pt`.
pub fn points(difference: f64) -> String {
    if !difference.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{:.1}", difference.abs() * 100.0);
    let sign = match (text.as_str(), difference < 0.0) {
        ("0.0", _) => "\u{b1}".to_owned(),
        (_, true) => MINUS.to_string(),
        (_, false) => "+".to_owned(),
    };
    format!("{sign}{text}{THIN}pt")
}

/// Bytes in decimal units, as files are sold: `11.3 MB`.
pub fn bytes(n: u64) -> String {
    let (value, unit) = match n {
        0..1_000 => return format!("{n}{THIN}B"),
        1_000..1_000_000 => (n as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (n as f64 / 1e6, "MB"),
        1_000_000_000.. => (n as f64 / 1e9, "GB"),
    };
    format!("{}{THIN}{unit}", number(value))
}

/// Milliseconds: `1.25 ms`.
pub fn millis(ms: f64) -> String {
    if ms.is_finite() { format!("{}{THIN}ms", number(ms)) } else { NONE.to_owned() }
}

/// A time that a person waits: `0.4 s`, `12 s`, `3 min 5 s`.
pub fn seconds(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        return NONE.to_owned();
    }
    if s < 9.95 {
        return format!("{s:.1}{THIN}s");
    }
    let whole = s.round() as u64;
    match whole {
        0..60 => format!("{whole}{THIN}s"),
        60..3600 => format!("{}{THIN}min {}{THIN}s", whole / 60, whole % 60),
        3600.. => format!("{}{THIN}h {}{THIN}min", whole / 3600, whole % 3600 / 60),
    }
}

/// A ratio: `3.9x`, with the multiplication sign.
pub fn times(ratio: f64) -> String {
    if ratio.is_finite() { format!("{ratio:.1}\u{d7}") } else { NONE.to_owned() }
}

/// Dimensions with the multiplication sign: `64×3×7×7`.
pub fn dims(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("\u{d7}")
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |d| ("-", d));
    // Four digits read well without a gap; five do not.
    if digits.len() <= 4 {
        return format!("{sign}{digits}");
    }
    let mut out = String::from(sign);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(THIN);
        }
        out.push(c);
    }
    out
}

fn signless(text: String) -> String {
    text.strip_prefix('-').map_or(text.clone(), |t| format!("{MINUS}{t}"))
}

fn superscript(n: i32) -> String {
    let digit = |c: char| match c {
        '-' => '\u{207b}',
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        c => char::from_u32(0x2070 + c.to_digit(10).unwrap_or(0)).unwrap_or(c),
    };
    n.to_string().chars().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_significant_digits_at_every_magnitude() {
        let cases = [
            (0.0, "0"),
            (1.0, "1.00"),
            (12.345, "12.3"),
            (99.96, "100"),
            (1234.0, "1230"),
            (12345.0, "12\u{2009}300"),
            (0.0012345, "0.00123"),
            (-0.5, "\u{2212}0.500"),
            (2.1e-6, "2.10\u{b7}10\u{207b}\u{2076}"),
            (3e9, "3.00\u{b7}10\u{2079}"),
        ];
        for (x, expected) in cases {
            assert_eq!(number(x), expected, "{x}");
        }
    }

    #[test]
    fn marks_on_an_axis_are_short() {
        for (x, expected) in [(0.5, "0.5"), (2.0, "2"), (100.0, "100"), (-0.25, "\u{2212}0.25"), (f64::NAN, NONE)] {
            assert_eq!(axis(x), expected);
        }
    }

    #[test]
    fn marks_that_stand_close_together_differ() {
        let marks = |first: f64, step: f64| (0..4).map(|i| mark(first + f64::from(i) * step, step)).collect::<Vec<_>>();
        assert_eq!(marks(375.8, 0.2), ["375.8", "376", "376.2", "376.4"]);
        assert_eq!(marks(-1.0002, 0.0001), ["\u{2212}1.0002", "\u{2212}1.0001", "\u{2212}1", "\u{2212}0.9999"]);
        assert_eq!(marks(24_150.0, 1.0), ["24\u{2009}150", "24\u{2009}151", "24\u{2009}152", "24\u{2009}153"]);
        assert_eq!(marks(0.0, 20.0), ["0", "20", "40", "60"]);
        assert_eq!(mark(3e9, 1e9), axis(3e9));
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for text in [number(x), percent(x), points(x), millis(x), seconds(x), times(x)] {
                assert_eq!(text, NONE);
            }
        }
    }

    #[test]
    fn units_are_said() {
        assert_eq!(percent(0.9134), "91.3\u{2009}%");
        assert_eq!(points(-0.0031), "\u{2212}0.3\u{2009}pt");
        assert_eq!(points(0.0001), "\u{b1}0.0\u{2009}pt");
        assert_eq!(bytes(11_284_000), "11.3\u{2009}MB");
        assert_eq!(bytes(999), "999\u{2009}B");
        assert_eq!(seconds(59.9), "1\u{2009}min 0\u{2009}s");
        assert_eq!(seconds(0.42), "0.4\u{2009}s");
        assert_eq!(times(3.91), "3.9\u{d7}");
        assert_eq!(prefixed(39_486_240), "39.5\u{2009}M");
        assert_eq!(count(2048), "2048");
        assert_eq!(count(60_000), "60\u{2009}000");
    }
}
