//! The same questions as JSON.

mod document;

use std::collections::BTreeMap;

use afterimage::{
    Action, ChangesJson, Conflicts, DiffOptions, LogEntry, LogQuery, PointInTime, Restore, Restored, Revert,
    RevertTransaction, RowJson, Selector, Value, Version,
};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

pub(crate) use document::{explorer, openapi};

use crate::access::Act;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Filter;
use crate::page;
use crate::web::typed;

/// So many are given where nobody says how many.
const USUAL: u64 = 100;

/// No more than this are given at once.
const MOST: u64 = 1_000;

/// Problem details (RFC 9457).
pub(crate) fn problem(failure: &Failure, id: &str) -> Response {
    #[derive(Serialize)]
    struct Problem<'a> {
        r#type: &'static str,
        title: &'static str,
        status: u16,
        detail: &'a str,
        request: &'a str,
        #[serde(flatten)]
        stale: Option<States<'a>>,
    }
    #[derive(Serialize)]
    struct States<'a> {
        then: &'a Version,
        target: &'a Version,
        now: &'a Version,
    }
    let stale = failure.stale.as_deref();
    let details = Problem {
        r#type: "about:blank",
        title: failure.title(),
        status: failure.status.as_u16(),
        detail: &failure.detail,
        request: id,
        stale: stale.map(|stale| States { then: &stale.then, target: &stale.target, now: &stale.now }),
    };
    // Into memory, which does not fail.
    let text = serde_json::to_string(&details).unwrap_or_default();
    typed(failure.status, "application/problem+json", text)
}

/// JSON, with a tag by which it is known whether it is still the same.
fn answer(asked: &Asked, document: &(impl Serialize + ?Sized)) -> Result<Response, Failure> {
    let text = serde_json::to_string(document).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written")
    })?;
    let tag = format!("\"{:x}\"", page::assets::hash(text.as_bytes()));
    let known = asked.if_none_match.as_deref().is_some_and(|known| {
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*")
    });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        typed(StatusCode::OK, "application/json", text)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn limit(asked: &Asked) -> Result<u64, Failure> {
    let Some(text) = asked.parameters.first("limit") else { return Ok(USUAL) };
    match text.parse() {
        Ok(limit @ 1..=MOST) => Ok(limit),
        _ => Err(Failure::wrong(format!("limit is a number from 1 to {MOST}, not {text:?}"))),
    }
}

pub(crate) async fn tables(asked: Asked) -> Result<Response, Failure> {
    let tables: Vec<Json> = asked
        .audit
        .tracked()
        .await?
        .iter()
        .map(|table| {
            let columns: Vec<Json> = table
                .columns
                .iter()
                .map(|column| json!({"name": column.name, "type": column.sql_type, "masked": column.masked}))
                .collect();
            json!({
                "table": table.table.to_string(),
                "key": table.key,
                "columns": columns,
                "since": table.since.to_string(),
                "captured": table.captured,
                "storage": table.tracking.storage,
                "gaps": table.gaps,
                "may": {
                    "export": asked.may(Act::Export, &table.table),
                    "revert": asked.may(Act::Revert, &table.table),
                },
            })
        })
        .collect();
    answer(&asked, &json!({ "tables": tables }))
}

/// The changes asked for, of the last day where no period is.
fn asked_for(asked: &Asked) -> Result<LogQuery, Failure> {
    let filter = Filter::read(&asked.parameters, asked.now, &asked.zone)?;
    let mut query = LogQuery { after: filter.after, ..LogQuery::from(filter.query.clone()) };
    if !filter.bounded && !filter.is_cheap() && filter.query.transactions.wanted.is_empty() {
        query.query.from = Some(crate::filter::ago(asked.now, crate::filter::LOOKED_BACK));
    }
    Ok(query)
}

pub(crate) async fn log(asked: Asked) -> Result<Response, Failure> {
    let query = asked_for(&asked)?.limit(limit(&asked)?);
    let page = asked.audit.log(&query).await?;
    // Never by way of a tree: a number in a JSON column may have more digits, and its arrays more levels, than that holds.
    #[derive(Serialize)]
    struct Log<'a> {
        since: Option<String>,
        entries: &'a [LogEntry],
        next: Option<String>,
        gaps: Vec<Json>,
    }
    let log = Log {
        since: query.query.from.map(|from| from.to_string()),
        entries: &page.entries,
        next: page.next.map(|next| next.to_string()),
        gaps: page.gaps.iter().map(|(table, gap)| json!({"table": table.to_string(), "gap": gap})).collect(),
    };
    answer(&asked, &log)
}

pub(crate) async fn summary(asked: Asked) -> Result<Response, Failure> {
    let mut query = asked_for(&asked)?.limit(10_000);
    query.after = None;
    let summary = asked.audit.log_summary(&query).await?;
    let counts: Vec<Json> = summary
        .counts
        .iter()
        .map(|count| {
            json!({
                "table": count.table.to_string(),
                "from": count.quarter.to_string(),
                "user": count.user,
                "action": count.action.name(),
                "records": count.records,
            })
        })
        .collect();
    answer(&asked, &json!({ "records": summary.records, "more": summary.more, "counts": counts }))
}

