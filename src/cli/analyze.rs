use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::{args::AnalyzeArgs, print_json, print_line, progress::Line, promise};
use crate::session::{
    Calibrated, ClassDrop, Control, Enough, Goal, LayerSensitivity, Pair, PromiseOf, Sensitivity, SessionError, Sums,
    SweepScore, Sweeping, Sweeps, Verdicts, reopen, wilson,
};

/// Layers that the table shows.
const SHOWN: usize = 12;

pub fn run(args: &AnalyzeArgs) -> anyhow::Result<()> {
    let mut line = Line::new();
    let reopened = reopen(&args.file, &args.options(), &mut |event| line.show(&event), &Control::default())?;
    let pair = &reopened.pair;
    let verdicts = verdicts(pair, &mut line)?;
    let swept = sweep(pair, args, &mut line)?;
    line.clear();
    let found = Findings { pair, verdicts, swept };
    let of = reopened.promise_of();
    let enough = if args.calibration { Some(enough(&of, &mut line)?) } else { None };
    let kept = match args.promise {
        Some(loss) => Some(promise::search(&of, Goal { loss, seed: args.seed }, args.out.as_deref(), &mut line)?),
        None => None,
    };
    line.clear();
    if args.json {
        let recipe = reopened.session.recipe();
        let mut report = found.json();
        report["file"] = json!(args.file);
        report["model"] = json!(recipe.model.name());
        report["qconfig"] = json!(recipe.qconfig.name.to_string());
        if let Some(enough) = &enough {
            report["calibration"] = calibration(enough);
        }
        if let Some(kept) = &kept {
            report["promise"] = promise::json(kept, args.out.as_deref());
        }
        return print_json(&report);
    }
    found.print()?;
    if let Some(enough) = &enough {
        print_line(&format!("\nCalibration: {}", enough.in_words().unwrap_or_default()))?;
    }
    kept.as_ref().map_or(Ok(()), promise::print)
}

