//! A session in a transaction that writes under contexts: what [`Tx`](crate::Tx) and the engine's own writing stand on.

use afterimage_core::Context;
#[cfg(feature = "sqlite")]
use afterimage_core::sql::sqlite;

use crate::database::{Afterimage, not_begun};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Subscribers;
use crate::lent::Lent;
use crate::remembered::Remembered;
use crate::scope::within_current;
use crate::session::Session;
#[cfg(feature = "sqlite")]
use crate::session::{Cell, bound, cell};

/// A session in a transaction, and the contexts entered in it.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) session: Session,
    pub(crate) contexts: Vec<Context>,
    subscribers: Subscribers,
}

impl Afterimage {
    /// Begins a transaction under a context, and under that of the scope.
    pub(crate) async fn begin_writing(&self, context: &Context) -> Result<Writing> {
        let mut context = within_current(context);
        if !self.records {
            context = context.skip();
        }
        Ok(self.writing_in(self.begin_session(&context).await?, &context))
    }

    /// A session that has begun with a context.
    pub(crate) fn writing_in(&self, session: Session, context: &Context) -> Writing {
        Writing { session, contexts: vec![context.clone()], subscribers: self.subscribers.clone() }
    }

    async fn begin_session(&self, context: &Context) -> Result<Session> {
        let begin = self.dialect().begin();
        #[cfg(feature = "sqlite")]
        if let Some(pool) = self.sqlite_pool() {
            let row = sqlite::context(context)?.iter().map(cell).collect();
            let begun = tokio::spawn(begin_sqlite(pool, begin, row, self.remembered())).await;
            return Ok(Session::Sqlite(begun.map_err(not_begun)??));
        }
        let set = self.dialect().set_context(context, false)?;
        #[cfg(feature = "mysql")]
        if let Some(pool) = self.users_mariadb_pool() {
            let begin = sqlx::AssertSqlSafe(format!("{begin}; {set}"));
            let remembered = self.remembered();
            let begun = tokio::spawn(async move { Lent::begin(&pool, begin, remembered).await }).await;
            return Ok(Session::MariaDb(begun.map_err(not_begun)?.map_err(nothing_tracked)?));
        }
        self.open(format!("{begin}; {set}")).await
    }
}

/// SQLite runs in this process, so that each statement may fail by itself and still leave nothing open.
#[cfg(feature = "sqlite")]
async fn begin_sqlite(
    pool: sqlx::SqlitePool,
    begin: &'static str,
    row: Vec<Cell>,
    remembered: Remembered,
) -> Result<Lent<sqlx::Sqlite>> {
    let mut tx = Lent::begin(&pool, begin, remembered).await?;
    let mut set = bound!(sqlite::SET_CONTEXT, row).execute(&mut *tx).await;
    if matches!(&set, Err(sqlx::Error::Database(error)) if error.message().contains(sqlite::CONTEXT_IS_SET)) {
        tracing::warn!(
            "a client committed without deleting its context from afterimage_context; it is cleared now"
        );
        sqlx::query("DELETE FROM afterimage_context").execute(&mut *tx).await?;
        set = bound!(sqlite::SET_CONTEXT, row).execute(&mut *tx).await;
    }
    set.map_err(|error| nothing_tracked(error.into()))?;
    Ok(tx)
}

#[cfg(any(feature = "sqlite", feature = "mysql"))]
fn nothing_tracked(error: Error) -> Error {
    if error.sqlstate() == Some("42S02") || error.to_string().contains("no such table") {
        return Error::new(
            ErrorKind::NotFound,
            "nothing is tracked in this database yet, so a context has no place",
        );
    }
    error
}

impl Writing {
    /// The explicit time of the present context.
    pub(crate) fn explicit_time(&self) -> Option<afterimage_core::Moment> {
        self.contexts.last().and_then(Context::explicit_time)
    }

    pub(crate) async fn enter(&mut self, context: &Context) -> Result<()> {
        let nested = self.contexts.last().map_or_else(|| context.clone(), |outer| context.within(outer));
        self.set(&nested).await?;
        self.contexts.push(nested);
        Ok(())
    }

    pub(crate) async fn leave(&mut self) -> Result<()> {
        if self.contexts.len() < 2 {
            return Err(Error::new(ErrorKind::InvalidInput, "there is no outer context to go back to"));
        }
        self.leave_to(self.contexts.len() - 1).await
    }

    /// Leaves contexts until only so many are left.
    pub(crate) async fn leave_to(&mut self, count: usize) -> Result<()> {
        if count >= self.contexts.len() {
            return Ok(());
        }
        self.contexts.truncate(count);
        match self.contexts.last().cloned() {
            Some(outer) => self.set(&outer).await,
            None => Ok(()),
        }
    }

    async fn set(&mut self, context: &Context) -> Result<()> {
        let set = self.session.dialect().set_context(context, true)?;
        self.session.run(&set).await.map(drop)
    }

    pub(crate) async fn commit(mut self) -> Result<()> {
        let dialect = self.session.dialect();
        let mut written = None;
        if self.subscribers.any() {
            let row = self.session.row(dialect.own_transaction_if_any(), &[]).await?;
            written = row.and_then(|mut row| row.pop()?.text());
        }
        if let Some(clear) = dialect.clear_context() {
            self.session.execute(clear, &[]).await?;
        }
        self.session.commit().await?;
        if let Some(tx) = written {
            self.subscribers.committed(tx);
        }
        Ok(())
    }

    pub(crate) async fn rollback(self) -> Result<()> {
        self.session.rollback().await
    }
}
