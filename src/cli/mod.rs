//! The commands without a window: flags in, figures out. A thin face over `session`.
//!
//! `--json` prints one JSON value on standard output; progress and messages go to standard error. Exit codes: 0 done,
//! 1 a failure said in one sentence, 2 a wrong flag.

mod analyze;
mod args;
mod bench;
mod classify;
mod code;
mod download;
mod eval;
mod export;
mod inspect;
mod models;
mod outputs;
mod progress;
mod promise;
mod ptq;
mod qat;
mod qat_args;
mod quant_args;
mod result;
mod run;
mod sizes;
mod train;
mod train_args;

use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

pub use args::{Cli, CommandLine};

use crate::session::caught;

/// Reads the process's arguments; on a wrong flag it says which and ends the process with 2.
pub fn parse() -> Cli {
    Cli::parse()
}

/// Carries out one command.
pub fn run(command: &CommandLine) -> ExitCode {
    let result = caught(|| carry_out(command)).unwrap_or_else(|refused| Err(refused.into()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("octet: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: &CommandLine) -> anyhow::Result<()> {
    match command {
        CommandLine::Ptq(args) => ptq::run(args),
        CommandLine::Qat(args) => qat::run(args),
        CommandLine::Download(args) => download::run(args),
        CommandLine::Train(args) => train::run(args),
        CommandLine::Eval(args) => eval::run(args),
        CommandLine::Classify(args) => classify::run(args),
        CommandLine::Export(args) => export::run(args),
        CommandLine::Run(args) => run::run(args),
        CommandLine::Code(args) => code::run(args),
        CommandLine::Inspect(args) => inspect::run(args),
        CommandLine::Models(args) => models::run(args),
        CommandLine::Sizes(args) => sizes::run(args),
        CommandLine::Bench(args) => bench::run(args),
        CommandLine::Analyze(args) => analyze::run(args),
    }
}

/// One sentence, those of its causes behind it that it does not tell itself.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said += &format!(": {cause}");
        }
    }
    said
}

/// The one JSON value of `--json`.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string_pretty(value)?)
}

/// A line on standard output; a reader that closed the pipe early (`octet models | head`) is no failure.
fn print_line(line: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
