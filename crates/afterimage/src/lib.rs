//! Audit trail and version history for any table of PostgreSQL, MariaDB or SQLite: every write is captured by generated
//! triggers, inside the writer's transaction, whoever writes.
//!
//! ```
//! use afterimage::{Afterimage, Context, Tracking};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
//! sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)").execute(&pool).await?;
//!
//! let audit = Afterimage::from_sqlite(pool);
//! audit.track("orders", Tracking::new()).await?;
//!
//! let mut tx = audit.begin(&Context::actor("42").reason("first order")).await?;
//! sqlx::query("INSERT INTO orders VALUES (1, 'open')").execute(tx.sqlite()?).await?;
//! tx.commit().await?;
//!
//! let versions = audit.history("orders", "1").await?;
//! assert_eq!(versions[0].header.user.as_deref(), Some("42"));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    not(all(feature = "sqlite", feature = "postgres", feature = "mysql")),
    allow(
        irrefutable_let_patterns,
        unused_imports,
        unused_variables,
        reason = "a build for one database leaves out what the others need"
    )
)]

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
compile_error!("which database? Choose one feature at least of sqlite, postgres and mysql");

mod across;
#[cfg(feature = "archive")]
mod archive;
mod as_of;
mod baseline;
mod batches;
mod catalog;
mod database;
mod dedupe;
mod diff;
mod doctor;
mod error;
mod events;
mod follow;
mod health;
mod hold;
mod introspect;
mod key;
mod lent;
mod log;
mod lost;
mod migrate;
#[cfg(feature = "past")]
mod once;
#[cfg(feature = "sea-orm")]
pub mod orm;
#[cfg(all(feature = "archive", feature = "sqlite"))]
mod packed;
mod partition;
#[cfg(feature = "past")]
mod past;
mod plan;
mod prune;
mod redact;
mod registration;
mod related;
mod remembered;
mod removal;
mod report;
mod restore;
mod resync;
mod scope;
mod serialized;
mod session;
mod shelf;
mod sight;
#[cfg(feature = "sqlite")]
mod sqlite_text;
mod stats;
mod status;
#[doc(hidden)]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;
mod track;
mod transaction;
#[cfg(feature = "postgres")]
mod turn;
mod untrack;
mod verify;
mod versions;
mod writing;

pub use afterimage_core::diff::{DiffOptions, FieldDiff, PathDiff, diff};
pub use afterimage_core::drift::Change;
pub use afterimage_core::query::Phrase;
pub use afterimage_core::record::{Action, ChangesJson, FieldChange, Header, RowJson, Version};
pub use afterimage_core::search::Needle;
pub use afterimage_core::{
    Context, Database, Moment, Partitions, Period, Query, Retention, Storage, TableName, Tracking, Value,
};
#[cfg(feature = "archive")]
pub use archive::{Archive, ArchiveFault, Archived, Archiving, BroughtBack};
pub use as_of::{AsOfQuery, Start, TableRead, TableState};
pub use baseline::Progress;
pub use catalog::Gap;
pub use database::{Afterimage, redacted};
pub use dedupe::{Dedupe, Deduped};
pub use diff::{Diff, Label, Referred};
pub use doctor::{Finding, Severity};
pub use error::{Error, ErrorKind, Result};
pub use events::{Failed, HandlerError, ModelAudited, Subscriber};
pub use follow::Follow;
pub use health::{Fault, State};
pub use hold::Hold;
pub use log::{Cursor, LogCount, LogEntry, LogPage, LogQuery, LogSummary};
pub use migrate::Migrated;
pub use partition::{Partition, Partitioned};
#[cfg(feature = "past")]
pub use past::{Past, PastOn, ViewsIn};
pub use plan::{Plan, PlannedTable};
pub use prune::{Prune, Pruned, Pruning};
pub use redact::{Redact, Redacted};
pub use registration::Builder;
pub use related::{Related, RelatedChange};
pub use removal::Removal;
pub use report::{ReportCount, ReportHead, ReportSink, ReportTable};
pub use restore::{
    Conflict, Conflicts, Obstacle, PreviewedField, Restore, Restored, Revert, RevertPreview, RevertTable,
    RevertTransaction, Stale,
};
pub use resync::{Resync, Resynced};
pub use scope::{current, in_scope, scope};
pub use sight::Sight;
pub use stats::{Bytes, TableStats};
pub use status::{TableStatus, TrackedColumn, TrackedTable};
pub use track::{Track, Tracked};
pub use transaction::Tx;
pub use verify::{Difference, Verdict, Verifying};
pub use versions::{PointInTime, Selector};
