//! The baseline of a table too large to be copied under a lock.

#[cfg(feature = "mysql")]
mod mariadb;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::sync::Arc;

use afterimage_core::{Database, TableName};

use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// How far a baseline has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The table.
    pub table: TableName,
    /// Rows written by this run.
    pub done: u64,
    /// Rows there are, as far as the database knows without counting.
    pub total: Option<u64>,
}

/// What a baseline goes on with: on PostgreSQL connections that still see the table as it was at the install.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    #[cfg(feature = "postgres")]
    run: Option<postgres::Run>,
}

/// Takes the snapshot of now. SQLite needs none: there the triggers themselves complete the baseline.
pub(crate) async fn snapshot(audit: &Afterimage, id: i64) -> Result<Snapshot> {
    match audit.database() {
        #[cfg(feature = "postgres")]
        Database::Postgres => Ok(Snapshot { run: Some(postgres::first_run(audit, id).await?) }),
        _ => {
            let _ = id;
            Ok(Snapshot::default())
        }
    }
}

/// Writes what is missing of a table's baseline; gives how many records it wrote.
pub(crate) async fn finish(
    audit: &Afterimage,
    id: i64,
    snapshot: Snapshot,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64> {
    match audit.database() {
        #[cfg(feature = "postgres")]
        Database::Postgres => postgres::finish(audit, id, snapshot.run, progress).await,
        #[cfg(feature = "sqlite")]
        Database::Sqlite => {
            let _ = snapshot;
            sqlite::finish(audit, id, progress).await
        }
        #[cfg(feature = "mysql")]
        Database::MariaDb => {
            let _ = snapshot;
            mariadb::finish(audit, id, progress).await
        }
        _ => Ok(0),
    }
}

/// The table, as long as its baseline is not whole.
async fn unfinished(session: &mut Session, id: i64) -> Result<Option<Arc<Entry>>> {
    let entry = catalog::entries(session).await?.into_iter().find(|entry| entry.id == id);
    let entry = entry.ok_or_else(|| Error::new(ErrorKind::NotFound, "the table was untracked meanwhile"))?;
    Ok((entry.stage == Stage::Baseline).then_some(entry))
}

/// The rows of the first batch.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
const FIRST_BATCH: i64 = 1_000;

/// None takes more.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
const LARGEST_BATCH: i64 = 100_000;
