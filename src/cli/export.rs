use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{args::ImageArgs, print_json, print_line, progress};
use crate::session::{ExportFormat, ExportOptions, Exported, ModelId, ROUNDED, export};

/// `octet export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// For onnx and torch an int8 file, or with --model PyTorch's quantized or QAT state dict, of which octet makes an
    /// int8 file; for the float formats, with --model, a float state dict
    file: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    format: FormatArg,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The architecture of a state dict
    #[arg(long)]
    model: Option<ModelId>,
    /// Length of the logits; must agree with the file
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    #[command(flatten)]
    images: ImageArgs,
    /// Threads of the self-check [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// The int8 model in QDQ form
    Onnx,
    /// The int8 model as PyTorch's quantized state dict
    Torch,
    /// Octet's int8 file of what PyTorch quantized
    Octet,
    /// The float model
    OnnxFloat,
    /// Float weights, for torch.load
    TorchFloat,
    /// Float weights
    Safetensors,
}

impl FormatArg {
    fn format(self) -> ExportFormat {
        match self {
            Self::Onnx => ExportFormat::Onnx,
            Self::Torch => ExportFormat::Torch,
            Self::Octet => ExportFormat::Octet,
            Self::OnnxFloat => ExportFormat::OnnxFloat,
            Self::TorchFloat => ExportFormat::TorchFloat,
            Self::Safetensors => ExportFormat::Safetensors,
        }
    }
}

pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    progress::require_folder(&args.out)?;
    let options = ExportOptions {
        model: args.model,
        classes: args.classes,
        preprocess: args.images.choice(),
        threads: args.threads.map_or(0, usize::from),
    };
    let Exported { file, bytes, check } = export(&args.file, args.format.format(), &args.out, &options)?;
    let format = args.format.to_possible_value().map(|v| v.get_name().to_owned());
    if args.json {
        return print_json(&json!({
            "file": file,
            "format": format,
            "bytes": bytes,
            "self_check": {
                "images": check.images,
                "top1_agreement": check.top1,
                "worst_difference": check.worst,
                "equal": check.worst == 0.0,
                "within_two_levels": check.levels.map(|l| l.0),
                "worst_levels": check.levels.map(|l| l.1),
            },
        }));
    }
    print_line(&format!("{}: {:.1} KB", file.display(), bytes as f64 / 1e3))?;
    print_line(&format!(
        "read back  top 1 agrees on {:.2} % of {} images of the sample, the largest difference of a logit is {:.3e}",
        check.top1 * 100.0,
        check.images,
        check.worst
    ))?;
    let Some((near, most)) = check.levels else { return Ok(()) };
    print_line(&format!("           {:.2} % of the logits within 2 levels, the worst {most} away", near * 100.0))?;
    match check.worst == 0.0 {
        true => Ok(()),
        false => {
            print_line(&format!("           {ROUNDED}: quantize with --biases int32, and the file gives the same"))
        }
    }
}
