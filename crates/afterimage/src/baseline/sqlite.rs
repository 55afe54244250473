//! SQLite: batches, each a short transaction, so that no writer waits for long.

use afterimage_core::sql::{catalog as sql, sqlite as dialect};
use afterimage_core::{Layout, Table};

use super::{FIRST_BATCH, LARGEST_BATCH, Progress, unfinished};
use crate::batches::Batches;
use crate::catalog::Stage;
use crate::database::Afterimage;
use crate::error::Result;
use crate::migrate;
use crate::session::{Cell, Session};

pub(crate) async fn set_numbers_aside(session: &mut Session, layout: &Layout, table: &Table) -> Result<()> {
    session.run_all(&dialect::set_numbers_aside(layout, table)).await
}

pub(crate) async fn finish(
    audit: &Afterimage,
    id: i64,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64> {
    let total = audit
        .reading(async |session| {
            let Some(entry) = unfinished(session, id).await? else { return Ok(None) };
            let count = session.dialect().count(&entry.table);
            session.int(&count, &[]).await
        })
        .await?
        .and_then(|total| u64::try_from(total).ok());
    let (mut position, mut done): (Option<Vec<Cell>>, u64) = (None, 0);
    let mut batches = Batches::new(audit.database(), FIRST_BATCH, LARGEST_BATCH);
    loop {
        batches.begin().await;
        let rows = batches.size();
        let step = audit.writing(async |session| step(session, id, position.as_deref(), rows).await).await?;
        batches.end();
        let Some((end, written, table)) = step else { return Ok(done) };
        done += written;
        progress(Progress { table, done, total });
        position = Some(end);
    }
}

type Step = Option<(Vec<Cell>, u64, afterimage_core::TableName)>;

/// One batch; the last turns the triggers into the lean ones.
async fn step(session: &mut Session, id: i64, position: Option<&[Cell]>, rows: i64) -> Result<Step> {
    let Some(entry) = unfinished(session, id).await? else { return Ok(None) };
    let table = migrate::find_today(session, &entry).await?;
    let layout = entry.layout()?;
    let batch = dialect::batch(layout, &table);
    let begin = position.map_or_else(|| vec![Cell::Null; batch.width], <[Cell]>::to_vec);
    let mut parameters = begin.clone();
    parameters.push(Cell::Int(rows));
    let Some(end) = session.row(&batch.end, &parameters).await? else {
        session.run_all(&session.dialect().install_capture(layout, &table, false)).await?;
        session.run(&sql::set_state(session.dialect(), id, Stage::Active.as_str())).await?;
        return Ok(None);
    };
    let parameters: Vec<Cell> = begin.into_iter().chain(end.clone()).collect();
    let written = session.execute(&batch.write, &parameters).await?;
    session.execute(&batch.adopt, &[Cell::Int(i64::try_from(written).unwrap_or(i64::MAX))]).await?;
    Ok(Some((end, written, entry.table.clone())))
}
