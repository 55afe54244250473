//! `as-of`.

use std::io::Write as _;

use afterimage::{Afterimage, AsOfQuery, PointInTime, RowJson, Value};

use super::{Done, Failure};
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};

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
            let state = audit.as_of(&query).await?;
            let header: Vec<&str> = state.columns.iter().map(String::as_str).collect();
            let rows = state.rows.iter().map(|row| row.iter().map(output::shown).collect()).collect();
            output::table(&header, rows)?;
            println!("{} rows", state.rows.len());
        }
    }
    Ok(Outcome::Done)
}

/// Rows leave as they come: a table of any size takes no memory.
async fn stream_json(audit: &Afterimage, query: &AsOfQuery) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut separator = "[\n  ";
    audit
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
    Ok(out.flush()?)
}

async fn stream_csv(audit: &Afterimage, query: &AsOfQuery) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut first = true;
    let columns = audit
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
        output::csv_line(&mut out, columns)?;
    }
    Ok(out.flush()?)
}
