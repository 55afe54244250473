//! Letting contexts go that no record refers to any more, where they stand beside the records.

use std::collections::HashMap;

use afterimage_core::sql::catalog as sql;
use afterimage_core::sql::retention;
use afterimage_core::{Database, Moment};

use crate::batches::Batches;
use crate::catalog;
use crate::database::Afterimage;
use crate::error::Result;
use crate::removal::{FIRST_BATCH, LARGEST_BATCH};
use crate::session::{Cell, Session};

/// So many contexts SQLite looks at in one question.
const FEW: i64 = 5_000;

/// So many MariaDB: each question reads all histories.
const MANY: i64 = 250_000;

impl Afterimage {
    /// Those go that ended before a moment, the newest first: a transaction's first context tells of all the others. `removal` is what
    /// opens the guard.
    pub(super) async fn forget_contexts(&self, removal: i64, until: Moment) -> Result<()> {
        let together = match self.database() {
            Database::Sqlite => FEW,
            Database::MariaDb => MANY,
            _ => return Ok(()),
        };
        let mut batches = Batches::new(self.database(), FIRST_BATCH, LARGEST_BATCH);
        let mut below = i64::MAX;
        loop {
            let found =
                self.reading(async |session| unreferred(session, until, below, together).await).await?;
            let Some((first, ids)) = found else { return Ok(()) };
            below = first;
            let mut left = &ids[..];
            while !left.is_empty() {
                let size = usize::try_from(batches.size()).unwrap_or(1).min(left.len());
                let (some, rest) = left.split_at(size);
                batches.begin().await;
                self.removing(async |session| forget(session, removal, some).await).await?;
                batches.end();
                left = rest;
            }
        }
    }
}

/// The first of the last so many contexts below a number, and which of them may go; nothing where there is none.
///
/// Their transactions have ended: no record will refer to them any more.
async fn unreferred(
    session: &mut Session,
    until: Moment,
    below: i64,
    together: i64,
) -> Result<Option<(i64, Vec<i64>)>> {
    let all = catalog::entries(session).await?;
    // Records of archives refer to them, which may be brought back.
    if all.iter().any(|entry| !entry.archives.is_empty()) {
        return Ok(None);
    }
    let first = session.int(&retention::first_of_contexts(until, below, together), &[]).await?;
    let Some(first) = first else { return Ok(None) };
    let sql =
        retention::unreferred_contexts(session.dialect(), &catalog::histories(&all), until, (first, below));
    let rows = session.ask(&sql).await?;
    let int = |row: &[Cell], at: usize| row.get(at).and_then(Cell::int).unwrap_or_default();
    let mut going: HashMap<i64, i64> = HashMap::new();
    for row in rows.iter().filter(|row| int(row, 0) != int(row, 1)) {
        *going.entry(int(row, 1)).or_default() += 1;
    }
    // Of those above, all have gone that could.
    let may_go = |row: &[Cell]| int(row, 2) <= going.get(&int(row, 0)).copied().unwrap_or_default();
    Ok(Some((first, rows.iter().filter(|row| may_go(row)).map(|row| int(row, 0)).collect())))
}

async fn forget(session: &mut Session, removal: i64, ids: &[i64]) -> Result<()> {
    catalog::alone(session).await?;
    let dialect = session.dialect();
    session.run(&sql::open_removal(dialect, removal, None)).await?;
    session.run(&retention::forget_contexts(ids)).await?;
    session.run(&sql::close_removal(dialect, removal, 0)).await.map(drop)
}
