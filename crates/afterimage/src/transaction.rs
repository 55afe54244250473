//! `begin(context)`: one transaction, and who and why for it.

use afterimage_core::Context;
use sqlx::AssertSqlSafe;

use crate::database::{Afterimage, not_begun};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Cell, Lent, Session};

/// A transaction with a context. Dropped without [`commit`](Tx::commit), it rolls back.
#[derive(Debug)]
pub struct Tx {
    pub(crate) session: Session,
    pub(crate) contexts: Vec<Context>,
}

impl Afterimage {
    /// Begins a transaction whose records carry this context. The context travels in the same message as `BEGIN`.
    ///
    /// PostgreSQL: `BEGIN; SELECT set_config('afterimage.context', convert_from(decode('…','hex'),'UTF8'), true)`.
    /// SQLite: `BEGIN IMMEDIATE`, then `INSERT INTO afterimage_context …`.
    ///
    /// It begins on a task of its own: a caller that is cancelled while it waits leaves no half-open transaction,
    /// and no context, to the pool's next borrower.
    pub async fn begin(&self, context: &Context) -> Result<Tx> {
        let session = self.begin_session(context).await?;
        Ok(Tx { session, contexts: vec![context.clone()] })
    }

    async fn begin_session(&self, context: &Context) -> Result<Session> {
        let begin = self.dialect().begin();
        let set = self.dialect().set_context(context, false)?;
        #[cfg(feature = "sqlite")]
        if let Some(pool) = self.sqlite_pool() {
            let begun = tokio::spawn(begin_sqlite(pool, begin, set)).await;
            return Ok(Session::Sqlite(Lent::in_transaction(begun.map_err(not_begun)??, self.remembered())));
        }
        #[cfg(feature = "mysql")]
        if let Some(pool) = self.users_mariadb_pool() {
            let begun = tokio::spawn(begin_mariadb(pool, begin, set)).await;
            return Ok(Session::MariaDb(Lent::in_transaction(begun.map_err(not_begun)??, self.remembered())));
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
) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>> {
    let mut tx = pool.begin_with(begin).await?;
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
) -> Result<sqlx::Transaction<'static, sqlx::MySql>> {
    let mut tx = pool.begin_with(begin).await?;
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

impl Tx {
    /// The PostgreSQL connection, for queries.
    #[cfg(feature = "postgres")]
    pub fn postgres(&mut self) -> Result<&mut sqlx::PgConnection> {
        match &mut self.session {
            Session::Postgres(connection) => Ok(connection),
            #[allow(unreachable_patterns)]
            _ => Err(Error::new(ErrorKind::InvalidInput, "this is no PostgreSQL transaction")),
        }
    }

    /// The SQLite connection, for queries.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&mut self) -> Result<&mut sqlx::SqliteConnection> {
        match &mut self.session {
            Session::Sqlite(connection) => Ok(connection),
            #[allow(unreachable_patterns)]
            _ => Err(Error::new(ErrorKind::InvalidInput, "this is no SQLite transaction")),
        }
    }

    /// The MariaDB connection, for queries.
    #[cfg(feature = "mysql")]
    pub fn mariadb(&mut self) -> Result<&mut sqlx::MySqlConnection> {
        match &mut self.session {
            Session::MariaDb(connection) => Ok(connection),
            #[allow(unreachable_patterns)]
            _ => Err(Error::new(ErrorKind::InvalidInput, "this is no MariaDB transaction")),
        }
    }

    /// Sets a context inside the present one: what it does not say, the outer one says. Records from here on carry it,
    /// until [`leave`](Tx::leave).
    pub async fn enter(&mut self, context: &Context) -> Result<()> {
        let nested = self.contexts.last().map_or_else(|| context.clone(), |outer| context.within(outer));
        self.set(&nested).await?;
        self.contexts.push(nested);
        Ok(())
    }

    /// Goes back to the context outside the present one.
    pub async fn leave(&mut self) -> Result<()> {
        if self.contexts.len() < 2 {
            return Err(Error::new(ErrorKind::InvalidInput, "there is no outer context to go back to"));
        }
        self.contexts.pop();
        match self.contexts.last().cloned() {
            Some(outer) => self.set(&outer).await,
            None => Ok(()),
        }
    }

    async fn set(&mut self, context: &Context) -> Result<()> {
        let set = self.session.dialect().set_context(context, true)?;
        self.session.run(&set).await.map(drop)
    }

    /// Commits.
    pub async fn commit(mut self) -> Result<()> {
        if let Some(clear) = self.session.dialect().clear_context() {
            self.session.run(clear).await?;
        }
        self.session.commit().await
    }

    /// Rolls back.
    pub async fn rollback(self) -> Result<()> {
        self.session.rollback().await
    }
}

impl Tx {
    /// Runs a statement with JSON values for its parameters: for tools that know their tables at run time only.
    /// Objects and arrays go in as their JSON text.
    pub async fn execute(&mut self, sql: &str, parameters: &[serde_json::Value]) -> Result<u64> {
        let cells: Vec<Cell> = parameters.iter().map(cell).collect();
        self.session.execute(sql, &cells).await
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
