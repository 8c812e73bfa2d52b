use serde_json::{Value, json};

use super::{args::ModelsArgs, print_json, print_line};
use crate::session::{FileSizes, ModelConfig, ModelId, file_sizes};

pub fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let config = ModelConfig { classes: args.classes as usize, size: args.size as usize };
    let folder = std::env::temp_dir();
    let mut rows: Vec<(ModelId, FileSizes)> = Vec::new();
    for model in ModelId::ALL {
        rows.push((model, file_sizes(model, config, &folder)?));
    }
    if args.json {
        let list: Vec<Value> = rows
            .iter()
            .map(|(model, s)| {
                json!({
                    "name": model.name(),
                    "params": s.params,
                    "macs": s.macs,
                    "float_bytes": s.float_bytes,
                    "int8_bytes": s.int8_bytes,
                })
            })
            .collect();
        return print_json(&list);
    }
    print_line(&format!("{:<20} {:>12} {:>14} {:>12} {:>12}", "", "parameters", "MACs", "float KB", "int8 KB"))?;
    for (model, s) in &rows {
        print_line(&format!(
            "{:<20} {:>12} {:>14} {:>12.1} {:>12.1}",
            model.name(),
            s.params,
            s.macs,
            s.float_bytes as f64 / 1e3,
            s.int8_bytes as f64 / 1e3
        ))?;
    }
    Ok(())
}