pub(crate) async fn event(asked: Asked) -> Result<Response, Failure> {
    let entry = page::event::find(&asked).await?;
    answer(&asked, &entry)
}

fn point(asked: &Asked, name: &str) -> Result<PointInTime, Failure> {
    match asked.parameters.first(name) {
        None | Some("now") => Ok(PointInTime::Now),
        Some(text) => Ok(PointInTime::parse(text, &asked.zone)?),
    }
}

fn selector(asked: &Asked, text: &str) -> Result<Selector, Failure> {
    Ok(Selector::parse(text, &asked.zone)?)
}

pub(crate) async fn as_of(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table()?;
    let limit = limit(&asked)?;
    let at = point(&asked, "at")?;
    let after = asked.parameters.first("after");
    let page = page::as_of::page_of(&asked.audit, tracked, &at, limit, after, None).await?;
    let archived = page.archived.min(page.rows.len() as u64);
    let named = |row: Vec<Value>| page.columns.iter().cloned().zip(row).collect();
    let rows: Vec<Vec<(String, Value)>> = page.rows.into_iter().map(named).collect();
    let rows: Vec<RowJson<'_>> = rows.iter().map(|row| RowJson(row)).collect();
    #[derive(Serialize)]
    struct Page<T> {
        at: Option<String>,
        rows: T,
        /// How many of them came from an archive.
        archived: u64,
        next: Option<String>,
    }
    // By which the pages after this one are of the same moment.
    let at = match at {
        PointInTime::Now => Some(asked.present().await?),
        PointInTime::At(moment) => Some(moment),
        _ => None,
    };
    answer(&asked, &Page { at: at.map(|at| at.to_string()), rows, archived, next: page.next })
}

pub(crate) async fn record(asked: Asked) -> Result<Response, Failure> {
    let (table, key) = asked.row()?;
    let version = asked.audit.show(&table, &key, &point(&asked, "at")?).await?;
    if version.header.action == Action::Delete {
        return Err(Failure::missing(format!("The row was deleted on {}.", version.header.date)));
    }
    answer(&asked, &version)
}

/// As lists are paged by many a REST framework: how many there are, where the neighbours are, and the results.
pub(crate) async fn history(asked: Asked) -> Result<Response, Failure> {
    let (table, key) = asked.row()?;
    let limit = usize::try_from(limit(&asked)?).unwrap_or(usize::MAX);
    let all = asked.audit.history(&table, &key).await?;
    let before = match asked.parameters.first("before") {
        Some(text) => {
            text.parse().map_err(|_| Failure::wrong(format!("before is a version, not {text:?}")))?
        }
        None => u64::MAX,
    };
    let path = format!("/api/tables/{}/records/{}/history", encoded(&table), encoded(&key));
    let page = |before: u64| asked.links.to(&format!("{path}?limit={limit}&before={before}"));
    let results: Vec<_> = all.iter().filter(|version| version.number < before).take(limit).collect();
    let oldest = results.last().map_or(0, |version| version.number);
    let newest = all.first().map_or(0, |version| version.number);
    #[derive(Serialize)]
    struct History<'a> {
        count: u64,
        next: Option<String>,
        previous: Option<String>,
        results: Vec<&'a Version>,
    }
    let history = History {
        count: newest,
        next: (oldest > 1).then(|| page(oldest)),
        previous: (before <= newest).then(|| page(before.saturating_add(limit as u64))),
        results,
    };
    answer(&asked, &history)
}

pub(crate) async fn version(asked: Asked) -> Result<Response, Failure> {
    let selector = selector(&asked, asked.part("version"))?;
    let (table, key) = asked.row()?;
    let version = asked.audit.version(&table, &key, &selector).await?;
    answer(&asked, &version)
}

