//! The `octet` program: a window, or one command without it.

use std::process::ExitCode;

use octet::cli;

fn main() -> ExitCode {
    match cli::parse().command {
        Some(command) => cli::run(&command),
        None => ExitCode::FAILURE,
    }
}
