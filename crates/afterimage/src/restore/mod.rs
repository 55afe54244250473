//! Every way back: one row to a version, a deleted row to life, a transaction undone, a table to a time.
//!
//! All of them write in one transaction, typed, from the records to the table; the trigger records it as it records
//! everybody's writes, and the context says what it restored from. Where the history cannot say what was, or what would
//! be written is not what was asked for, nothing is written.

mod columns;
mod known;
mod preview;
mod related;
mod row;
mod table;
mod transaction;

use std::sync::Arc;

use afterimage_core::query::Query;
use afterimage_core::sql::{Rows, WriteBack, postgres};
use afterimage_core::{Context, Database, Field, Moment, TableName, Value};

use crate::catalog::{Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::health::{self, Fault};
use crate::log::{self, LogEntry, LogQuery};
use crate::scope::within_current;
use crate::session::Session;
use crate::writing::Writing;
use crate::{introspect, migrate};

pub use preview::{Obstacle, PreviewedField, RevertPreview};
pub use row::{Restore, Revert, Stale};
pub use table::RevertTable;
pub use transaction::{Conflicts, RevertTransaction};

/// So many of the records written are shown; the rest is counted.
const SHOWN: u64 = 1000;

/// What a way back wrote, or would write.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Restored {
    /// The first of the records written, in the order in which they were.
    pub entries: Vec<LogEntry>,
    /// How many records were written.
    pub records: u64,
    /// Rows that were left alone, since they changed again later.
    pub conflicts: Vec<Conflict>,
    /// Rows created since, which stay.
    pub stayed: u64,
    /// Whether it was a dry run: nothing was written.
    pub dry_run: bool,
}

/// A row that changed again after what was to be undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// Its table.
    pub table: TableName,
    /// Its key.
    pub key: Vec<(String, Value)>,
    /// Its newest record.
    pub newest: LogEntry,
}

impl Afterimage {
    /// Begins a transaction that reads and writes one moment: whoever changes a row meanwhile makes it fail, and
    /// nothing is half done.
    async fn begin_restoring(&self, context: &Context) -> Result<Writing> {
        let mut tx = self.begin_one_moment(context).await?;
        tx.session.remembered().eyes = self.eyes.clone();
        Ok(tx)
    }

    async fn begin_one_moment(&self, context: &Context) -> Result<Writing> {
        let context = &within_current(context);
        match self.database() {
            Database::Postgres => {
                let set = self.dialect().set_context(context, false)?;
                let begin =
                    "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL standard_conforming_strings = on";
                let session = self.open(format!("{begin}; {set}")).await?;
                Ok(self.writing_in(session, context))
            }
            // On a connection whose settings are ours.
            Database::MariaDb => {
                let mut session = self.open(self.dialect().open(true)).await?;
                session.run(&self.dialect().set_context(context, false)?).await?;
                Ok(self.writing_in(session, context))
            }
            _ => self.begin_writing(context).await,
        }
    }

    /// Runs a way back in a transaction of its own; a dry run is one that is rolled back.
    async fn restoring(
        &self,
        context: &Context,
        dry_run: bool,
        work: impl AsyncFnOnce(&mut Writing) -> Result<Restored>,
    ) -> Result<Restored> {
        let mut tx = self.begin_restoring(context).await?;
        let worked = async {
            let restored = work(&mut tx).await?;
            let (entries, records) = written(&mut tx).await?;
            Ok(Restored { entries, records, dry_run, ..restored })
        }
        .await;
        // What stands against it may be of a table that is not there for them.
        let seen = |error: Error| match error.sqlstate() {
            Some(_) if self.eyes.are_somebodys() && error.kind() == ErrorKind::Conflict => {
                Error::new(ErrorKind::Conflict, "a constraint stands against it: nothing was written")
            }
            _ => error,
        };
        match worked {
            Ok(restored) if dry_run => {
                tx.rollback().await?;
                Ok(restored)
            }
            Ok(restored) => {
                tx.commit().await.map_err(seen)?;
                Ok(restored)
            }
            Err(error) => {
                let _ = tx.rollback().await;
                Err(seen(error))
            }
        }
    }
}

/// Prepares what a state to be written back, and the rows that are meant, take on this database.
async fn stage(session: &mut Session, back: &WriteBack<'_>, rows: Rows<'_>) -> Result<()> {
    for statement in session.dialect().stage(back, rows) {
        session.run_one(&statement).await?;
    }
    Ok(())
}

/// Reads within a transaction that writes: what reading sets for the session does not outlast it, so that triggers and
/// defaults see the session as it was.
async fn reading<T>(session: &mut Session, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
    let postgres = session.dialect().database() == Database::Postgres;
    if postgres {
        session.run(&format!("SAVEPOINT afterimage_reading; {}", postgres::SESSION)).await?;
    }
    let read = work(session).await?;
    if postgres {
        session.run("ROLLBACK TO SAVEPOINT afterimage_reading; RELEASE SAVEPOINT afterimage_reading").await?;
    }
    Ok(read)
}

