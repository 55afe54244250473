//! PostgreSQL: one connection reads the table as it was at the install, another writes what it gives, in batches.

use std::time::Duration;

use afterimage_core::sql::{Dialect as _, catalog as sql, postgres as dialect};
use afterimage_core::{Layout, Table};
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _};

use super::{Progress, unfinished};
use crate::catalog::{Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::turn::Turns;

/// How the table is locked against writers.
const TURNS: Turns = Turns {
    length: "100ms",
    patience: Duration::from_secs(30),
    pauses: [Duration::from_millis(20), Duration::from_millis(500)],
};

/// Rows, and bytes, of one batch.
const BATCH_ROWS: u64 = 20_000;
const BATCH_BYTES: usize = 8 << 20;

/// Locks the table against writers, in short turns.
pub(crate) async fn lock(session: &mut Session, table: &Table) -> Result<()> {
    let only = if table.postgres().is_some_and(|shape| shape.partitioned) { "" } else { "ONLY " };
    let attempt = format!("LOCK TABLE {only}{} IN SHARE ROW EXCLUSIVE MODE", table.name.quoted());
    match TURNS.take(session, &attempt).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            let message = format!(
                "its lock could not be had within {} s: a transaction that wrote it is still open",
                TURNS.patience.as_secs()
            );
            Err(Error::new(ErrorKind::Busy, message).on(&table.name))
        }
        Err(error) => Err(error.on(&table.name)),
    }
}

/// The two connections of a run.
#[derive(Debug)]
pub(crate) struct Run {
    /// Sees the table as it was at one moment.
    reader: sqlx::PgConnection,
    /// Writes what is missing, and has claimed that: whoever wants to go on waits until it is closed, with what it was
    /// writing.
    writer: sqlx::PgConnection,
}

/// The run that begins within the install, whose moment it sees. Nobody else can have claimed what is not committed yet.
pub(crate) async fn first_run(audit: &Afterimage, id: i64) -> Result<Run> {
    let mut writer = audit.connection_of_its_own().await?;
    claim(&mut writer, id).await?;
    Ok(Run { reader: reader(audit).await?, writer })
}

/// A later run, once it has the claim: none where whoever had it before has finished.
async fn next_run(audit: &Afterimage, id: i64) -> Result<Option<Run>> {
    let mut writer = audit.connection_of_its_own().await?;
    while !claim(&mut writer, id).await? {
        tracing::info!("another run is writing the baseline; waiting for it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    match audit.reading(async |session| unfinished(session, id).await).await? {
        Some(_) => Ok(Some(Run { reader: reader(audit).await?, writer })),
        None => Ok(None),
    }
}

async fn claim(connection: &mut sqlx::PgConnection, id: i64) -> Result<bool> {
    let claim = "SELECT pg_catalog.pg_try_advisory_lock(1634101614, $1)";
    let number = i32::try_from(id).unwrap_or(i32::MAX);
    Ok(sqlx::query_scalar(claim).bind(number).fetch_one(connection).await?)
}

/// A connection that sees this moment.
async fn reader(audit: &Afterimage) -> Result<sqlx::PgConnection> {
    let mut reader = audit.connection_of_its_own().await?;
    let open = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {}; SELECT 1", dialect::SESSION);
    reader.execute(sqlx::raw_sql(AssertSqlSafe(open))).await?;
    Ok(reader)
}

pub(crate) async fn finish(
    audit: &Afterimage,
    id: i64,
    first: Option<Run>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64> {
    let resumed = first.is_none();
    let run = match first {
        Some(run) => Some(run),
        None => next_run(audit, id).await?,
    };
    let Some(mut run) = run else { return Ok(0) };
    let entry = audit.reading(async |session| unfinished(session, id).await).await?;
    let Some(entry) = entry else { return Ok(0) };
    let settings = dialect::SESSION.replace("SET LOCAL", "SET");
    run.writer.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await?;
    let done = copy(&entry, &mut run, progress).await.map_err(|error| error.on(&entry.table))?;
    audit.writing(async |session| conclude(session, &entry, resumed).await).await?;
    Ok(done)
}

/// Copies the missing records from the reader's snapshot into the history, a batch a transaction.
async fn copy(entry: &Entry, run: &mut Run, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<u64> {
    use sqlx::postgres::PgConnection;
    let Run { reader, writer } = run;
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
    let mut rows = PgConnection::copy_out_raw(reader, &out).await?;
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
    session.run(&sql::set_state(&dialect::Postgres, entry.id, Stage::Active.as_str())).await.map(drop)
}
