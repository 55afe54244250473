//! Everything that one transaction wrote, and taking it back.

use std::collections::BTreeMap;

use afterimage::{Conflicts, ErrorKind, LogQuery, RevertTransaction};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::activity::grouped;
use super::line::{self, By, Day, Line, Link};
use super::{PAGE, Shell};
use crate::access::Act;
use crate::address::{encoded, key_text};
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::markup;

/// So many of the records that would be written are shown.
const PREVIEWED: usize = 100;

#[derive(Template)]
#[template(path = "transaction.html")]
struct Page {
    shell: Shell,
    count: String,
    totals: String,
    by: Option<By>,
    undo: Option<String>,
    csv: Option<String>,
    days: Vec<Day>,
    older: Option<String>,
}

#[derive(Template)]
#[template(path = "undo.html")]
struct Undo {
    shell: Shell,
    number: String,
    here: String,
    back: String,
    problem: Option<String>,
    conflicts: Vec<Link>,
    /// Whether it is known what would be written.
    ready: bool,
    records: u64,
    lines: Vec<Line>,
    skip: bool,
    reason: String,
}

fn of(id: &str) -> LogQuery {
    let mut query = LogQuery::default();
    query.query.transactions.wanted.push(id.to_owned());
    query
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let id = asked.part("id").to_owned();
    let mut query = of(&id).limit(PAGE);
    if let Some(before) = asked.parameters.first("before") {
        query.after = Some(before.parse().map_err(Failure::from)?);
    }
    let found = asked.audit.log(&query).await?;
    if found.entries.is_empty() && query.after.is_none() {
        return Err(Failure::missing(format!("There is no record of a transaction {id} that you may see.")));
    }
    let counts = asked.audit.log_summary(&of(&id)).await?.counts;
    let mut totals: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for count in counts {
        *totals.entry((count.table.to_string(), count.action.name())).or_default() += count.records;
    }
    let total: u64 = totals.values().sum();
    let said: Vec<String> = totals
        .iter()
        .map(|((table, action), count)| format!("{} {action}d in {table}", grouped(*count)))
        .collect();
    let tables = asked.tables_of_transaction(&id).await?;
    let may_undo = !tables.is_empty() && tables.iter().all(|table| asked.may(Act::Revert, table));
    let may_export = tables.iter().any(|table| asked.may(Act::Export, table));
    let path = format!("/tx/{}", encoded(&id));
    super::html(&Page {
        count: if total == 1 { "1 change".to_owned() } else { format!("{} changes", grouped(total)) },
        totals: said.join(", "),
        by: found.entries.first().map(|entry| line::by(&asked, &entry.header)),
        undo: may_undo.then(|| asked.links.to(&format!("{path}/undo"))),
        csv: may_export.then(|| asked.links.to(&format!("/export.csv?range=all&tx={}", encoded(&id)))),
        days: line::days(&asked, &found.entries),
        older: found.next.map(|next| asked.links.to(&format!("{path}?before={next}"))),
        shell: Shell::new(&asked, "activity", format!("Transaction {id}")),
    })
}

/// Whether all that it touched may be written back.
pub(crate) async fn permitted(asked: &Asked, id: &str) -> Result<(), Failure> {
    let tables = asked.tables_of_transaction(id).await?;
    if !tables.iter().any(|table| asked.may(Act::View, table)) {
        return Err(Failure::missing(format!("There is no record of a transaction {id} that you may see.")));
    }
    if !tables.iter().all(|table| asked.may(Act::Revert, table)) {
        return Err(Failure::forbidden("It touched a table that you may not write anything back to."));
    }
    Ok(())
}

/// What undoing would write, and what stands against it.
pub(crate) async fn undo(asked: Asked) -> Result<Response, Failure> {
    let id = asked.part("id").to_owned();
    permitted(&asked, &id).await?;
    let skip = asked.parameters.has("skip", "yes");
    preview(&asked, &id, skip, String::new(), None).await
}

pub(crate) async fn write(asked: Asked) -> Result<Response, Failure> {
    let id = asked.part("id").to_owned();
    permitted(&asked, &id).await?;
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let sent = Parameters::read(&body);
    let reason = sent.first("reason").unwrap_or_default().trim().to_owned();
    let skip = sent.has("skip", "yes");
    if reason.is_empty() {
        let failure = Failure::wrong("Say why: the reason is recorded with what is undone.");
        return preview(&asked, &id, skip, reason, Some(failure)).await;
    }
    match asked.audit_for(Act::Revert).revert_transaction(&request(&id, skip), &asked.context(&reason)).await
    {
        Ok(done) => {
            tracing::info!(
                target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), transaction = id,
                records = done.records, "undone"
            );
            let first = done.entries.first().and_then(|entry| entry.header.tx.as_deref());
            let to = first.map_or_else(|| asked.links.transaction(&id), |tx| asked.links.transaction(tx));
            Ok(super::see_other(&to))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Busy) => Err(error.into()),
        Err(error) => preview(&asked, &id, skip, reason, Some(error.into())).await,
    }
}

fn request(id: &str, skip: bool) -> RevertTransaction {
    RevertTransaction::new(id).conflicts(if skip { Conflicts::Skip } else { Conflicts::Refuse })
}

async fn preview(
    asked: &Asked,
    id: &str,
    skip: bool,
    reason: String,
    failure: Option<Failure>,
) -> Result<Response, Failure> {
    // With what stands against it left alone, so that both are known.
    let would = asked
        .audit_for(Act::Revert)
        .revert_transaction(&request(id, true).dry_run(true), &asked.context(""))
        .await;
    let (would, told) = match would {
        Ok(would) => (Some(would), None),
        Err(error) => (None, Some(Failure::from(error))),
    };
    let conflicts: Vec<Link> = would
        .iter()
        .flat_map(|would| &would.conflicts)
        .map(|conflict| {
            let (table, key) = (conflict.table.to_string(), key_text(&conflict.key));
            let text = format!("{table} {key}, changed again {}", asked.time(conflict.newest.header.date));
            Link { text: markup::text(&text), to: asked.links.record(&table, &key) }
        })
        .collect();
    let failure = failure.or(told);
    let status = failure.as_ref().map_or(StatusCode::OK, |failure| failure.status);
    let path = format!("/tx/{}", encoded(id));
    let entries = would.as_ref().map(|would| would.entries.as_slice()).unwrap_or_default();
    let page = Undo {
        shell: Shell::new(asked, "activity", format!("Undo transaction {id}")),
        number: id.to_owned(),
        here: asked.links.to(&format!("{path}/undo")),
        back: asked.links.to(&path),
        problem: failure.map(|failure| failure.detail),
        conflicts,
        ready: would.is_some(),
        records: would.as_ref().map_or(0, |would| would.records),
        lines: line::preview(asked, &entries[..entries.len().min(PREVIEWED)]),
        skip,
        reason,
    };
    super::with_status(status, &page)
}
