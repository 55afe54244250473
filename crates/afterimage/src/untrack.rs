//! `untrack`: stops capture. The history stays, unless it is to go too.

use afterimage_core::Context;
use afterimage_core::sql::catalog as sql;

use crate::catalog;
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::removal;
use crate::scope::within_current;

impl Afterimage {
    /// Stops tracking a table. What was recorded can still be asked; from now on there is a gap, which tracking the
    /// table again closes. With `drop_history` everything of it goes, which the [scope](crate::scope) says who wanted, and why.
    pub async fn untrack(&self, table: &str, drop_history: bool) -> Result<()> {
        self.writing(async |session| {
            catalog::alone(session).await?;
            let entry = catalog::find(session, table).await?;
            let dialect = session.dialect();
            let layout = entry.layout()?;
            if drop_history && entry.holds.iter().any(|hold| hold.lifted.is_none()) {
                let message = "its history is under a hold, and stays: lift that first";
                return Err(Error::new(ErrorKind::Conflict, message).on(&entry.table));
            }
            session.run_all(&dialect.remove_capture(layout)).await?;
            if drop_history {
                // What is gone is written down, as is whatever else removes records.
                catalog::ensure(session).await?;
                let records = session.int(&dialect.count(&layout.history), &[]).await.unwrap_or_default();
                let id =
                    removal::enter(session, layout, "untrack", None, &within_current(&Context::new()), None)
                        .await?;
                let records = records.unwrap_or_default().unsigned_abs();
                session.run(&sql::close_removal(dialect, id, records)).await?;
                session.run_all(&dialect.drop_history(layout)).await?;
                return session.run_all(&sql::forget(dialect, entry.id)).await;
            }
            if entry.stage == catalog::Stage::Stopped {
                return Ok(());
            }
            session.run_all(&dialect.tick()).await?;
            let gap = sql::insert_gap(
                dialect,
                entry.id,
                None,
                dialect.clock(),
                "NULL",
                "it was untracked",
                "untrack",
            );
            session.run(&gap).await?;
            session.run(&sql::set_state(dialect, entry.id, catalog::Stage::Stopped.as_str())).await.map(drop)
        })
        .await
    }
}