pub(crate) async fn diff(asked: Asked) -> Result<Response, Failure> {
    let from = selector(&asked, asked.parameters.first("from").unwrap_or("previous"))?;
    let to = selector(&asked, asked.parameters.first("to").unwrap_or("current"))?;
    let include: Vec<String> = asked.parameters.all("field").map(ToOwned::to_owned).collect();
    let options = DiffOptions { include: (!include.is_empty()).then_some(include), ..DiffOptions::default() };
    let (table, key) = asked.row()?;
    let diff = asked.audit.diff(&table, &key, &from, &to, &options).await?;
    let changes: Vec<afterimage::FieldChange> = diff
        .fields
        .iter()
        .map(|field| afterimage::FieldChange {
            field: field.field.clone(),
            old: field.old.clone(),
            new: field.new.clone(),
        })
        .collect();
    #[derive(Serialize)]
    struct Inside<'a> {
        path: &'a str,
        old: Option<Box<RawValue>>,
        new: Option<Box<RawValue>>,
    }
    #[derive(Serialize)]
    struct Difference<'a> {
        from: &'a Version,
        to: &'a Version,
        changes: ChangesJson<'a>,
        inside: BTreeMap<&'a str, Vec<Inside<'a>>>,
    }
    let raw = |text: &Option<String>| text.clone().and_then(|text| RawValue::from_string(text).ok());
    let inside = diff.fields.iter().filter(|field| !field.inside.is_empty()).map(|field| {
        let paths = field.inside.iter().map(|inside| Inside {
            path: &inside.path,
            old: raw(&inside.old),
            new: raw(&inside.new),
        });
        (field.field.as_str(), paths.collect())
    });
    let inside = inside.collect();
    answer(&asked, &Difference { from: &diff.from, to: &diff.to, changes: ChangesJson(&changes), inside })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevertBody {
    to: Json,
    fields: Option<Vec<String>>,
    reason: Option<String>,
    expect: Option<u64>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreBody {
    reason: Option<String>,
    expect: Option<u64>,
    #[serde(default)]
    set: BTreeMap<String, Json>,
    #[serde(default)]
    related: bool,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoBody {
    reason: Option<String>,
    conflicts: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

fn body<T: serde::de::DeserializeOwned>(asked: &Asked) -> Result<T, Failure> {
    serde_json::from_slice(&asked.body)
        .map_err(|error| Failure::wrong(format!("the body cannot be read: {error}")))
}

/// The reason, which is asked for wherever something is written.
fn reason(given: Option<String>, dry_run: bool) -> Result<String, Failure> {
    let reason = given.unwrap_or_default().trim().to_owned();
    if reason.is_empty() && !dry_run {
        return Err(Failure::wrong("reason is missing: it is recorded with what is written back"));
    }
    Ok(reason)
}

fn restored(asked: &Asked, done: &Restored) -> Result<Response, Failure> {
    let conflicts: Vec<Json> = done
        .conflicts
        .iter()
        .map(|conflict| {
            json!({
                "table": conflict.table.to_string(),
                "key": RowJson(&conflict.key),
                "date": conflict.newest.header.date.to_string(),
                "user": conflict.newest.header.user,
            })
        })
        .collect();
    if !done.dry_run {
        tracing::info!(
            target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), path = asked.path,
            records = done.records, "written back"
        );
    }
    #[derive(Serialize)]
    struct Written<'a> {
        dry_run: bool,
        records: u64,
        entries: &'a [LogEntry],
        conflicts: Vec<Json>,
    }
    let (dry_run, records, entries) = (done.dry_run, done.records, done.entries.as_slice());
    answer(asked, &Written { dry_run, records, entries, conflicts })
}

pub(crate) async fn revert(asked: Asked) -> Result<Response, Failure> {
    let body: RevertBody = body(&asked)?;
    let reason = reason(body.reason, body.dry_run)?;
    let to = match &body.to {
        Json::Number(number) => number.to_string(),
        Json::String(text) => text.clone(),
        other => return Err(Failure::wrong(format!("to is a version or a time, not {other}"))),
    };
    let (table, key) = asked.row()?;
    let mut revert = Revert::new(table, key, selector(&asked, &to)?)
        .fields(body.fields.unwrap_or_default())
        .dry_run(body.dry_run);
    if let Some(expect) = body.expect {
        revert = revert.expect(Selector::Number(expect));
    }
    let done = asked.audit_for(Act::Revert).revert(&revert, &asked.context(&reason)).await?;
    restored(&asked, &done)
}

pub(crate) async fn restore(asked: Asked) -> Result<Response, Failure> {
    let body: RestoreBody = body(&asked)?;
    let reason = reason(body.reason, body.dry_run)?;
    let (table, key) = asked.row()?;
    let mut restore = Restore::new(table, key).related(body.related).dry_run(body.dry_run);
    if let Some(expect) = body.expect {
        restore = restore.expect(Selector::Number(expect));
    }
    for (column, value) in body.set {
        let value = match value {
            Json::Null => None,
            Json::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        restore = restore.set(column, value);
    }
    let done = asked.audit_for(Act::Revert).restore(&restore, &asked.context(&reason)).await?;
    restored(&asked, &done)
}

pub(crate) async fn revert_transaction(asked: Asked) -> Result<Response, Failure> {
    let id = asked.part("id").to_owned();
    page::transaction::permitted(&asked, &id).await?;
    let body: UndoBody = body(&asked)?;
    let reason = reason(body.reason, body.dry_run)?;
    let conflicts = match body.conflicts.as_deref() {
        None | Some("refuse") => Conflicts::Refuse,
        Some("skip") => Conflicts::Skip,
        Some(other) => return Err(Failure::wrong(format!("conflicts is refuse or skip, not {other:?}"))),
    };
    let undo = RevertTransaction::new(&id).conflicts(conflicts).dry_run(body.dry_run);
    let done = asked.audit_for(Act::Revert).revert_transaction(&undo, &asked.context(&reason)).await?;
    restored(&asked, &done)
}
