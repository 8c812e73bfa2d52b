use std::time::Instant;

use serde_json::json;

use super::{args::TrainArgs, print_json, print_line, progress};
use crate::session::{Command, Session, Stage, WeightsOrigin, save_float};

pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let out = args.out();
    progress::require_folder(&out)?;
    let start = Instant::now();
    let mut session = Session::new(args.machine.device());
    progress::open(&mut session, args.recipe())?;
    if let Some(weights) = &args.weights {
        progress::apply(&mut session, Command::LoadWeights(weights.clone()))?;
    }
    let config = session.recipe().train;
    progress::apply(&mut session, Command::Train(config))?;
    let stage = session.stage()?.clone();
    let Stage::Weighted { graph, accuracy, origin: WeightsOrigin::Trained { epochs, .. }, .. } = stage.as_ref() else {
        anyhow::bail!("the training ended without weights");
    };
    let bytes = save_float(&out, graph)?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        return print_json(&json!({
            "model": args.model.name(),
            "file": out,
            "accuracy": accuracy,
            "epochs": epochs,
            "seconds": seconds,
            "device": args.machine.device_name(),
        }));
    }
    let accuracy = accuracy.map_or("not measured: no image is held out".to_owned(), |a| format!("{:.2} %", a * 100.0));
    print_line(&format!("accuracy   {accuracy} after {epochs} epochs in {seconds:.0} s"))?;
    print_line(&format!("saved      {} ({:.1} KB)", out.display(), bytes as f64 / 1e3))
}
