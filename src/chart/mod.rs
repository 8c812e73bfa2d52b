//! Charts of a few named values as pictures: one layout, drawn by the window, written as SVG, painted as PNG; and tables as
//! CSV.
//!
//! Colours come from the caller. This room knows nothing of models, sessions or windows.

mod csv;
mod layout;
mod svg;

pub use csv::csv;
pub use layout::{Anchor, Mark, Picture, layout};
pub use svg::{ChartError, escaped, png, svg};

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bars from zero.
    Bars,
    /// Points on an axis that need not begin at zero, each with its interval.
    Points,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// "int8".
    pub name: String,
    /// In the chart's unit; what is not finite is not drawn.
    pub value: f64,
    /// Where the true value is likely to be.
    pub interval: Option<(f64, f64)>,
    /// The value in words: "391 kB".
    pub text: String,
    /// Its colour.
    pub ink: Rgb,
    /// Whether it is somebody else's figure: an outline.
    pub outlined: bool,
}

/// Values that belong together: those of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// "3  ResNet18, x86".
    pub name: String,
    /// Its values.
    pub values: Vec<Value>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Of the axis: "KB".
    pub unit: String,
    /// Bars or points.
    pub form: Form,
    /// From top to bottom.
    pub groups: Vec<Group>,
}

/// The neutral colours of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inks {
    /// Behind everything.
    pub ground: Rgb,
    /// Titles and names.
    pub strong: Rgb,
    /// Values of the axis.
    pub weak: Rgb,
    /// Lines of the grid.
    pub hairline: Rgb,
}

impl Chart {
    /// The chart as rows of words, for a table beside it: group, value's name, value, interval.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |group: &Group, v: &Value| {
            let [low, high] = v.interval.map_or([String::new(), String::new()], |(a, b)| [a, b].map(|x| x.to_string()));
            let value = if v.value.is_finite() { v.value.to_string() } else { String::new() };
            vec![group.name.clone(), v.name.clone(), value, low, high]
        };
        self.groups.iter().flat_map(|g| g.values.iter().map(move |v| row(g, v))).collect()
    }
}

#[cfg(test)]
mod tests;
