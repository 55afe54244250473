//! How each tracked table is, and how much has been recorded of it.

use afterimage::TableStats;
use askama::Template;
use axum::response::Response;

use super::Shell;
use super::activity::grouped;
use crate::asked::Asked;
use crate::failure::Failure;

struct Table {
    to: String,
    name: String,
    state: String,
    healthy: bool,
    records: String,
    each: String,
    bytes: String,
    per_day: String,
    forecast: String,
    oldest: String,
    storage: String,
    kept: String,
    since: String,
    faults: Vec<String>,
}

#[derive(Template)]
#[template(path = "storage.html")]
struct Page {
    shell: Shell,
    tables: Vec<Table>,
    estimated: bool,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let stats = asked.audit.stats().await?;
    super::html(&Page {
        estimated: stats.iter().any(|stats| stats.estimated),
        tables: stats.iter().map(|stats| table(&asked, stats)).collect(),
        shell: Shell::new(&asked, "storage", "Storage"),
    })
}

fn table(asked: &Asked, stats: &TableStats) -> Table {
    let status = &stats.status;
    let unknown = || "not known".to_owned();
    let about = if stats.estimated { "about " } else { "" };
    Table {
        to: asked.links.table(&status.table),
        name: status.table.to_string(),
        state: serde_json::to_value(status.state)
            .ok()
            .and_then(|state| state.as_str().map(ToOwned::to_owned))
            .unwrap_or_default(),
        healthy: status.is_healthy(),
        records: format!("{about}{}", grouped(status.records.unsigned_abs())),
        each: stats.records_per_row().map_or_else(unknown, |each| format!("{each:.1}")),
        bytes: stats.bytes().map_or_else(unknown, |bytes| bytes.to_string()),
        per_day: format!("{:.0}", stats.per_day),
        forecast: stats.bytes_in(365).map_or_else(unknown, |bytes| bytes.to_string()),
        oldest: stats.oldest.map_or_else(|| "none yet".to_owned(), |oldest| asked.time(oldest)),
        storage: status.storage.to_string(),
        kept: status.tracking.retention.as_ref().map_or_else(|| "for ever".to_owned(), ToString::to_string),
        since: asked.time(status.since),
        faults: status.faults.iter().map(ToString::to_string).collect(),
    }
}
