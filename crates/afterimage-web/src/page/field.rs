//! Every value that one field of a record ever had.

use afterimage::{Action, Value, Version};
use askama::Template;
use axum::response::Response;

use super::Shell;
use super::line::{self, By};
use crate::access::Act;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::markup::{self, Html, LONG};

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
    values: Vec<Period>,
    may_restore: bool,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table().await?;
    let (table, key, name) =
        (tracked.table.to_string(), asked.part("key").to_owned(), asked.part("field").to_owned());
    // Newest first.
    let all = asked.audit.history(&table, &key).await?;
    if !all.iter().any(|version| value(version, &name).is_some()) {
        return Err(Failure::missing(format!("{table} has no tracked column {name:?}.")));
    }
    let may_restore = asked.may(Act::Revert, &tracked.table);
    let last = all.first().map_or(0, |newest| newest.number);
    let mut values = Vec::new();
    let mut until = None;
    for (n, version) in all.iter().enumerate() {
        let now = value(version, &name);
        let before = all.get(n + 1).and_then(|before| value(before, &name));
        let gone = version.header.action == Action::Delete;
        // The same as before it, unless the row came to be with it, or came back.
        let began = n + 1 == all.len()
            || gone
            || now != before
            || version.changes.iter().any(|change| change.field == name)
            || all.get(n + 1).is_some_and(|before| before.header.action == Action::Delete);
        if !began {
            continue;
        }
        let date = version.header.date;
        let restorable =
            may_restore && !gone && version.number != last && now.is_some() && !values.is_empty();
        values.push(Period {
            number: version.number,
            value: match (gone, now) {
                (true, _) => markup::deleted(&Value::Text("record deleted".into()), LONG),
                (false, Some(now)) => markup::value(now, LONG),
                (false, None) => markup::text("no such column then"),
            },
            by: line::by(&asked, &version.header),
            lasted: match until.replace(date) {
                Some(until) => lasted(until.as_micros() - date.as_micros()),
                None => "until now".to_owned(),
            },
            view: asked.links.within(&table, &key, &format!("/v/{}", version.number)),
            restore: restorable.then(|| {
                let to = asked.links.within(&table, &key, &format!("/restore/{}", version.number));
                format!("{to}{}field={}", if to.contains('?') { '&' } else { '?' }, encoded(&name))
            }),
        });
    }
    super::html(&Page {
        count: all.len(),
        values,
        may_restore,
        table_url: asked.links.table(&tracked.table),
        record: asked.links.record(&table, &key),
        shell: Shell::new(&asked, "records", format!("{name} of {table} {key}")),
        name,
        table,
        key,
    })
}

fn value<'v>(version: &'v Version, name: &str) -> Option<&'v Value> {
    version.row.iter().find(|(known, _)| known == name).map(|(_, value)| value)
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
