//! Bringing records back from archives.

use afterimage_core::record::all_fields;
use afterimage_core::sql::archive::{PutBack, present, put_back, put_context_back};
use afterimage_core::sql::catalog as sql;
use afterimage_core::sql::log::Position;
use afterimage_core::{Context, TableName};
use serde::Serialize;

use super::Archiving;
use super::moving::found;
use super::shelf::Shelf;
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
    pub async fn bring_back(
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
        let mut state =
            Archiving { table: done.table.clone(), removes: false, done: 0, total: shelf.records() };
        for (file, places) in shelf.backwards(BATCH) {
            let some = shelf.stretch(file, places).await?;
            done.records += self.removing(async |session| put(session, entry, &some).await).await?;
            state.done += some.len() as u64;
            progress(state.clone());
        }
        done.archives = entry.archives.iter().map(|moved| moved.url.clone()).collect();
        done.archives.dedup();
        let by = said(context, "actor").map(|actor| format!("brought back by {actor}"));
        let by = by.unwrap_or_else(|| "brought back".to_owned());
        self.writing(async |session| {
            catalog::ensure(session).await?;
            for moved in &entry.archives {
                session.run(&sql::end_archive(session.dialect(), moved.id, &by)).await?;
            }
            Ok(())
        })
        .await?;
        Ok(done)
    }
}

/// Puts those records back that are not there. Gives how many.
async fn put(session: &mut Session, entry: &Entry, some: &[Shelved]) -> Result<u64> {
    catalog::ensure(session).await?;
    let now = found(session, entry.id).await?;
    if now.epochs != entry.epochs || now.archives.len() < entry.archives.len() {
        let message = "its columns or its archives were changed meanwhile: run it again";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let (dialect, layout) = (session.dialect(), entry.layout()?);
    let positions: Vec<Position> = some.iter().map(Shelved::at).collect();
    let there = session.ask(&present(dialect, layout, &positions)).await?;
    let there: Vec<i64> = there.iter().filter_map(|row| row.first().and_then(Cell::int)).collect();
    let missing: Vec<PutBack<'_>> = some
        .iter()
        .filter(|shelved| !there.contains(&shelved.at().1))
        .map(|shelved| PutBack { record: &shelved.record, began: shelved.began, scope: shelved.scope })
        .collect();
    if missing.is_empty() {
        return Ok(0);
    }
    session.run_all(&dialect.tick()).await?;
    let mut known = None;
    for put in &missing {
        // Records of one context stand together.
        if put.scope.is_some()
            && put.scope != known
            && let Some(sql) = put_context_back(dialect, put)
        {
            session.run(&sql).await?;
            known = put.scope;
        }
    }
    session.run(&put_back(dialect, layout, &all_fields(&entry.epochs), &missing)).await?;
    Ok(missing.len() as u64)
}
