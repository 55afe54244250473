//! How each tracked table is, and how much has been recorded of it.

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
    storage: String,
    since: String,
    history: String,
    faults: Vec<String>,
}

#[derive(Template)]
#[template(path = "storage.html")]
struct Page {
    shell: Shell,
    tables: Vec<Table>,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let status = asked.audit.status().await?;
    let tables = status
        .iter()
        .map(|table| Table {
            to: asked.links.table(&table.table),
            name: table.table.to_string(),
            state: serde_json::to_value(table.state)
                .ok()
                .and_then(|state| state.as_str().map(ToOwned::to_owned))
                .unwrap_or_default(),
            healthy: table.is_healthy(),
            records: grouped(table.records.unsigned_abs()),
            storage: table.storage.to_string(),
            since: asked.time(table.since),
            history: table.history.to_string(),
            faults: table.faults.iter().map(ToString::to_string).collect(),
        })
        .collect();
    super::html(&Page { shell: Shell::new(&asked, "storage", "Storage"), tables })
}
