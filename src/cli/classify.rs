use serde_json::{Value, json};

use super::{args::ClassifyArgs, print_json, print_line};
use crate::session::{Classifier, Fit, Image, Preprocess};

/// How many classes are told.
const TOP: usize = 5;
/// Height and width of a float model's images, unless --size says otherwise.
const FOLDER_SIZE: usize = 224;

pub fn run(args: &ClassifyArgs) -> anyhow::Result<()> {
    // A picture of one's own is a file among folders, so a float model takes a folder's defaults.
    let default = Preprocess::new(FOLDER_SIZE, Fit::Crop);
    let mut classifier = Classifier::open(&args.file.file, &args.file.options(default))?;
    if let Some(caution) = &classifier.caution {
        eprintln!("warning: {caution}");
    }
    let mut all = Vec::new();
    for path in &args.image {
        let logits = classifier.classify(&Image::open(path)?)?;
        let top: Vec<(usize, f64)> = top(&logits);
        if args.json {
            let top: Vec<Value> = top
                .iter()
                .map(|(c, p)| json!({ "class": c, "label": classifier.labels[*c], "probability": p }))
                .collect();
            let mut entry = json!({ "image": path, "top": top });
            if args.logits {
                entry["logits"] = json!(logits);
            }
            all.push(entry);
        } else {
            print_line(&path.display().to_string())?;
            for (c, p) in &top {
                print_line(&format!("  {:>6.2} %  {}", p * 100.0, classifier.labels[*c]))?;
            }
            if args.logits {
                print_line(&format!("  logits {logits:?}"))?;
            }
        }
    }
    if args.json { print_json(&all) } else { Ok(()) }
}

/// The likeliest classes with their softmax probabilities, the likeliest first, the lower index first of equals.
fn top(logits: &[f32]) -> Vec<(usize, f64)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|v| f64::from(v - largest).exp()).collect();
    let sum: f64 = exp.iter().sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    order.into_iter().take(TOP).map(|c| (c, exp[c] / sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn top_is_sorted_and_sums_to_one() {
        let found = top(&[1.0, 3.0, 2.0]);
        assert_eq!(found.iter().map(|(c, _)| *c).collect::<Vec<_>>(), [1, 2, 0]);
        assert!((found.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn at_most_five_and_equals_by_index() {
        let found = top(&[0.0; 7]);
        assert_eq!(found.iter().map(|(c, _)| *c).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
