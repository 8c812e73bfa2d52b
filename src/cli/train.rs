use std::time::Instant;

use serde_json::json;

use super::{print_json, print_line, progress, train_args::TrainArgs};
use crate::session::{CheckpointFile, Command, EpochReport, Session, Stage, save_float};

pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let out = args.out();
    progress::require_folder(&out)?;
    let start = Instant::now();
    let mut session = Session::new(args.machine.device());
    let checkpoint = args.checkpoint.file();
    if let Some(CheckpointFile { path, .. }) = &checkpoint {
        progress::require_folder(path)?;
    }
    progress::apply(&mut session, Command::KeepCheckpoints(checkpoint))?;
    progress::open(&mut session, args.recipe())?;
    if let Some(weights) = &args.weights {
        progress::apply(&mut session, Command::LoadWeights(weights.clone()))?;
    }
    let config = session.recipe().train;
    let epochs = progress::train(&mut session, config)?;
    let bytes = save_float(&out, session.stage()?.graph(), args.half)?;
    if args.half {
        // Rounding the weights may cost something: what is said is of the file.
        progress::apply(&mut session, Command::LoadWeights(out.clone()))?;
    }
    let stage = session.stage()?.clone();
    let Stage::Weighted { accuracy, .. } = stage.as_ref() else {
        anyhow::bail!("the training ended without weights");
    };
    let best = epochs.iter().filter(|e| e.best).map(|e| e.epoch + 1).next_back();
    let last = epochs.last().and_then(|e| e.valid).map(|score| score.accuracy());
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        return print_json(&json!({
            "model": args.model.name(),
            "file": out,
            "accuracy": accuracy,
            "best_epoch": best,
            "last_accuracy": last,
            "epochs": epochs.len(),
            "seconds": seconds,
            "device": args.machine.device_name(),
        }));
    }
    print_line(&format!("accuracy   {}", said(*accuracy, best, last, &epochs)))?;
    print_line(&format!("trained    {} epochs in {seconds:.0} s", epochs.len()))?;
    print_line(&format!("saved      {} ({:.1} KB)", out.display(), bytes as f64 / 1e3))
}

/// The epoch that is kept was picked on the images that its accuracy is of; the last epoch's was not, and is said too.
fn said(accuracy: Option<f64>, best: Option<usize>, last: Option<f64>, epochs: &[EpochReport]) -> String {
    let percent = |a: f64| format!("{:.2} %", a * 100.0);
    match (accuracy, best, last) {
        (Some(a), Some(best), Some(last)) if best < epochs.len() => format!(
            "{} of epoch {best}, the best on the held-out images; the last epoch has {}",
            percent(a),
            percent(last)
        ),
        (Some(a), _, _) => percent(a),
        (None, _, _) => "not measured: no image is held out".to_owned(),
    }
}
