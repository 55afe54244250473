//! A table as of a time, and how two times differ.

use std::collections::HashMap;

use afterimage::{AsOfQuery, Moment, PointInTime, TrackedTable, Value};
use askama::Template;
use axum::response::Response;

use super::Shell;
use super::activity::grouped;
use super::exports::{attachment, csv_line, csv_value};
use super::line::Link;
use crate::access::Act;
use crate::address::{encoded, key_text};
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::markup::{self, Html, SHORT};

/// So many rows are on a page.
const PAGE: usize = 50;

/// So many rows can be paged through; beyond, they go into a file.
const DEEPEST: usize = 2_000;

/// So many rows of two times are compared.
const COMPARED: u64 = 20_000;

struct Row {
    to: String,
    cells: Vec<Html>,
    link_at: usize,
}

struct Tab {
    to: String,
    count: String,
    said: &'static str,
    here: bool,
}

#[derive(Template)]
#[template(path = "as_of.html")]
struct Page {
    shell: Shell,
    table: String,
    table_url: String,
    here: String,
    at: String,
    to: String,
    has: String,
    problem: Option<String>,
    steps: Vec<Link>,
    csv: Option<String>,
    said: Option<String>,
    tabs: Option<Vec<Tab>>,
    columns: Vec<String>,
    rows: Vec<Row>,
    next: Option<String>,
}

/// The tables there are.
pub(crate) async fn tables(asked: Asked) -> Result<Response, Failure> {
    super::tables::list(&asked, "asof", "As of", "/asof").await
}

fn point(asked: &Asked, text: &str) -> Result<PointInTime, Failure> {
    Ok(if text == "now" { PointInTime::Now } else { PointInTime::parse(text, &asked.zone)? })
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table().await?;
    let table = tracked.table.to_string();
    let text = |name: &str| asked.parameters.first(name).unwrap_or_default().trim().to_owned();
    let (at, to, has) = (text("at"), text("to"), text("has"));
    let path = format!("/asof/{}", encoded(&table));
    let mut page = Page {
        shell: Shell::new(&asked, "asof", title(&table, &at, &to)),
        table_url: asked.links.table(&tracked.table),
        here: asked.links.to(&path),
        problem: None,
        steps: Vec::new(),
        csv: None,
        said: None,
        tabs: None,
        columns: Vec::new(),
        rows: Vec::new(),
        next: None,
        table: table.clone(),
        at: at.clone(),
        to: to.clone(),
        has: has.clone(),
    };
    if at.is_empty() {
        return super::html(&page);
    }
    let filled = if to.is_empty() {
        one_time(&asked, &tracked, &path, &mut page).await
    } else {
        two_times(&asked, &tracked, &path, &mut page).await
    };
    match filled {
        Ok(()) => super::html(&page),
        Err(failure) if failure.status.is_client_error() => {
            page.problem = Some(failure.detail.clone());
            super::with_status(failure.status, &page)
        }
        Err(failure) => Err(failure),
    }
}

fn title(table: &str, at: &str, to: &str) -> String {
    match (at, to) {
        ("", _) => format!("{table} as of…"),
        (at, "") => format!("{table} as of {at}"),
        (at, to) => format!("{table} from {at} to {to}"),
    }
}

