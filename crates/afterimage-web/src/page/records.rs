//! The records of a table, those that are deleted too, the last changed first.

use std::collections::HashSet;

use afterimage::{Action, LogEntry, LogQuery, Needle, Phrase};
use askama::Template;
use axum::response::Response;

use super::line::{self, Line};
use super::{PAGE, Shell};
use crate::address::{encoded, key_text};
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::{LOOKED_BACK, ago};
use crate::markup::{self, Html};

/// So many changes of a row are shown.
const SHOWN: usize = 3;

struct Row {
    key: Html,
    gone: bool,
    line: Line,
}

#[derive(Template)]
#[template(path = "records.html")]
struct Page {
    shell: Shell,
    table: String,
    here: String,
    as_of: String,
    key: String,
    words: String,
    deleted: bool,
    said: String,
    /// What the column of the last change is called.
    change: &'static str,
    /// Where it is looked for in all time, where it was not.
    wider: Option<String>,
    rows: Vec<Row>,
    older: Option<String>,
}

pub(crate) async fn page(mut asked: Asked) -> Result<Response, Failure> {
    let table = asked.table()?.table.to_string();
    let here = format!("/r/{}", encoded(&table));
    let parameter = |name: &str| asked.parameters.first(name).unwrap_or_default().to_owned();
    let (key, words) = (parameter("key"), parameter("words"));
    let deleted = asked.parameters.has("state", "deleted");
    if !words.is_empty() {
        asked.sought.anywhere.push(Needle::new(&words));
    }
    let mut query = LogQuery::default().limit(PAGE);
    query.query.tables.wanted.push(table.clone());
    if !key.is_empty() {
        query.query.keys.wanted.push(key.clone());
    }
    if deleted {
        query.query.actions.wanted.push(afterimage_action("delete")?);
    }
    // Words are looked for one record after the other.
    let bounded = !words.is_empty() && !asked.parameters.has("range", "all");
    if bounded {
        query.query.from = Some(ago(asked.now, LOOKED_BACK));
    }
    if let Some(before) = asked.parameters.first("before") {
        query.after = Some(before.parse().map_err(Failure::from)?);
    }
    let (entries, next) = if words.is_empty() || deleted {
        if !words.is_empty() {
            query.query.text.push(Phrase { text: words.clone(), negated: false });
        }
        let page = asked.audit.log(&query.latest()).await?;
        (page.entries, page.next)
    } else {
        query.query.text.push(Phrase { text: words.clone(), negated: false });
        rows_with(&asked, query).await?
    };
    let parameters = asked.parameters.only(&["key", "words", "state", "range"]);
    // What a change had says nothing of what the row is now.
    let newest = match entries.as_slice() {
        [] => Vec::new(),
        entries if words.is_empty() || deleted => entries.to_vec(),
        entries => {
            let mut query = LogQuery::default().latest();
            query.query.tables.wanted.push(table.clone());
            query.query.keys.wanted = entries.iter().map(|entry| key_text(&entry.key)).collect();
            asked.audit.log(&query).await?.entries
        }
    };
    let gone = |entry: &LogEntry| {
        let newest = newest.iter().find(|newest| newest.key == entry.key);
        newest.is_some_and(|newest| newest.header.action == Action::Delete)
    };
    super::html(&Page {
        said: match (words.is_empty(), deleted) {
            (true, false) => "The last changed first, current and deleted.".to_owned(),
            (true, true) => "The last deleted first.".to_owned(),
            (false, false) => format!("Records in which a change had {words:?}, the last such change first."),
            (false, true) => format!("Deleted records that had {words:?} in the end."),
        },
        change: if words.is_empty() { "Last change" } else { "Change" },
        rows: entries.iter().map(|entry| row(&asked, entry, gone(entry))).collect(),
        wider: bounded.then(|| asked.address(&here, &parameters.clone().with("range", "all"))),
        older: next.map(|next| asked.address(&here, &parameters.with("before", next.to_string()))),
        as_of: asked.links.to(&format!("/asof/{}", encoded(&table))),
        here: asked.links.to(&here),
        shell: Shell::new(&asked, "records", format!("Records of {table}")),
        table,
        key,
        words,
        deleted,
    })
}

fn afterimage_action<T: std::str::FromStr<Err = E>, E>(name: &str) -> Result<T, Failure>
where
    afterimage::Error: From<E>,
{
    name.parse().map_err(|error| Failure::from(afterimage::Error::from(error)))
}

/// The rows of which a change answers, by the newest such change of each. A row can come again on a later page.
async fn rows_with(
    asked: &Asked,
    query: LogQuery,
) -> Result<(Vec<LogEntry>, Option<afterimage::Cursor>), Failure> {
    let limit = query.limit.unwrap_or(PAGE);
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut seen = HashSet::new();
    let mut next = None;
    let query = LogQuery { limit: None, ..query };
    asked
        .audit
        .log_each(&query, |entry| {
            if entries.len() as u64 == limit {
                next = entries.last().map(LogEntry::cursor);
                return false;
            }
            if seen.insert(key_text(&entry.key)) {
                entries.push(entry);
            }
            true
        })
        .await?;
    Ok((entries, next))
}

fn row(asked: &Asked, entry: &LogEntry, gone: bool) -> Row {
    let mut line = line::line(asked, entry);
    // What a deletion or a creation changed is the whole row.
    line.more += line.fields.len().saturating_sub(SHOWN);
    line.fields.truncate(SHOWN);
    Row { key: markup::text(&key_text(&entry.key)), gone, line }
}
