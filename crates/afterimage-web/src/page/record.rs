//! One record: every version of it, to look at, to compare, to restore.

use afterimage::{Action, Gap, Version};
use askama::Template;
use axum::response::Response;

use super::Shell;
use super::line::{self, By, Field};
use crate::access::Act;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;

/// So many versions are on a page.
const PAGE: usize = 50;

struct Row {
    number: u64,
    by: By,
    said: String,
    view: String,
    restore: Option<String>,
    fields: Vec<Field>,
    more: usize,
    from: bool,
    to: bool,
}

#[derive(Template)]
#[template(path = "record.html")]
struct Page {
    shell: Shell,
    table: String,
    table_url: String,
    key: String,
    here: String,
    at_url: String,
    compare_url: String,
    count: u64,
    gone: bool,
    undelete: Option<String>,
    gaps: Vec<String>,
    columns: Vec<(String, bool)>,
    actors: Vec<(String, bool)>,
    ticks: Vec<i64>,
    versions: Vec<Row>,
    older: Option<String>,
    csv: Option<String>,
}

/// The value of the column that names a row for people.
pub(super) fn label<'v>(
    tracked: &afterimage::TrackedTable,
    version: &'v Version,
) -> Option<&'v afterimage::Value> {
    let column = tracked.tracking.label.as_deref()?;
    version.row.iter().find(|(name, _)| name == column).map(|(_, value)| value)
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table()?;
    let (table, key) = asked.row()?;
    // Newest first.
    let all = asked.audit.history(&table, &key).await?;
    let Some(newest) = all.first() else { return Err(Failure::missing("There is no record of this row.")) };
    let (count, gone) = (newest.number, newest.header.action == Action::Delete);
    let may_restore = asked.may(Act::Revert, &tracked.table);
    let within = |rest: &str| asked.links.within(&table, &key, rest);
    let (field, actor) = (asked.parameters.first("field"), asked.parameters.first("actor"));
    let before = asked.parameters.first("before").and_then(|before| before.parse::<u64>().ok());
    let mut answers = all.iter().filter(|version| {
        field.is_none_or(|field| version.changes.iter().any(|change| change.field == field))
            && actor.is_none_or(|actor| version.header.user.as_deref() == Some(actor))
            && before.is_none_or(|before| version.number < before)
    });
    let shown: Vec<&Version> = answers.by_ref().take(PAGE).collect();
    let more = answers.next().is_some();
    let here = format!("/r/{}/{}", encoded(&table), encoded(&key));
    let older = shown.last().filter(|_| more).map(|last| {
        let parameters = asked.parameters.only(&["field", "actor"]).with("before", last.number.to_string());
        asked.address(&here, &parameters)
    });
    let mut columns: Vec<String> = tracked.columns.iter().map(|column| column.name.clone()).collect();
    columns.extend(field.filter(|field| !columns.iter().any(|name| name == field)).map(ToOwned::to_owned));
    let mut actors: Vec<String> = all.iter().filter_map(|version| version.header.user.clone()).collect();
    actors.sort();
    actors.dedup();
    let exported = asked.may(Act::Export, &tracked.table);
    let csv = format!("/export.csv?range=all&table={}&key={}", encoded(&table), encoded(&key));
    super::html(&Page {
        versions: shown
            .iter()
            .enumerate()
            .map(|(n, version)| row(&asked, &table, &key, version, n, may_restore && version.number != count))
            .collect(),
        ticks: ticks(&all),
        gaps: tracked
            .gaps
            .iter()
            .filter(|gap| gap.key.as_deref().is_none_or(|key| is_same_key(tracked, key, newest)))
            .map(|gap| said(&asked, gap))
            .collect(),
        columns: chosen(columns, field),
        actors: chosen(actors, actor),
        undelete: (gone && may_restore).then(|| within(&format!("/restore/{count}"))),
        table_url: asked.links.table(&tracked.table),
        at_url: within("/at"),
        compare_url: within("/compare"),
        here: asked.links.to(&here),
        csv: exported.then(|| asked.links.to(&csv)),
        shell: Shell::new(&asked, "records", line::title(&tracked.table, &key, label(tracked, newest))),
        older,
        count,
        gone,
        table,
        key,
    })
}

fn chosen(values: Vec<String>, chosen: Option<&str>) -> Vec<(String, bool)> {
    values.into_iter().map(|value| (value.clone(), chosen == Some(&value))).collect()
}

/// Whether a key, as JSON, is that of a row, as far as can be told: a gap too many is better than one that is not shown.
fn is_same_key(tracked: &afterimage::TrackedTable, key: &str, version: &Version) -> bool {
    let Ok(serde_json::Value::Object(members)) = serde_json::from_str(key) else { return true };
    version.row.iter().filter(|(name, _)| tracked.key.contains(name)).all(|(name, value)| {
        match members.get(name) {
            Some(serde_json::Value::String(text)) => *text == value.to_string(),
            Some(serde_json::Value::Number(number)) => number.to_string() == value.to_string(),
            _ => true,
        }
    })
}

fn said(asked: &Asked, gap: &Gap) -> String {
    let until = gap.to.map_or_else(|| "now".to_owned(), |to| asked.time(to));
    format!("Changes may be missing from {} to {until}: {}", asked.time(gap.from), gap.cause)
}

fn row(asked: &Asked, table: &str, key: &str, version: &Version, n: usize, restorable: bool) -> Row {
    let action = match version.header.action {
        // The arrival of a change of key, in a row's own history.
        Action::Create if version.header.old_key.is_some() && version.number > 1 => Action::Update,
        action => action,
    };
    let fields = line::fields(asked, table, key, action, &version.changes, 12);
    let changed = version.changes.len();
    let restored = version.header.context_member("restored_from").is_some();
    let verb = line::verb(action, version.header.old_key.is_some(), restored);
    Row {
        number: version.number,
        by: line::by(asked, &version.header),
        said: match action {
            Action::Update if changed == 1 => format!("{} 1 field", of(verb)),
            Action::Update => format!("{} {changed} fields", of(verb)),
            _ => format!("{verb} it"),
        },
        view: asked.links.within(table, key, &format!("/v/{}", version.number)),
        restore: (restorable && version.header.action != Action::Delete)
            .then(|| asked.links.within(table, key, &format!("/restore/{}", version.number))),
        more: changed.saturating_sub(fields.len()),
        fields,
        from: n == 1,
        to: n == 0,
    }
}

/// A verb that fields can follow.
fn of(verb: &str) -> &str {
    if verb == "changed the key of" { "changed the key and" } else { verb }
}

/// Where each version stands between the first and the last, of a thousand.
fn ticks(versions: &[Version]) -> Vec<i64> {
    let times = || versions.iter().map(|version| version.header.date.as_micros());
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Vec::new() };
    let span = (last - first).max(1);
    let mut ticks: Vec<i64> = times()
        .map(|at| i64::try_from(i128::from(at - first) * 996 / i128::from(span)).unwrap_or_default())
        .collect();
    ticks.dedup();
    ticks
}
