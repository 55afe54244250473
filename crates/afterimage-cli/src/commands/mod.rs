//! One module per command.

mod archive;
mod as_of;
mod diff;
mod doctor;
pub(crate) mod history;
pub(crate) mod log;
mod manual;
mod migrate;
mod plan;
mod report;
mod restore;
mod retention;
mod serve;
mod stats;
mod status;
mod track;
mod user;
mod verify;
mod views;

use std::io::IsTerminal as _;

use afterimage::Afterimage;

use crate::Outcome;
use crate::arguments::{self, ArchiveCommand, Arguments, Command};
use crate::config::Config;
use crate::demo;
use crate::terminal;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked wrongly.
    Usage(String),
    /// What was asked for is not there any more.
    Gone(String),
    /// The library said no.
    Afterimage(afterimage::Error),
    /// What it had to say could not be written.
    Output(std::io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(message) | Self::Gone(message) => f.write_str(message),
            Self::Afterimage(error) => write!(f, "{error}"),
            Self::Output(error) => write!(f, "{error}"),
        }
    }
}

impl From<afterimage::Error> for Failure {
    fn from(error: afterimage::Error) -> Self {
        Self::Afterimage(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

type Done = Result<Outcome, Failure>;

/// Runs a command.
pub(crate) async fn run(arguments: Arguments) -> Done {
    match &arguments.command {
        Command::Completions { shell } => return manual::completions(*shell),
        Command::Man { folder } => return manual::pages(folder),
        _ => {}
    }
    let config = Config::load(&arguments.global)?;
    terminal::settle(config.colour);
    terminal::settle_pager(config.pager.clone());
    if let Command::Archive(arguments::Archive { command: Some(ArchiveCommand::Verify { url }), .. }) =
        &arguments.command
    {
        return archive::verify(&config, url).await;
    }
    if let Command::User { command } = arguments.command {
        return user::run(&config, command);
    }
    if let Command::Demo { into, no_serve } = &arguments.command {
        let audit = demo::run(into.as_deref()).await?;
        // Where there is nobody to look at it, the tour is all.
        return match !no_serve && std::io::stdout().is_terminal() {
            true => serve::for_a_look(audit, &config).await,
            false => Ok(Outcome::Done),
        };
    }
    let audit = Afterimage::connect(config.database_url()?).await?;
    match arguments.command {
        Command::Track(request) => track::track(&audit, &config, request).await,
        Command::Untrack { table, drop_history, who } => {
            let context = restore::context(&config, &who, true)?;
            afterimage::scope(context, track::untrack(&audit, &table, drop_history)).await
        }
        Command::Status { check } => status::run(&audit, &config, check).await,
        Command::Stats => stats::run(&audit, &config).await,
        Command::Doctor => doctor::run(&audit, &config).await,
        Command::Plan(request) => plan::run(&audit, &config, request).await,
        Command::Migrate { tables, rename } => migrate::run(&audit, &config, &tables, &rename).await,
        Command::History { table, key, limit } => {
            history::history(&audit, &config, &table, &key, limit).await
        }
        Command::Log(request) => log::run(&audit, &config, request).await,
        Command::Diff(request) => diff::run(&audit, &config, request).await,
        Command::Revert(request) => restore::revert(&audit, &config, request).await,
        Command::Restore(request) => restore::restore(&audit, &config, request).await,
        Command::Prune(request) => retention::prune(&audit, &config, request).await,
        Command::Dedupe(request) => retention::dedupe(&audit, &config, request).await,
        Command::Baseline { tables, who } => retention::baseline(&audit, &config, &tables, &who).await,
        Command::Redact(request) => retention::redact(&audit, &config, request).await,
        Command::Hold(request) => retention::hold(&audit, &config, request).await,
        Command::Report(request) => report::run(&audit, &config, request).await,
        Command::Archive(request) => archive::run(&audit, &config, request).await,
        Command::Partition(request) => retention::partition(&audit, &config, &request).await,
        Command::Removals => retention::removals(&audit, &config).await,
        Command::Resync { table, who } => restore::resync(&audit, &config, &table, &who).await,
        Command::Show { table, key, at, related: false } => {
            history::show(&audit, &config, &table, &key, &at).await
        }
        Command::Show { table, key, at, related: true } => {
            history::show_with_related(&audit, &config, &table, &key, &at).await
        }
        Command::AsOf { table, time, filter, limit } => {
            as_of::run(&audit, &config, &table, &time, filter, limit).await
        }
        Command::Views(request) => views::run(&audit, &config, request).await,
        Command::Serve(request) => serve::run(audit, &config, request).await,
        Command::Verify { tables } => verify::run(&audit, &config, &tables).await,
        Command::Demo { .. } | Command::User { .. } | Command::Completions { .. } | Command::Man { .. } => {
            Ok(Outcome::Done)
        }
    }
}
