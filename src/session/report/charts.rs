use crate::analysis::LayerError;
use crate::chart::{Chart, Form, Group, Inks, Rgb, Value, layout, svg};
use crate::session::{Measured, wilson};

/// On paper.
const INKS: Inks = Inks {
    ground: [0xff, 0xff, 0xff],
    strong: [0x0c, 0x0e, 0x12],
    weak: [0x5a, 0x62, 0x70],
    hairline: [0xdd, 0xe0, 0xe6],
};
/// Float's and int8's colours in the window's light theme.
const FLOAT: Rgb = [0x00, 0x67, 0xa3];
const INT8: Rgb = [0x00, 0x73, 0x53];
const WIDTH: f32 = 760.0;
/// So many layers are drawn, the worst ones; the table has all.
const DRAWN: usize = 24;

/// Accuracy, size and time, float beside int8.
pub(super) fn sides(m: &Measured) -> Vec<String> {
    let mut charts = Vec::new();
    if let (Some(a), Some(b)) = (m.float.accuracy, m.int8.accuracy) {
        let value = |name: &str, accuracy: f64, ink| {
            let (low, high) = wilson(accuracy, m.images);
            let percent = accuracy * 100.0;
            Value {
                interval: Some((low * 100.0, high * 100.0)),
                ..value(name, percent, format!("{percent:.2} %"), ink)
            }
        };
        charts.push(draw("Accuracy", "%", Form::Points, vec![value("float32", a, FLOAT), value("int8", b, INT8)]));
    }
    let kb = |bytes: u64| bytes as f64 / 1e3;
    let size = |name: &str, bytes: u64, ink| value(name, kb(bytes), format!("{:.1} kB", kb(bytes)), ink);
    let time = |name: &str, ms: f64, ink| value(name, ms, format!("{ms:.3} ms"), ink);
    let sizes = vec![size("float32", m.float.bytes, FLOAT), size("int8", m.int8.bytes, INT8)];
    let times = vec![time("float32", m.float.latency_ms, FLOAT), time("int8", m.int8.latency_ms, INT8)];
    charts.push(draw("Size of the file", "kB", Form::Bars, sizes));
    charts.push(draw("Time of one image", "ms", Form::Bars, times));
    charts
}

/// The layers that are farthest from float.
pub(super) fn errors(errors: &[LayerError]) -> Option<String> {
    let mut worst: Vec<&LayerError> = errors.iter().filter(|e| e.sqnr_db.is_finite()).collect();
    worst.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    worst.truncate(DRAWN);
    let values = worst.iter().map(|e| value(&e.name, e.sqnr_db, format!("{:.1} dB", e.sqnr_db), INT8)).collect();
    (!worst.is_empty()).then(|| draw("The layers farthest from float: SQNR of the output", "dB", Form::Bars, values))
}

fn value(name: &str, value: f64, text: String, ink: Rgb) -> Value {
    Value { name: name.to_owned(), value, interval: None, text, ink, outlined: false }
}

fn draw(title: &str, unit: &str, form: Form, values: Vec<Value>) -> String {
    let groups = vec![Group { name: String::new(), values }];
    let chart = Chart { title: title.to_owned(), unit: unit.to_owned(), form, groups };
    svg(&layout(&chart, WIDTH, &INKS), &INKS)
}
