use clap::{CommandFactory, error::ErrorKind};
use serde_json::{Value, json};

use super::{Cli, args::PtqArgs, print_json, print_line, progress};
use crate::session::{Command, LayerSaturation, Measured, Saturation, Session, Side, Stage, StudyResult};

pub fn run(args: &PtqArgs) -> anyhow::Result<()> {
    if let Err(conflict) = args.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, conflict).exit();
    }
    let out = args.out();
    progress::require_folder(&out)?;
    let mut session = args.session();
    progress::apply(&mut session, Command::Open(Box::new(args.recipe())))?;
    progress::apply(&mut session, Command::RunAll(out))?;
    let stage = session.stage()?.clone();
    let result = match stage.as_ref() {
        Stage::Saved { measured, study, .. } => {
            Outcome { float: measured.float.accuracy, measured: Some(measured), study: *study }
        }
        Stage::Converted { before, study, .. } => Outcome { float: before.accuracy, measured: None, study: *study },
        Stage::Opened { .. }
        | Stage::Stubbed { .. }
        | Stage::Weighted { .. }
        | Stage::Fused { .. }
        | Stage::Prepared { .. }
        | Stage::Calibrated { .. } => anyhow::bail!("the run ended before its file was saved"),
    };
    if args.json { print_json(&report(args, &session, &result)) } else { print_table(&result) }
}

/// What a run ends with.
struct Outcome<'a> {
    float: Option<f64>,
    /// Nothing where there is no int8 file.
    measured: Option<&'a Measured>,
    study: Option<StudyResult>,
}

/// What `--json` prints.
fn report(args: &PtqArgs, session: &Session, result: &Outcome<'_>) -> Value {
    let side = |s: &Side| json!({ "accuracy": s.accuracy, "bytes": s.bytes, "latency_ms": s.latency_ms });
    let warnings: Vec<Value> = session
        .warnings()
        .map(|w| {
            json!({
                "kind": w.kind(),
                "node": w.node,
                "found": w.found(),
                "expected": w.expected(),
                "remedy": w.remedy(),
            })
        })
        .collect();
    let unmeasured = json!({ "accuracy": result.float, "bytes": null, "latency_ms": null });
    let mut report = json!({
        "model": args.model.name(),
        "qconfig": session.recipe().qconfig.name.to_string(),
        "file": result.measured.map(|m| &m.file),
        "float": result.measured.map_or(unmeasured, |m| side(&m.float)),
        "int8": result.measured.map(|m| side(&m.int8)),
        "shrink": result.measured.map(|m| m.shrink),
        "saturation": result.measured.map(|m| m.saturation.layers.iter().map(layer).collect::<Vec<_>>()),
        "saturation_images": result.measured.map(|m| m.saturation.images),
        "warnings": warnings,
    });
    if let Some(study) = &result.study {
        report["fake"] = json!({ "accuracy": study.accuracy });
        report["study"] = json!(study.study.to_string());
    }
    report
}

/// A layer's sums of two products, as engines with `vpmaddubsw` add them in 16 bits.
fn layer(l: &LayerSaturation) -> Value {
    json!({
        "layer": l.layer.name,
        "pairs": l.pairs,
        "saturated": l.saturated,
        "worst": l.worst,
        "outputs": l.outputs,
        "saturated_outputs": l.saturated_outputs,
        "lowest_possible": l.layer.bound.low,
        "highest_possible": l.layer.bound.high,
    })
}

fn sixteen_bits(found: &Saturation) -> String {
    let (layers, safe) = (found.layers.len(), found.safe());
    match found.overflowing().count() {
        0 if safe == layers => "safe on any engine: no image can overflow them".to_owned(),
        0 => format!("no overflow on {} images; {} of {layers} layers could", found.images, layers - safe),
        n => format!(
            "{n} of {layers} layers overflow on CPUs without VNNI under fbgemm, oneDNN or ONNX Runtime, not here: \
             --qconfig x86 or --float-layers avoid it"
        ),
    }
}

fn print_table(result: &Outcome<'_>) -> anyhow::Result<()> {
    match result.measured {
        Some(measured) => print_measured(measured)?,
        None => print_line(&format!("accuracy   float32 {}", percent(result.float)))?,
    }
    if let Some(study) = &result.study {
        print_line(&format!("accuracy   fake-quantized {}", percent(study.accuracy)))?;
        print_line(&format!("study      {}", study.study))?;
    }
    Ok(())
}

fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("-".to_owned(), |a| format!("{:.2} %", a * 100.0))
}

fn print_measured(measured: &Measured) -> anyhow::Result<()> {
    let kb = |bytes: u64| format!("{:.1} KB", bytes as f64 / 1e3);
    let ms = |t: f64| format!("{t:.3} ms");
    let (float, int8) = (&measured.float, &measured.int8);
    let row = |name: &str, a: String, b: String, c: String| print_line(&format!("{name:<10} {a:>12} {b:>12}   {c}"));
    row("", "float32".to_owned(), "int8".to_owned(), String::new())?;
    let points = match (float.accuracy, int8.accuracy) {
        (Some(a), Some(b)) => format!("{:+.2} points on {} images", (b - a) * 100.0, measured.images),
        _ => "no labels to measure it by".to_owned(),
    };
    row("accuracy", percent(float.accuracy), percent(int8.accuracy), points)?;
    row("file", kb(float.bytes), kb(int8.bytes), format!("{:.2}x smaller", measured.shrink))?;
    let faster = float.latency_ms / int8.latency_ms;
    row("one image", ms(float.latency_ms), ms(int8.latency_ms), format!("{faster:.1}x faster"))?;
    print_line(&format!("16 bits    {}", sixteen_bits(&measured.saturation)))?;
    print_line(&format!("saved      {}", measured.file.display()))
}
