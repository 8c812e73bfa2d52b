//! What a run of either method ends with, as JSON and as a table.

use serde_json::{Value, json};

use super::print_line;
use crate::session::{LayerSaturation, Measured, ModelId, QatResult, Saturation, Session, Side};

/// What `--json` prints of a run; without figures where there is no int8 file.
pub fn report(model: ModelId, session: &Session, float: Option<f64>, measured: Option<&Measured>) -> Value {
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
    let unmeasured = json!({ "accuracy": float, "bytes": null, "latency_ms": null });
    json!({
        "model": model.name(),
        "qconfig": session.recipe().qconfig.name.to_string(),
        "file": measured.map(|m| &m.file),
        "float": measured.map_or(unmeasured, |m| side(&m.float)),
        "int8": measured.map(|m| side(&m.int8)),
        "shrink": measured.map(|m| m.shrink),
        "saturation": measured.map(|m| m.saturation.layers.iter().map(layer).collect::<Vec<_>>()),
        "saturation_images": measured.map(|m| m.saturation.images),
        "warnings": warnings,
    })
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

pub fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("-".to_owned(), |a| format!("{:.2} %", a * 100.0))
}

/// The figures of a run as a table.
pub fn print_measured(measured: &Measured) -> anyhow::Result<()> {
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

/// What fake quantization said, and how PyTorch's conversion of the same training would do.
pub fn print_qat(qat: &QatResult) -> anyhow::Result<()> {
    print_line(&format!("fake       {} after {} epochs with fake quantization", percent(qat.accuracy), qat.epochs))?;
    match qat.as_pytorch {
        Some(_) => print_line(&format!(
            "PyTorch    {} as PyTorch converts it: not clamped where it was trained to",
            percent(qat.as_pytorch)
        )),
        None => Ok(()),
    }
}
