//! One record: what changed, who did it, and all that is known of how.

use afterimage::{LogEntry, LogQuery};
use askama::Template;
use axum::response::Response;

use super::Shell;
use super::line::{self, Line};
use crate::address::{self, encoded, key_text};
use crate::asked::Asked;
use crate::failure::Failure;
use crate::markup::{self, Html, LONG};

#[derive(Template)]
#[template(path = "event.html")]
struct Page {
    shell: Shell,
    line: Line,
    version: String,
    together: Option<String>,
    facts: Vec<(Html, Html)>,
    json: String,
}

/// The record of this name.
pub(crate) async fn find(asked: &Asked) -> Result<LogEntry, Failure> {
    let name = asked.part("event");
    let missing = || Failure::missing(format!("There is no change {name:?} that you may see."));
    let at = address::event(name).ok_or_else(missing)?;
    let mut query = LogQuery::default().after(at).limit(1);
    // Nothing else is of that very moment and before that place.
    query.query.from = Some(at.date());
    query.query.before = Some(at.date().next());
    let entry = asked.audit.log(&query).await?.entries.into_iter().next();
    entry
        .filter(|entry| format!("{}.{}", entry.header.date.as_micros(), entry.header.id) == name)
        .ok_or_else(missing)
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let entry = find(&asked).await?;
    let header = &entry.header;
    let (table, key) = (entry.table.to_string(), key_text(&entry.key));
    let mut line = line::line(&asked, &entry);
    line.fields = entry
        .changes
        .iter()
        .map(|change| line::field(&asked, &table, &key, entry.action(), change, LONG))
        .collect();
    let mut facts = vec![fact("record", &header.id.to_string()), fact("captured", &header.date.to_string())];
    for (name, value) in [("actor", &header.user), ("reason", &header.reason), ("transaction", &header.tx)] {
        facts.extend(value.as_deref().map(|value| fact(name, value)));
    }
    facts.extend(header.old_key.as_deref().map(|key| fact("key before", key)));
    let context = header.context.as_deref().and_then(|context| serde_json::from_str(context).ok());
    if let Some(serde_json::Value::Object(members)) = context {
        for (name, value) in members {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            facts.push(fact(&name.replace('_', " "), &value));
        }
    }
    let version = format!("/v/{}", encoded(&format!("id:{}", header.id)));
    super::html(&Page {
        version: asked.links.within(&table, &key, &version),
        together: header.tx.as_deref().map(|tx| asked.links.transaction(tx)),
        facts,
        json: serde_json::to_string_pretty(&entry).unwrap_or_default(),
        shell: Shell::new(&asked, "activity", format!("{table} {key} {}", line.verb)),
        line,
    })
}

fn fact(name: &str, value: &str) -> (Html, Html) {
    (markup::text(name), markup::text(value))
}
