//! Every value that one field of a record ever had.

use afterimage::{Action, Moment, Value, Version};
use askama::Template;
use axum::response::Response;

use super::Shell;
use super::line::{self, By};
use crate::access::Act;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::markup::{self, Html, LONG};

/// So many values are on a page.
const PAGE: usize = 100;

struct Period {
    number: u64,
    value: Html,
    by: By,
    lasted: String,
    view: String,
    restore: Option<String>,
}

#[derive(Template)]
#[template(path = "field.html")]
struct Page {
    shell: Shell,
    table: String,
    table_url: String,
    key: String,
    record: String,
    name: String,
    count: usize,
    periods: usize,
    values: Vec<Period>,
    older: Option<String>,
    may_restore: bool,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table()?;
    let (table, key) = asked.row()?;
    let name = asked.part("field").to_owned();
    // Newest first.
    let all = asked.audit.history(&table, &key).await?;
    let column = tracked.columns.iter().find(|column| column.name == name);
    // Whatever it was called then.
    let called = |version: &Version| {
        column.map_or(name.as_str(), |column| column.name_at(version.header.date)).to_owned()
    };
    let value = |version: &Version| {
        let name = called(version);
        version.row.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    if !all.iter().any(|version| value(version).is_some()) {
        return Err(Failure::missing(format!("{table} has no tracked column {name:?}.")));
    }
    let gone = |version: &Version| version.header.action == Action::Delete;
    // The versions with which it got a value, newest first, and until when it had that.
    let mut periods: Vec<(&Version, Option<Moment>)> = Vec::new();
    for (n, version) in all.iter().enumerate() {
        let now = value(version);
        let hidden_change = || version.changes.iter().any(|change| change.field == called(version));
        // The same as before it, unless the row came to be with it, or came back.
        let began = match all.get(n + 1) {
            None => true,
            Some(before) => {
                gone(version)
                    || gone(before)
                    || now != value(before)
                    || matches!(now, Some(Value::Masked | Value::Redacted)) && hidden_change()
            }
        };
        if began {
            let until = periods.last().map(|(next, _)| next.header.date);
            periods.push((version, until));
        }
    }
    let may_restore = asked.may(Act::Revert, &tracked.table);
    let current = periods.first().map_or(0, |(version, _)| version.number);
    let before = asked.parameters.first("before").and_then(|before| before.parse::<u64>().ok());
    let mut shown = periods.iter().filter(|(version, _)| before.is_none_or(|before| version.number < before));
    let values: Vec<Period> = shown
        .by_ref()
        .take(PAGE)
        .map(|(version, until)| {
            let now = value(version);
            let restorable = may_restore && !gone(version) && now.is_some() && version.number != current;
            Period {
                number: version.number,
                value: match (gone(version), now) {
                    (true, _) => markup::deleted(&Value::Text("record deleted".into()), LONG),
                    (false, Some(now)) => markup::value(&now, LONG),
                    (false, None) => markup::text("no such column then"),
                },
                by: line::by(&asked, &version.header),
                lasted: match until {
                    Some(until) => lasted(until.as_micros() - version.header.date.as_micros()),
                    None => "until now".to_owned(),
                },
                view: asked.links.within(&table, &key, &format!("/v/{}", version.number)),
                restore: restorable.then(|| {
                    let to = asked.links.within(&table, &key, &format!("/restore/{}", version.number));
                    format!("{to}{}field={}", if to.contains('?') { '&' } else { '?' }, encoded(&name))
                }),
            }
        })
        .collect();
    let more = shown.next().is_some();
    let here = format!("/r/{}/{}/field/{}", encoded(&table), encoded(&key), encoded(&name));
    super::html(&Page {
        older: values
            .last()
            .filter(|_| more)
            .map(|last| asked.address(&here, &Parameters::default().with("before", last.number.to_string()))),
        count: all.len(),
        periods: periods.len(),
        values,
        may_restore,
        table_url: asked.links.table(&tracked.table),
        record: asked.links.record(&table, &key),
        shell: Shell::new(&asked, "records", format!("{name} of {table} {key}")),
        name: name.clone(),
        table,
        key,
    })
}

/// A stretch of time, in the largest unit of which there are two at least.
fn lasted(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let units = [("days", 86_400), ("hours", 3600), ("minutes", 60)];
    let fits = units.iter().find(|(_, size)| seconds >= 2 * size);
    match fits {
        Some((name, size)) => format!("{} {name}", seconds / size),
        None if seconds == 1 => "1 second".to_owned(),
        None => format!("{seconds} seconds"),
    }
}
