//! The baseline on MariaDB. Capture is installed by statements that each commit, so the baseline is always written
//! afterwards; until it is whole, two more triggers write a row's baseline record just before its first change.

use std::time::Duration;

use afterimage_core::Database;
use afterimage_core::sql::catalog as sql;
use afterimage_core::sql::mariadb::baseline as dialect;

use super::{FIRST_BATCH, LARGEST_BATCH, Progress, unfinished};
use crate::batches::Batches;
use crate::catalog::{self, Stage};
use crate::database::Afterimage;
use crate::error::Result;
use crate::migrate;
use crate::session::Session;

/// How long to wait for those who hold a row before looking again.
const PATIENCE: Duration = Duration::from_millis(200);

/// All of it on one connection: who waits for another run would else keep one that this run needs.
pub(super) async fn finish(
    audit: &Afterimage,
    id: i64,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64> {
    audit
        .writing(async |session| {
            while session.int(&dialect::claim(id), &[]).await? != Some(1) {
                tracing::info!("another run is writing the baseline; waiting for it");
            }
            let written = fill(session, id, progress).await?;
            conclude(session, id).await?;
            Ok(written)
        })
        .await
}

/// Writes what is missing, batch by batch, then what was passed by because somebody held it.
async fn fill(session: &mut Session, id: i64, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<u64> {
    let (mut done, mut total, mut first, mut last) = (0, None, true, false);
    let mut batches = Batches::new(Database::MariaDb, FIRST_BATCH, LARGEST_BATCH);
    loop {
        // The table may have been migrated since the last batch, or another run may be done with it.
        next(session).await?;
        let Some(entry) = unfinished(session, id).await? else { return Ok(done) };
        let layout = entry.layout()?;
        if last {
            if session.int(&dialect::missing(layout), &[]).await? == Some(0) {
                return Ok(done);
            }
            next(session).await?;
            let written = session.run(&dialect::rest(layout)).await?;
            if written == 0 {
                tokio::time::sleep(PATIENCE).await;
            }
            done += written;
            continue;
        }
        if first {
            total =
                session.int(&dialect::estimate(layout), &[]).await?.and_then(|rows| u64::try_from(rows).ok());
        }
        next(session).await?;
        batches.begin().await;
        session.run_all(&dialect::look_ahead(layout, first, batches.size())).await?;
        last = session.int(dialect::FOUND_END, &[]).await? != Some(1);
        done += session.run(&dialect::batch(layout, first, last)).await?;
        progress(Progress { table: entry.table.clone(), done, total });
        batches.end();
        first = false;
    }
}

/// Ends a batch, and begins another.
async fn next(session: &mut Session) -> Result<()> {
    session.run("COMMIT").await?;
    session.run(dialect::BATCH).await.map(drop)
}

/// The baseline is whole: its triggers go.
async fn conclude(session: &mut Session, id: i64) -> Result<()> {
    next(session).await?;
    catalog::alone(session).await?;
    let Some(entry) = unfinished(session, id).await? else { return Ok(()) };
    session.run(&sql::set_state(session.dialect(), id, Stage::Active.as_str())).await?;
    session.run("COMMIT").await?;
    let table = migrate::find_today(session, &entry).await?;
    session.run_all(&session.dialect().install_capture(entry.layout()?, &table, false)).await
}
