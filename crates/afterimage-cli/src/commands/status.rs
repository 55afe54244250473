//! `status`.

use afterimage::Afterimage;

use super::Done;
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};

pub(super) async fn run(audit: &Afterimage, config: &Config, check: bool) -> Done {
    let status = audit.status().await?;
    let columns = ["table", "storage", "records", "state", "history", "since"];
    let row = |one: &afterimage::TableStatus| {
        vec![
            output::harmless(&one.table.to_string()),
            one.storage.to_string(),
            one.records.to_string(),
            format!("{:?}", one.state).to_lowercase(),
            output::harmless(&one.history.to_string()),
            one.since.in_zone(&config.tz),
        ]
    };
    match config.format {
        Some(Format::Json) => output::json(&status)?,
        Some(Format::Csv) => {
            let mut out = std::io::stdout().lock();
            output::csv_line(&mut out, columns)?;
            for one in &status {
                output::csv_line(&mut out, row(one))?;
            }
        }
        _ if status.is_empty() => println!("nothing is tracked: afterimage track TABLE"),
        _ => {
            output::table(&columns, status.iter().map(row).collect())?;
            for one in &status {
                for fault in &one.faults {
                    println!("{}: {fault}", output::harmless(&one.table.to_string()));
                }
                for gap in &one.gaps {
                    let to = gap.to.map_or_else(|| "now".to_owned(), |to| to.in_zone(&config.tz));
                    println!(
                        "{}: gap from {} to {to}: {}",
                        one.table,
                        gap.from.in_zone(&config.tz),
                        gap.cause
                    );
                }
            }
        }
    }
    let unhealthy = status.iter().any(|one| !one.is_healthy());
    Ok(if check && unhealthy { Outcome::Found } else { Outcome::Done })
}
