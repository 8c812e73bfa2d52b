use super::{Chart, Form, Group, Inks, Rgb, Value};

/// Which end of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its left.
    Start,
    /// Its middle.
    Middle,
    /// Its right.
    End,
}

/// One thing to draw, in points from the upper left corner.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A bar.
    Rect {
        /// Left, top.
        at: [f32; 2],
        /// Width, height.
        size: [f32; 2],
        /// Its colour.
        ink: Rgb,
        /// An outline alone.
        outlined: bool,
    },
    /// A line of this width.
    Line {
        /// One end.
        from: [f32; 2],
        /// The other.
        to: [f32; 2],
        /// In points.
        width: f32,
        /// Its colour.
        ink: Rgb,
    },
    /// A dot, or a ring.
    Dot {
        /// Its middle.
        at: [f32; 2],
        /// A ring alone.
        outlined: bool,
        /// Its colour.
        ink: Rgb,
    },
    /// Text, centred on its line's middle.
    Text {
        /// Where.
        at: [f32; 2],
        /// Which end stands there.
        anchor: Anchor,
        /// In points.
        size: f32,
        /// In the face for headings.
        strong: bool,
        /// Its colour.
        ink: Rgb,
        /// What it says.
        text: String,
    },
}

/// A chart, laid out.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Width and height in points.
    pub size: [f32; 2],
    /// From back to front.
    pub marks: Vec<Mark>,
}

const TITLE: f32 = 28.0;
const GROUP: f32 = 22.0;
const ROW: f32 = 20.0;
const BETWEEN: f32 = 6.0;
const AXIS: f32 = 36.0;
const SMALL: f32 = 11.5;
const BODY: f32 = 13.0;
/// Mean width of a letter for its size: enough for a column of names.
const LETTER: f32 = 0.58;

/// Lays a chart out over `width` points; its height follows from its rows.
pub fn layout(chart: &Chart, width: f32, inks: &Inks) -> Picture {
    let values = || chart.groups.iter().flat_map(|g| &g.values);
    let longest = |of: &dyn Fn(&Value) -> usize| values().map(of).max().unwrap_or(0) as f32 * SMALL * LETTER;
    let left = (longest(&|v| v.name.chars().count()) + 20.0).min(width * 0.4);
    let right = longest(&|v| v.text.chars().count()) + 16.0;
    let room = (width - left - right).max(32.0);
    let (low, high) = span(chart);
    let x = |value: f64| left + room * (((value - low) / (high - low)) as f32).clamp(0.0, 1.0);
    let rows: f32 = chart.groups.iter().map(|g| GROUP + g.values.len() as f32 * ROW + BETWEEN).sum();
    // Where the title stands elsewhere, no room is left for it.
    let top = if chart.title.is_empty() { 0.0 } else { TITLE };
    let bottom = top + rows;
    let mut marks = vec![text([0.0, 12.0], Anchor::Start, BODY, true, inks.strong, chart.title.clone())];
    for tick in ticks(low, high) {
        let at = x(tick);
        marks.push(Mark::Line { from: [at, top], to: [at, bottom], width: 1.0, ink: inks.hairline });
        marks.push(text([at, bottom + 10.0], Anchor::Middle, SMALL, false, inks.weak, plain(tick)));
    }
    let middle = left + room / 2.0;
    marks.push(text([middle, bottom + 26.0], Anchor::Middle, SMALL, false, inks.weak, chart.unit.clone()));
    let mut y = top;
    for group in &chart.groups {
        marks.push(text(
            [0.0, y + GROUP / 2.0],
            Anchor::Start,
            SMALL,
            true,
            inks.strong,
            fitted(&group.name, width, SMALL),
        ));
        y += GROUP;
        for value in &group.values {
            row(&mut marks, chart.form, value, y + ROW / 2.0, left, &x, inks);
            y += ROW;
        }
        y += BETWEEN;
    }
    Picture { size: [width, bottom + AXIS], marks }
}

fn row(marks: &mut Vec<Mark>, form: Form, value: &Value, y: f32, left: f32, x: &dyn Fn(f64) -> f32, inks: &Inks) {
    let name = fitted(&value.name, left - 12.0, SMALL);
    marks.push(text([left - 8.0, y], Anchor::End, SMALL, false, inks.weak, name));
    if !value.value.is_finite() {
        marks.push(text([left + 8.0, y], Anchor::Start, SMALL, false, inks.weak, value.text.clone()));
        return;
    }
    let at = x(value.value);
    let mut end = at;
    match form {
        Form::Bars => {
            let size = [(at - left).max(2.0), 12.0];
            marks.push(Mark::Rect { at: [left, y - 6.0], size, ink: value.ink, outlined: value.outlined });
        }
        Form::Points => {
            if let Some((low, high)) = value.interval {
                let (a, b) = (x(low), x(high));
                end = b;
                let mut line = |from, to| marks.push(Mark::Line { from, to, width: 1.5, ink: value.ink });
                line([a, y], [b, y]);
                line([a, y - 4.0], [a, y + 4.0]);
                line([b, y - 4.0], [b, y + 4.0]);
            }
            marks.push(Mark::Dot { at: [at, y], outlined: value.outlined, ink: value.ink });
        }
    }
    marks.push(text([end + 8.0, y], Anchor::Start, SMALL, false, inks.strong, value.text.clone()));
}

fn text(at: [f32; 2], anchor: Anchor, size: f32, strong: bool, ink: Rgb, text: String) -> Mark {
    Mark::Text { at, anchor, size, strong, ink, text }
}

/// As much of a text as fits, with an ellipsis where some is left out.
fn fitted(text: &str, width: f32, size: f32) -> String {
    let most = (width / (size * LETTER)).max(1.0) as usize;
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// What the axis spans: from zero for bars, around what there is for points.
fn span(chart: &Chart) -> (f64, f64) {
    let finite = |v: &&Value| v.value.is_finite();
    let ends = |v: &Value| v.interval.unwrap_or((v.value, v.value));
    let values = || chart.groups.iter().flat_map(|g: &Group| &g.values).filter(finite);
    let high = values().map(|v| ends(v).1).fold(f64::NEG_INFINITY, f64::max);
    let low = values().map(|v| ends(v).0).fold(f64::INFINITY, f64::min);
    match (low.is_finite() && high.is_finite(), chart.form) {
        (false, _) => (0.0, 1.0),
        (true, Form::Bars) => (0.0, if high > 0.0 { high } else { 1.0 }),
        (true, Form::Points) => {
            let margin = ((high - low) * 0.08).max(high.abs() * 1e-3).max(1e-9);
            (low - margin, high + margin)
        }
    }
}

/// A few round marks between two ends: multiples of 1, 2 or 5 times a power of ten.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(10.0 * power);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A mark's number without what binary fractions add: `0.3`, not `0.30000000000000004`.
fn plain(x: f64) -> String {
    let short = format!("{x:.6}");
    let short = short.trim_end_matches('0').trim_end_matches('.');
    if short.is_empty() || short == "-0" { "0".to_owned() } else { short.to_owned() }
}
