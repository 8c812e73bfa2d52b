use serde_json::{Value, json};

use super::{args::PtqArgs, print_json, print_line, progress};
use crate::session::{Command, Measured, Session, Side, Stage};

pub fn run(args: &PtqArgs) -> anyhow::Result<()> {
    let out = args.out();
    progress::require_folder(&out)?;
    let mut session = Session::new(args.machine.device());
    progress::apply(&mut session, Command::Open(Box::new(args.recipe())))?;
    progress::apply(&mut session, Command::RunAll(out))?;
    let stage = session.stage()?.clone();
    let Stage::Saved { measured, .. } = stage.as_ref() else {
        anyhow::bail!("the run ended before its file was saved");
    };
    let qconfig = session.recipe().qconfig.name.to_string();
    if args.json {
        return print_json(&report(args.model.name(), &qconfig, measured));
    }
    print_table(measured)
}

/// What `--json` prints.
fn report(model: &str, qconfig: &str, measured: &Measured) -> Value {
    let side = |s: &Side| json!({ "accuracy": s.accuracy, "bytes": s.bytes, "latency_ms": s.latency_ms });
    json!({
        "model": model,
        "qconfig": qconfig,
        "file": measured.file,
        "float": side(&measured.float),
        "int8": side(&measured.int8),
        "shrink": measured.shrink,
    })
}

fn print_table(measured: &Measured) -> anyhow::Result<()> {
    let percent = |a: Option<f64>| a.map_or("-".to_owned(), |a| format!("{:.2} %", a * 100.0));
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
    print_line(&format!("saved      {}", measured.file.display()))
}