/// The number of the open transaction, as its records have it.
async fn own_transaction(session: &mut Session) -> Result<String> {
    let sql = session.dialect().own_transaction();
    let own = session.row(sql, &[]).await?.and_then(|mut row| row.pop()?.text());
    own.ok_or_else(|| Error::new(ErrorKind::Database, "the open transaction has no number"))
}

/// The records of the open transaction, oldest first.
async fn written(tx: &mut Writing) -> Result<(Vec<LogEntry>, u64)> {
    reading(&mut tx.session, async |session| {
        let mut query = Query::default();
        query.transactions.wanted.push(own_transaction(session).await?);
        let mut entries = Vec::new();
        let mut records = 0;
        log::each(session, &LogQuery::from(query), |entry| {
            records += 1;
            entries.push(entry);
            true
        })
        .await?;
        entries.reverse();
        entries.truncate(usize::try_from(SHOWN).unwrap_or(usize::MAX));
        Ok((entries, records))
    })
    .await
}

/// Refuses what cannot be written back truly: a table that is not captured as the catalogue says, or whose records may
/// not tell what happened.
async fn writable(session: &mut Session, entry: &Entry) -> Result<afterimage_core::Table> {
    let refuse = |kind, message: String| Err(Error::new(kind, message).on(&entry.table));
    if entry.stage != Stage::Active {
        return refuse(
            ErrorKind::Unknowable,
            "it is not captured at present: what would be written back would not be recorded".to_owned(),
        );
    }
    let table = migrate::find_today(session, entry).await?;
    let faults: Vec<Fault> = health::faults(session, entry, &table).await?;
    if let Some(fault) = faults.first() {
        return refuse(ErrorKind::Drifted, format!("{fault}: migrate it first"));
    }
    if let Some(gap) = entry.gaps.iter().find(|gap| gap.to.is_none()) {
        return refuse(
            ErrorKind::Unknowable,
            format!(
                "changes may be missing since {} ({}), so what is there now is not known: resync it first",
                gap.from, gap.cause
            ),
        );
    }
    Ok(table)
}

/// Why what a masked column was cannot be written back.
fn redacted(entry: &Entry, field: &str, otherwise: &str) -> Error {
    let message = format!("{field:?} was redacted: what it was is kept nowhere; {otherwise}");
    Error::new(ErrorKind::Unknowable, message).on(&entry.table)
}

fn not_known(entry: &Entry, field: &Field, otherwise: &str) -> Error {
    let (kind, why) = if entry.hides(field) {
        (ErrorKind::Forbidden, format!("{:?} is hidden from you: whoever sees it has to do this", field.name))
    } else {
        (
            ErrorKind::Unknowable,
            format!("{:?} is masked: what it was is kept nowhere; {otherwise}", field.name),
        )
    };
    Error::new(kind, why).on(&entry.table)
}

/// A context that says what is restored from.
fn naming(source: serde_json::Value) -> Context {
    Context::new().with("restored_from", source)
}

/// A moment as contexts keep it.
fn text(moment: Moment) -> serde_json::Value {
    serde_json::Value::String(moment.to_string())
}

/// The tables in an order in which each comes after those it refers to, as far as there is one.
async fn parents_first(
    session: &mut Session,
    tables: Vec<(Arc<Entry>, afterimage_core::Table)>,
) -> Result<Vec<(Arc<Entry>, afterimage_core::Table)>> {
    let mut waiting = Vec::new();
    for (entry, table) in tables {
        let parents: Vec<TableName> = introspect::references(session, &table)
            .await?
            .into_iter()
            .map(|reference| reference.target)
            .filter(|target| *target != table.name)
            .collect();
        waiting.push((entry, table, parents));
    }
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let names: Vec<TableName> = waiting.iter().map(|(_, table, _)| table.name.clone()).collect();
        let free = waiting
            .iter()
            .position(|(_, _, parents)| !parents.iter().any(|parent| names.contains(parent)))
            // A circle: whichever comes first, its constraints have to be deferrable.
            .unwrap_or(0);
        let (entry, table, _) = waiting.remove(free);
        ordered.push((entry, table));
    }
    Ok(ordered)
}

/// Constraints that can wait until the transaction ends, do.
async fn defer_constraints(session: &mut Session) -> Result<()> {
    let sql = match session.dialect().database() {
        Database::Postgres => "SET CONSTRAINTS ALL DEFERRED",
        Database::MariaDb => "DO 0",
        _ => "PRAGMA defer_foreign_keys = ON",
    };
    session.run(sql).await.map(drop)
}
