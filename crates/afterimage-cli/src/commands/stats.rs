//! `stats`: how much the histories take, and how fast they grow.

use afterimage::{Afterimage, Bytes, TableStats};

use super::Done;
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};

pub(super) async fn run(audit: &Afterimage, config: &Config) -> Done {
    let stats = audit.stats().await?;
    match config.format {
        Some(Format::Json) => output::json(&stats)?,
        Some(Format::Csv) => {
            let mut out = std::io::stdout().lock();
            let columns = [
                "table",
                "storage",
                "records",
                "rows",
                "estimated",
                "table_bytes",
                "index_bytes",
                "records_per_day",
                "oldest",
                "newest",
                "bytes_in_a_year",
            ];
            output::csv_line(&mut out, columns)?;
            for one in &stats {
                output::csv_line(&mut out, exact(one))?;
            }
        }
        _ if stats.is_empty() => println!("nothing is tracked: afterimage track TABLE"),
        _ => {
            let columns =
                ["table", "records", "rows", "a row", "table", "indexes", "a day", "oldest", "in a year"];
            output::table(&columns, stats.iter().map(|one| readable(one, config)).collect())?;
            if stats.iter().any(|one| one.estimated) {
                println!("~ as the database estimates");
            }
        }
    }
    Ok(Outcome::Done)
}

fn exact(one: &TableStats) -> Vec<String> {
    let int = |value: Option<Bytes>| value.map(|Bytes(value)| value.to_string()).unwrap_or_default();
    let time =
        |moment: Option<afterimage::Moment>| moment.map(|moment| moment.to_string()).unwrap_or_default();
    vec![
        one.status.table.to_string(),
        one.status.storage.to_string(),
        one.status.records.to_string(),
        one.rows.to_string(),
        one.estimated.to_string(),
        int(one.table_bytes),
        int(one.index_bytes),
        format!("{:.1}", one.per_day),
        time(one.oldest),
        time(one.newest),
        int(one.bytes_in(365)),
    ]
}

fn readable(one: &TableStats, config: &Config) -> Vec<String> {
    let about = if one.estimated { "~" } else { "" };
    let unknown = || "?".to_owned();
    let size = |bytes: Option<Bytes>| bytes.map_or_else(unknown, |bytes| bytes.to_string());
    vec![
        output::harmless(&one.status.table.to_string()),
        format!("{about}{}", one.status.records),
        format!("{about}{}", one.rows),
        one.records_per_row().map_or_else(unknown, |each| format!("{each:.1}")),
        size(one.table_bytes),
        size(one.index_bytes),
        format!("{:.0}", one.per_day),
        one.oldest.map_or_else(|| "-".to_owned(), |oldest| oldest.in_zone(&config.tz)),
        size(one.bytes_in(365)),
    ]
}
