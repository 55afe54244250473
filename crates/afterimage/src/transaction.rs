//! `begin(context)`: one transaction, and who and why for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use afterimage_core::{Context, Database};
use sqlx::AssertSqlSafe;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::database::{Afterimage, not_begun};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Subscribers;
use crate::remembered::Remembered;
use crate::scope::within_current;
use crate::session::{Cell, Lent, Session};

/// A transaction with a context. Dropped without [`commit`](Tx::commit), it rolls back.
#[derive(Debug)]
pub struct Tx {
    database: Database,
    open: Arc<Mutex<Open>>,
    /// Nested ones that were dropped without an end, and still have to be rolled back.
    dropped: Arc<AtomicUsize>,
    nested: bool,
    over: bool,
}

/// What a transaction and those nested in it share.
#[derive(Debug)]
struct Open {
    /// Nothing once it is over.
    writing: Option<Writing>,
    /// For each nested one, how many contexts there were when it began.
    nested: Vec<usize>,
}

/// A session in a transaction, and the contexts entered in it.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) session: Session,
    contexts: Vec<Context>,
    subscribers: Subscribers,
}

impl Afterimage {
    /// Begins a transaction whose records carry this context. The context travels in the same message as `BEGIN`.
    ///
    /// PostgreSQL: `BEGIN; SELECT set_config('afterimage.context', convert_from(decode('…','hex'),'UTF8'), true)`.
    /// SQLite: `BEGIN IMMEDIATE`, then `INSERT INTO afterimage_context …`.
    ///
    /// Inside a [`scope`](crate::scope), which is where requests run under the layer of the feature `tower`, what this context
    /// does not say the scope's says.
    ///
    /// It begins on a task of its own: a caller that is cancelled while it waits leaves no half-open transaction,
    /// and no context, to the pool's next borrower.
    pub async fn begin(&self, context: &Context) -> Result<Tx> {
        Ok(Tx::over(self.begin_writing(context).await?))
    }

    /// The same, for the engine itself.
    pub(crate) async fn begin_writing(&self, context: &Context) -> Result<Writing> {
        let context = within_current(context);
        Ok(self.writing_in(self.begin_session(&context).await?, &context))
    }

    /// A session that has begun with a context.
    pub(crate) fn writing_in(&self, session: Session, context: &Context) -> Writing {
        Writing { session, contexts: vec![context.clone()], subscribers: self.subscribers.clone() }
    }

    async fn begin_session(&self, context: &Context) -> Result<Session> {
        let begin = self.dialect().begin();
        let set = self.dialect().set_context(context, false)?;
        #[cfg(feature = "sqlite")]
        if let Some(pool) = self.sqlite_pool() {
            let begun = tokio::spawn(begin_sqlite(pool, begin, set, self.remembered())).await;
            return Ok(Session::Sqlite(begun.map_err(not_begun)??));
        }
        #[cfg(feature = "mysql")]
        if let Some(pool) = self.users_mariadb_pool() {
            let begun = tokio::spawn(begin_mariadb(pool, begin, set, self.remembered())).await;
            return Ok(Session::MariaDb(begun.map_err(not_begun)??));
        }
        self.open(format!("{begin}; {set}")).await
    }
}

/// SQLite runs in this process, so that each statement may fail by itself and still leave nothing open.
#[cfg(feature = "sqlite")]
async fn begin_sqlite(
    pool: sqlx::SqlitePool,
    begin: &'static str,
    set: String,
    remembered: Remembered,
) -> Result<Lent<sqlx::Sqlite>> {
    let mut tx = Lent::begin(&pool, begin, remembered).await?;
    let left_behind: i64 = sqlx::query_scalar("SELECT count(*) FROM afterimage_context")
        .fetch_one(&mut *tx)
        .await
        .map_err(nothing_tracked)?;
    if left_behind > 0 {
        tracing::warn!(
            "a client committed without deleting its context from afterimage_context; it is cleared now"
        );
        sqlx::query("DELETE FROM afterimage_context").execute(&mut *tx).await?;
    }
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *tx).await?;
    Ok(tx)
}

