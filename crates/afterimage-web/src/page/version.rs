//! One version of a record, or the record as of a time: read only.

use afterimage::{Action, PointInTime, Referred, Selector, Version};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::Shell;
use super::line::{self, By};
use crate::access::Act;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::markup::{self, Html, LONG};

struct Row {
    name: Html,
    to: String,
    value: Html,
    /// The row that it refers to: what that was called, and its page as of the same time.
    referred: Option<(String, Option<String>)>,
    changed: bool,
}

#[derive(Template)]
#[template(path = "version.html")]
struct Page {
    shell: Shell,
    table: String,
    table_url: String,
    key: String,
    record: String,
    crumb: String,
    gone: bool,
    banner: String,
    by: Option<By>,
    verb: &'static str,
    previous: Option<String>,
    next: Option<String>,
    compare: Option<String>,
    restore: Option<String>,
    rows: Vec<Row>,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table()?;
    let table = tracked.table.to_string();
    let selector = selector(&asked, asked.part("version"))?;
    let number = asked.audit.version(&table, asked.part("key"), &selector).await?.number;
    show(&asked, tracked, number, None).await
}

pub(super) fn selector(asked: &Asked, text: &str) -> Result<Selector, Failure> {
    Ok(Selector::parse(text.strip_prefix('v').unwrap_or(text), &asked.zone)?)
}

/// The record as of a time.
pub(crate) async fn at(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table()?;
    let (table, key) = asked.row()?;
    let text = asked.parameters.first("at").unwrap_or("now").trim().to_owned();
    let at = if text == "now" { PointInTime::Now } else { PointInTime::parse(&text, &asked.zone)? };
    match asked.audit.version(&table, &key, &Selector::At(at)).await {
        Ok(version) => show(&asked, tracked, version.number, Some(&text)).await,
        // It has a history, and was not there yet.
        Err(error) if error.kind() == afterimage::ErrorKind::NotFound => {
            let all = asked.audit.history(&table, &key).await?;
            let first = all.last().map(|version| asked.time(version.header.date)).unwrap_or_default();
            let page = Page {
                banner: format!(
                    "Not yet created at {text}: its first version is of {first} ({}).",
                    asked.zone
                ),
                crumb: text,
                gone: false,
                by: None,
                verb: "",
                previous: None,
                next: Some(asked.links.within(&table, &key, "/v/1")),
                compare: None,
                restore: None,
                rows: Vec::new(),
                table_url: asked.links.table(&tracked.table),
                record: asked.links.record(&table, &key),
                shell: Shell::new(&asked, "records", format!("{table} {key}")),
                table,
                key,
            };
            super::with_status(StatusCode::OK, &page)
        }
        Err(error) => Err(error.into()),
    }
}

async fn show(
    asked: &Asked,
    tracked: &afterimage::TrackedTable,
    number: u64,
    at: Option<&str>,
) -> Result<Response, Failure> {
    let (table, key) = asked.row()?;
    let all = asked.audit.history(&table, &key).await?;
    let find = |number: u64| all.iter().find(|version| version.number == number);
    let version = find(number).ok_or_else(|| Failure::missing("There is no such version."))?;
    let (next, last) = (find(number + 1), all.first().map_or(number, |newest| newest.number));
    let gone = version.header.action == Action::Delete;
    let within = |rest: &str| asked.links.within(&table, &key, rest);
    let until = next.map_or_else(|| "now".to_owned(), |next| asked.time(next.header.date));
    let state = if gone { "deleted" } else { "in force" };
    let as_of = at.map(|at| format!("As of {at}: ")).unwrap_or_default();
    super::html(&Page {
        banner: format!(
            "{as_of}v{number}, {state} {} → {until} ({}). This is the past: nothing here can be edited.",
            asked.time(version.header.date),
            asked.zone
        ),
        crumb: format!("v{number}"),
        gone,
        by: Some(line::by(asked, &version.header)),
        verb: line::verb(
            version.header.action,
            version.header.old_key.is_some(),
            version.header.context_member("restored_from").is_some(),
        ),
        previous: (number > 1).then(|| within(&format!("/v/{}", number - 1))),
        next: (number < last).then(|| within(&format!("/v/{}", number + 1))),
        compare: (number < last).then(|| within(&format!("/compare/{number}..{last}"))),
        restore: (asked.may(Act::Revert, &tracked.table) && number < last && !gone)
            .then(|| within(&format!("/restore/{number}"))),
        rows: rows(asked, &table, &key, version, &asked.audit.referred(&table, version).await?),
        table_url: asked.links.table(&tracked.table),
        record: asked.links.record(&table, &key),
        shell: Shell::new(
            asked,
            "records",
            format!(
                "{} v{number}",
                line::title(&tracked.table, &key, super::record::label(tracked, version))
            ),
        ),
        table,
        key,
    })
}

fn rows(asked: &Asked, table: &str, key: &str, version: &Version, referred: &[Referred]) -> Vec<Row> {
    let whole = version.header.action != Action::Update;
    version
        .row
        .iter()
        .map(|(name, value)| Row {
            name: markup::text(name),
            to: asked.links.within(table, key, &format!("/field/{}", encoded(name))),
            value: markup::value(value, LONG),
            referred: referred.iter().find(|referred| referred.column == *name).map(|referred| {
                let at = format!("/at?at={}", encoded(&version.header.date.to_string()));
                let to = || asked.links.within(&referred.table.to_string(), &referred.key.to_string(), &at);
                (format!("{} {}", referred.table, referred.label), referred.tracked.then(to))
            }),
            changed: !whole && version.changes.iter().any(|change| change.field == *name),
        })
        .collect()
}
