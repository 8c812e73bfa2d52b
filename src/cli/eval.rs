use serde_json::json;

use super::{args::EvalArgs, print_json, print_line};
use crate::session::{Classifier, Dataset};

pub fn run(args: &EvalArgs) -> anyhow::Result<()> {
    let source = args.data.source();
    let dataset = Dataset::open(&source, args.data.seed)?;
    let mut classifier = Classifier::open(&args.file.file, &args.file.options(dataset.preprocess()))?;
    if let Some(caution) = &classifier.caution {
        eprintln!("warning: {caution}");
    }
    let (accuracy, images) = classifier.evaluate(dataset, &source, &mut |line| eprintln!("warning: {line}"))?;
    if args.json {
        return print_json(&json!({ "accuracy": accuracy, "images": images }));
    }
    print_line(&format!("{:.2} % of {images} held-out images", accuracy * 100.0))
}
