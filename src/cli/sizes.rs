use serde_json::{Value, json};

use super::{args::ModelsArgs, print_json, print_line};
use crate::session::{FileSizes, ModelConfig, ModelId, PublishedSizes, file_sizes, published_sizes};

/// A model's files as Octet writes them, beside what others published.
struct Row {
    model: ModelId,
    sizes: FileSizes,
    published: Option<&'static PublishedSizes>,
}

impl Row {
    fn shrink(&self) -> f64 {
        self.sizes.float_bytes as f64 / self.sizes.int8_bytes as f64
    }

    fn json(&self) -> Value {
        json!({
            "name": self.model.name(),
            "float_bytes": self.sizes.float_bytes,
            "int8_bytes": self.sizes.int8_bytes,
            "shrink": self.shrink(),
            "published_float_kb": self.published.map(|p| p.float_kb),
            "published_int8_kb": self.published.map(|p| p.int8_kb),
            "pytorch_fused_kb": self.published.map(|p| p.pytorch_fused_kb),
        })
    }
}

pub fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let config = ModelConfig { classes: args.classes as usize, size: args.size as usize };
    let folder = std::env::temp_dir();
    let mut rows = Vec::new();
    for model in ModelId::ALL {
        let sizes = file_sizes(model, config, &folder)?;
        rows.push(Row { model, sizes, published: published_sizes(model, config.classes) });
    }
    if args.json {
        return print_json(&rows.iter().map(Row::json).collect::<Vec<_>>());
    }
    print_table(&rows, config.classes)
}

fn print_table(rows: &[Row], classes: usize) -> anyhow::Result<()> {
    print_line(&format!("Files of {classes} classes as written, in KB of 1,000 bytes"))?;
    print_line(&format!("{:<20} {:^29}   {:^29}   {:>13}", "", "Octet", "published", "PyTorch fused"))?;
    let head = |a, b, c| format!("{a:>10} {b:>10} {c:>7}");
    let columns = head("float", "int8", "shrink");
    print_line(&format!("{:<20} {columns}   {columns}   {:>13}", "", "int8"))?;
    for row in rows {
        let kb = |v: f64| format!("{v:.1}");
        let times = |v: f64| format!("{v:.2}x");
        let FileSizes { float_bytes, int8_bytes, .. } = row.sizes;
        let ours = [kb(float_bytes as f64 / 1e3), kb(int8_bytes as f64 / 1e3), times(row.shrink())];
        let (theirs, fused) = match row.published {
            Some(p) => ([kb(p.float_kb), kb(p.int8_kb), times(p.float_kb / p.int8_kb)], kb(p.pytorch_fused_kb)),
            None => (["-"; 3].map(str::to_owned), "-".to_owned()),
        };
        let cells = |[a, b, c]: [String; 3]| format!("{a:>10} {b:>10} {c:>7}");
        let note = row.published.and_then(|p| p.note.as_deref()).map_or(String::new(), |n| format!("   ({n})"));
        print_line(&format!("{:<20} {}   {}   {fused:>13}{note}", row.model.name(), cells(ours), cells(theirs)))?;
    }
    if rows.iter().all(|row| row.published.is_none()) {
        return print_line("Nothing is published at this class count: see --classes 33.");
    }
    print_line(
        "Published int8 files were converted without fusing; those of the ResNets and EfficientNet fit only models",
    )?;
    print_line(
        "without stubs, which cannot run. PyTorch fused: what PyTorch writes for the same model, fused, running.",
    )
}
