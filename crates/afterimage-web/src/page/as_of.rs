//! A table as of a time, and how two times differ.

use std::collections::HashMap;

use afterimage::{Afterimage, AsOfQuery, Moment, Needle, PointInTime, TrackedColumn, TrackedTable, Value};
use askama::Template;
use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;

use super::Shell;
use super::activity::grouped;
use super::exports::attachment;
use super::line::Link;
use crate::access::Act;
use crate::address::{encoded, key_text};
use crate::asked::Asked;
use crate::csv::{csv_line, csv_value};
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::markup::{self, Html, SHORT};

/// So many rows are on a page.
const PAGE: usize = 50;

/// So many rows are counted; beyond, it is said that there are more.
const COUNTED: u64 = 1_000;

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
    let tracked = asked.table()?;
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
        one_time(&asked, tracked, &path, &mut page).await
    } else {
        two_times(&asked, tracked, &path, &mut page).await
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

/// A row with the names of its columns.
type Named = Vec<(String, Value)>;

/// Rows of a state, in the order of their keys.
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
    /// How many of them came from an archive.
    pub(crate) archived: u64,
    /// The key after which the next page begins.
    pub(crate) next: Option<String>,
}

/// So many rows after a key, of those that have a value, where one is looked for.
pub(crate) async fn page_of(
    audit: &Afterimage,
    tracked: &TrackedTable,
    at: &PointInTime,
    limit: u64,
    after: Option<&str>,
    sought: Option<&Needle>,
) -> Result<Rows, Failure> {
    let mut query = AsOfQuery::new(tracked.table.to_string(), at.clone());
    // Where a value is looked for, it is not known how far.
    query.limit = sought.is_none().then_some(limit + 1);
    query.after = after.map(ToOwned::to_owned);
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let read = audit
        .as_of_each(&query, |_, row| {
            if sought.is_none_or(|needle| row.iter().any(|value| needle.is_in(value))) {
                rows.push(row);
            }
            rows.len() as u64 <= limit
        })
        .await?;
    let more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let columns = read.columns;
    let next = rows.last().filter(|_| more).map(|row| key_of(tracked, at, &columns, row).0);
    Ok(Rows { columns, rows, archived: read.archived, next })
}

