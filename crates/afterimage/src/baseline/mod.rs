//! The baseline of a table too large to be copied under a lock.

#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use afterimage_core::{Database, TableName};

use crate::database::Afterimage;
use crate::error::Result;

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

/// What a baseline reads: on PostgreSQL a connection that still sees the table as it was at the install.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    #[cfg(feature = "postgres")]
    reader: Option<sqlx::PgConnection>,
}

/// Takes the snapshot of now. SQLite needs none: there the triggers themselves complete the baseline.
pub(crate) async fn snapshot(audit: &Afterimage) -> Result<Snapshot> {
    match audit.database() {
        #[cfg(feature = "postgres")]
        Database::Postgres => Ok(Snapshot { reader: Some(postgres::reader(audit).await?) }),
        _ => Ok(Snapshot::default()),
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
        Database::Postgres => postgres::finish(audit, id, snapshot.reader, progress).await,
        #[cfg(feature = "sqlite")]
        Database::Sqlite => {
            let _ = snapshot;
            sqlite::finish(audit, id, progress).await
        }
        _ => Ok(0),
    }
}