async fn one_time(asked: &Asked, tracked: &TrackedTable, path: &str, page: &mut Page) -> Result<(), Failure> {
    let at = point(asked, &page.at)?;
    let skip = asked.parameters.first("skip").and_then(|skip| skip.parse::<usize>().ok()).unwrap_or(0);
    if skip > DEEPEST {
        return Err(Failure::wrong(format!("Beyond {DEEPEST} rows, take them as CSV, or look for a value.")));
    }
    let mut query = AsOfQuery::new(&page.table, at.clone());
    let wanted = skip + PAGE + 1;
    // Where a value is looked for, it is not known how far.
    query.limit = page.has.is_empty().then_some(wanted as u64);
    let needle = afterimage::Needle::new(&page.has);
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let columns = asked
        .audit
        .as_of_each(&query, |_, row| {
            if page.has.is_empty() || row.iter().any(|value| has(&needle, value)) {
                rows.push(row);
            }
            rows.len() < wanted
        })
        .await?;
    let count = if page.has.is_empty() {
        let count = asked.audit.count_as_of(&page.table, &at).await?;
        format!("{} rows", grouped(count.unsigned_abs()))
    } else if rows.len() > PAGE {
        format!("more than {PAGE} rows have it")
    } else {
        format!("{} rows have it", rows.len())
    };
    let more = rows.len() == wanted;
    rows.truncate(skip + PAGE);
    let moment = settled(&at, asked.now);
    page.said = Some(match moment {
        Some(moment) => format!("{count}, as of {} ({}).", asked.time(moment), asked.zone),
        None => format!("{count}, as of {}.", page.at),
    });
    let parameters = asked.parameters.only(&["at", "has"]);
    let on = |parameters: &Parameters| asked.address(path, parameters);
    if let Some(moment) = moment {
        page.steps = steps(moment, asked.now)
            .map(|(said, at)| Link {
                text: markup::text(said),
                to: on(&parameters.without(&["at"]).with("at", at.to_string())),
            })
            .collect();
    }
    page.csv = asked.may(Act::Export, &tracked.table).then(|| {
        let at = Parameters::default().with("at", page.at.clone());
        asked.address(&format!("{path}/csv"), &at)
    });
    page.next =
        (more && skip + PAGE <= DEEPEST).then(|| on(&parameters.with("skip", (skip + PAGE).to_string())));
    page.rows = rows
        .iter()
        .skip(skip)
        .map(|row| {
            let (key, link_at) = key_of(tracked, &columns, row);
            let at = format!("/at?at={}", encoded(&page.at));
            Row {
                to: asked.links.within(&page.table, &key, &at),
                cells: row.iter().map(|value| markup::value(value, SHORT)).collect(),
                link_at,
            }
        })
        .collect();
    page.columns = columns;
    Ok(())
}

/// Whether a value, as it is shown, is what is looked for, or has it as whole words.
fn has(needle: &afterimage::Needle, value: &Value) -> bool {
    match value {
        Value::Null | Value::Masked => false,
        other => needle.found_in(&other.to_string()) || needle.numbers().contains(&other.to_string()),
    }
}

fn settled(at: &PointInTime, now: Moment) -> Option<Moment> {
    match at {
        PointInTime::Now => Some(now),
        PointInTime::At(moment) => Some(*moment),
        _ => None,
    }
}

/// Earlier and later by a day or an hour, as far as that is not yet to come.
fn steps(at: Moment, now: Moment) -> impl Iterator<Item = (&'static str, Moment)> {
    const HOUR: i64 = 3_600_000_000;
    [("← a day", -24 * HOUR), ("← an hour", -HOUR), ("an hour →", HOUR), ("a day →", 24 * HOUR)]
        .into_iter()
        .map(move |(said, by)| (said, Moment::from_micros(at.as_micros().saturating_add(by))))
        .filter(move |(_, moment)| *moment <= now)
}

/// The key of a row, and the column at which it is shown.
fn key_of(tracked: &TrackedTable, columns: &[String], row: &[Value]) -> (String, usize) {
    let key: Vec<(String, Value)> = tracked
        .key
        .iter()
        .filter_map(|name| {
            let at = columns.iter().position(|column| column == name)?;
            Some((name.clone(), row.get(at)?.clone()))
        })
        .collect();
    let at = tracked.key.first().and_then(|name| columns.iter().position(|column| column == name));
    (key_text(&key), at.unwrap_or_default())
}

