//! `report`.

use std::io::{BufWriter, Write};
use std::path::Path;

use afterimage::{Afterimage, LogQuery, Moment, Query};
use afterimage_web::{ReportFailure, ReportFormat, ReportOptions, write_report};

use super::{Done, Failure};
use crate::Outcome;
use crate::arguments::{As, Report};
use crate::config::Config;
use crate::output::Format;
use crate::terminal::Waiting;

pub(super) async fn run(audit: &Afterimage, config: &Config, request: Report) -> Done {
    let query = LogQuery::from(query(config, &request)?);
    let options = ReportOptions {
        format: format(config, &request)?,
        title: request.title.clone(),
        zone: config.tz.clone(),
        by: config.actor.clone().or_else(|| std::env::var("USER").ok()),
        summary_only: request.summary,
    };
    let waiting = Waiting::begin("the report");
    let written = match &request.output {
        None => {
            let mut out = BufWriter::new(std::io::stdout());
            write_report(audit, &query, &options, &mut out).await
        }
        Some(path) => into_file(audit, &query, &options, path).await,
    };
    drop(waiting);
    match written {
        Ok(()) => Ok(Outcome::Done),
        Err(ReportFailure::Asking(error)) => Err(error.into()),
        Err(ReportFailure::TooMuch(message)) => Err(Failure::Usage(message)),
        Err(ReportFailure::Writing(error)) => Err(error.into()),
    }
}

/// Whoever reads the file finds a whole report, or the one that was there before.
async fn into_file(
    audit: &Afterimage,
    query: &LogQuery,
    options: &ReportOptions,
    path: &Path,
) -> Result<(), ReportFailure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new();
    // A report is for others to read, as far as the system lets them.
    #[cfg(unix)]
    new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = BufWriter::new(new.tempfile_in(folder).map_err(ReportFailure::Writing)?);
    write_report(audit, query, options, &mut file).await?;
    file.flush().map_err(ReportFailure::Writing)?;
    let file = file.into_inner().map_err(|error| ReportFailure::Writing(error.into_error()))?;
    file.persist(path).map_err(|error| ReportFailure::Writing(error.error))?;
    Ok(())
}

fn format(config: &Config, request: &Report) -> Result<ReportFormat, Failure> {
    let ending = request.output.as_ref().and_then(|path| path.extension()).and_then(|ending| ending.to_str());
    Ok(match (request.kind, ending, config.format) {
        (Some(As::Html), ..) => ReportFormat::Html,
        (Some(As::Csv), ..) => ReportFormat::Csv,
        (Some(As::Json), ..) => ReportFormat::Json,
        (Some(As::Pdf), ..) => ReportFormat::Pdf,
        (None, Some("html" | "htm"), _) => ReportFormat::Html,
        (None, Some("csv"), _) => ReportFormat::Csv,
        (None, Some("json"), _) => ReportFormat::Json,
        (None, Some("pdf"), _) => ReportFormat::Pdf,
        (None, Some(other), _) => {
            return Err(Failure::Usage(format!("a report is no .{other}: give --as html, csv, json or pdf")));
        }
        (None, None, Some(Format::Csv)) => ReportFormat::Csv,
        (None, None, Some(Format::Json)) => ReportFormat::Json,
        (None, None, _) => ReportFormat::Html,
    })
}

fn query(config: &Config, request: &Report) -> Result<Query, Failure> {
    let at = |text: &str| Moment::parse(text, Moment::now(), &config.tz).map_err(afterimage::Error::from);
    let mut query = Query::default();
    query.tables.wanted.clone_from(&request.table);
    query.actors.wanted.clone_from(&request.user);
    query.from = request.since.as_deref().map(at).transpose()?;
    // Of a day, its end.
    query.before = match &request.until {
        Some(day) if is_date(day) => Some(at(&format!("{day}T23:59:59.999999"))?.next()),
        Some(time) => Some(at(time)?.next()),
        None => None,
    };
    if let Some(typed) = &request.query {
        query = query.and(Query::parse(typed, Moment::now(), &config.tz).map_err(afterimage::Error::from)?);
    }
    Ok(query)
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(n, byte)| if n == 4 || n == 7 { byte == b'-' } else { byte.is_ascii_digit() })
}