async fn one_time(asked: &Asked, tracked: &TrackedTable, path: &str, page: &mut Page) -> Result<(), Failure> {
    let at = point(asked, &page.at)?;
    let after = asked.parameters.first("after");
    let needle = (!page.has.is_empty()).then(|| Needle::new(&page.has));
    let Rows { columns, rows, archived, next } =
        page_of(&asked.audit, tracked, &at, PAGE as u64, after, needle.as_ref()).await?;
    let count = if page.has.is_empty() {
        match asked.audit.count_as_of_up_to(&page.table, &at, COUNTED + 1).await? {
            1 => "1 row".to_owned(),
            count if count > COUNTED => format!("More than {} rows", grouped(COUNTED)),
            count => format!("{} rows", grouped(count)),
        }
    } else if next.is_some() || after.is_some() {
        format!("more than {PAGE} rows have it")
    } else {
        format!("{} rows have it", rows.len())
    };
    let moment = match at {
        PointInTime::Now if next.is_some() => Some(asked.present().await?),
        _ => settled(&at, asked.now),
    };
    let origin = match archived.min(rows.len() as u64) {
        0 => String::new(),
        archived => format!(" Of those shown, {} came from an archive.", grouped(archived)),
    };
    page.said = Some(match moment {
        Some(moment) => format!("{count}, as of {} ({}).{origin}", asked.time(moment), asked.zone),
        None => format!("{count}, as of {}.{origin}", page.at),
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
    page.next = next.map(|key| {
        // The next page is of the same moment, whatever a word like "now" means by then.
        let at = moment.map_or_else(|| page.at.clone(), |moment| moment.to_string());
        on(&parameters.without(&["at"]).with("at", at).with("after", key))
    });
    page.rows = rows
        .iter()
        .map(|row| {
            let (key, link_at) = key_of(tracked, &at, &columns, row);
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

/// What a column was called at a point in time, as far as it is one in time.
fn name_at<'c>(column: &'c TrackedColumn, at: &PointInTime) -> &'c str {
    match at {
        PointInTime::At(moment) => column.name_at(*moment),
        _ => &column.name,
    }
}

/// The key of a row, as it is written today, and the column at which it is shown.
fn key_of(tracked: &TrackedTable, at: &PointInTime, columns: &[String], row: &[Value]) -> (String, usize) {
    let of_key: Vec<(&String, usize)> = tracked
        .key
        .iter()
        .filter_map(|name| {
            let column = tracked.columns.iter().find(|column| column.name == *name)?;
            Some((name, columns.iter().position(|known| known == name_at(column, at))?))
        })
        .collect();
    let key: Vec<(String, Value)> =
        of_key.iter().filter_map(|(name, at)| Some(((*name).clone(), row.get(*at)?.clone()))).collect();
    (key_text(&key), of_key.first().map(|(_, at)| *at).unwrap_or_default())
}

/// What the columns of a time are called today, as far as they are still there.
fn todays(tracked: &TrackedTable, at: &PointInTime, columns: &[String]) -> Vec<String> {
    let today = |name: &String| tracked.columns.iter().find(|column| name_at(column, at) == name);
    columns
        .iter()
        .map(|name| today(name).map_or_else(|| name.clone(), |column| column.name.clone()))
        .collect()
}

/// The names of the columns by which two states of a row differ. A column that one of them does not have is NULL there.
fn differing(old: &Named, new: &Named) -> Vec<String> {
    let added = new.iter().filter(|(name, _)| !old.iter().any(|(known, _)| known == name));
    let names = old.iter().chain(added).map(|(name, _)| name);
    names.filter(|name| value_of(old, name) != value_of(new, name)).cloned().collect()
}

fn value_of<'r>(row: &'r Named, name: &str) -> &'r Value {
    row.iter().find(|(known, _)| known == name).map_or(&Value::Null, |(_, value)| value)
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
    // A column is the same whatever it was called.
    let (then, since) = (todays(tracked, &a, &before.columns), todays(tracked, &b, &after.columns));
    let named = |columns: &[String], row: &[Value]| -> Named {
        columns.iter().cloned().zip(row.iter().cloned()).collect()
    };
    let old: HashMap<String, Named> = before
        .rows
        .iter()
        .map(|row| (key_of(tracked, &a, &before.columns, row).0, named(&then, row)))
        .collect();
    let mut added = Vec::new();
    let mut changed = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for row in &after.rows {
        let key = key_of(tracked, &b, &after.columns, row).0;
        let row = named(&since, row);
        match old.get(&key) {
            None => added.push((key, Vec::new(), row)),
            Some(before) => {
                if !differing(before, &row).is_empty() {
                    changed.push((key.clone(), before.clone(), row));
                }
                seen.insert(key);
            }
        }
    }
    let mut removed: Vec<_> = before
        .rows
        .iter()
        .map(|row| (key_of(tracked, &a, &before.columns, row).0, named(&then, row), Vec::new()))
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
        "removed" => then,
        "added" => since,
        _ => tracked.key.iter().cloned().chain(["What differs".to_owned()]).collect(),
    };
    let (from, until) = (settled(&a, asked.now), settled(&b, asked.now));
    page.rows = shown
        .into_iter()
        .map(|(key, old, new)| {
            let whole = if new.is_empty() { &old } else { &new };
            let both = !old.is_empty() && !new.is_empty();
            let shown = if both { &tracked.key } else { &page.columns };
            let mut cells: Vec<Html> =
                shown.iter().map(|name| markup::value(value_of(whole, name), SHORT)).collect();
            if both {
                let differs = differing(&old, &new);
                cells.push(markup::named_changes(differs.iter().map(|name| {
                    (name.as_str(), markup::change(value_of(&old, name), value_of(&new, name), SHORT))
                })));
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

/// So many rows are read at a time for a file.
const CHUNK: u64 = 1_000;

/// Where some come from an archive, which is gone through each time.
const ARCHIVED_CHUNK: u64 = 50_000;

/// The whole table as a file, streamed: whoever reads slowly holds no transaction open.
pub(crate) async fn csv(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table()?.clone();
    let text = asked.parameters.first("at").unwrap_or("now").to_owned();
    // All of the file is of one moment.
    let at = match point(&asked, &text)? {
        PointInTime::Now => PointInTime::At(asked.present().await?),
        at => at,
    };
    let audit = asked.audit_for(Act::Export);
    let table = tracked.table.to_string();
    let guarded = !asked.parameters.has("formulas", "keep");
    let first = AsOfQuery { limit: Some(1), ..AsOfQuery::new(&table, at.clone()) };
    let mut head = Vec::new();
    csv_line(&mut head, audit.as_of(&first).await?.columns, guarded);
    tracing::info!(
        target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), table, at = text, "exported"
    );
    let begin = (head, None::<String>, false, CHUNK);
    let chunks = stream::try_unfold(begin, move |(mut file, after, over, chunk)| {
        let (audit, tracked, at) = (audit.clone(), tracked.clone(), at.clone());
        async move {
            if over {
                return Ok::<_, std::io::Error>(None);
            }
            let page = page_of(&audit, &tracked, &at, chunk, after.as_deref(), None).await;
            let Rows { rows, next, archived, .. } = page.map_err(|failure| {
                tracing::error!(detail = failure.detail, "an export broke off");
                std::io::Error::other("the database broke off")
            })?;
            for row in &rows {
                csv_line(&mut file, row.iter().map(csv_value), guarded);
            }
            let over = next.is_none();
            let chunk = if archived > 0 { ARCHIVED_CHUNK } else { chunk };
            Ok(Some((Bytes::from(file), (Vec::new(), next, over, chunk))))
        }
    });
    let body = Body::from_stream(Box::pin(chunks));
    Ok(attachment(&format!("{table}-as-of.csv"), "text/csv; charset=utf-8", body))
}