/// Accuracy against the number of calibration images.
fn enough(of: &PromiseOf, line: &mut Line) -> Result<Enough, SessionError> {
    let mut found = Enough::default();
    of.enough(&mut |so_far| {
        line.draw(&format!("Calibrating with more and other images {}/{}", so_far.points.len(), so_far.of));
        found = so_far;
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn calibration(enough: &Enough) -> Value {
    let point = |p: &Calibrated| json!({ "images": p.images, "seed": p.seed, "accuracy": p.accuracy, "logit_mse": p.logit_mse });
    json!({
        "judged": enough.judged,
        "float": enough.float,
        "points": enough.points.iter().map(point).collect::<Vec<_>>(),
        "says": enough.in_words(),
    })
}

/// All held-out images through both models; `None` where labels do not allow it.
fn verdicts(pair: &Pair, line: &mut Line) -> Result<Option<Verdicts>, SessionError> {
    let mut found = None;
    pair.verdicts(usize::MAX, &mut |so_far| {
        line.draw(&format!("Comparing float and int8 {}/{}", so_far.seen, so_far.of));
        found = Some(so_far.found);
        ControlFlow::Continue(())
    })?;
    if let Some(why) = pair.opened.why_no_accuracy() {
        line.say(&format!("warning: {why}; what float says counts as right"));
    }
    Ok(found)
}

fn sweep(pair: &Pair, args: &AnalyzeArgs, line: &mut Line) -> anyhow::Result<Sweeping> {
    let mut found = None;
    pair.sensitivity(args.images as usize, Sweeps::ALL, &mut |sweeping| {
        let left = sweeping.seconds_left().map_or(String::new(), |s| format!(", {s:.0} s left"));
        line.draw(&format!("Sweeping over layers {:.0} %{left}", sweeping.done * 100.0));
        found = Some(sweeping);
        ControlFlow::Continue(())
    })?;
    found.ok_or_else(|| anyhow::anyhow!("{}: the model has no layer to sweep over", args.file.display()))
}

struct Findings<'a> {
    pair: &'a Pair,
    verdicts: Option<Verdicts>,
    swept: Sweeping,
}

impl Findings<'_> {
    fn name(&self, image: usize) -> String {
        let dataset = &self.pair.opened.dataset;
        let split = if dataset.valid.is_empty() { &dataset.train } else { &dataset.valid };
        split.name(image)
    }

    fn json(&self) -> Value {
        let Sensitivity { labelled, float, int8, weights, activations, layers, flips } = &*self.swept.found;
        let labels = self.pair.opened.labels();
        let owed: BTreeMap<usize, usize> = self.swept.found.owed().into_iter().collect();
        let [quantized, left_float] = self.swept.found.agreement();
        let layer = |(i, l): (usize, &LayerSensitivity)| {
            json!({
                "name": l.name,
                "op": l.op,
                "weight": l.has_weight,
                "error": distance(&l.accumulated),
                "error_alone": distance(&l.alone),
                "one_quantized": score(&l.quantized),
                "one_float": score(&l.left_float),
                "flips_owed": owed.get(&i).copied().unwrap_or(0),
            })
        };
        let flip = |f: &crate::session::Owed| {
            json!({
                "image": self.name(f.image),
                "float": labels[f.label],
                "int8": labels[f.named],
                "owed_to": f.layer.map(|i| &layers[i].name),
                "helps": f.margin > 0.0,
            })
        };
        let suspects: Vec<&String> = self.swept.found.suspects().into_iter().map(|i| &layers[i].name).collect();
        json!({
            "images": self.verdicts.as_ref().map(|v| v.float.total()),
            "float": self.verdicts.as_ref().map(|v| side(v, 0)),
            "int8": self.verdicts.as_ref().map(|v| side(v, 1)),
            "difference": self.verdicts.as_ref().map(difference),
            "classes": self.verdicts.as_ref().map(|v| classes(v, &labels)),
            "sweep": {
                "images": float.images,
                "labelled": labelled,
                "seconds": self.swept.seconds,
                "float": score(float),
                "int8": score(int8),
                "weights_only": score(weights),
                "activations_only": score(activations),
                "agreement": { "one_quantized": quantized, "one_float": left_float },
            },
            "suspects": suspects,
            "layers": layers.iter().enumerate().map(layer).collect::<Vec<_>>(),
            "flips": flips.iter().map(flip).collect::<Vec<_>>(),
        })
    }

    fn print(&self) -> anyhow::Result<()> {
        let found = &*self.swept.found;
        if let Some(v) = &self.verdicts {
            print_verdicts(v, &self.pair.opened.labels())?;
        }
        let right = if found.labelled { "right" } else { "as float" };
        let row = |name: &str, s: &SweepScore| {
            print_line(&format!("{name:<18} {:>8.2} % {right:<8} logit MSE {:.3e}", s.top1() * 100.0, s.logit_mse()))
        };
        print_line(&format!("\nOn {} images, every layer fake-quantized:", found.float.images))?;
        row("float", &found.float)?;
        row("weights alone", &found.weights)?;
        row("activations alone", &found.activations)?;
        row("int8", &found.int8)?;
        print_line("\nThe most suspect layers, by what each does alone to the logits:")?;
        let head = ["one quantized", "one left float", "SQNR alone", "SQNR so far", "flips owed"];
        print_line(&format!(
            "{:<34} {:>14} {:>15} {:>11} {:>12} {:>10}",
            "", head[0], head[1], head[2], head[3], head[4]
        ))?;
        let owed: BTreeMap<usize, usize> = found.owed().into_iter().collect();
        for i in found.suspects().into_iter().take(SHOWN) {
            let l = &found.layers[i];
            let mse = |s: &SweepScore| format!("{:.2e}", s.logit_mse());
            let db = |s: &Sums| format!("{:.1} dB", s.sqnr_db());
            let flips = owed.get(&i).copied().unwrap_or(0);
            let cells = [mse(&l.quantized), mse(&l.left_float), db(&l.alone), db(&l.accumulated)];
            print_line(&format!(
                "{:<34} {:>14} {:>15} {:>11} {:>12} {flips:>10}",
                l.name, cells[0], cells[1], cells[2], cells[3]
            ))?;
        }
        let agreement =
            |a: Option<f64>| a.map_or("not to be told, top-1 is the same for all".to_owned(), |a| format!("{a:.2}"));
        let [quantized, left_float] = found.agreement().map(agreement);
        print_line(&format!(
            "The order by logit MSE agrees with the one by top-1 (Spearman): one quantized {quantized}; one left float {left_float}."
        ))?;
        print_line(&format!("Swept in {:.1} s.", self.swept.seconds))
    }
}

fn print_verdicts(v: &Verdicts, labels: &[String]) -> anyhow::Result<()> {
    let percent = |right: u32| f64::from(right) * 100.0 / f64::from(v.float.total().max(1));
    let side = |name: &str, right: u32, top5: u32| {
        print_line(&format!("{name:<10} top-1 {:>6.2} %   top-5 {:>6.2} %", percent(right), percent(top5)))
    };
    print_line(&format!("{} held-out images", v.float.total()))?;
    side("float32", v.float.right(), v.top5[0])?;
    side("int8", v.int8.right(), v.top5[1])?;
    print_line(&format!(
        "{} ({} lost, {} gained; McNemar p = {:.2e})",
        v.in_words(),
        v.flipped.len(),
        v.gained,
        v.mcnemar()
    ))?;
    let drops = v.drops();
    let worst = drops.iter().take(3).filter(|drop| drop.share() > 0.0);
    let worst: Vec<String> =
        worst.map(|drop| format!("{} {:.1} points", labels[drop.class], drop.share() * 100.0)).collect();
    if worst.is_empty() { Ok(()) } else { print_line(&format!("classes that lose most: {}", worst.join(", "))) }
}

fn side(v: &Verdicts, which: usize) -> Value {
    let n = v.float.total();
    let right = [&v.float, &v.int8][which].right();
    let accuracy = f64::from(right) / f64::from(n.max(1));
    json!({
        "accuracy": accuracy,
        "interval": wilson(accuracy, n as usize),
        "top5": f64::from(v.top5[which]) / f64::from(n.max(1)),
    })
}

fn difference(v: &Verdicts) -> Value {
    let (difference, interval) = v.difference();
    json!({
        "accuracy": difference,
        "interval": interval,
        "lost": v.flipped.len(),
        "gained": v.gained,
        "mcnemar_p": v.mcnemar(),
        "says": v.in_words(),
    })
}

fn classes(v: &Verdicts, labels: &[String]) -> Vec<Value> {
    let mut drops = v.drops();
    drops.sort_by_key(|drop| drop.class);
    let class = |(drop, label): (ClassDrop, &String)| {
        json!({
            "class": drop.class,
            "label": label,
            "images": drop.images,
            "float_right": drop.right[0],
            "int8_right": drop.right[1],
            "drop": drop.share(),
        })
    };
    drops.into_iter().zip(labels).map(class).collect()
}

fn score(s: &SweepScore) -> Value {
    json!({ "accuracy": s.top1(), "logit_mse": s.logit_mse() })
}

/// JSON has no infinity: an SQNR without noise is null.
fn distance(s: &Sums) -> Value {
    json!({ "sqnr_db": s.sqnr_db(), "cosine": s.cosine(), "mse": s.mse() })
}
