//! The tables whose records can be looked at.

use askama::Template;
use axum::response::Response;

use super::Shell;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;

struct Table {
    to: String,
    name: String,
    columns: usize,
    since: String,
    captured: bool,
}

#[derive(Template)]
#[template(path = "tables.html")]
struct Page {
    shell: Shell,
    tables: Vec<Table>,
    past: bool,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    list(&asked, "records", "Records", "/r").await
}

/// A page that leads to one for each table: `path` and the table's name.
pub(super) async fn list(
    asked: &Asked,
    tab: &'static str,
    title: &str,
    path: &str,
) -> Result<Response, Failure> {
    let tables = asked.audit.tracked().await?;
    let tables = tables
        .iter()
        .map(|table| Table {
            to: asked.links.to(&format!("{path}/{}", encoded(&table.table.to_string()))),
            name: table.table.to_string(),
            columns: table.columns.len(),
            since: asked.time(table.since),
            captured: table.captured,
        })
        .collect();
    super::html(&Page { shell: Shell::new(asked, tab, title), tables, past: tab == "asof" })
}
