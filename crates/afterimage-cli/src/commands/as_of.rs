//! `as-of`.

use std::io::{IsTerminal as _, Write as _};

use afterimage::{Afterimage, AsOfQuery, PointInTime, RowJson, Value};

use super::{Done, Failure};
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};

/// A person at a terminal reads no more rows than this; a program gets all.
const ENOUGH: u64 = 1000;

pub(super) async fn run(
    audit: &Afterimage,
    config: &Config,
    table: &str,
    time: &str,
    filter: Option<String>,
    limit: Option<u64>,
) -> Done {
    let at = if time == "now" { PointInTime::Now } else { PointInTime::parse(time, &config.tz)? };
    let query = AsOfQuery { filter, limit, ..AsOfQuery::new(table, at) };
    match config.format {
        Some(Format::Json) => stream_json(audit, &query).await?,
        Some(Format::Csv) => stream_csv(audit, &query).await?,
        _ => {
            let cut = limit.is_none() && std::io::stdout().is_terminal();
            let state = if cut {
                audit.as_of(&AsOfQuery { limit: Some(ENOUGH + 1), ..query.clone() }).await?
            } else {
                audit.as_of(&query).await?
            };
            let more = cut && state.rows.len() as u64 > ENOUGH;
            let header: Vec<&str> = state.columns.iter().map(String::as_str).collect();
            let shown = if more { state.rows.len() - 1 } else { state.rows.len() };
            let rows =
                state.rows[..shown].iter().map(|row| row.iter().map(output::shown).collect()).collect();
            output::table(&header, rows)?;
            if more {
                println!("the first {shown} rows; for others --limit N, --where SQL, or --format csv");
            } else {
                println!("{shown} rows");
            }
            said_of_archive(state.archived);
        }
    }
    Ok(Outcome::Done)
}

/// Says, beside the answer, which part of it came from elsewhere.
fn said_of_archive(rows: u64) {
    if rows > 0 {
        eprintln!("{rows} of these rows came from an archive");
    }
}

/// Rows leave as they come: a table of any size takes no memory.
async fn stream_json(audit: &Afterimage, query: &AsOfQuery) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut separator = "[\n  ";
    let read = audit
        .as_of_each(query, |columns, row| {
            let named: Vec<(String, Value)> = columns.iter().cloned().zip(row).collect();
            written = out
                .write_all(std::mem::replace(&mut separator, ",\n  ").as_bytes())
                .and_then(|()| serde_json::to_writer(&mut out, &RowJson(&named)).map_err(Into::into));
            written.is_ok()
        })
        .await?;
    written?;
    let end = if separator.starts_with('[') { "[]\n" } else { "\n]\n" };
    out.write_all(end.as_bytes())?;
    out.flush()?;
    said_of_archive(read.archived);
    Ok(())
}

async fn stream_csv(audit: &Afterimage, query: &AsOfQuery) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut first = true;
    let read = audit
        .as_of_each(query, |columns, row| {
            if std::mem::take(&mut first) {
                written = output::csv_line(&mut out, columns);
            }
            if written.is_ok() {
                written = output::csv_line(&mut out, row.iter().map(output::csv_value));
            }
            written.is_ok()
        })
        .await?;
    written?;
    if first {
        output::csv_line(&mut out, read.columns)?;
    }
    out.flush()?;
    said_of_archive(read.archived);
    Ok(())
}
