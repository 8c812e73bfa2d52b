//! How images become numbers, in PyTorch.

use crate::data::{Fit, Preprocess, Source};

/// The training images.
pub(super) fn dataset(data: &Source) -> String {
    match data {
        Source::Sample => "FashionMNIST(\"data\", train=True, download=True, transform=transform)".to_owned(),
        Source::Path(path) => {
            let train = path.join("train");
            let folder = if train.is_dir() { &train } else { path };
            format!("ImageFolder({:?}, transform=transform)", folder.display().to_string())
        }
    }
}

/// How an image becomes numbers, with the size, the fit and the normalization in force.
pub(super) fn transform(preprocess: Option<Preprocess>, data: &Source) -> String {
    let Some(p) = preprocess else { return String::new() };
    let mut steps = Vec::new();
    if *data == Source::Sample {
        steps.push("v2.Grayscale(3)".to_owned());
    }
    match p.fit {
        Fit::Crop => {
            let resize = p.resize.unwrap_or(p.size * 256 / 224);
            steps.push(format!("v2.Resize({resize})"));
            steps.push(format!("v2.CenterCrop({})", p.size));
        }
        Fit::Pad => {
            steps.push(format!("v2.CenterCrop({})  # pads with black; larger images: v2.Resize before it", p.size))
        }
        Fit::Squash => steps.push(format!("v2.Resize(({0}, {0}))", p.size)),
    }
    steps.push("v2.ToImage()".to_owned());
    steps.push("v2.ToDtype(torch.float32, scale=True)".to_owned());
    steps.push(format!("v2.Normalize({:?}, {:?})", p.mean, p.std));
    let lines: String = steps
        .iter()
        .map(|step| match step.split_once("  #") {
            Some((code, comment)) => format!("    {code},  #{comment}\n"),
            None => format!("    {step},\n"),
        })
        .collect();
    let from = match data {
        Source::Sample => "from torchvision.datasets import FashionMNIST\n",
        Source::Path(_) => "from torchvision.datasets import ImageFolder\n",
    };
    format!("{from}from torchvision.transforms import v2\n\ntransform = v2.Compose([\n{lines}])\n")
}
