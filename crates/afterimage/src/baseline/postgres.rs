//! PostgreSQL: one connection reads the table as it was at the install, another writes what it gives, in batches.

use std::time::{Duration, Instant};

use afterimage_core::sql::{Dialect as _, catalog as sql, postgres as dialect};
use afterimage_core::{Layout, Table};
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _};

use super::Progress;
use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// How long one attempt at a lock may keep others waiting behind it.
const TURN: &str = "100ms";

/// How long to go on trying.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rows, and bytes, of one batch.
const BATCH_ROWS: u64 = 20_000;
const BATCH_BYTES: usize = 8 << 20;

/// Locks the table against writers, in short turns.
pub(crate) async fn lock(session: &mut Session, table: &Table) -> Result<()> {
    let only = if table.postgres().is_some_and(|shape| shape.partitioned) { "" } else { "ONLY " };
    let attempt = format!("LOCK TABLE {only}{} IN SHARE ROW EXCLUSIVE MODE", table.name.quoted());
    let begun = Instant::now();
    let mut pause = Duration::from_millis(20);
    session.run(&format!("SET LOCAL lock_timeout = '{TURN}'")).await?;
    loop {
        session.run("SAVEPOINT afterimage_lock").await?;
        match session.run(&attempt).await {
            Ok(_) => return session.run("RELEASE SAVEPOINT afterimage_lock").await.map(drop),
            Err(error) if error.kind() == ErrorKind::Busy && begun.elapsed() < PATIENCE => {
                session.run("ROLLBACK TO SAVEPOINT afterimage_lock").await?;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            Err(error) if error.kind() == ErrorKind::Busy => {
                let message = format!(
                    "its lock could not be had within {} s: a transaction that wrote it is still open",
                    PATIENCE.as_secs()
                );
                return Err(Error::new(ErrorKind::Busy, message).on(&table.name));
            }
            Err(error) => return Err(error.on(&table.name)),
        }
    }
}

/// A connection whose snapshot is that of now.
pub(crate) async fn reader(audit: &Afterimage) -> Result<sqlx::PgConnection> {
    let mut reader = audit.connection_of_its_own().await?;
    let open = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {}; SELECT 1", dialect::SESSION);
    reader.execute(sqlx::raw_sql(AssertSqlSafe(open))).await?;
    Ok(reader)
}

pub(crate) async fn finish(
    audit: &Afterimage,
    id: i64,
    reader: Option<sqlx::PgConnection>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64> {
    let resumed = reader.is_none();
    let entry = audit
        .reading(async |session| {
            catalog::entries(session)
                .await?
                .into_iter()
                .find(|entry| entry.id == id)
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "the table was untracked meanwhile"))
        })
        .await?;
    let mut writer = audit.connection_of_its_own().await?;
    writer.execute(sqlx::raw_sql(AssertSqlSafe(dialect::SESSION.replace("SET LOCAL", "SET")))).await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_catalog.pg_try_advisory_lock(1634101614, $1)")
        .bind(i32::try_from(id).unwrap_or(i32::MAX))
        .fetch_one(&mut writer)
        .await?;
    if !alone {
        return Err(Error::new(ErrorKind::Busy, "another run is writing its baseline").on(&entry.table));
    }
    let reader = match reader {
        Some(reader) => reader,
        None => self::reader(audit).await?,
    };
    let done = copy(&entry, reader, &mut writer, progress).await.map_err(|error| error.on(&entry.table))?;
    audit.writing(async |session| conclude(session, &entry, resumed).await).await?;
    Ok(done)
}

/// Copies the missing records from the reader's snapshot into the history, a batch a transaction.
async fn copy(
    entry: &Entry,
    mut reader: sqlx::PgConnection,
    writer: &mut sqlx::PgConnection,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64> {
    use sqlx::postgres::PgConnection;
    let layout: &Layout = entry.layout()?;
    let total: f32 =
        sqlx::query_scalar("SELECT reltuples FROM pg_catalog.pg_class WHERE oid = $1::text::regclass")
            .bind(layout.table.quoted())
            .fetch_one(&mut *writer)
            .await?;
    let total = (total > 0.0).then_some(total as u64);
    let since = dialect::Postgres.moment(entry.since);
    let out = format!("COPY ({}) TO STDOUT", dialect::baseline_source(layout, &since));
    let into = format!("COPY {} ({}) FROM STDIN", layout.history.quoted(), dialect::baseline_columns(layout));
    let mut rows = PgConnection::copy_out_raw(&mut reader, &out).await?;
    let (mut batch, mut in_batch, mut done) = (Vec::new(), 0_u64, 0_u64);
    loop {
        let row = rows.try_next().await?;
        if let Some(row) = &row {
            batch.extend_from_slice(row);
            in_batch += 1;
        }
        let full = in_batch >= BATCH_ROWS || batch.len() >= BATCH_BYTES;
        if in_batch > 0 && (full || row.is_none()) {
            let mut sink = PgConnection::copy_in_raw(&mut *writer, &into).await?;
            sink.send(std::mem::take(&mut batch)).await?;
            done += sink.finish().await?;
            in_batch = 0;
            progress(Progress { table: entry.table.clone(), done, total });
        }
        if row.is_none() {
            return Ok(done);
        }
    }
}

/// The baseline is whole. What changed while an earlier run was dead has lost its first state: that is a gap.
async fn conclude(session: &mut Session, entry: &Entry, resumed: bool) -> Result<()> {
    let layout = entry.layout()?;
    if resumed {
        let lost = session.int(&dialect::interrupted(layout), &[]).await?.unwrap_or_default();
        if lost > 0 {
            let cause =
                format!("the baseline was interrupted, and {lost} rows changed before they were in it");
            let (from, to) = (dialect::Postgres.moment(entry.since), "clock_timestamp()");
            session.run_all(&dialect::late(layout, &from)).await?;
            session
                .run(&sql::insert_gap(&dialect::Postgres, entry.id, None, &from, to, &cause, "track"))
                .await?;
        }
    }
    session
        .run(&sql::set_state(&dialect::Postgres, entry.id, catalog::Stage::Active.as_str()))
        .await
        .map(drop)
}
