use serde_json::Value;

use super::{args::InspectArgs, print_json, print_line};
use crate::session::{Contents, inspect};

pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let contents = inspect(&args.file)?;
    if args.json {
        return print_json(&contents.json());
    }
    match &contents {
        Contents::Int8 { graph, labels, preprocess, recipe, bytes, .. } => {
            print_line(&format!(
                "{}: int8, {:.1} KB, {} classes",
                args.file.display(),
                *bytes as f64 / 1e3,
                labels.len()
            ))?;
            print_line(&format!("labels      {}", labels.join(", ")))?;
            print_line(&format!("preprocess  {}", one_line(preprocess)))?;
            print_line(&format!("recipe      {}", one_line(recipe)))?;
            for (node, other) in contents.overrides() {
                print_line(&format!("override    {node}  {other}"))?;
            }
            print_line(graph.to_string().trim_end())
        }
        Contents::StateDict { tensors, bytes, .. } => {
            let values: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            print_line(&format!(
                "{}: a float state dict, {:.1} KB, {} tensors, {values} values",
                args.file.display(),
                *bytes as f64 / 1e3,
                tensors.len()
            ))?;
            for (key, shape) in tensors {
                print_line(&format!("{key} {shape:?}"))?;
            }
            Ok(())
        }
    }
}

fn one_line(value: &Value) -> String {
    value.to_string()
}
