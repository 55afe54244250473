//! The replay: each revision of the source is one transaction, with its editor, its reason and its real date, and the
//! columns that the table gained and lost on the way.

use std::time::{Duration, Instant};

use afterimage::{Afterimage, Context, Database, Moment, Track, Tracking, Version};
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
    let database = audit.database();
    let revisions = revisions()?;
    let dates: Vec<Moment> = revisions
        .iter()
        .map(|revision| Moment::parse(&revision.at, Moment::now(), "UTC"))
        .collect::<Result<_, _>>()
        .map_err(afterimage::Error::from)?;
    let (Some(first), Some(last)) = (dates.first().copied(), dates.last().copied()) else {
        return Err(Failure::Usage("the demo's data is empty".to_owned()));
    };
    audit.allow_explicit_time(true).await?;
    audit.execute(&create_table(database, &revisions[0].add_columns)).await?;
    track(audit, first).await?;
    for (n, (revision, at)) in revisions.iter().zip(&dates).enumerate() {
        let context = Context::actor(&revision.actor)
            .reason(&revision.reason)
            .with("revision", revision.revision.clone());
        let added: &[String] = if n == 0 { &[] } else { &revision.add_columns };
        let schema = alter(database, added, &revision.drop_columns);
        // MariaDB commits at every change of a schema, so that it cannot be part of the revision's transaction.
        let alone = database == Database::MariaDb;
        if alone && !schema.is_empty() {
            audit.execute(&schema).await?;
            track(audit, *at).await?;
        }
        let mut tx = audit.begin(&context.at(*at)).await?;
        if !alone && !schema.is_empty() {
            tx.alter(TABLE, &schema).await?;
        }
        for edit in &revision.changes {
            let (sql, values) = statement(database, edit);
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

/// Whether the tracked table is one that a demo left: its records say which revision of the source they are of.
pub(super) async fn left(audit: &Afterimage) -> Result<bool, Failure> {
    let source = revisions()?;
    let of_source = |revision: &str| source.iter().any(|one| one.revision == revision);
    let Ok(versions) = audit.history(TABLE, "SWZ").await else { return Ok(false) };
    let revision = |version: &Version| version.header.context_member("revision");
    Ok(versions.iter().any(|version| revision(version).is_some_and(|revision| of_source(&revision))))
}

fn revisions() -> Result<Vec<Revision>, Failure> {
    let read = |line| {
        serde_json::from_str(line).map_err(|error| Failure::Usage(format!("the demo's data: {error}")))
    };
    DATA.lines().map(read).collect()
}

/// Tracks the table as of a time; called again, follows its columns.
async fn track(audit: &Afterimage, at: Moment) -> Result<(), Failure> {
    let request = Track::new(TABLE, Tracking::new().label("name")).context(Context::new().at(at));
    audit.track_with(request, &mut |_| {}).await?;
    Ok(())
}

fn quoted(database: Database, name: &str) -> String {
    let mark = if database == Database::MariaDb { "`" } else { "\"" };
    format!("{mark}{}{mark}", name.replace(mark, &mark.repeat(2)))
}

/// A parameter's place, the first being 1.
fn place(database: Database, number: usize) -> String {
    if database == Database::Postgres { format!("${number}") } else { "?".to_owned() }
}

fn column(database: Database, name: &str) -> String {
    let kind = match name {
        "alpha3" => "CHAR(3) NOT NULL PRIMARY KEY",
        "geoname_id" => "BIGINT",
        _ => "TEXT",
    };
    format!("{} {kind}", quoted(database, name))
}

fn create_table(database: Database, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|name| column(database, name)).collect();
    format!("CREATE TABLE {TABLE} ({})", columns.join(", "))
}

fn alter(database: Database, added: &[String], dropped: &[String]) -> String {
    let added = added.iter().map(|name| format!("ALTER TABLE {TABLE} ADD COLUMN {}", column(database, name)));
    let dropped =
        dropped.iter().map(|name| format!("ALTER TABLE {TABLE} DROP COLUMN {}", quoted(database, name)));
    added.chain(dropped).collect::<Vec<_>>().join("; ")
}

fn statement(database: Database, edit: &Edit) -> (String, Vec<Json>) {
    let equals = |name: &str, n: usize| format!("{} = {}", quoted(database, name), place(database, n));
    match edit {
        Edit::Deletion(_, key) => {
            (format!("DELETE FROM {TABLE} WHERE {}", equals("alpha3", 1)), vec![key.clone().into()])
        }
        Edit::Values(sign, key, values) => {
            let mut parameters: Vec<Json> = values.values().cloned().collect();
            if sign == "+" {
                let names: Vec<String> = values.keys().map(|name| quoted(database, name)).collect();
                let places: Vec<String> = (1..=names.len()).map(|n| place(database, n)).collect();
                let (names, places) = (names.join(", "), places.join(", "));
                (format!("INSERT INTO {TABLE} ({names}) VALUES ({places})"), parameters)
            } else {
                let set: Vec<String> = values.keys().zip(1..).map(|(name, n)| equals(name, n)).collect();
                parameters.push(key.clone().into());
                let one = equals("alpha3", parameters.len());
                (format!("UPDATE {TABLE} SET {} WHERE {one}", set.join(", ")), parameters)
            }
        }
    }
}
