//! `octet analyze --promise`.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::progress::{self, Line};
use super::{print_line, result};
use crate::session::{Command, Device, Goal, Outcome, Promise, PromiseOf, Recipe, Session, Trial, Verified};

/// Searches, and makes the file where the promise is kept.
pub fn search(of: &PromiseOf, goal: Goal, out: Option<&Path>, line: &mut Line) -> anyhow::Result<Promise> {
    if let Some(out) = out {
        progress::require_folder(out)?;
    }
    let found = of.run(goal, &mut |so_far| {
        if let Some(trial) = so_far.trials.last() {
            line.draw(&format!("Model {}: {}, {:+.2} points", so_far.trials.len(), trial.what, -trial.loss * 100.0));
        }
        ControlFlow::Continue(())
    })?;
    line.clear();
    if let (Some(out), Outcome::Kept(i, _)) = (out, &found.outcome) {
        let repair = &found.trials[*i].repair;
        let recipe =
            Recipe { repairs: repair.repairs.clone(), qconfig: repair.qconfig.clone(), ..(*of.recipe).clone() };
        let mut session = Session::new(Device::Cpu);
        progress::apply(&mut session, Command::Open(Box::new(recipe)))?;
        progress::apply(&mut session, Command::RunAll(out.to_owned()))?;
    }
    Ok(found)
}

fn trial(t: &Trial) -> Value {
    json!({
        "what": t.what,
        "accuracy": t.accuracy,
        "loss": t.loss,
        "lost": t.lost,
        "gained": t.gained,
        "logit_mse": t.logit_mse,
        "bytes": t.bytes,
        "latency_ms": t.ms,
        "pareto": t.pareto,
        "equalize": t.repair.repairs.equalize,
        "correct_bias": t.repair.repairs.correct_bias,
        "qconfig": t.repair.qconfig,
    })
}

fn verified(v: &Verified) -> Value {
    json!({ "images": v.images, "float": v.float, "int8": v.int8, "loss": v.loss, "interval": v.interval })
}

/// The search as JSON.
pub fn json(found: &Promise, out: Option<&Path>) -> Value {
    let (outcome, chosen, measured) = match &found.outcome {
        Outcome::Kept(i, v) => ("kept", Some(*i), Some(v)),
        Outcome::NotVerified(i, v) => ("not_verified", Some(*i), Some(v)),
        Outcome::NotFound | Outcome::Searching => ("not_found", None, None),
    };
    json!({
        "loss_allowed": found.goal.loss,
        "seed": found.goal.seed,
        "searched": found.searched,
        "float": found.float,
        "float_bytes": found.float_bytes,
        "outcome": outcome,
        "chosen": chosen,
        "verified": measured.map(verified),
        "file": out.filter(|_| outcome == "kept"),
        "trials": found.trials.iter().map(trial).collect::<Vec<_>>(),
        "says": found.in_words(),
    })
}

/// The same as a table.
pub fn print(found: &Promise) -> anyhow::Result<()> {
    print_line(&format!(
        "\n{} models tried on {} images (* no other is better in all):",
        found.trials.len(),
        found.searched
    ))?;
    for t in &found.trials {
        print_line(&format!(
            "{} {:>9} {:+6.2} points {:>10.1} KB {:>8.3} ms   {}",
            if t.pareto { '*' } else { ' ' },
            result::percent(Some(t.accuracy)),
            -t.loss * 100.0,
            t.bytes as f64 / 1e3,
            t.ms,
            t.what
        ))?;
    }
    print_line(&found.in_words())
}
