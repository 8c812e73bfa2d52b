use serde_json::json;

use super::{args::EvalArgs, print_json, print_line};
use crate::session::Classifier;

pub fn run(args: &EvalArgs) -> anyhow::Result<()> {
    let source = args.data.source();
    let mut classifier = Classifier::open(&args.file.file, &args.file.options(source.clone()))?;
    let (accuracy, images) = classifier.evaluate(&source, args.data.seed, &mut |_, _| {})?;
    if args.json {
        return print_json(&json!({ "accuracy": accuracy, "images": images }));
    }
    print_line(&format!("{:.2} % of {images} held-out images", accuracy * 100.0))
}
