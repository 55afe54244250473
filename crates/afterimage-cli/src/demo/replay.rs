//! The replay: each revision of the source is one transaction, with its editor, its reason and its real date, and the
//! columns that the table gained and lost on the way.

use std::time::{Duration, Instant};

use afterimage::{Afterimage, Context, Moment, Track, Tracking, Tx};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::TABLE;
use crate::commands::Failure;

const DATA: &str = include_str!("../../data/country-codes.jsonl");

/// One revision of the source.
#[derive(Debug, Deserialize)]
struct Revision {
    revision: String,
    at: String,
    actor: String,
    reason: String,
    add_columns: Vec<String>,
    drop_columns: Vec<String>,
    changes: Vec<Edit>,
}

/// One change: its sign, the key, and the values, where there are any.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Edit {
    Values(String, String, Map<String, Json>),
    Deletion(#[allow(dead_code)] String, String),
}

/// What was replayed.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) revisions: usize,
    pub(super) editors: usize,
    pub(super) changes: usize,
    pub(super) first: Moment,
    pub(super) last: Moment,
    pub(super) took: Duration,
}

pub(super) async fn run(audit: &Afterimage) -> Result<Replayed, Failure> {
    let begun = Instant::now();
    let revisions: Vec<Revision> = DATA
        .lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|error| Failure::Usage(format!("the demo's data: {error}")))
        })
        .collect::<Result<_, _>>()?;
    let dates: Vec<Moment> = revisions
        .iter()
        .map(|revision| Moment::parse(&revision.at, Moment::now(), "UTC"))
        .collect::<Result<_, _>>()
        .map_err(afterimage::Error::from)?;
    let (Some(first), Some(last)) = (dates.first().copied(), dates.last().copied()) else {
        return Err(Failure::Usage("the demo's data is empty".to_owned()));
    };
    audit.allow_explicit_time(true).await?;
    audit.execute(&create_table(&revisions[0].add_columns)).await?;
    let tracking = Tracking::new().label("name");
    audit.track_with(Track::new(TABLE, tracking).context(Context::new().at(first)), &mut |_| {}).await?;
    for (n, (revision, at)) in revisions.iter().zip(&dates).enumerate() {
        let context = Context::actor(&revision.actor)
            .reason(&revision.reason)
            .with("revision", revision.revision.clone());
        let mut tx = audit.begin(&context.at(*at)).await?;
        let added: &[String] = if n == 0 { &[] } else { &revision.add_columns };
        alter(&mut tx, added, &revision.drop_columns).await?;
        for edit in &revision.changes {
            let (sql, values) = statement(edit);
            tx.execute(&sql, &values).await?;
        }
        tx.commit().await?;
    }
    audit.allow_explicit_time(false).await?;
    let mut editors: Vec<&str> = revisions.iter().map(|revision| revision.actor.as_str()).collect();
    editors.sort_unstable();
    editors.dedup();
    Ok(Replayed {
        revisions: revisions.len(),
        editors: editors.len(),
        changes: revisions.iter().map(|revision| revision.changes.len()).sum(),
        first,
        last,
        took: begun.elapsed(),
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn column(name: &str) -> String {
    let kind = if name == "geoname_id" { "INTEGER" } else { "TEXT" };
    format!("{} {kind}", quoted(name))
}

fn create_table(columns: &[String]) -> String {
    let columns: Vec<String> = columns
        .iter()
        .map(
            |name| {
                if name == "alpha3" { "alpha3 TEXT PRIMARY KEY NOT NULL".to_owned() } else { column(name) }
            },
        )
        .collect();
    format!("CREATE TABLE {TABLE} ({})", columns.join(", "))
}

async fn alter(tx: &mut Tx, added: &[String], dropped: &[String]) -> Result<(), Failure> {
    let statements: Vec<String> = added
        .iter()
        .map(|name| format!("ALTER TABLE {TABLE} ADD COLUMN {}", column(name)))
        .chain(dropped.iter().map(|name| format!("ALTER TABLE {TABLE} DROP COLUMN {}", quoted(name))))
        .collect();
    if !statements.is_empty() {
        tx.alter(TABLE, &statements.join("; ")).await?;
    }
    Ok(())
}

fn statement(edit: &Edit) -> (String, Vec<Json>) {
    match edit {
        Edit::Deletion(_, key) => (format!("DELETE FROM {TABLE} WHERE alpha3 = ?"), vec![key.clone().into()]),
        Edit::Values(sign, key, values) => {
            let mut parameters: Vec<Json> = values.values().cloned().collect();
            let names: Vec<String> = values.keys().map(|name| quoted(name)).collect();
            if sign == "+" {
                let places = vec!["?"; names.len()].join(", ");
                (format!("INSERT INTO {TABLE} ({}) VALUES ({places})", names.join(", ")), parameters)
            } else {
                let set: Vec<String> = names.iter().map(|name| format!("{name} = ?")).collect();
                parameters.push(key.clone().into());
                (format!("UPDATE {TABLE} SET {} WHERE alpha3 = ?", set.join(", ")), parameters)
            }
        }
    }
}
