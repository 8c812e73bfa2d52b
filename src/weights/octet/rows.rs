//! A node as one compact JSON array: `["conv1.0",{"conv":[2,1,1,true,true,24]},113,[1],["^0","^1","^2"]]`.

use serde::{Deserialize, Serialize};

use crate::graph::{Activation, ActivationSpec, MaxPool2d};

/// Name, operation, numbers, inputs, fused names (see [`shorten`]).
#[derive(Serialize, Deserialize)]
pub(super) struct Row(
    pub String,
    pub OpRow,
    pub Option<NumericRow>,
    pub Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] pub Vec<String>,
);

/// What the output is made of; nothing for float.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum NumericRow {
    /// uint8: the zero point.
    Int8(u8),
    /// uint8 that does not use all levels: zero point and the largest level.
    Clamped(u8, u8),
    /// float32 with an observer.
    Observed(ActivationSpec),
    /// float32 moved to levels.
    Fake(FakeRow),
}

/// Zero point and largest level of a fake-quantized output.
#[derive(Serialize, Deserialize)]
pub(super) struct FakeRow {
    pub fake: (u8, u8),
}

/// An operation without its parameters.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OpRow {
    /// Channels, height, width.
    Input(usize, usize, usize),
    Quant,
    Dequant,
    /// Stride, padding, groups, ReLU, bias, number of weight scales (0: a float weight).
    Conv(usize, usize, usize, bool, bool, usize),
    BatchNorm,
    /// ReLU, bias, number of weight scales (0: a float weight).
    Linear(bool, bool, usize),
    Act(Activation),
    MaxPool(MaxPool2d),
    AvgPool,
    Mean,
    Add,
    AddRelu,
    Mul,
    Cat,
    /// Index, chunks.
    Chunk(usize, usize),
    Shuffle(usize),
    Flatten,
    /// In 64 bits, which a float32 survives in decimal.
    Dropout(f64),
    StochasticDepth(f64),
}

/// Writes a name that differs from `node` only after the last dot as `^` and that last part.
pub(super) fn shorten(name: &str, node: &str) -> String {
    match name.strip_prefix(parent(node)) {
        Some(last) if !last.contains('.') => format!("^{last}"),
        Some(_) | None => name.to_owned(),
    }
}

/// Undoes [`shorten`].
pub(super) fn lengthen(short: &str, node: &str) -> String {
    match short.strip_prefix('^') {
        Some(last) => format!("{}{last}", parent(node)),
        None => short.to_owned(),
    }
}

/// Up to and including the last dot.
fn parent(name: &str) -> &str {
    name.rfind('.').map_or("", |dot| &name[..=dot])
}
