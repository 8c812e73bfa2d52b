use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::analysis::LayerError;
use crate::data::Source;
use crate::export::html::Part;
use crate::quant::{ConvertReport, LayerReport};
use crate::session::{Measured, Recipe, Stage, WeightsOrigin, wilson};

/// The first `words` columns are words, the others numbers.
pub(super) fn table<const N: usize>(words: usize, head: [&str; N], rows: Vec<Vec<String>>) -> Part {
    Part::Table { words, head: head.map(str::to_owned).to_vec(), rows }
}

/// Float, int8, difference.
pub(super) fn sides(m: &Measured) -> Part {
    let percent = |a: Option<f64>| a.map_or("not measured".to_owned(), |a| format!("{:.2} %", a * 100.0));
    let points = match (m.float.accuracy, m.int8.accuracy) {
        (Some(a), Some(b)) => format!("{:+.2} points", (b - a) * 100.0).replace('-', "\u{2212}"),
        _ => String::new(),
    };
    let kb = |bytes: u64| format!("{:.1} kB", bytes as f64 / 1e3);
    let ms = |t: f64| format!("{t:.3} ms");
    let (float, int8) = (&m.float, &m.int8);
    let row = |name: &str, a: String, b: String, c: String| vec![name.to_owned(), a, b, c];
    let faster = float.latency_ms / int8.latency_ms;
    let rows = vec![
        row("Accuracy", percent(float.accuracy), percent(int8.accuracy), points),
        row("File", kb(float.bytes), kb(int8.bytes), format!("{:.2} times smaller", m.shrink)),
        row("One image", ms(float.latency_ms), ms(int8.latency_ms), format!("{faster:.2} times as fast")),
    ];
    table(1, ["", "float32", "int8", "Difference"], rows)
}

/// Where the true accuracies are likely to be.
pub(super) fn intervals(m: &Measured) -> Option<String> {
    let [a, b] = [m.float.accuracy?, m.int8.accuracy?].map(|a| {
        let (low, high) = wilson(a, m.images);
        format!("{:.2} to {:.2} %", low * 100.0, high * 100.0)
    });
    Some(format!(
        "On {} held-out images; 95 % intervals: float {a}, int8 {b}. All is of the file as read back.",
        m.images
    ))
}

/// What a step did, in a sentence.
pub(super) fn told(stage: &Stage, recipe: &Recipe) -> String {
    match stage {
        Stage::Opened { .. } => String::new(),
        Stage::Stubbed { opened, .. } => {
            let data = match &recipe.data {
                Source::Sample => "the embedded sample".to_owned(),
                Source::Path(path) => path.display().to_string(),
            };
            let (train, valid) = (opened.dataset.train.len(), opened.dataset.valid.len());
            let (size, classes) = (opened.preprocess.size, opened.classes);
            format!(
                "{} for {classes} classes at {size} px; {data}: {train} images to learn from, {valid} held out. Stubs mark where \
                 int8 begins and ends.",
                recipe.model.title()
            )
        }
        Stage::Weighted { origin, accuracy, .. } => {
            let from = match origin {
                WeightsOrigin::Shipped => "Those that come with Octet".to_owned(),
                WeightsOrigin::File(path) => format!("Read from {}", path.display()),
                WeightsOrigin::WithoutHead(path) => format!("Read from {} but for the head", path.display()),
                WeightsOrigin::Trained { epochs, stopped: false } => format!("Trained for {epochs} epochs"),
                WeightsOrigin::Trained { epochs, stopped: true } => format!("Trained, stopped after {epochs} epochs"),
            };
            accuracy.map_or(format!("{from}."), |a| format!("{from}: {:.2} % of the held-out images.", a * 100.0))
        }
        Stage::Fused { report, proof, .. } => format!(
            "{} sites fused; on {} images the logits moved by {:.1e} of the largest.",
            report.sites.len(),
            proof.images,
            proof.relative
        ),
        Stage::Prepared { report, .. } => {
            format!("{} observers, {} nodes left in float.", report.observed.len(), report.float.len())
        }
        Stage::Calibrated { images, .. } => format!("Observers saw {images} images."),
        Stage::Trained { epochs, accuracy, stopped, .. } => {
            let ended = if *stopped { ", stopped" } else { "" };
            let said = accuracy.map_or(String::new(), |a| format!("; fake-quantized {:.2} %", a * 100.0));
            format!("{epochs} epochs with fake quantization{ended}{said}.")
        }
        Stage::Converted { report, .. } | Stage::Saved { report, .. } => {
            let float: usize = report.layers.iter().map(|l| l.float_bytes).sum();
            let int8: usize = report.layers.iter().map(|l| l.int8_bytes).sum();
            format!(
                "{} layers to int8: {:.1} kB of weights became {:.1} kB; {} layers left in float.",
                report.layers.len(),
                float as f64 / 1e3,
                int8 as f64 / 1e3,
                report.float.len()
            )
        }
    }
}

/// Every layer: how far its output is from float's, and what became of its weights.
pub(super) fn layers(errors: &[LayerError], report: &ConvertReport) -> Part {
    let weights: HashMap<&str, &LayerReport> = report.layers.iter().map(|l| (l.name.as_str(), l)).collect();
    let db = |v: f64| if v.is_finite() { format!("{v:.1} dB") } else { "exact".to_owned() };
    let row = |e: &LayerError| {
        let mut row = vec![e.name.clone(), e.op.to_owned(), db(e.sqnr_db), format!("{:.5}", e.cosine)];
        row.extend(match weights.get(e.name.as_str()) {
            Some(l) => [db(l.weight_sqnr_db), l.float_bytes.to_string(), l.int8_bytes.to_string()],
            None => [const { String::new() }; 3],
        });
        row
    };
    let head = ["Layer", "Operation", "Output SQNR", "Cosine", "Weight SQNR", "float32 bytes", "int8 bytes"];
    table(2, head, errors.iter().map(row).collect())
}

/// The day of `when` in UTC, as `2026-11-25`; by Hinnant's days-to-civil.
pub(super) fn day(when: SystemTime) -> String {
    let days = when.duration_since(UNIX_EPOCH).map_or(0, |d| (d.as_secs() / 86_400) as i64) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_the_calendars() {
        for (seconds, expected) in
            [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (951_868_800, "2000-03-01"), (1_796_083_199, "2026-11-30")]
        {
            assert_eq!(day(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
