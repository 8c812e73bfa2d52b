//! The `octet` program: a window, or one command without it.

use std::process::ExitCode;

use octet::{app, cli};

fn main() -> ExitCode {
    match cli::parse().command {
        Some(command) => cli::run(&command),
        None => match app::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("octet: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
