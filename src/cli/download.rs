use serde_json::json;

use super::{args::DownloadArgs, print_json, print_line, progress};
use crate::session::{Control, Kept, Place, catalog, download};

pub fn run(args: &DownloadArgs) -> anyhow::Result<()> {
    let published: Vec<_> = catalog()?.of(args.model).collect();
    let weights = match &args.entry {
        None => published.first(),
        Some(entry) => published.iter().find(|row| row.entry == *entry),
    };
    let Some(weights) = weights else {
        let known = published.iter().map(|row| row.entry.as_str()).collect::<Vec<_>>().join(", ");
        match &args.entry {
            Some(entry) if !published.is_empty() => {
                anyhow::bail!("{}: no weights `{entry}` are published; expected one of {known}", args.model)
            }
            Some(_) | None => anyhow::bail!("{}: no weights are published", args.model),
        }
    };
    let place = Place::from_env();
    let address = &weights.address;
    match place.kept(&weights.remote()) {
        Kept::Nothing => eprintln!("fetching {address}, about {:.1} MB", weights.bytes() as f64 / 1e6),
        Kept::Part(bytes) => eprintln!("fetching the rest of {address}, {:.1} MB are here", bytes as f64 / 1e6),
        Kept::Whole => eprintln!("checking the file in the cache folder"),
    }
    let mut line = progress::Line::new();
    let file = download(weights, &place, &mut |transfer| line.transfer(transfer), &Control::default());
    line.clear();
    let file = file?;
    if args.json {
        return print_json(&json!({
            "model": args.model.name(),
            "entry": weights.entry,
            "file": file,
            "bytes": std::fs::metadata(&file)?.len(),
            "imagenet_top1": weights.top1 / 100.0,
        }));
    }
    print_line(&file.display().to_string())
}