async fn two_times(
    asked: &Asked,
    tracked: &TrackedTable,
    path: &str,
    page: &mut Page,
) -> Result<(), Failure> {
    let (a, b) = (point(asked, &page.at)?, point(asked, &page.to)?);
    let state = async |at: PointInTime| {
        let query = AsOfQuery { limit: Some(COMPARED + 1), ..AsOfQuery::new(&page.table, at) };
        let state = asked.audit.as_of(&query).await?;
        if state.rows.len() as u64 > COMPARED {
            return Err(Failure::wrong(format!(
                "More than {} rows: two times of so large a table are compared by its changes between them.",
                grouped(COMPARED)
            )));
        }
        Ok(state)
    };
    let (before, after) = (state(a.clone()).await?, state(b.clone()).await?);
    let named = |columns: &[String], row: &[Value]| -> Vec<(String, Value)> {
        columns.iter().cloned().zip(row.iter().cloned()).collect()
    };
    let old: HashMap<String, Vec<(String, Value)>> = before
        .rows
        .iter()
        .map(|row| (key_of(tracked, &before.columns, row).0, named(&before.columns, row)))
        .collect();
    let mut added = Vec::new();
    let mut changed = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for row in &after.rows {
        let key = key_of(tracked, &after.columns, row).0;
        let row = named(&after.columns, row);
        match old.get(&key) {
            None => added.push((key, Vec::new(), row)),
            Some(before) => {
                if *before != row {
                    changed.push((key.clone(), before.clone(), row));
                }
                seen.insert(key);
            }
        }
    }
    let mut removed: Vec<_> = before
        .rows
        .iter()
        .map(|row| (key_of(tracked, &before.columns, row).0, named(&before.columns, row), Vec::new()))
        .filter(|(key, ..)| !seen.contains(key))
        .collect();
    let tab = asked.parameters.first("show").unwrap_or("changed").to_owned();
    let parameters = asked.parameters.only(&["at", "to"]);
    let counts = [
        ("added", added.len(), "added"),
        ("removed", removed.len(), "removed"),
        ("changed", changed.len(), "changed"),
    ];
    page.tabs = Some(
        counts
            .iter()
            .map(|(name, count, said)| Tab {
                to: asked.address(path, &parameters.clone().with("show", *name)),
                count: grouped(*count as u64),
                said,
                here: tab == *name,
            })
            .collect(),
    );
    page.said = Some(format!(
        "{} rows then, {} rows after ({}).",
        grouped(before.rows.len() as u64),
        grouped(after.rows.len() as u64),
        asked.zone
    ));
    let mut shown = match tab.as_str() {
        "added" => added,
        "removed" => std::mem::take(&mut removed),
        _ => changed,
    };
    let skip = asked.parameters.first("skip").and_then(|skip| skip.parse::<usize>().ok()).unwrap_or(0);
    let more = shown.len() > skip + PAGE;
    shown = shown.into_iter().skip(skip).take(PAGE).collect();
    page.next = more.then(|| {
        let parameters =
            Parameters::default().with("show", tab.clone()).with("skip", (skip + PAGE).to_string());
        let all = parameters
            .pairs()
            .fold(asked.parameters.only(&["at", "to"]), |all, (n, v)| all.with(n, v.clone()));
        asked.address(path, &all)
    });
    page.columns = match tab.as_str() {
        "removed" => before.columns,
        "added" => after.columns,
        _ => tracked.key.iter().cloned().chain(["What differs".to_owned()]).collect(),
    };
    let (from, until) = (settled(&a, asked.now), settled(&b, asked.now));
    page.rows = shown
        .into_iter()
        .map(|(key, old, new)| {
            let value = |row: &[(String, Value)], name: &str| {
                row.iter().find(|(known, _)| known == name).map_or(Value::Null, |(_, value)| value.clone())
            };
            let whole = if new.is_empty() { &old } else { &new };
            let both = !old.is_empty() && !new.is_empty();
            let shown = if both { &tracked.key } else { &page.columns };
            let mut cells: Vec<Html> =
                shown.iter().map(|name| markup::value(&value(whole, name), SHORT)).collect();
            if both {
                let differs = new.iter().filter(|(name, now)| value(&old, name) != *now);
                cells.push(markup::named_changes(
                    differs
                        .map(|(name, now)| (name.as_str(), markup::change(&value(&old, name), now, SHORT))),
                ));
            }
            let to = match (from, until, old.is_empty() || new.is_empty()) {
                (Some(from), Some(until), false) => {
                    let range = encoded(&format!("{from}..{until}"));
                    asked.links.within(&page.table, &key, &format!("/compare/{range}"))
                }
                _ => asked.links.record(&page.table, &key),
            };
            let link_at =
                tracked.key.first().and_then(|name| page.columns.iter().position(|column| column == name));
            Row { to, cells, link_at: link_at.unwrap_or_default() }
        })
        .collect();
    Ok(())
}

/// The whole table as a file.
pub(crate) async fn csv(asked: Asked) -> Result<Response, Failure> {
    let table = asked.table().await?.table.to_string();
    let at = asked.parameters.first("at").unwrap_or("now").to_owned();
    let query = AsOfQuery::new(&table, point(&asked, &at)?);
    let guarded = !asked.parameters.has("formulas", "keep");
    let state = asked.audit.as_of(&query).await?;
    let mut file = Vec::new();
    csv_line(&mut file, state.columns.iter().map(String::as_str), guarded);
    for row in &state.rows {
        csv_line(&mut file, row.iter().map(csv_value), guarded);
    }
    tracing::info!(
        target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), table, at, rows = state.rows.len(),
        "exported"
    );
    Ok(attachment(&format!("{table}-as-of.csv"), "text/csv; charset=utf-8", file.into()))
}
