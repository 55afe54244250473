//! Bringing records back from archives.

use std::collections::HashSet;

use afterimage_core::record::all_fields;
use afterimage_core::sql::archive::{PutBack, present, put_back};
use afterimage_core::sql::catalog::{self as sql, Course};
use afterimage_core::sql::log::Position;
use afterimage_core::{Context, TableName, Value};
use serde::Serialize;

use super::Archiving;
use super::moving::found;
use super::shelf::Shelf;
use crate::batches::Batches;
use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::hold::said;
use crate::serialized::as_text;
use crate::session::{Cell, Session};
use crate::shelf::Shelved;
use crate::{introspect, migrate};

/// So many records are put back by one transaction.
const BATCH: usize = 1_000;

/// What was brought back of one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BroughtBack {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// How many records.
    pub records: u64,
    /// The archives that they were in, which are copies from now on.
    pub archives: Vec<String>,
}

impl Afterimage {
    /// Brings everything back into the database that was moved to archives of these tables, the newest first: from then on the database
    /// answers by itself. The files stay where they are, as copies that nothing here asks.
    ///
    /// Killed at any point nothing is lost or double, and the next run goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connection`] where an archive does not answer; [`ErrorKind::Unknowable`] where a file is not what was written.
    pub async fn bring_back(&self, tables: &[&str], context: &Context) -> Result<Vec<BroughtBack>> {
        self.bring_back_with(tables, context, &mut |_| {}).await
    }

    /// The same, and tells `progress` how it gets on.
    pub async fn bring_back_with(
        &self,
        tables: &[&str],
        context: &Context,
        progress: &mut (dyn FnMut(Archiving) + Send),
    ) -> Result<Vec<BroughtBack>> {
        self.sees_all()?;
        let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
        let chosen = self.reading(async |session| migrate::chosen(session, &tables).await).await?;
        let mut done = Vec::new();
        for entry in chosen {
            let one = self.brought_back(&entry, context, progress).await;
            done.push(one.map_err(|error| error.on(&entry.table))?);
        }
        Ok(done)
    }

    async fn brought_back(
        &self,
        entry: &Entry,
        context: &Context,
        progress: &mut (dyn FnMut(Archiving) + Send),
    ) -> Result<BroughtBack> {
        let (seen, shelf) = self
            .reading(async |session| {
                let seen = introspect::seen(session, &entry.table).await?;
                Ok((seen, Shelf::of(session, entry).await?))
            })
            .await?;
        let mut done = BroughtBack { table: seen, records: 0, archives: Vec::new() };
        let Some(shelf) = shelf else { return Ok(done) };
        // Whoever is still moving records there stops.
        self.writing(async |session| {
            catalog::ensure(session).await?;
            unchanged(found(session, entry.id).await?.as_ref(), entry)?;
            for moved in &entry.archives {
                session.run(&sql::turn_archive(session.dialect(), moved.id, Course::Returning)).await?;
            }
            Ok(())
        })
        .await?;
        let mut state =
            Archiving { table: done.table.clone(), removes: false, done: 0, total: shelf.records() };
        let mut batches = Batches::of(self.database(), BATCH);
        for (file, places) in shelf.backwards(BATCH) {
            let some = shelf.stretch(file, places).await?;
            batches.begin().await;
            done.records += self.removing(async |session| put(session, entry, &some).await).await?;
            batches.end();
            state.done += some.len() as u64;
            progress(state.clone());
        }
        done.archives = entry.archives.iter().map(|moved| moved.url.clone()).collect();
        done.archives.dedup();
        let by = said(context, "actor").map(|actor| format!(" by {actor}")).unwrap_or_default();
        let why = said(context, "reason").map(|reason| format!(": {reason}")).unwrap_or_default();
        let by = format!("brought back{by}{why}");
        self.writing(async |session| {
            catalog::ensure(session).await?;
            unchanged(found(session, entry.id).await?.as_ref(), entry)?;
            for moved in &entry.archives {
                session.run(&sql::end_archive(session.dialect(), moved.id, &by)).await?;
            }
            Ok(())
        })
        .await?;
        Ok(done)
    }
}

/// Refuses where what was found out of archives does not hold any more.
fn unchanged(now: &Entry, then: &Entry) -> Result<()> {
    let ids = |entry: &Entry| entry.archives.iter().map(|moved| moved.id).collect::<Vec<_>>();
    if now.epochs != then.epochs || now.redactions != then.redactions || ids(now) != ids(then) {
        let message =
            "its columns, its archives or what is redacted of it were changed meanwhile: run it again";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(())
}

/// Puts those records back that are not there, as far as the one is there that followed: what was pruned in between stays a gap, of
/// which something is known. Gives how many.
async fn put(session: &mut Session, entry: &Entry, some: &[Shelved]) -> Result<u64> {
    catalog::ensure(session).await?;
    unchanged(found(session, entry.id).await?.as_ref(), entry)?;
    let (dialect, layout) = (session.dialect(), entry.layout()?);
    let positions: Vec<Position> = some.iter().flat_map(|shelved| [shelved.at(), shelved.until]).collect();
    let mut there: HashSet<i64> = HashSet::new();
    for row in session.ask(&present(dialect, layout, &positions)).await? {
        there.extend(row.first().and_then(Cell::int));
    }
    let mut newest_first: Vec<&Shelved> = some.iter().collect();
    newest_first.sort_by_key(|shelved| std::cmp::Reverse(shelved.at()));
    let mut missing: Vec<PutBack<'_>> = Vec::new();
    for shelved in newest_first {
        if there.contains(&shelved.until.1) && there.insert(shelved.at().1) {
            let Shelved { record, began, scope, .. } = shelved;
            missing.push(PutBack { record, began: *began, scope: *scope });
        }
    }
    let fields = all_fields(&entry.epochs);
    session.run_all(&dialect.tick()).await?;
    for some in statements(&missing) {
        session.run(&put_back(dialect, layout, &fields, some)).await?;
    }
    Ok(missing.len() as u64)
}

/// As many records as a statement holds that no server finds too long.
fn statements<'p, 'r>(records: &'p [PutBack<'r>]) -> Vec<&'p [PutBack<'r>]> {
    const MOST: usize = 2 << 20;
    let bytes = |put: &PutBack<'_>| {
        let texts = put.record.values.iter().map(|value| match value {
            Value::Number(text) | Value::Text(text) | Value::Json(text) => text.len(),
            Value::Bytes(bytes) => 2 * bytes.len(),
            _ => 4,
        });
        texts.sum::<usize>() + put.record.header.context.as_ref().map_or(0, String::len)
    };
    let mut some = Vec::new();
    let (mut begin, mut size) = (0, 0);
    for (n, put) in records.iter().enumerate() {
        let more = bytes(put);
        if size + more > MOST && n > begin {
            some.push(&records[begin..n]);
            (begin, size) = (n, 0);
        }
        size += more;
    }
    if begin < records.len() {
        some.push(&records[begin..]);
    }
    some
}
