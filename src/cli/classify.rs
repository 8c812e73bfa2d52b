use serde_json::{Value, json};

use super::{args::ClassifyArgs, print_json, print_line};
use crate::session::{Classifier, Fit, Image, Likely, Preprocess, likeliest};

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
        let top = likeliest(&logits, TOP);
        if args.json {
            let top: Vec<Value> = top
                .iter()
                .map(|l| json!({ "class": l.class, "label": classifier.labels[l.class], "probability": l.probability }))
                .collect();
            let mut entry = json!({ "image": path, "top": top });
            if args.logits {
                entry["logits"] = json!(logits);
            }
            all.push(entry);
        } else {
            print_line(&path.display().to_string())?;
            for Likely { class, probability } in &top {
                print_line(&format!("  {:>6.2} %  {}", probability * 100.0, classifier.labels[*class]))?;
            }
            if args.logits {
                print_line(&format!("  logits {logits:?}"))?;
            }
        }
    }
    if args.json { print_json(&all) } else { Ok(()) }
}
