//! A connection that a pool lends, and the transactions on it.

use std::ops::{Deref, DerefMut};

use sqlx::Connection as _;
use sqlx_core::transaction::TransactionManager as _;

use crate::error::Result;
use crate::remembered::Remembered;

/// A pool's connection, whether a transaction is open on it, and what is known of the catalogue that it leads to.
#[derive(Debug)]
pub(crate) struct Lent<D: sqlx::Database> {
    connection: sqlx::pool::PoolConnection<D>,
    open: bool,
    remembered: Remembered,
}

impl<D: sqlx::Database> Lent<D> {
    /// A connection that is there, for statements that nobody may send twice.
    pub(crate) async fn pooled(pool: &sqlx::Pool<D>, remembered: Remembered) -> Result<Self> {
        let mut gone = 0;
        loop {
            let mut connection = pool.acquire().await?;
            match connection.ping().await {
                Ok(()) => return Ok(Self { connection, open: false, remembered }),
                Err(error) if is_gone(&error) && gone < MOST_GONE => {
                    gone += 1;
                    connection.close_on_drop();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One that is there, or was: for a question that is asked again where it is not.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) async fn at_hand(pool: &sqlx::Pool<D>, remembered: Remembered) -> Result<Self> {
        Ok(Self { connection: pool.acquire().await?, open: false, remembered })
    }

    /// Begins a transaction by a statement: of a connection that is gone it can be told to another.
    pub(crate) async fn begin(
        pool: &sqlx::Pool<D>,
        begin: impl sqlx::SqlSafeStr,
        remembered: Remembered,
    ) -> Result<Self> {
        let begin = begin.into_sql_str();
        let mut gone = 0;
        loop {
            // Where it fails, it may have begun all the same.
            let mut lent =
                Self { connection: pool.acquire().await?, open: true, remembered: remembered.clone() };
            match D::TransactionManager::begin(&mut lent.connection, Some(begin.clone())).await {
                Ok(()) => return Ok(lent),
                Err(error) if is_gone(&error) && gone < MOST_GONE => {
                    gone += 1;
                    lent.connection.close_on_drop();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn commit(mut self) -> Result<()> {
        if self.open {
            self.commit_innermost().await?;
            self.open = false;
        }
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> Result<()> {
        if self.open {
            self.rollback_innermost().await?;
            self.open = false;
        }
        Ok(())
    }

    /// Begins a transaction inside the present one, by a savepoint.
    pub(crate) async fn nest(&mut self) -> Result<()> {
        Ok(D::TransactionManager::begin(&mut self.connection, None).await?)
    }

    pub(crate) async fn commit_innermost(&mut self) -> Result<()> {
        Ok(D::TransactionManager::commit(&mut self.connection).await?)
    }

    pub(crate) async fn rollback_innermost(&mut self) -> Result<()> {
        Ok(D::TransactionManager::rollback(&mut self.connection).await?)
    }

    /// Rolls the innermost transaction back before anything else is sent.
    pub(crate) fn start_rollback(&mut self) {
        D::TransactionManager::start_rollback(&mut self.connection);
    }

    pub(crate) fn remembered(&mut self) -> &mut Remembered {
        &mut self.remembered
    }
}

/// Of so many connections that are gone, one after the other, nobody tries another.
const MOST_GONE: usize = 16;

/// Whether the server ended the connection, or nothing leads there any more.
fn is_gone(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // PostgreSQL says so when it shuts down or somebody has it end a session; MariaDB when somebody kills one.
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P01" | "57P02" | "70100")),
        _ => false,
    }
}

impl<D: sqlx::Database> Drop for Lent<D> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if D::NAME == "MySQL" {
            // Its driver loses count of the answers where somebody stopped waiting for one, as when a statement is prepared:
            // the connection would never come back to the pool. The server rolls back what was open on it.
            self.connection.close_on_drop();
        } else {
            let depth = D::TransactionManager::get_transaction_depth(&self.connection);
            // SQLite's driver disregards the rollback that follows a commit for whose answer nobody waited. Were there none, it
            // would disregard somebody else's.
            let depth = if D::NAME == "SQLite" { depth.max(1) } else { depth };
            for _ in 0..depth {
                self.start_rollback();
            }
        }
    }
}

impl<D: sqlx::Database> Deref for Lent<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.connection
    }
}

impl<D: sqlx::Database> DerefMut for Lent<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        &mut self.connection
    }
}