/// What may fail stands in a message of its own: a failed one that began a transaction would leave it to the pool's next
/// borrower.
#[cfg(feature = "mysql")]
async fn begin_mariadb(
    pool: sqlx::MySqlPool,
    begin: &'static str,
    set: String,
    remembered: Remembered,
) -> Result<Lent<sqlx::MySql>> {
    let mut tx = Lent::begin(&pool, begin, remembered).await?;
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *tx).await.map_err(nothing_tracked)?;
    Ok(tx)
}

#[cfg(any(feature = "sqlite", feature = "mysql"))]
fn nothing_tracked(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(database)
            if database.message().contains("no such table")
                || database.code().as_deref() == Some("42S02") =>
        {
            Error::new(
                ErrorKind::NotFound,
                "nothing is tracked in this database yet, so a context has no place",
            )
        }
        _ => error.into(),
    }
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

    async fn leave(&mut self) -> Result<()> {
        if self.contexts.len() < 2 {
            return Err(Error::new(ErrorKind::InvalidInput, "there is no outer context to go back to"));
        }
        self.leave_to(self.contexts.len() - 1).await
    }

    /// Leaves contexts until only so many are left.
    async fn leave_to(&mut self, count: usize) -> Result<()> {
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
            self.session.run(clear).await?;
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

impl Open {
    /// Rolls back, before anything else is sent, what nested ones left behind.
    fn settle(&mut self, dropped: &AtomicUsize) {
        for _ in 0..dropped.swap(0, Ordering::AcqRel) {
            if let (Some(contexts), Some(writing)) = (self.nested.pop(), &mut self.writing) {
                writing.session.start_rollback();
                writing.contexts.truncate(contexts);
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The driver rolls back one level where a transaction is dropped.
        if let Some(writing) = &mut self.writing {
            for _ in &self.nested {
                writing.session.start_rollback();
            }
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if self.nested && !self.over {
            self.dropped.fetch_add(1, Ordering::AcqRel);
            // Where somebody is using it, whoever comes next settles it.
            if let Ok(mut open) = self.open.try_lock() {
                open.settle(&self.dropped);
            }
        }
    }
}

impl Tx {
    fn over(writing: Writing) -> Self {
        Self {
            database: writing.session.dialect().database(),
            open: Arc::new(Mutex::new(Open { writing: Some(writing), nested: Vec::new() })),
            dropped: Arc::default(),
            nested: false,
            over: false,
        }
    }

    /// Which database this is.
    pub fn database(&self) -> Database {
        self.database
    }

    /// The session, for somebody who shares it with nobody.
    pub(crate) fn writing(&mut self) -> Result<&mut Writing> {
        let Some(open) = Arc::get_mut(&mut self.open) else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "this transaction is nested, or one nested in it is not over: its connection is shared, and can be used as SeaORM's only",
            ));
        };
        let open = open.get_mut();
        open.settle(&self.dropped);
        open.writing.as_mut().ok_or_else(is_over)
    }

    /// The session, for those who share it.
    pub(crate) async fn shared(&self) -> Result<MappedMutexGuard<'_, Writing>> {
        let mut open = self.open.lock().await;
        open.settle(&self.dropped);
        MutexGuard::try_map(open, |open| open.writing.as_mut()).map_err(|_| is_over())
    }

    /// Begins a transaction inside this one, by a savepoint. The contexts entered in it end with it.
    pub async fn nest(&self) -> Result<Self> {
        let mut open = self.open.lock().await;
        open.settle(&self.dropped);
        let writing = open.writing.as_mut().ok_or_else(is_over)?;
        writing.session.nest().await?;
        let contexts = writing.contexts.len();
        open.nested.push(contexts);
        drop(open);
        Ok(Self {
            database: self.database,
            open: Arc::clone(&self.open),
            dropped: Arc::clone(&self.dropped),
            nested: true,
            over: false,
        })
    }

    /// The PostgreSQL connection, for queries.
    #[cfg(feature = "postgres")]
    pub fn postgres(&mut self) -> Result<&mut sqlx::PgConnection> {
        self.writing()?.session.postgres()
    }

    /// The SQLite connection, for queries.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&mut self) -> Result<&mut sqlx::SqliteConnection> {
        self.writing()?.session.sqlite()
    }

    /// The MariaDB connection, for queries.
    #[cfg(feature = "mysql")]
    pub fn mariadb(&mut self) -> Result<&mut sqlx::MySqlConnection> {
        self.writing()?.session.mariadb()
    }

    /// Sets a context inside the present one: what it does not say, the outer one says. Records from here on carry it,
    /// until [`leave`](Tx::leave).
    pub async fn enter(&mut self, context: &Context) -> Result<()> {
        self.shared().await?.enter(context).await
    }

    /// Goes back to the context outside the present one.
    pub async fn leave(&mut self) -> Result<()> {
        self.shared().await?.leave().await
    }

    /// Commits. A nested one becomes part of the one outside it; with one that has another nested in it that is not over,
    /// nothing is committed.
    pub async fn commit(mut self) -> Result<()> {
        let mut open = self.end().await?;
        if self.nested {
            let contexts = open.nested.len() - 1;
            let contexts = open.nested[contexts];
            let writing = open.writing.as_mut().ok_or_else(is_over)?;
            writing.session.commit_nested().await?;
            writing.leave_to(contexts).await?;
            open.nested.pop();
        } else {
            let writing = open.writing.take().ok_or_else(is_over)?;
            drop(open);
            writing.commit().await?;
        }
        self.over = true;
        Ok(())
    }

    /// Rolls back.
    pub async fn rollback(mut self) -> Result<()> {
        let mut open = self.end().await?;
        if self.nested {
            open.writing.as_mut().ok_or_else(is_over)?.session.rollback_nested().await?;
            if let (Some(contexts), Some(writing)) = (open.nested.pop(), &mut open.writing) {
                writing.contexts.truncate(contexts);
            }
        } else {
            let writing = open.writing.take().ok_or_else(is_over)?;
            drop(open);
            writing.rollback().await?;
        }
        self.over = true;
        Ok(())
    }

    /// The shared state, for the end of the innermost one.
    async fn end(&self) -> Result<tokio::sync::OwnedMutexGuard<Open>> {
        let mut open = Arc::clone(&self.open).lock_owned().await;
        open.settle(&self.dropped);
        if !self.nested && !open.nested.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a transaction nested in this one is not over: nothing was committed",
            ));
        }
        Ok(open)
    }
}

fn is_over() -> Error {
    Error::new(ErrorKind::InvalidInput, "the transaction is over")
}

impl Tx {
    /// Runs a statement with JSON values for its parameters: for tools that know their tables at run time only.
    /// Objects and arrays go in as their JSON text.
    pub async fn execute(&mut self, sql: &str, parameters: &[serde_json::Value]) -> Result<u64> {
        let cells: Vec<Cell> = parameters.iter().map(cell).collect();
        self.shared().await?.session.execute(sql, &cells).await
    }
}

impl Afterimage {
    /// Runs statements outside any context, each in its own transaction unless they say otherwise.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        #[cfg(feature = "mysql")]
        if let Some(pool) = self.users_mariadb_pool() {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&pool).await?;
            return Ok(());
        }
        self.session().await?.run(sql).await.map(drop)
    }
}

fn cell(value: &serde_json::Value) -> Cell {
    use serde_json::Value as Json;
    match value {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Int((*value).into()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Cell::Int(int),
            (None, Some(real)) => Cell::Real(real),
            (None, None) => Cell::Text(number.to_string()),
        },
        Json::String(text) => Cell::Text(text.clone()),
        Json::Array(_) | Json::Object(_) => Cell::Text(value.to_string()),
    }
}
