use std::sync::LazyLock;

use serde::Deserialize;

use crate::zoo::ModelId;

/// File sizes that others published for a model, in KB of 1,000 bytes; `assets/published_sizes.toml` says of what.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PublishedSizes {
    /// Which architecture.
    #[serde(rename = "name")]
    pub model: ModelId,
    /// Its float state dict.
    pub float_kb: f64,
    /// Its int8 state dict, converted without fusing.
    pub int8_kb: f64,
    /// What PyTorch writes for the fused model, a file that runs.
    pub pytorch_fused_kb: f64,
    /// int8 weights, biases and scales alone.
    pub raw_int8_kb: f64,
    /// What must be said beside the figures.
    pub note: Option<String>,
}

#[derive(Deserialize)]
struct Table {
    classes: usize,
    model: Vec<PublishedSizes>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    toml::from_str(include_str!("../../assets/published_sizes.toml")).expect("a test reads the table in the program")
});

/// What is published for `model` with `classes` classes, if anything is.
pub fn published_sizes(model: ModelId, classes: usize) -> Option<&'static PublishedSizes> {
    if classes != TABLE.classes {
        return None;
    }
    TABLE.model.iter().find(|row| row.model == model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_models_are_published_at_33_classes() {
        let published = |classes| ModelId::ALL.into_iter().filter_map(move |m| published_sizes(m, classes));
        assert_eq!(published(33).count(), 5);
        assert_eq!(published(10).count(), 0);
        for row in published(33) {
            assert!(row.raw_int8_kb < row.pytorch_fused_kb && row.pytorch_fused_kb < row.int8_kb, "{}", row.model);
        }
    }
}
