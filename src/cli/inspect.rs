use serde_json::Value;

use super::{args::InspectArgs, print_json, print_line};
use crate::session::{Contents, LayerBound, inspect};

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
            print_line(&format!("method      {}", contents.method().unwrap_or_default()))?;
            let float = contents.float_layers();
            if !float.is_empty() {
                print_line(&format!("in float32  {}", listed(&float)))?;
            }
            print_line(&format!("labels      {}", labels.join(", ")))?;
            print_line(&format!("preprocess  {}", one_line(preprocess)))?;
            print_line(&format!("recipe      {}", one_line(recipe)))?;
            for (node, other) in contents.overrides() {
                print_line(&format!("override    {node}  {other}"))?;
            }
            print_line(&format!("16 bits     {}", sixteen_bits(&contents.bounds())))?;
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

/// What the weights alone say about engines that add two products in 16 bits.
fn sixteen_bits(bounds: &[LayerBound]) -> String {
    let unsafe_layers: Vec<&LayerBound> = bounds.iter().filter(|l| !l.bound.is_safe()).collect();
    let sum = |l: &&LayerBound| format!("{} (to {})", l.name, l.bound.worst());
    let names: Vec<String> = unsafe_layers.iter().map(sum).collect();
    match names.len() {
        0 => format!("no image overflows them in any of {} int8 layers, on any engine", bounds.len()),
        n => format!(
            "{n} of {} int8 layers can overflow them on engines with vpmaddubsw: {}",
            bounds.len(),
            listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
        ),
    }
}

/// The first few names, and how many more there are.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

fn one_line(value: &Value) -> String {
    value.to_string()
}
