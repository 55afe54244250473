//! The program `afterimage`: audit trail and version history for any existing database.

mod arguments;
mod change;
mod commands;
mod config;
mod demo;
mod output;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::Arguments;

/// What a command ended with, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Done.
    Done,
    /// `verify`, `status --check` or `doctor` found something.
    Found,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(3),
        Err(commands::Failure::Usage(message)) => {
            eprintln!("afterimage: {message}");
            ExitCode::from(2)
        }
        // Whoever reads our output has seen enough (`… | head`).
        Err(commands::Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("afterimage: {error}");
    ExitCode::FAILURE
}
